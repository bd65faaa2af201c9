//! What others wrote, to be reflected in the indexes.
//!
//! Each change stays open in the log until a commit settles that very one. So nothing is passed over, in whatever
//! order transactions end, and an unfinished one keeps nobody waiting.

use super::past::Old;
use super::pipe::{Call, call};
use super::{Shared, again};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use whimbrel_firestore::backend::{Change, Foreign, Stored};
use whimbrel_firestore::{Micros, Place};
use whimbrel_model::StoreError;

/// How often it is looked for new and changed tables.
const TABLES: Duration = Duration::from_secs(1);
/// How many answers are remembered that nobody settled.
const KEPT: usize = 64;

/// The changes that were given out, by the mark that was given with them.
#[derive(Debug, Default)]
pub(super) struct Handed {
    last: u64,
    out: BTreeMap<u64, Vec<i64>>,
    looked: Option<Instant>,
}

impl Handed {
    fn hand(&mut self, changes: Vec<i64>) -> u64 {
        self.last += 1;
        self.out.insert(self.last, changes);
        // What is forgotten here is given out again.
        while self.out.len() > KEPT {
            self.out.pop_first();
        }
        self.last
    }

    /// The changes of the last answer up to a mark. What was given out before that only is still open: nobody says that
    /// the indexes reflect it.
    pub fn of(&self, mark: u64) -> Vec<i64> {
        let last = self.out.range(..=mark).next_back();
        last.map(|(_, out)| out.clone()).unwrap_or_default()
    }

    pub fn settled(&mut self, mark: u64) {
        self.out = self.out.split_off(&(mark + 1));
    }

    fn is_due(&mut self) -> bool {
        let due = self.looked.is_none_or(|looked| looked.elapsed() > TABLES);
        if due {
            self.looked = Some(Instant::now());
        }
        due
    }
}

const OPEN: &str = "SELECT l.seq, l.collection, l.key, l.at, l.writer, l.old, l.created, l.updated \
    FROM @.log l WHERE l.open ORDER BY l.seq LIMIT $1::int8";

/// A change of others as the log has it.
struct Noted {
    place: Place,
    at: Micros,
    before: Option<Stored>,
}

impl Shared {
    /// See [`whimbrel_firestore::Backend::foreign`].
    pub(super) async fn foreign(&self, limit: u32) -> Result<Foreign, StoreError> {
        if self.handed().is_due() {
            again(|| self.follow_tables()).await?;
        }
        again(|| self.open_changes(limit)).await
    }

    async fn open_changes(&self, limit: u32) -> Result<Foreign, StoreError> {
        let failed = |error| self.failed("reading what others wrote", error);
        let client = self.quick.get().await?;
        let open = Call::new(self.side.sql(OPEN)).with(i64::from(limit) + 1);
        let mut rows = call(&client, open).await.map_err(failed)?.rows;
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        if rows.is_empty() {
            return Ok(Foreign {
                more,
                ..Foreign::default()
            });
        }
        let (mut seqs, mut noted) = (Vec::new(), Vec::new());
        for row in &rows {
            seqs.push(row.try_get(0).map_err(failed)?);
            let id: i32 = row.try_get(1).map_err(failed)?;
            let Some(collection) = self.named(id) else {
                continue;
            };
            let key: &str = row.try_get(2).map_err(failed)?;
            let writer: i16 = row.try_get(4).map_err(failed)?;
            let mut change = Noted {
                place: Place {
                    collection: collection.clone(),
                    key: key.into(),
                },
                at: row.try_get(3).map_err(failed)?,
                before: None,
            };
            if let Some(served) = self.find(&collection).await?
                && let Some(old) = Old::read(row, 5, served, writer == 2).map_err(failed)?
            {
                // What was no document had no lines in any index.
                change.before = old.stored().ok();
            }
            noted.push(change);
        }
        drop(client);
        let places: Vec<Place> = noted.iter().map(|change| change.place.clone()).collect();
        // As they are now: what came after these changes is given out as changes of its own.
        let afters = self.get(&places, true).await?;
        let changes = noted.into_iter().zip(afters).map(|(noted, after)| Change {
            at: noted.at,
            before: noted.before,
            after,
            place: noted.place,
        });
        Ok(Foreign {
            changes: changes.collect(),
            mark: Some(self.handed().hand(seqs)),
            more,
        })
    }
}
