//! Finding the tables of collections, and watching them.

use super::Shared;
use super::pipe::{Call, call};
use super::served::{Served, Statements, key_expression};
use super::triggers::Triggers;
use super::watch::{Watching, forgetting, in_place};
use crate::postgres::catalog;
use crate::postgres::table::{Found, Payload, Table, hashed, quoted};
use crate::postgres::{NAME_BYTES, error};
use crate::{CollectionConfig, LayoutChoice};
use deadpool_postgres::{Client, ClientWrapper};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::Error;
use whimbrel_firestore::Micros;
use whimbrel_model::{Code, StoreError};

/// What the catalogue of collections says of one.
#[derive(Debug, Default)]
struct Known {
    id: i32,
    /// The table's name where it is not the collection's.
    named: Option<String>,
    relation: Option<u32>,
    layout: Option<String>,
    adopted: Micros,
}

const KNOWN: &str = "SELECT id, named, relation, layout, adopted FROM @.collection \
    WHERE md5(name) = md5($1::text) AND name = $1::text";

const THERE: &str = "SELECT FROM pg_class WHERE relname = $1::text \
    AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $2::text)";

/// Why a table is not one that can be served.
enum Trouble {
    Misfit(String),
    Server(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl Shared {
    fn config(&self, collection: &str) -> Option<&CollectionConfig> {
        self.options.collections.get(collection)
    }

    /// The collection's table, from memory or the catalogue; `None` where there is none.
    ///
    /// # Errors
    /// There is one that cannot be served, or the database fails.
    pub(super) async fn find(&self, collection: &str) -> Result<Option<Arc<Served>>, StoreError> {
        if let Some(served) = self.known(collection) {
            return Ok(Some(served));
        }
        if collection.contains('\0') || self.is_nowhere(collection).await? {
            return Ok(None);
        }
        let _alone = self.adopting.lock().await;
        if let Some(served) = self.known(collection) {
            return Ok(Some(served));
        }
        let mut client = self.quick.get().await?;
        let found = self.look(&mut client, collection).await;
        found.map_err(|trouble| self.troubled(collection, trouble))
    }

    /// Whether one round trip shows that there is no such table: clients ask again and again for what is not there.
    async fn is_nowhere(&self, collection: &str) -> Result<bool, StoreError> {
        if self.config(collection).is_some() || self.id(collection).is_some() {
            return Ok(false);
        }
        let failed = |error| self.failed("looking for a table", error);
        let client = self.quick.get().await?;
        let there = Call::new(THERE).with(collection).with(&self.side.served);
        let answer = call(&client, there).await.map_err(failed)?;
        Ok(answer.rows.is_empty())
    }

    /// The same, and makes the table where it is missing.
    ///
    /// # Errors
    /// The same; or it cannot be made.
    pub(super) async fn ensure(&self, collection: &str) -> Result<Arc<Served>, StoreError> {
        if let Some(served) = self.find(collection).await? {
            return Ok(served);
        }
        let _alone = self.adopting.lock().await;
        let mut client = self.quick.get().await?;
        let made = async {
            if let Some(served) = self.look(&mut client, collection).await? {
                return Ok(served);
            }
            self.make(&mut client, collection).await?;
            let found = self.look(&mut client, collection).await?;
            found.ok_or_else(|| Trouble::Misfit("it went away while it was made".to_owned()))
        };
        made.await
            .map_err(|trouble| self.troubled(collection, trouble))
    }

    fn troubled(&self, collection: &str, trouble: Trouble) -> StoreError {
        match trouble {
            Trouble::Misfit(why) => self.terminal(
                Code::StoreShape,
                format!("the table of collection {collection:?} cannot be served: {why}"),
            ),
            Trouble::Server(error) => {
                let doing = format!("looking for the table of collection {collection:?}");
                error::store_error(&self.quick.name, &doing, error)
            }
        }
    }

    /// The collection's number, which it has without a table, too.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn number(&self, collection: &str) -> Result<i32, StoreError> {
        if let Some(id) = self.id(collection) {
            return Ok(id);
        }
        let _alone = self.adopting.lock().await;
        let client = self.quick.get().await?;
        let known = self.register(&client, collection).await;
        let known = known.map_err(|error| self.failed("noting a collection", error))?;
        Ok(known.id)
    }

    async fn read_known(
        &self,
        client: &ClientWrapper,
        collection: &str,
    ) -> Result<Option<Known>, Error> {
        let row = client
            .query_opt(&self.side.sql(KNOWN), &[&collection])
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Known {
            id: row.try_get(0)?,
            named: row.try_get(1)?,
            relation: row.try_get(2)?,
            layout: row.try_get(3)?,
            adopted: row.try_get(4)?,
        }))
    }

    async fn register(&self, client: &ClientWrapper, collection: &str) -> Result<Known, Error> {
        let sql = self
            .side
            .sql("INSERT INTO @.collection (name) VALUES ($1::text) ON CONFLICT DO NOTHING");
        client.execute(&sql, &[&collection]).await?;
        let known = self
            .read_known(client, collection)
            .await?
            .unwrap_or_default();
        self.note_id(known.id, collection);
        Ok(known)
    }

    /// Names that the table may have, quoted and bare.
    async fn candidates(
        &self,
        client: &ClientWrapper,
        collection: &str,
        known: Option<&Known>,
    ) -> Result<Vec<(String, String)>, Error> {
        let here = |name: &str| {
            let qualified = format!("{}.{}", quoted(&self.side.served), quoted(name));
            (qualified, name.to_owned())
        };
        if let Some(table) = self.config(collection).and_then(|c| c.table.as_deref()) {
            let mut all = Vec::new();
            if let Some((schema, name)) = table.split_once('.') {
                let qualified = format!("{}.{}", quoted(schema), quoted(name));
                all.push((qualified, name.to_owned()));
            }
            all.push(here(table));
            return Ok(all);
        }
        if let Some(named) = known.and_then(|known| known.named.as_deref()) {
            return Ok(vec![here(named)]);
        }
        if self.is_usable(client, collection).await? {
            return Ok(vec![here(collection)]);
        }
        Ok(Vec::new())
    }

    /// Whether a table of a collection may have the collection's own name.
    async fn is_usable(&self, client: &ClientWrapper, name: &str) -> Result<bool, Error> {
        if name.is_empty() || name.len() > NAME_BYTES || name.starts_with("_whimbrel") {
            return Ok(false);
        }
        let configured = &self.options.collections;
        if configured
            .iter()
            .any(|(collection, config)| collection != name && config.table.as_deref() == Some(name))
        {
            return Ok(false);
        }
        let sql = self
            .side
            .sql("SELECT FROM @.collection WHERE named = $1::text");
        Ok(client.query_opt(&sql, &[&name]).await?.is_none())
    }

    /// Looks for the table, and sees to it that it is watched.
    async fn look(
        &self,
        client: &mut Client,
        collection: &str,
    ) -> Result<Option<Arc<Served>>, Trouble> {
        let known = self.read_known(client, collection).await?;
        let candidates = self.candidates(client, collection, known.as_ref()).await?;
        for (qualified, bare) in candidates {
            if bare.contains('\0') || bare.len() > NAME_BYTES {
                continue;
            }
            let Some(found) = catalog::inspect(client, &qualified, &bare).await? else {
                continue;
            };
            let config = self.config(collection);
            if config.is_none() && !matches!(found.kind.as_str(), "r" | "p") {
                // An index or a view that only happens to be called so.
                continue;
            }
            let row = client.query_one(PARTS, &[&found.oid]).await?;
            if found.kind == "p" || row.try_get(0)? {
                return Err(Trouble::Misfit(
                    "it is partitioned, or other tables inherit from it: what is done to one of those alone (TRUNCATE, \
                     DETACH, DROP) could not be noted; serve a table that holds its rows itself"
                        .to_owned(),
                ));
            }
            let name = format!("{}.{}", quoted(&found.schema), quoted(&found.name));
            let columns = found.columns.iter().map(|column| column.name.clone());
            let columns: Vec<String> = columns.collect();
            let table = self.table(found, collection).map_err(Trouble::Misfit)?;
            let served = self.adopt(client, collection, name, table, columns).await?;
            return Ok(Some(self.remember(served)));
        }
        if let Some(known) = known.filter(|known| known.relation.is_some()) {
            self.retire(client, known.id).await?;
        }
        Ok(None)
    }

    /// The table as a collection, if it is one that may be served.
    fn table(&self, found: Found, collection: &str) -> Result<Table, String> {
        let config = self.config(collection).cloned();
        let configured = config.is_some();
        let table = found.table(collection, &config.unwrap_or_default())?;
        if key_expression(&table.keys, table.key_order, "t.").is_none() {
            return Err("a key that is served is a text, an integer or a uuid".to_owned());
        }
        let ids = collection.split('/').count();
        if table.keys.len() > 1 && table.keys.len() != ids {
            return Err(format!(
                "its key has {} columns, a name in the collection {ids} ids",
                table.keys.len()
            ));
        }
        // Whoever can reach the server reads what is served, so a table must look like a collection, or be named.
        let plain = matches!(table.payload, Payload::Json { .. }) && table.keys.len() == 1;
        if !configured && !plain {
            return Err(
                "it is not one key and one JSON column; to serve its columns as fields, configure the collection \
                 (layout = \"columns\")"
                    .to_owned(),
            );
        }
        Ok(table)
    }

    async fn adopt(
        &self,
        client: &mut Client,
        collection: &str,
        name: String,
        table: Table,
        columns: Vec<String>,
    ) -> Result<Served, Trouble> {
        let odd =
            || Trouble::Misfit("a key that is served is a text, an integer or a uuid".to_owned());
        let known = self.register(client, collection).await?;
        let layout = match &table.payload {
            Payload::Json { name, .. } => format!("json {name:?}"),
            Payload::Columns { rest, .. } => {
                format!("columns {:?}", rest.as_ref().map(|rest| &rest.name))
            }
        };
        let mut adopted = known.adopted;
        let watched = known.relation.is_some() && known.layout.as_deref() == Some(&*layout) && {
            let side = &self.side.schema;
            let triggers = Triggers::new(side, known.id, &name, &table, adopted).ok_or_else(odd)?;
            in_place(client, &table, &triggers).await?
        };
        if !watched {
            let watching = Watching {
                side: &self.side,
                id: known.id,
                known: known.relation.is_some(),
                name: &name,
                table: &table,
                layout: &layout,
            };
            adopted = watching.begin(client).await?.ok_or_else(odd)?;
        } else if known.relation != Some(table.oid) {
            // A database that was restored from a dump has other numbers.
            let sql = self
                .side
                .sql("UPDATE @.collection SET relation = $2::oid WHERE id = $1::int4");
            client.execute(&sql, &[&known.id, &table.oid]).await?;
        }
        let row = client.query_one(FACTS, &[&table.oid]).await?;
        let version: String = row.try_get(0)?;
        let meddled: bool = row.try_get(1)?;
        let json = matches!(table.payload, Payload::Json { .. });
        let shapes = match json {
            true => Vec::new(),
            false => self.shapes(client, known.id, columns).await?,
        };
        let exact = json && !table.plain && !meddled;
        let sql = Statements::new(&self.side.schema, known.id, &name, &table, exact, adopted);
        Ok(Served {
            id: known.id,
            collection: collection.into(),
            sql: sql.ok_or_else(odd)?,
            table,
            name,
            exact,
            version,
            shapes,
        })
    }

    /// The columns that a table has and had: the log's rows are of all of them.
    async fn shapes(
        &self,
        client: &ClientWrapper,
        id: i32,
        columns: Vec<String>,
    ) -> Result<Vec<Vec<String>>, Error> {
        let read = self
            .side
            .sql("SELECT columns FROM @.shape WHERE collection = $1::int4 ORDER BY seq DESC");
        let rows = client.query(&read, &[&id]).await?;
        let shapes: Result<Vec<Vec<String>>, Error> =
            rows.iter().map(|row| row.try_get(0)).collect();
        let mut shapes = shapes?;
        if shapes.first() != Some(&columns) {
            let insert = self
                .side
                .sql("INSERT INTO @.shape (collection, columns) VALUES ($1::int4, $2::text[])");
            client.execute(&insert, &[&id, &columns]).await?;
            shapes.insert(0, columns);
        }
        Ok(shapes)
    }

    /// A table that was there is gone, and with it what was known of it.
    async fn retire(&self, client: &mut Client, id: i32) -> Result<(), Error> {
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&self.side.sql(&format!(
                "{}; UPDATE @.collection SET relation = NULL, layout = NULL, adopted = 0 WHERE id = {id}",
                forgetting(id)
            )))
            .await?;
        transaction.commit().await
    }

    async fn make(&self, client: &mut Client, collection: &str) -> Result<(), Trouble> {
        let config = self.config(collection).cloned().unwrap_or_default();
        if config.layout == LayoutChoice::Columns || config.rest.is_some() || config.key.len() > 1 {
            let why =
                "it does not exist, and a table with columns as fields is not made up; create it";
            return Err(Trouble::Misfit(why.to_owned()));
        }
        let known = self.register(client, collection).await?;
        let name = match config.table.as_deref() {
            Some(table) => match table.split_once('.') {
                Some((schema, name)) => format!("{}.{}", quoted(schema), quoted(name)),
                None => format!("{}.{}", quoted(&self.side.served), quoted(table)),
            },
            None => {
                let name = self.name_for(client, collection, known).await?;
                format!("{}.{}", quoted(&self.side.served), quoted(&name))
            }
        };
        let key = config.key.first().map_or("id", String::as_str);
        let data = config.data.as_deref().unwrap_or("data");
        let made = client
            .batch_execute(&format!(
                "CREATE TABLE IF NOT EXISTS {name} ({} text COLLATE \"C\" PRIMARY KEY, {} jsonb NOT NULL)",
                quoted(key),
                quoted(data)
            ))
            .await;
        match made {
            // Somebody else was making it.
            Err(error) if error.code().is_some_and(|code| code.code() == "23505") => Ok(()),
            other => Ok(other?),
        }
    }

    /// The name of a collection's table that is to be made: its own, where a table can have it.
    async fn name_for(
        &self,
        client: &mut Client,
        collection: &str,
        known: Known,
    ) -> Result<String, Error> {
        if let Some(named) = known.named {
            return Ok(named);
        }
        if self.is_usable(client, collection).await? {
            let taken = client
                .query_opt(THERE, &[&collection, &self.side.served])
                .await?;
            if taken.is_none() {
                return Ok(collection.to_owned());
            }
        }
        let named = hashed(&format!("~{collection}"));
        let sql = self
            .side
            .sql("UPDATE @.collection SET named = $2::text WHERE id = $1::int4");
        client.execute(&sql, &[&known.id, &named]).await?;
        Ok(named)
    }

    /// Takes up tables that came, changed or went since.
    ///
    /// # Errors
    /// The database fails. Tables that cannot be served are left alone.
    pub(super) async fn follow_tables(&self) -> Result<(), StoreError> {
        let failed = |error| self.failed("looking for new and changed tables", error);
        let client = self.quick.get().await?;
        let sql = self.side.sql(TABLES);
        let rows = call(&client, Call::new(sql).with(&self.side.served))
            .await
            .map_err(failed)?
            .rows;
        drop(client);
        let configured: HashSet<&str> = self
            .options
            .collections
            .values()
            .filter_map(|config| config.table.as_deref())
            .collect();
        let mut again: Vec<String> = Vec::new();
        for row in rows {
            let collection: Option<String> = row.try_get(0).map_err(failed)?;
            let version: Option<String> = row.try_get(1).map_err(failed)?;
            let table: Option<String> = row.try_get(2).map_err(failed)?;
            match (collection, table) {
                (Some(collection), _) => {
                    let served = self.known(&collection);
                    if served.as_ref().map(|served| &served.version) != version.as_ref() {
                        self.forget_table(&collection);
                        again.push(collection);
                    }
                }
                // A new table, which is looked at once.
                (None, Some(table)) => {
                    if !configured.contains(&*table) && self.is_news(&table, version) {
                        again.push(table);
                    }
                }
                (None, None) => {}
            }
        }
        for collection in again {
            match self.find(&collection).await {
                Err(error) if error.code == Code::StoreShape => {
                    tracing::debug!(collection, "a table is not served: {}", error.message);
                }
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }
}

/// The collections that have a table, with the version that it has now; then tables that are no collection's yet.
const TABLES: &str = "SELECT c.name, k.xmin::text, NULL::text FROM @.collection c \
    LEFT JOIN pg_class k ON k.oid = c.relation WHERE c.relation IS NOT NULL \
    UNION ALL SELECT NULL, k.xmin::text, k.relname::text FROM pg_class k \
    WHERE k.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text) \
      AND k.relkind IN ('r', 'p') AND NOT k.relispartition AND NOT starts_with(k.relname::text, '_whimbrel') \
      AND NOT EXISTS (SELECT FROM @.collection c WHERE c.relation = k.oid)";

/// Whether rows of other tables are seen in a table.
const PARTS: &str = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = $1::oid)";

/// The version of a table's shape, and whether triggers of the app's own may change its rows on their way in.
const FACTS: &str = "SELECT xmin::text, EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::oid \
    AND NOT tgisinternal AND tgenabled <> 'D' AND (tgtype & 3) = 3) FROM pg_class WHERE oid = $1::oid";
