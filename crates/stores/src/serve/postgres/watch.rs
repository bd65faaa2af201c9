//! Beginning to watch a table: its triggers, an index in the order of its keys' bytes, and what indexes must be told.

use super::served::{KEY_BYTES, key_expression};
use super::side::Side;
use super::triggers::{ROW, TRUNCATE, Triggers};
use crate::postgres::table::{Table, quoted};
use deadpool_postgres::{Client, ClientWrapper};
use tokio_postgres::Error;
use whimbrel_firestore::Micros;

/// How long the app's transactions may keep a table from being adopted.
const PATIENCE: &str = "SET LOCAL lock_timeout = '5s'";

const IN_PLACE: &str = "SELECT g.tgname::text, p.prosrc FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid \
    WHERE g.tgrelid = $1::oid AND g.tgname = ANY ($2::text[]) AND g.tgenabled <> 'D'";

/// Whether the triggers are there, as they should be.
pub(super) async fn in_place(
    client: &ClientWrapper,
    table: &Table,
    triggers: &Triggers,
) -> Result<bool, Error> {
    let rows = client
        .query(IN_PLACE, &[&table.oid, &[ROW, TRUNCATE].as_slice()])
        .await?;
    let mut good = 0;
    for row in rows {
        let (name, source): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let expect = match name.as_str() {
            ROW => &triggers.row_source,
            _ => &triggers.truncate_source,
        };
        good += usize::from(source == *expect);
    }
    Ok(good == 2)
}

/// Statements that forget what is known of a collection's documents.
pub(super) fn forgetting(id: i32) -> String {
    format!(
        "DELETE FROM @.line WHERE collection = {id}; DELETE FROM @.time WHERE collection = {id}; \
         DELETE FROM @.log WHERE collection = {id}"
    )
}

/// A table that is about to be watched.
pub(super) struct Watching<'a> {
    pub side: &'a Side,
    /// The collection's number.
    pub id: i32,
    /// Whether it was watched before.
    pub known: bool,
    pub name: &'a str,
    pub table: &'a Table,
    pub layout: &'a str,
}

impl Watching<'_> {
    /// Sets the triggers. Gives the time that rows have that were there before.
    pub async fn begin(&self, client: &mut Client) -> Result<Option<Micros>, Error> {
        let (side, id, name) = (self.side, self.id, self.name);
        let transaction = client.transaction().await?;
        transaction.batch_execute(PATIENCE).await?;
        // From here on nobody writes it, and whoever wrote is done.
        let sql = format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE");
        transaction.batch_execute(&sql).await?;
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {name}), {}.now(), EXISTS (SELECT FROM {0}.index), \
             pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::oid",
            side.schema
        );
        let row = transaction.query_one(&sql, &[&self.table.oid]).await?;
        let (any, now, indexed): (bool, Micros, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let adopted = if any { now } else { 0 };
        let Some(triggers) = Triggers::new(&side.schema, id, name, self.table, adopted) else {
            return Ok(None);
        };
        if self.known {
            // It was watched before, and was not since: nothing that is known of it holds.
            transaction
                .batch_execute(&side.sql(&forgetting(id)))
                .await?;
        }
        transaction.batch_execute(&triggers.sql).await?;
        if row.try_get(3)? {
            // Also for rows that replication brings.
            let sql = format!(
                "ALTER TABLE {name} ENABLE ALWAYS TRIGGER {ROW}, ENABLE ALWAYS TRIGGER {TRUNCATE}"
            );
            transaction.batch_execute(&sql).await?;
        }
        self.order(&transaction).await?;
        if any && indexed {
            self.announce(&transaction, adopted).await?;
        }
        let sql = side.sql(
            "UPDATE @.collection SET relation = $2::oid, layout = $3::text, adopted = $4::int8 \
             WHERE id = $1::int4",
        );
        transaction
            .execute(&sql, &[&id, &self.table.oid, &self.layout, &adopted])
            .await?;
        transaction.commit().await?;
        tracing::info!(table = name, "serving a table");
        Ok(Some(adopted))
    }

    /// An index in the order of the keys' bytes, where the table's own has another.
    async fn order(&self, transaction: &deadpool_postgres::Transaction<'_>) -> Result<(), Error> {
        let plain = key_expression(&self.table.keys, true, "");
        let used = key_expression(&self.table.keys, self.table.key_order, "");
        let keys = &self.table.keys;
        let own = keys.first().is_some_and(|key| {
            keys.len() == 1 && used.as_deref() == Some(&*quoted(&key.name)) && plain == used
        });
        if own {
            return Ok(());
        }
        let sql = format!(
            "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
            quoted(&format!("whimbrel_serve_key_{}", self.id)),
            self.name,
            used.unwrap_or_default()
        );
        transaction.batch_execute(&sql).await
    }

    /// Indexes are there already, and know nothing of the rows.
    async fn announce(
        &self,
        transaction: &deadpool_postgres::Transaction<'_>,
        adopted: Micros,
    ) -> Result<(), Error> {
        let key = key_expression(&self.table.keys, self.table.key_order, "t.").unwrap_or_default();
        let sql = format!(
            "INSERT INTO {}.log (collection, key, at, writer, open) SELECT {}, {key}, {adopted}, 1, true FROM {} t \
             WHERE octet_length({key}) <= {KEY_BYTES}",
            self.side.schema, self.id, self.name
        );
        transaction.batch_execute(&sql).await
    }
}
