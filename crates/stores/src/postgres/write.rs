//! Writing a batch: one transaction, as few statements as there are kinds of write in it.
//!
//! Fresh documents go in by COPY, changed ones by one UPDATE that compares revisions. That takes the whole
//! batch or fails as a whole. When it fails for what a document holds, the batch is tried again in halves
//! behind savepoints, until whatever cannot be stored stands alone.

use super::PgStore;
use super::copy::copy;
use super::document::{self, Cell};
use super::error::{self, depends_on_others, is_about_data, is_aftermath};
use super::keys;
use super::read::{key_columns, ordinal};
use super::table::Table;
use super::wire::{Many, Params, Wire, raw};
use deadpool_postgres::{Client, Transaction};
use futures::TryStreamExt;
use futures::future::join_all;
use std::pin::pin;
use std::sync::Arc;
use tokio_postgres::{Error, IsolationLevel};
use whimbrel_model::{Guard, Key, Refusal, StoreError, Write, WriteOutcome};

/// From so many rows on COPY beats single inserts.
const COPY_FROM_ROWS: usize = 20;

/// A write that the table can take, as far as can be told without it.
#[derive(Debug)]
struct Item<'a> {
    /// Its place in the batch.
    at: usize,
    table: &'a Arc<Table>,
    key: &'a Key,
    op: Op,
}

#[derive(Debug)]
enum Op {
    Insert(Vec<Cell>),
    Upsert(Vec<Cell>),
    Update(Vec<Cell>, Xmin),
    Delete,
    DeleteUnchanged(Xmin),
    /// Deleting what must be absent: only a look.
    Absent,
}

/// The transaction that wrote a row's present version.
type Xmin = [u8; 4];

impl Op {
    fn cells(&self) -> &[Cell] {
        match self {
            Op::Insert(cells) | Op::Upsert(cells) | Op::Update(cells, _) => cells,
            Op::Delete | Op::DeleteUnchanged(_) | Op::Absent => &[],
        }
    }

    fn xmin(&self) -> Option<&Xmin> {
        match self {
            Op::Update(_, xmin) | Op::DeleteUnchanged(xmin) => Some(xmin),
            _ => None,
        }
    }
}

/// What became of the batch's writes; `None` until known.
type Outcomes = Vec<Option<WriteOutcome>>;

/// See [`whimbrel_model::Store::write`]. `tables` has one entry a write.
pub(super) async fn write(
    store: &PgStore,
    writes: &[Write],
    tables: &[Arc<Table>],
) -> Result<Vec<WriteOutcome>, StoreError> {
    let mut outcomes: Outcomes = vec![None; writes.len()];
    let mut items = Vec::with_capacity(writes.len());
    for (at, (write, table)) in writes.iter().zip(tables).enumerate() {
        match prepare(at, write, table) {
            Ok(item) => items.push(item),
            Err(outcome) => outcomes[at] = Some(outcome),
        }
    }
    if !items.is_empty() {
        let mut client = store.connections.get().await?;
        if !all_at_once(store, &mut client, &items, &mut outcomes).await? {
            in_halves(store, &mut client, &items, &mut outcomes).await?;
        }
    }
    // Whatever the server did not confirm did not happen.
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or(WriteOutcome::Lost))
        .collect())
}

fn prepare<'a>(
    at: usize,
    write: &'a Write,
    table: &'a Arc<Table>,
) -> Result<Item<'a>, WriteOutcome> {
    let refused = |message| WriteOutcome::Refused(Refusal { message });
    if let Err(why) = keys::fits(&table.keys, &write.key) {
        // No row has such a key, so there is nothing to delete.
        return Err(match (&write.to, &write.guard) {
            (None, Guard::Unchanged(_)) => WriteOutcome::Lost,
            (None, _) => WriteOutcome::Applied,
            (Some(_), _) => refused(why),
        });
    }
    let xmin = match &write.guard {
        Guard::Unchanged(revision) => match <Xmin>::try_from(revision.0.as_slice()) {
            Ok(xmin) => Some(xmin),
            // Not one of this store's revisions, so none that a row still has.
            Err(_) => return Err(WriteOutcome::Lost),
        },
        _ => None,
    };
    let op = match &write.to {
        None => match (&write.guard, xmin) {
            (_, Some(xmin)) => Op::DeleteUnchanged(xmin),
            (Guard::Absent, None) => Op::Absent,
            (_, None) => Op::Delete,
        },
        Some(body) => {
            let cells = document::cells(table, &write.key, body).map_err(refused)?;
            match (&write.guard, xmin) {
                (_, Some(xmin)) => Op::Update(cells, xmin),
                (Guard::Absent, None) => Op::Insert(cells),
                (_, None) => Op::Upsert(cells),
            }
        }
    };
    Ok(Item {
        at,
        table,
        key: &write.key,
        op,
    })
}

const DOING: &str = "writing a batch";
const COMMITTING: &str = "committing a batch";

async fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    client
        .build_transaction()
        // Under a stricter level a lost guard would fail the whole transaction.
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
}

/// The fast way. `false` when a document's content made it fail and nothing was written.
async fn all_at_once(
    store: &PgStore,
    client: &mut Client,
    items: &[Item<'_>],
    outcomes: &mut Outcomes,
) -> Result<bool, StoreError> {
    let failed = |error| store.write_failed(items.iter().map(|i| i.table.as_ref()), DOING, error);
    let mut tries = outcomes.clone();
    let transaction = begin(client).await.map_err(failed)?;
    let mut result = apply(&transaction, items, false, &mut tries).await;
    if matches!(result, Ok(true)) && items.iter().any(|item| item.table.deferred) {
        result = transaction
            .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
            .await
            .map(|()| true);
    }
    match result {
        Ok(true) => {
            transaction
                .commit()
                .await
                .map_err(|error| error::commit_error(&store.connections.name, COMMITTING, error))?;
            *outcomes = tries;
            Ok(true)
        }
        Ok(false) => {
            transaction.rollback().await.map_err(failed)?;
            Ok(false)
        }
        Err(error) if is_about_data(&error) => {
            transaction.rollback().await.map_err(failed)?;
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The slow way: halves behind savepoints, so that one document's failure leaves the others.
async fn in_halves(
    store: &PgStore,
    client: &mut Client,
    items: &[Item<'_>],
    outcomes: &mut Outcomes,
) -> Result<(), StoreError> {
    let failed = |error| store.write_failed(items.iter().map(|i| i.table.as_ref()), DOING, error);
    let transaction = begin(client).await.map_err(failed)?;
    // From here on every statement must answer for itself.
    transaction
        .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
        .await
        .map_err(failed)?;
    let mut waiting: Vec<&[Item<'_>]> = vec![items];
    loop {
        // Refused for a row that another write of this batch may yet bring.
        let mut again = Vec::new();
        let mut progress = false;
        while let Some(some) = waiting.pop() {
            match attempt(&transaction, some, outcomes)
                .await
                .map_err(failed)?
            {
                None => progress = true,
                Some(_) if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    waiting.extend([second, first]);
                }
                Some(error) => {
                    outcomes[some[0].at] = Some(WriteOutcome::Refused(error::refusal(&error)));
                    if depends_on_others(&error) {
                        again.push(some);
                    }
                }
            }
        }
        if again.is_empty() || !progress {
            break;
        }
        again.reverse();
        waiting = again;
    }
    transaction
        .commit()
        .await
        .map_err(|error| error::commit_error(&store.connections.name, COMMITTING, error))
}

/// Writes `items` behind a savepoint. Gives back the error where a document is to blame; then nothing of
/// them was written.
async fn attempt(
    transaction: &Transaction<'_>,
    items: &[Item<'_>],
    outcomes: &mut Outcomes,
) -> Result<Option<Error>, Error> {
    transaction.batch_execute("SAVEPOINT part").await?;
    let mut tries = outcomes.clone();
    let error = match apply(transaction, items, true, &mut tries).await {
        Ok(_) => {
            transaction.batch_execute("RELEASE SAVEPOINT part").await?;
            *outcomes = tries;
            return Ok(None);
        }
        Err(error) => error,
    };
    if !is_about_data(&error) {
        return Err(error);
    }
    transaction
        .batch_execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
        .await?;
    Ok(Some(error))
}

/// Sends the items' statements. `careful`: looks for rows that are in the way of inserts first. `false`
/// when a trigger kept a row out, so that it is not known which.
// tidy: long because each kind of write has its statement here, in the order they must run.
async fn apply(
    transaction: &Transaction<'_>,
    items: &[Item<'_>],
    careful: bool,
    outcomes: &mut Outcomes,
) -> Result<bool, Error> {
    let mut tables: Vec<&Arc<Table>> = Vec::new();
    for item in items {
        if !tables.iter().any(|table| Arc::ptr_eq(table, item.table)) {
            tables.push(item.table);
        }
    }
    // Parents are expected before their children, and deleted behind them.
    for table in &tables {
        let of = |wanted: fn(&Op) -> bool| select(items, table, wanted);
        let updates = of(|op| matches!(op, Op::Update(..)));
        confirm(
            guarded(transaction, table, &table.sql.update, &updates).await?,
            &updates,
            outcomes,
        );
        if !upsert(
            transaction,
            table,
            &of(|op| matches!(op, Op::Upsert(_))),
            careful,
            outcomes,
        )
        .await?
        {
            return Ok(false);
        }
        if !insert(
            transaction,
            table,
            &of(|op| matches!(op, Op::Insert(_))),
            careful,
            outcomes,
        )
        .await?
        {
            return Ok(false);
        }
    }
    for table in tables.iter().rev() {
        let of = |wanted: fn(&Op) -> bool| select(items, table, wanted);
        let unchanged = of(|op| matches!(op, Op::DeleteUnchanged(_)));
        let sql = &table.sql.delete_unchanged;
        confirm(
            guarded(transaction, table, sql, &unchanged).await?,
            &unchanged,
            outcomes,
        );
        let deletes = of(|op| matches!(op, Op::Delete));
        if !deletes.is_empty() {
            run(
                transaction,
                &table.sql.delete,
                &Arrays::new(table, &deletes),
            )
            .await?;
            confirm((0..deletes.len()).collect(), &deletes, outcomes);
        }
        let absent = of(|op| matches!(op, Op::Absent));
        let there = existing(transaction, table, &absent).await?;
        for (i, item) in absent.iter().enumerate() {
            outcomes[item.at] = Some(if there.contains(&i) {
                WriteOutcome::Lost
            } else {
                WriteOutcome::Applied
            });
        }
    }
    Ok(true)
}

fn select<'i, 'a>(
    items: &'i [Item<'a>],
    table: &Arc<Table>,
    wanted: fn(&Op) -> bool,
) -> Vec<&'i Item<'a>> {
    items
        .iter()
        .filter(|item| Arc::ptr_eq(item.table, table) && wanted(&item.op))
        .collect()
}

/// `done` are places in `items`; the others were lost.
fn confirm(done: Vec<usize>, items: &[&Item<'_>], outcomes: &mut Outcomes) {
    for item in items {
        outcomes[item.at] = Some(WriteOutcome::Lost);
    }
    for item in done.into_iter().filter_map(|i| items.get(i)) {
        outcomes[item.at] = Some(WriteOutcome::Applied);
    }
}

/// The arrays of one statement.
struct Arrays<'a> {
    keys: Vec<Many<'a, Key>>,
    payload: Vec<Many<'a, Cell>>,
    ordinals: Vec<i32>,
    revisions: Many<'a, Xmin>,
}

impl<'a> Arrays<'a> {
    fn new(table: &Table, items: &[&'a Item<'_>]) -> Self {
        let keys: Vec<&Key> = items.iter().map(|item| item.key).collect();
        let payload = table
            .sql
            .payload_wires
            .iter()
            .enumerate()
            .map(|(column, wire)| Many {
                wire: *wire,
                items: items
                    .iter()
                    .filter_map(|item| item.op.cells().get(column))
                    .collect(),
            });
        Self {
            keys: key_columns(table, &keys),
            payload: payload.collect(),
            ordinals: (0i32..).take(items.len()).collect(),
            revisions: Many {
                wire: Wire::Xid,
                items: items.iter().filter_map(|item| item.op.xmin()).collect(),
            },
        }
    }

    fn has_payload(&self) -> bool {
        self.payload.iter().any(|many| !many.items.is_empty())
    }

    /// In the order that all statements have: keys, payload, ordinals, revisions.
    fn params<'p>(&'p self, ordinals: Option<&'p Many<'p, i32>>) -> Params<'p> {
        let mut params: Params<'p> = self.keys.iter().map(|c| c as _).collect();
        if self.has_payload() {
            params.extend(
                self.payload
                    .iter()
                    .map(|c| c as &(dyn tokio_postgres::types::ToSql + Sync)),
            );
        }
        if let Some(ordinals) = ordinals {
            params.push(ordinals);
        }
        if !self.revisions.items.is_empty() {
            params.push(&self.revisions);
        }
        params
    }
}

/// Runs a statement without ordinals; gives the number of rows that it wrote.
async fn run(transaction: &Transaction<'_>, sql: &str, arrays: &Arrays<'_>) -> Result<u64, Error> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction
        .execute_raw(&statement, arrays.params(None))
        .await
}

/// Runs a statement that answers with ordinals.
async fn answering(
    transaction: &Transaction<'_>,
    sql: &str,
    arrays: &Arrays<'_>,
) -> Result<Vec<usize>, Error> {
    let ordinals = Many {
        wire: Wire::Int4,
        items: arrays.ordinals.iter().collect(),
    };
    let statement = transaction.prepare_cached(sql).await?;
    let rows = transaction
        .query_raw(&statement, arrays.params(Some(&ordinals)))
        .await?;
    let mut rows = pin!(rows);
    let mut done = Vec::with_capacity(arrays.ordinals.len());
    while let Some(row) = rows.try_next().await? {
        done.extend(raw(&row, 0)?.and_then(ordinal));
    }
    Ok(done)
}

async fn guarded(
    transaction: &Transaction<'_>,
    table: &Table,
    sql: &str,
    items: &[&Item<'_>],
) -> Result<Vec<usize>, Error> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    answering(transaction, sql, &Arrays::new(table, items)).await
}

/// Which of the items' keys have a row.
async fn existing(
    transaction: &Transaction<'_>,
    table: &Table,
    items: &[&Item<'_>],
) -> Result<std::collections::HashSet<usize>, Error> {
    if items.is_empty() {
        return Ok(std::collections::HashSet::new());
    }
    let mut arrays = Arrays::new(table, items);
    arrays.payload.clear();
    let there = answering(transaction, &table.sql.existing, &arrays).await?;
    Ok(there.into_iter().collect())
}

async fn upsert(
    transaction: &Transaction<'_>,
    table: &Table,
    items: &[&Item<'_>],
    careful: bool,
    outcomes: &mut Outcomes,
) -> Result<bool, Error> {
    if items.is_empty() {
        return Ok(true);
    }
    let arrays = Arrays::new(table, items);
    let written = run(transaction, &table.sql.upsert, &arrays).await?;
    if usize::try_from(written) == Ok(items.len()) {
        confirm((0..items.len()).collect(), items, outcomes);
        return Ok(true);
    }
    if !careful {
        return Ok(false);
    }
    // A trigger kept rows out: one by one, it shows which.
    for item in items {
        let written = run(transaction, &table.sql.upsert, &Arrays::new(table, &[item])).await?;
        confirm((0..usize::from(written == 1)).collect(), &[item], outcomes);
    }
    Ok(true)
}

async fn insert(
    transaction: &Transaction<'_>,
    table: &Table,
    items: &[&Item<'_>],
    careful: bool,
    outcomes: &mut Outcomes,
) -> Result<bool, Error> {
    let mut fresh = items.to_vec();
    if careful && items.len() >= COPY_FROM_ROWS {
        let there = existing(transaction, table, items).await?;
        confirm(Vec::new(), items, outcomes);
        let mut place = 0..items.len();
        fresh.retain(|_| place.next().is_some_and(|i| !there.contains(&i)));
    }
    if fresh.len() < COPY_FROM_ROWS {
        return insert_singly(transaction, table, &fresh, outcomes).await;
    }
    let rows: Vec<(&Key, &[Cell])> = fresh.iter().map(|i| (i.key, i.op.cells())).collect();
    let written = copy(transaction, table, &rows).await?;
    if usize::try_from(written) == Ok(fresh.len()) {
        confirm((0..fresh.len()).collect(), &fresh, outcomes);
        return Ok(true);
    }
    // A trigger kept rows out; those that came in are in the way of another COPY.
    if careful {
        let there = existing(transaction, table, &fresh).await?;
        confirm(there.into_iter().collect(), &fresh, outcomes);
    }
    Ok(careful)
}

/// One statement a row, all under way at once; each tells whether it found the key free.
async fn insert_singly(
    transaction: &Transaction<'_>,
    table: &Table,
    items: &[&Item<'_>],
    outcomes: &mut Outcomes,
) -> Result<bool, Error> {
    let arrays: Vec<Arrays<'_>> = items
        .iter()
        .map(|item| Arrays::new(table, &[item]))
        .collect();
    let results = join_all(
        arrays
            .iter()
            .map(|a| run(transaction, &table.sql.insert_absent, a)),
    )
    .await;
    let mut counts = Vec::with_capacity(items.len());
    let mut first = None;
    for result in results {
        match result {
            Ok(count) => counts.push(count),
            Err(error) if first.is_none() || !is_aftermath(&error) => {
                if first.as_ref().is_none_or(is_aftermath) {
                    first = Some(error);
                }
            }
            Err(_) => {}
        }
    }
    if let Some(error) = first {
        return Err(error);
    }
    for (item, count) in items.iter().zip(counts) {
        confirm((0..usize::from(count == 1)).collect(), &[item], outcomes);
    }
    Ok(true)
}
