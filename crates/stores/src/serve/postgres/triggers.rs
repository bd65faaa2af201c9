//! What notes the writes of others: a trigger a table, for each row, and one for TRUNCATE.
//!
//! They run with the rights of whoever serves, so that those who may write a table need no rights on what
//! lies beside it. The gateway's own statements do not call them (they note what they do themselves, many rows at
//! once); what those statements set off (triggers of the app's own, cascades) is noted as anybody's.

use super::served::{KEY_BYTES, Row, key_expression, old_expression};
use crate::postgres::table::{Payload, Table};
use whimbrel_firestore::Micros;

/// The setting that says that a session is the gateway's.
pub(super) const OWN: &str = "SET whimbrel.serve_own = 'on'";

pub(super) const ROW: &str = "whimbrel_serve_row";
pub(super) const TRUNCATE: &str = "whimbrel_serve_truncate";

/// The triggers of one table.
pub(super) struct Triggers {
    pub row_source: String,
    pub truncate_source: String,
    pub sql: String,
}

/// Texts of old rows must not depend on the settings of the session that writes.
const SETTINGS: &str = "SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, MDY' SET timezone = 'UTC' \
    SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C'";
/// JSON is the same in all of them, and each costs.
const JSON_SETTINGS: &str = "SET search_path = pg_catalog, pg_temp";

impl Triggers {
    /// `None`: the key cannot be put in words.
    pub fn new(side: &str, id: i32, name: &str, table: &Table, adopted: Micros) -> Option<Self> {
        let row_source = row_source(side, id, table, adopted)?;
        let key = key_expression(&table.keys, table.key_order, "t.")?;
        let old = old_expression(&table.payload, Row::Table);
        let truncate_source = format!(
            "
BEGIN
  INSERT INTO {side}.log (collection, key, at, writer, open, old, created, updated)
    SELECT {id}, {key}, greatest({side}.now(), coalesce(tm.updated, {adopted}) + 1), 1, true, {old},
      coalesce(tm.created, {adopted}), coalesce(tm.updated, {adopted})
    FROM {name} t LEFT JOIN {side}.time tm ON tm.collection = {id} AND tm.key = {key}
    WHERE octet_length({key}) <= {KEY_BYTES};
  DELETE FROM {side}.time WHERE collection = {id};
  RETURN NULL;
END"
        );
        let settings = match table.payload {
            Payload::Json { .. } => JSON_SETTINGS,
            Payload::Columns { .. } => SETTINGS,
        };
        let function = |what: &str, source: &str| {
            format!(
                "CREATE OR REPLACE FUNCTION {side}.{what}_{id}() RETURNS trigger LANGUAGE plpgsql \
                 SECURITY DEFINER {settings} AS {};\n",
                literal(source)
            )
        };
        let sql = format!(
            "{}{}DROP TRIGGER IF EXISTS {ROW} ON {name}; DROP TRIGGER IF EXISTS {TRUNCATE} ON {name};
CREATE TRIGGER {ROW} AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW
  WHEN (pg_catalog.pg_trigger_depth() > 0
    OR pg_catalog.current_setting('whimbrel.serve_own', true) IS DISTINCT FROM 'on')
  EXECUTE FUNCTION {side}.row_{id}();
CREATE TRIGGER {TRUNCATE} BEFORE TRUNCATE ON {name} FOR EACH STATEMENT
  EXECUTE FUNCTION {side}.truncate_{id}();",
            function("row", &row_source),
            function("truncate", &truncate_source),
        );
        Some(Self {
            row_source,
            truncate_source,
            sql,
        })
    }
}

/// A text as a literal that holds whatever it holds.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn row_source(side: &str, id: i32, table: &Table, adopted: Micros) -> Option<String> {
    let key = |row: &str| key_expression(&table.keys, table.key_order, row);
    let (old_key, new_key) = (key("OLD.")?, key("NEW.")?);
    let old = old_expression(&table.payload, Row::Old);
    let gone = format!(
        "SELECT created, updated INTO c, u FROM {side}.time WHERE collection = {id} AND key = was;
    IF NOT FOUND THEN c := {adopted}; u := {adopted}; END IF;
    w := greatest({side}.now(), u + 1);
    INSERT INTO {side}.log (collection, key, at, writer, open, old, created, updated)
      VALUES ({id}, was, w, 1, true, {old}, c, u);"
    );
    Some(format!(
        "
DECLARE
  was text; now_is text; c bigint; u bigint; w bigint;
BEGIN
  IF TG_OP = 'UPDATE' AND OLD *= NEW THEN RETURN NULL; END IF;
  -- Keys so long are no document's that is served, and must not make the app's own write fail.
  IF TG_OP <> 'INSERT' AND octet_length({old_key}) <= {KEY_BYTES} THEN was := {old_key}; END IF;
  IF TG_OP <> 'DELETE' AND octet_length({new_key}) <= {KEY_BYTES} THEN now_is := {new_key}; END IF;
  IF was IS NOT NULL THEN
    {gone}
    IF was = now_is THEN
      INSERT INTO {side}.time (collection, key, created, updated) VALUES ({id}, was, c, w)
        ON CONFLICT (collection, key) DO UPDATE SET updated = excluded.updated;
      RETURN NULL;
    END IF;
    DELETE FROM {side}.time WHERE collection = {id} AND key = was;
  END IF;
  IF now_is IS NOT NULL THEN
    SELECT max(at) INTO u FROM {side}.log WHERE collection = {id} AND key = now_is AND writer < 2;
    w := greatest({side}.now(), coalesce(u, 0) + 1);
    INSERT INTO {side}.log (collection, key, at, writer, open) VALUES ({id}, now_is, w, 1, true);
    INSERT INTO {side}.time (collection, key, created, updated) VALUES ({id}, now_is, w, w)
      ON CONFLICT (collection, key) DO UPDATE SET created = excluded.created, updated = excluded.updated;
  END IF;
  RETURN NULL;
END"
    ))
}
