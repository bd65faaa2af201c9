//! Asks the catalogue what a table looks like.

use super::table::{Attribute, Found, Index};
use deadpool_postgres::Client;
use tokio_postgres::{Error, Row};

/// Resolves `"schema"."table"` or `"table"`; no row when there is none.
const FIND: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
    EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferred) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = to_regclass($1::text) AND c.relname = $2::text";

/// A collation that compares bytes: C by name, or the database's own where that is C (or the built-in
/// provider or the C library's C.UTF-8, which compare code points; in UTF-8 that is the same).
macro_rules! c_collation {
    () => {
        "coalesce(l.collname IN ('C', 'POSIX', 'ucs_basic', 'C.UTF-8', 'C.utf8') OR l.collprovider = 'b' \
         OR (l.collname = 'default' AND CASE coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') \
         WHEN 'b' THEN true WHEN 'c' THEN d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') ELSE false END), false) "
    };
}

const COLUMNS: &str = concat!(
    "SELECT a.attnum, a.attname::text, a.attnotnull, \
    a.attgenerated <> '', quote_ident(bn.nspname) || '.' || quote_ident(b.typname), \
    CASE WHEN bn.nspname = 'pg_catalog' THEN b.typname::text ELSE '' END, \
    CASE WHEN en.nspname = 'pg_catalog' AND b.typcategory = 'A' THEN e.typname::text ELSE '' END, \
    CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, \
    format_type(a.atttypid, a.atttypmod), \
",
    c_collation!(),
    "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    JOIN pg_namespace bn ON bn.oid = b.typnamespace \
    LEFT JOIN pg_type e ON e.oid = b.typelem LEFT JOIN pg_namespace en ON en.oid = e.typnamespace \
    LEFT JOIN pg_collation l ON l.oid = a.attcollation \
    CROSS JOIN (SELECT * FROM pg_database WHERE datname = current_database()) d \
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
);

/// Whether a primary key of a table that a name without a schema finds sorts in another order than keys do.
pub(crate) const OTHER_ORDER: &str = concat!(
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
    LEFT JOIN pg_collation l ON l.oid = a.attcollation \
    CROSS JOIN (SELECT * FROM pg_database WHERE datname = current_database()) d \
    WHERE i.indisprimary AND c.relnamespace = ANY (current_schemas(false)::regnamespace[]) \
      AND NOT (a.atttypid = ANY ('{int2,int4,int8,uuid}'::regtype[]) \
        OR (a.atttypid = ANY ('{text,varchar}'::regtype[]) AND ",
    c_collation!(),
    ")))"
);

const INDEXES: &str = "SELECT i.indisprimary, i.indimmediate, \
    ARRAY(SELECT k FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(k, o) \
      WHERE o <= i.indnkeyatts ORDER BY o) \
    FROM pg_index i WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid \
      AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid";

/// `qualified` is the quoted name, `name` the table's own. `None` when there is none.
pub(crate) async fn inspect(
    client: &Client,
    qualified: &str,
    name: &str,
) -> Result<Option<Found>, Error> {
    let Some(row) = client.query_opt(FIND, &[&qualified, &name]).await? else {
        return Ok(None);
    };
    let oid: u32 = row.try_get(0)?;
    let columns = client.query(COLUMNS, &[&oid]).await?;
    let indexes = client.query(INDEXES, &[&oid]).await?;
    Ok(Some(Found {
        oid,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        deferred: row.try_get(4)?,
        columns: columns.iter().map(attribute).collect::<Result<_, _>>()?,
        indexes: indexes.iter().map(index).collect::<Result<_, _>>()?,
    }))
}

fn attribute(row: &Row) -> Result<Attribute, Error> {
    Ok(Attribute {
        number: row.try_get(0)?,
        name: row.try_get(1)?,
        not_null: row.try_get(2)?,
        generated: row.try_get(3)?,
        base: row.try_get(4)?,
        builtin: row.try_get(5)?,
        element: row.try_get(6)?,
        modifier: row.try_get(7)?,
        declared: row.try_get(8)?,
        c_collation: row.try_get(9)?,
    })
}

fn index(row: &Row) -> Result<Index, Error> {
    Ok(Index {
        primary: row.try_get(0)?,
        immediate: row.try_get(1)?,
        columns: row.try_get(2)?,
    })
}
