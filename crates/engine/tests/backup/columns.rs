//! Tables whose columns are the fields: every cell comes back as it was.

use super::{backup_job, restore_job};
use crate::common::{Stage, engine, store};
use whimbrel_archive::{LayoutNote, Vault};
use whimbrel_engine::RestoreJob;

const SQLITE: &str =
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, t TEXT, r REAL, n NUMERIC, b BLOB)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_sqlite_comes_back_cell_by_cell() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| rusqlite::Connection::open(dir.path().join(name)).unwrap();
    let (app, back) = (file("app.db"), file("back.db"));
    app.execute_batch(SQLITE).unwrap();
    back.execute_batch(SQLITE).unwrap();
    app.execute_batch(
        "INSERT INTO orders VALUES (1, 'ü', -0.5, 12345678901234567, x'00ff'), (2, NULL, 5e-324, 0.1, x''),
         (-9223372036854775808, '', 1e300, -1, NULL), (4, '{\"$timestamp\": 1}', 0.1, 2, x'7b7d')",
    )
    .unwrap();
    let url = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    let (source, target) = (store(&url("app.db")).await, store(&url("back.db")).await);
    let engine = engine(dir.path()).await;
    let vault = Vault::open("vault", dir.path(), true).unwrap();
    let job = backup_job(&source, vault, &["orders"]);
    let archive = engine.backup(job).await.unwrap().archive;
    let layout = &archive.manifest().collections[0].layout;
    assert!(
        matches!(layout, LayoutNote::Columns { columns } if columns.len() >= 4),
        "{layout:?}"
    );
    engine
        .restore(restore_job(&archive, &target))
        .await
        .unwrap();
    let rows = |file: &rusqlite::Connection| -> String {
        let sql = "SELECT group_concat(id || quote(t) || quote(r) || quote(n) || typeof(n) || quote(b), '|')
                   FROM (SELECT * FROM orders ORDER BY id)";
        file.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(&back), rows(&app));
    assert_eq!(rows(&app).matches('|').count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_postgres_comes_back_cell_by_cell() {
    let (Some(app), Some(back)) = (Stage::new("bk_cols"), Stage::new("bk_cols_back")) else {
        return;
    };
    let table = "CREATE TABLE orders (id uuid PRIMARY KEY, n numeric, at timestamptz, t text[], j jsonb, b bytea)";
    app.sql(table);
    back.sql(table);
    app.sql(
        "INSERT INTO orders VALUES
         ('00000000-0000-0000-0000-000000000001', 12345678901234567890.50, '2026-01-31 08:00:00.123456+02',
          '{a,NULL,\"b c\"}', '{\"$x\": [1, 0.5]}', '\\x00ff'),
         ('00000000-0000-0000-0000-000000000002', 'NaN', 'infinity', '{}', '[null]', ''),
         ('ffffffff-ffff-ffff-ffff-ffffffffffff', NULL, NULL, NULL, NULL, NULL)",
    );
    let (source, target) = (app.store(&["orders"]).await, back.store(&["orders"]).await);
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let vault = Vault::open("vault", dir.path(), true).unwrap();
    let job = backup_job(&source, vault, &["orders"]);
    let archive = engine.backup(job).await.unwrap().archive;
    let all: fn() -> &'static str = || "SELECT * FROM orders ORDER BY id";
    engine
        .restore(restore_job(&archive, &target))
        .await
        .unwrap();
    assert_eq!(back.sql(all()), app.sql(all()));
    assert_eq!(back.sql(all()).lines().count(), 3);
    // What the columns give back is what the archive is compared with.
    let again: RestoreJob = restore_job(&archive, &target);
    let counts = engine.restore(again).await.unwrap().reports[0].counts;
    assert_eq!((counts.unchanged, counts.written), (3, 0));
}
