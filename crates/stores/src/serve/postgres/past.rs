//! What documents were.

use super::pipe::{Call, call};
use super::served::Served;
use super::{Shared, rows};
use std::sync::Arc;
use tokio_postgres::{Error, Row};
use whimbrel_firestore::Micros;
use whimbrel_firestore::backend::Stored;
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

    /// # Errors
    /// Why the text is no document; names columns, never values.
    pub fn stored(&self) -> Result<Stored, String> {
        let fields = match self.correction {
            true => rows::old_fields(&self.text),
            false => rows::old(&self.served, &self.text),
        };
        Ok(Stored {
            fields: Arc::new(fields?),
            created: self.created,
            updated: self.updated,
        })
    }
}

/// One statement for all columns' tables: the first change after a time says what a document was until then. What is not
/// settled came after every time that was given out, unless the gateway wrote over it: then just before that.
pub(super) const BEFORE: &str = "SELECT s.o, h.old, h.created, h.updated FROM (SELECT unnest($1::int4[]) AS c, \
    unnest($2::text[]) AS k, unnest($3::int4[]) AS o) s, LATERAL (SELECT f.old, f.created, f.updated FROM ( \
      (SELECT l.* FROM @.log l WHERE l.collection = s.c AND l.key = s.k AND l.writer < 2 AND NOT l.open \
        AND l.at > $4::int8 ORDER BY l.at, l.seq LIMIT 1) \
      UNION ALL \
      (SELECT l.* FROM @.log l WHERE l.collection = s.c AND l.key = s.k AND l.writer < 2 AND l.open \
        AND NOT EXISTS (SELECT FROM @.log n WHERE n.collection = l.collection AND n.key = l.key AND n.writer = 0 \
          AND n.at <= $4::int8 AND n.seq > l.seq) ORDER BY l.seq LIMIT 1)) f \
      ORDER BY f.seq LIMIT 1) h";

impl Shared {
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
