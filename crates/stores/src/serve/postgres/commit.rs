//! Commits: one transaction each, in three round trips. Lock and read what is touched; write all of it; COMMIT.
//!
//! Documents that are there are locked, so nobody changes them before the end. Those that are not are inserted
//! plainly: somebody else's insert in between is an error of the key's index, and the commit is decided anew.

use super::Shared;
use super::pipe::{Call, Step, call, pipe};
use super::served::Served;
use super::session::Committer;
use super::writes::{Before, CORRECT, Corrections, Rows, Writes, confirm, sorted};
use crate::postgres::error;
use deadpool_postgres::ClientWrapper;
use std::time::Duration;
use tokio::time::sleep;
use tokio_postgres::Error;
use whimbrel_firestore::Place;
use whimbrel_firestore::backend::{Batch, Decide, IndexLine};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// How often a commit is begun anew when others are in its way.
const TRIES: u32 = 6;
const BACKOFF: Duration = Duration::from_millis(4);
/// How often it is asked what became of a commit whose answer was lost, and how long it takes in all.
const ASKED: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(200);

pub(super) const DOING: &str = "committing";

enum Trouble {
    /// Nothing was written, and another try may succeed.
    Again(StoreError),
    Over(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Transient => Self::Again(error),
            _ => Self::Over(error),
        }
    }
}

/// See [`whimbrel_firestore::Backend::commit`].
pub(super) async fn commit(
    shared: &Shared,
    committer: &mut Committer,
    touch: &[Place],
    mut decide: Decide,
) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let error = match attempt(shared, committer, touch, &mut decide).await {
            Ok(()) => return Ok(()),
            Err(Trouble::Over(error)) => return Err(error),
            Err(Trouble::Again(error)) => error,
        };
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        sleep(BACKOFF * tries * tries).await;
    }
}

fn trouble(shared: &Shared, error: Error) -> Trouble {
    let again = error::is_stale(&error)
        || error
            .code()
            .is_some_and(|state| matches!(state.code(), "40001" | "40P01" | "23505"));
    let error = shared.failed(DOING, error);
    match again {
        true => Trouble::Again(error),
        false => error.into(),
    }
}

async fn attempt(
    shared: &Shared,
    committer: &mut Committer,
    touch: &[Place],
    decide: &mut Decide,
) -> Result<(), Trouble> {
    let groups = shared.groups(touch).await?;
    let client = committer.take(&shared.quick, &shared.side).await?;
    let mut steps = vec![Step::Plain("BEGIN ISOLATION LEVEL READ COMMITTED")];
    // Behind the locks, in statements of their own: what was waited for is read as it became.
    for group in &groups {
        steps.push(Call::new(&*group.served.sql.lock).with(&group.keys).into());
    }
    steps.extend(groups.iter().map(|group| Step::from(group.get())));
    let written = async {
        let answers = pipe(&client, steps).await.map_err(|e| trouble(shared, e))?;
        let mut before = Before::default();
        for (group, answer) in groups.iter().zip(answers.iter().skip(1 + groups.len())) {
            for row in &answer.rows {
                before.take(shared, group, row, touch)?;
            }
        }
        let batch = decide(&before.found);
        check(shared, committer, &batch)?;
        write(shared, &client, &batch, &before)
            .await
            .map(|xid| (batch, xid))
    }
    .await;
    match written {
        Ok((batch, xid)) => finish(shared, committer, client, &batch, &xid).await,
        Err(trouble) => {
            // Where not even that succeeds, the connection ends, and the transaction with it.
            if client.batch_execute("ROLLBACK").await.is_ok() {
                committer.give_back(client);
            }
            Err(trouble)
        }
    }
}

fn check(shared: &Shared, committer: &Committer, batch: &Batch) -> Result<(), StoreError> {
    if batch.at <= committer.last() {
        return Err(shared.terminal(
            Code::StoreFailed,
            "a commit's time is not after the last one's; nothing was written",
        ));
    }
    let mut lines = batch.unindex.iter().chain(&batch.index);
    match lines.find(|line| !shared.has_index(line.index)) {
        Some(line) => Err(shared.no_index(line.index)),
        None => Ok(()),
    }
}

/// Writes everything. Gives the transaction's number, by which it can be asked later what became of it.
// tidy: long because it is the list of all that a commit writes, in its order, and of the answers.
async fn write(
    shared: &Shared,
    client: &ClientWrapper,
    batch: &Batch,
    before: &Before,
) -> Result<String, Trouble> {
    let tables = sorted(shared, batch, before).await?;
    let ids = LineIds::of(shared, batch).await?;
    let side = Statements::new(shared);
    let settled = batch.settled.map(|mark| shared.handed().of(mark));
    let settled = settled.unwrap_or_default();
    let mut steps: Vec<Step<'_>> = vec![
        Call::new("SELECT pg_current_xact_id()::text").into(),
        Call::new(&*side.committed).with(batch.at).into(),
    ];
    // Which answer is whose.
    enum Of<'t, 'b> {
        Rows(&'t Rows<'b>, &'t Served),
        Count(usize, &'t Served),
    }
    let mut of: Vec<(usize, Of<'_, '_>)> = Vec::new();
    for writes in &tables {
        let note = Call::new(&*writes.served.sql.note);
        steps.push(note.with(&writes.keys).with(&writes.times).into());
    }
    for writes in &tables {
        let served = &*writes.served;
        if !writes.updates.puts.is_empty() {
            of.push((steps.len(), Of::Rows(&writes.updates, served)));
            steps.push(writes.updates.update(served).into());
        }
        if !writes.inserts.puts.is_empty() {
            of.push((steps.len(), Of::Rows(&writes.inserts, served)));
            steps.push(writes.inserts.insert(served).into());
        }
    }
    // What belongs to something goes before it does.
    for writes in tables.iter().rev().filter(|w| !w.deletes.is_empty()) {
        of.push((steps.len(), Of::Count(writes.deletes.len(), &writes.served)));
        steps.push(
            Call::new(&*writes.served.sql.delete)
                .with(&writes.deletes)
                .into(),
        );
    }
    times(&side, &tables, &mut steps);
    if !batch.unindex.is_empty() {
        let (indexes, keys) = lines(&batch.unindex);
        steps.push(Call::new(&*side.unindex).with(indexes).with(keys).into());
    }
    if !batch.index.is_empty() {
        let (indexes, keys) = lines(&batch.index);
        let documents: Vec<&str> = batch.index.iter().map(|line| &*line.place.key).collect();
        let call = Call::new(&*side.index).with(indexes).with(keys);
        steps.push(call.with(&ids.0).with(documents).into());
    }
    if !settled.is_empty() {
        for sql in &side.settle {
            steps.push(Call::new(&**sql).with(&settled).with(batch.at).into());
        }
    }
    let answers = pipe(client, steps).await.map_err(|e| trouble(shared, e))?;
    let mut corrections = Corrections::default();
    for (at, of) in of {
        let Some(answer) = answers.get(at) else {
            continue;
        };
        match of {
            Of::Rows(rows, served) => rows.confirm(shared, served, answer, &mut corrections)?,
            Of::Count(expected, served) => confirm(shared, served, answer, expected)?,
        }
    }
    if !corrections.ids.is_empty() {
        let call_ = Call::new(shared.side.sql(CORRECT))
            .with(corrections.ids)
            .with(corrections.keys)
            .with(corrections.times)
            .with(corrections.olds)
            .with(corrections.created)
            .with(corrections.updated);
        call(client, call_).await.map_err(|e| trouble(shared, e))?;
    }
    let xid = answers.first().and_then(|answer| answer.rows.first());
    let xid = xid.map(|row| row.try_get(0)).transpose();
    Ok(xid.map_err(|e| trouble(shared, e))?.unwrap_or_default())
}

/// The statements of what lies beside the tables.
struct Statements {
    committed: String,
    timed: String,
    untimed: String,
    unindex: String,
    index: String,
    settle: [String; 3],
}

/// In Firestore's time, what others wrote happened when it was taken in, at the latest when the gateway wrote over it: who
/// read before did not see it, whenever the statement was, and listeners that resume from a time in between must be
/// told. Parameters: changes, the commit's time.
const SETTLED: &str = "(SELECT l.seq, l.collection, l.key, l.at, l.writer, least(greatest(l.at, $2::int8), \
      coalesce((SELECT min(n.at) FROM @.log n WHERE n.collection = l.collection AND n.key = l.key AND n.writer = 0 \
        AND n.seq > l.seq), 9223372036854775807)) AS became \
    FROM (SELECT unnest($1::int8[]) AS q) s JOIN @.log l ON l.seq = s.q WHERE l.open) l";

/// Whoever tells a document's versions apart by their times is told the same time by the document, by the log, and by
/// the listeners' feed.
const SETTLE: [&str; 3] = [
    "UPDATE @.time m SET updated = l.became, created = CASE WHEN m.created = l.at THEN l.became ELSE m.created END \
     FROM & WHERE m.collection = l.collection AND m.key = l.key AND m.updated = l.at AND l.writer = 1",
    "UPDATE @.log n SET updated = l.became, created = CASE WHEN n.created = l.at THEN l.became ELSE n.created END \
     FROM & WHERE n.collection = l.collection AND n.key = l.key AND n.writer < 2 AND n.updated = l.at AND n.seq > l.seq \
       AND l.writer = 1",
    "UPDATE @.log o SET open = false, at = l.became FROM & WHERE o.seq = l.seq AND o.open",
];

impl Statements {
    fn new(shared: &Shared) -> Self {
        let sql = |text: &str| shared.side.sql(text);
        Self {
            committed: sql("INSERT INTO @.committed (at) VALUES ($1::int8)"),
            timed: sql(
                "INSERT INTO @.time (collection, key, created, updated) SELECT s.c, s.k, s.n, s.u FROM \
                 (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS k, unnest($3::int8[]) AS n, \
                   unnest($4::int8[]) AS u) s \
                 ON CONFLICT (collection, key) DO UPDATE SET created = excluded.created, updated = excluded.updated",
            ),
            untimed: sql(
                "DELETE FROM @.time m USING (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS k) s \
                 WHERE m.collection = s.c AND m.key = s.k",
            ),
            unindex: sql(
                "DELETE FROM @.line l USING (SELECT unnest($1::int4[]) AS i, unnest($2::bytea[]) AS k) s \
                 WHERE l.index = s.i AND l.key = s.k",
            ),
            index: sql(
                "INSERT INTO @.line (index, key, collection, document) SELECT s.i, s.k, s.c, s.d FROM \
                 (SELECT unnest($1::int4[]) AS i, unnest($2::bytea[]) AS k, unnest($3::int4[]) AS c, \
                   unnest($4::text[]) AS d) s ON CONFLICT DO NOTHING",
            ),
            settle: SETTLE.map(|text| sql(&text.replace('&', SETTLED))),
        }
    }
}

fn times<'s>(side: &'s Statements, tables: &'s [Writes<'_>], steps: &mut Vec<Step<'s>>) {
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    let (mut created, mut updated) = (Vec::new(), Vec::new());
    let (mut gone_ids, mut gone) = (Vec::new(), Vec::new());
    for writes in tables {
        for put in writes.updates.puts.iter().chain(&writes.inserts.puts) {
            let Some(stored) = &put.stored else { continue };
            ids.push(writes.served.id);
            keys.push(&*put.place.key);
            created.push(stored.created);
            updated.push(stored.updated);
        }
        for key in &writes.deletes {
            gone_ids.push(writes.served.id);
            gone.push(*key);
        }
    }
    if !ids.is_empty() {
        let call = Call::new(&*side.timed).with(ids).with(keys);
        steps.push(call.with(created).with(updated).into());
    }
    if !gone.is_empty() {
        steps.push(Call::new(&*side.untimed).with(gone_ids).with(gone).into());
    }
}

/// Index numbers and keys.
fn lines(lines: &[IndexLine]) -> (Vec<i32>, Vec<&[u8]>) {
    let index = |line: &IndexLine| i32::try_from(line.index.0).unwrap_or(i32::MAX);
    lines
        .iter()
        .map(|line| (index(line), line.key.as_slice()))
        .unzip()
}

/// The numbers of the collections of a batch's lines.
struct LineIds(Vec<i32>);

impl LineIds {
    async fn of(shared: &Shared, batch: &Batch) -> Result<Self, StoreError> {
        let mut ids = Vec::with_capacity(batch.index.len());
        for line in &batch.index {
            ids.push(shared.number(&line.place.collection).await?);
        }
        Ok(Self(ids))
    }
}

async fn finish(
    shared: &Shared,
    committer: &mut Committer,
    client: ClientWrapper,
    batch: &Batch,
    xid: &str,
) -> Result<(), Trouble> {
    let Err(error) = client.batch_execute("COMMIT").await else {
        committer.give_back(client);
        done(shared, committer, batch);
        return Ok(());
    };
    if error::is_about_data(&error) || error.code().is_some_and(|s| s.code().starts_with("40")) {
        // A constraint that is checked as late as here.
        committer.give_back(client);
        return Err(trouble(shared, error));
    }
    let error = error::commit_error(&shared.quick.name, DOING, error);
    if error.kind != StoreErrorKind::Unknown {
        return Err(Trouble::Over(error));
    }
    drop(client);
    match outcome(shared, committer, xid).await {
        Some(true) => {
            done(shared, committer, batch);
            Ok(())
        }
        Some(false) => Err(Trouble::Again(StoreError {
            kind: StoreErrorKind::Transient,
            code: Code::StoreUnavailable,
            ..error
        })),
        None => Err(Trouble::Over(error)),
    }
}

fn done(shared: &Shared, committer: &Committer, batch: &Batch) {
    committer.starts_at(batch.at);
    if let Some(mark) = batch.settled {
        shared.handed().settled(mark);
    }
}

/// What became of a transaction whose COMMIT was not answered; `None` where that cannot be learnt in time.
async fn outcome(shared: &Shared, committer: &Committer, xid: &str) -> Option<bool> {
    for _ in 0..ASKED {
        if let Ok(client) = shared.quick.get().await {
            let asked = client
                .query_one("SELECT pg_xact_status($1::text::xid8)", &[&xid])
                .await
                .and_then(|row| row.try_get::<_, Option<String>>(0));
            match asked.as_ref().map(Option::as_deref) {
                Ok(Some("committed")) => return Some(true),
                Ok(Some("aborted")) => return Some(false),
                Ok(Some(_)) => {
                    // The database does not know yet that the connection is lost.
                    let _ = committer.end_old(&client).await;
                }
                // So old that nobody knows any more: not within these seconds.
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        sleep(BETWEEN).await;
    }
    None
}
