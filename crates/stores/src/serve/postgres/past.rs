//! What documents were.

use super::pipe::{Call, call};
use super::served::Served;
use super::{Shared, rows};
use deadpool_postgres::ClientWrapper;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::{Error, Row};
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::{Fields, Micros};
use whimbrel_model::StoreError;

/// A document as the log has it.
pub(super) struct Old {
    pub served: Arc<Served>,
    pub text: String,
    /// What the gateway put, in its own words, rather than what the table held.
    pub correction: bool,
    pub created: Micros,
    pub updated: Micros,
}

impl Old {
    /// Reads the text and the times behind it; `None` where there was no document.
    pub fn read(
        row: &Row,
        at: usize,
        served: Arc<Served>,
        correction: bool,
    ) -> Result<Option<Self>, Error> {
        let Some(text) = row.try_get(at)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            served,
            text,
            correction,
            created: row.try_get::<_, Option<Micros>>(at + 1)?.unwrap_or(0),
            updated: row.try_get::<_, Option<Micros>>(at + 2)?.unwrap_or(0),
        }))
    }
}

/// One statement for all columns' tables: the first change after a time says what a document was until then.
pub(super) const BEFORE: &str = "SELECT s.o, h.old, h.created, h.updated FROM (SELECT unnest($1::int4[]) AS c, \
    unnest($2::text[]) AS k, unnest($3::int4[]) AS o) s, LATERAL (SELECT l.old, l.created, l.updated \
      FROM @.log l WHERE l.collection = s.c AND l.key = s.k AND l.at > $4::int8 AND l.writer < 2 \
      ORDER BY l.at, l.seq LIMIT 1) h";

impl Shared {
    /// The documents of these texts, in their order. Where the text is no document, why.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn decode(
        &self,
        client: &ClientWrapper,
        olds: &[Old],
    ) -> Result<Vec<Result<Stored, String>>, StoreError> {
        let failed = |error| self.failed("reading what documents were", error);
        let mut fields: Vec<Option<Result<Fields, String>>> = Vec::with_capacity(olds.len());
        // Rows of columns are put together again where their types are known.
        let mut columns: HashMap<i32, Vec<(i32, &Old)>> = HashMap::new();
        for (ordinal, old) in (0i32..).zip(olds) {
            if old.correction || old.served.is_json() {
                fields.push(Some(rows::old_fields(&old.text)));
            } else {
                fields.push(None);
                let of = columns.entry(old.served.id).or_default();
                of.push((ordinal, old));
            }
        }
        for of in columns.values() {
            let Some((_, first)) = of.first() else {
                continue;
            };
            let served = &first.served;
            let texts: Vec<&str> = of.iter().map(|(_, old)| old.text.as_str()).collect();
            let ordinals: Vec<i32> = of.iter().map(|(ordinal, _)| *ordinal).collect();
            let past = Call::new(&*served.sql.past).with(texts).with(ordinals);
            for row in call(client, past).await.map_err(failed)?.rows {
                let ordinal: i32 = row.try_get(0).map_err(failed)?;
                let read = rows::payload(served, &row, 1).and_then(|map| rows::fields(&map));
                if let Some(slot) = usize::try_from(ordinal).ok().and_then(|at| fields.get_mut(at))
                {
                    *slot = Some(read);
                }
            }
        }
        let stored = fields.into_iter().zip(olds).map(|(fields, old)| {
            let fields = fields.unwrap_or_else(|| Err("the log's row was not read".to_owned()))?;
            Ok(Stored {
                fields: Arc::new(fields),
                created: old.created,
                updated: old.updated,
            })
        });
        Ok(stored.collect())
    }

    /// Forgets what documents were before a time, a few thousand changes at a time.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        let failed = |error| self.failed("forgetting what documents were", error);
        let client = self.quick.get().await?;
        let log = self.side.sql(
            "DELETE FROM @.log WHERE ctid = ANY (ARRAY(SELECT ctid FROM @.log \
             WHERE at <= $1::int8 AND NOT open LIMIT 5000))",
        );
        loop {
            let gone = call(&client, Call::new(&*log).with(horizon)).await;
            if gone.map_err(failed)?.count == 0 {
                break;
            }
        }
        let times = self.side.sql(
            "DELETE FROM @.committed WHERE at <= $1::int8 AND at < (SELECT max(at) FROM @.committed)",
        );
        let gone = call(&client, Call::new(times).with(horizon)).await;
        gone.map(drop).map_err(failed)
    }
}
