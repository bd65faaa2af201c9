//! What lies beside the served tables: a schema of its own, found by the name of theirs.
//!
//! | table | holds |
//! |---|---|
//! | `collection` | each collection's number, its table, and since when it is watched |
//! | `shape` | which columns the tables had, where those are fields |
//! | `time` | when a document was made and last written; rows without have their collection's `adopted` |
//! | `log` | what documents were: one row a change, whoever made it |
//! | `committed` | the times of the gateway's commits |
//! | `index`, `line` | indexes, and their lines in order |
//!
//! `DROP SCHEMA whimbrel_serve CASCADE` takes all of it away, triggers included; documents stay.

use crate::postgres::connect::Connections;
use crate::postgres::error::store_error;
use crate::postgres::table::quoted;
use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Where all that is.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// Quoted.
    pub schema: String,
    pub name: String,
    /// The schema whose tables are served.
    pub served: String,
}

const FORMAT: i32 = 1;

/// `@` stands for the schema. `log.writer`: 0 the gateway, 1 others, 2 a correction (what the gateway put, where
/// the table holds something else; no past state of the document). `log.open`: the indexes do not reflect it yet.
/// `log.old` is NULL where there was no document.
const TABLES: &str = "
CREATE TABLE @.meta (format integer NOT NULL);
CREATE TABLE @.collection (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE \"C\" NOT NULL,
  named text, relation oid, layout text, adopted bigint NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX collection_name ON @.collection (md5(name));
CREATE TABLE @.shape (
  seq integer GENERATED ALWAYS AS IDENTITY, collection integer NOT NULL, columns text[] NOT NULL);
CREATE TABLE @.time (
  collection integer NOT NULL, key text COLLATE \"C\" NOT NULL, created bigint NOT NULL, updated bigint NOT NULL,
  PRIMARY KEY (collection, key));
CREATE TABLE @.log (
  seq bigint GENERATED ALWAYS AS IDENTITY, collection integer NOT NULL, key text COLLATE \"C\" NOT NULL,
  at bigint NOT NULL, writer smallint NOT NULL, open boolean NOT NULL, old text, created bigint, updated bigint);
CREATE INDEX log_document ON @.log (collection, key, at, seq) WHERE writer < 2;
CREATE INDEX log_at ON @.log (at);
CREATE INDEX log_open ON @.log (seq) WHERE open;
CREATE INDEX log_unsettled ON @.log (collection, key) WHERE open;
CREATE TABLE @.committed (at bigint PRIMARY KEY);
CREATE TABLE @.index (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, definition bytea NOT NULL, ready boolean NOT NULL);
CREATE UNIQUE INDEX index_definition ON @.index (md5(definition));
CREATE TABLE @.line (
  index integer NOT NULL, key bytea NOT NULL, collection integer NOT NULL, document text NOT NULL,
  PRIMARY KEY (index, key));
CREATE FUNCTION @.now() RETURNS bigint LANGUAGE sql VOLATILE AS
  'SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint';
";

const DATABASE: &str = "SELECT current_setting('server_encoding'), \
    current_setting('server_version_num')::int4, current_schema()::text";

impl Side {
    /// Which side schema belongs to the connection's tables.
    ///
    /// # Errors
    /// The database cannot be served.
    pub async fn of(connections: &Connections, client: &ClientWrapper) -> Result<Self, StoreError> {
        let failed = |error| store_error(&connections.name, "looking at the database", error);
        let unfit = |why: &str| {
            let (kind, code) = (StoreErrorKind::Terminal, Code::StoreShape);
            StoreError::new(kind, code, &connections.name, why)
        };
        let row = client.query_one(DATABASE, &[]).await.map_err(failed)?;
        let encoding: String = row.try_get(0).map_err(failed)?;
        let version: i32 = row.try_get(1).map_err(failed)?;
        let served: Option<String> = row.try_get(2).map_err(failed)?;
        if encoding != "UTF8" {
            return Err(unfit(
                "the database's encoding is not UTF8; documents are served from one that is",
            ));
        }
        if version < 130_000 {
            return Err(unfit(
                "the server is older than PostgreSQL 13, which is needed",
            ));
        }
        let served = served.ok_or_else(|| {
            unfit("no schema of the search path exists; create one, or set search_path")
        })?;
        let mut name = "whimbrel_serve".to_owned();
        if served != "public" {
            name = crate::postgres::table::fitting(&format!("{name}_{served}"));
        }
        Ok(Self {
            schema: quoted(&name),
            name,
            served,
        })
    }

    /// Makes the schema where it is missing, and refuses one that a newer program wrote.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub async fn prepare(&self, store: &str, client: &mut ClientWrapper) -> Result<(), StoreError> {
        let made = self.make(client).await;
        let format = made.map_err(|error| {
            let doing = format!("preparing the schema {}", self.schema);
            store_error(store, &doing, error)
        })?;
        if format == FORMAT {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreShape,
            store,
            format!(
                "the schema {} is of format {format}, this program knows {FORMAT}; use the program that wrote it",
                self.schema
            ),
        ))
    }

    async fn make(&self, client: &mut ClientWrapper) -> Result<i32, Error> {
        let transaction = client.transaction().await?;
        let there = transaction
            .query_opt(
                "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1::text AND c.relname = 'meta'",
                &[&self.name],
            )
            .await?;
        if there.is_none() {
            // Only where it is missing may the right to make schemas be needed.
            let schema = transaction
                .query_opt(
                    "SELECT FROM pg_namespace WHERE nspname = $1::text",
                    &[&self.name],
                )
                .await?;
            if schema.is_none() {
                let sql = format!("CREATE SCHEMA {}", self.schema);
                transaction.batch_execute(&sql).await?;
            }
            transaction.batch_execute(&self.sql(TABLES)).await?;
            let sql = self.sql("INSERT INTO @.meta VALUES ($1::int4)");
            transaction.execute(&sql, &[&FORMAT]).await?;
        }
        let row = transaction
            .query_one(&self.sql("SELECT max(format) FROM @.meta"), &[])
            .await?;
        let format = row.try_get::<_, Option<i32>>(0)?.unwrap_or(0);
        transaction.commit().await?;
        Ok(format)
    }

    /// A statement of the side's tables: `@` stands for the schema.
    pub fn sql(&self, text: &str) -> String {
        text.replace('@', &self.schema)
    }
}
