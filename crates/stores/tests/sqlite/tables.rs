//! Tables as apps make them.

use super::*;

/// Tables of the Chinook sample database, keys of one and of two columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_chinook_table_is_read_whole() {
    let original = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/chinook/Chinook_Sqlite.sqlite"
    );
    if !Path::new(original).exists() {
        println!("SKIPPED: the Chinook database is not there");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chinook.db");
    std::fs::copy(original, &path).unwrap();
    let url = format!("sqlite:{}", path.display());
    let store = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap();
    let oracle = Connection::open(&path).unwrap();
    let tables = store.collections().await.unwrap();
    assert_eq!(tables.len(), 11, "{tables:?}");
    let mut rewritten = 0;
    for table in &tables {
        let count = format!("SELECT COUNT(*) FROM \"{table}\"");
        let count: u64 = oracle
            .query_row(&count, [], |r| r.get::<_, i64>(0))
            .unwrap()
            .unsigned_abs();
        assert_eq!(
            store.count(table, &KeyRange::all()).await.unwrap(),
            count,
            "{table}"
        );
        let mut seen = 0;
        for part in store.partitions(table, &KeyRange::all(), 3).await.unwrap() {
            let mut last = None;
            loop {
                let rest = part.resumed_after(last.as_ref());
                let page = store.scan(table, &rest, 100, 1 << 20).await.unwrap();
                assert_eq!(page.rejects, []);
                let Some(key) = page.last else { break };
                last = Some(key);
                seen += page.documents.len() as u64;
                // What was read can be written, and changes nothing.
                let writes: Vec<Write> = page
                    .documents
                    .into_iter()
                    .map(|d| Write {
                        collection: table.clone(),
                        key: d.key,
                        to: Some(d.body),
                        guard: Guard::Unchanged(d.revision),
                    })
                    .collect();
                for outcome in store.write(&writes).await.unwrap() {
                    assert_eq!(outcome, WriteOutcome::Applied, "{table}");
                    rewritten += 1;
                }
            }
        }
        assert_eq!(seen, count, "{table}");
    }
    assert_eq!(rewritten, 15_607);
    let dump = |path: &Path| -> Vec<String> {
        let connection = Connection::open(path).unwrap();
        let sql =
            "SELECT group_concat(quote(UnitPrice) || quote(Composer) || quote(Bytes)) FROM Track";
        let dates = "SELECT group_concat(quote(InvoiceDate) || quote(Total)) FROM Invoice";
        [sql, dates]
            .map(|sql| connection.query_row(sql, [], |r| r.get(0)).unwrap())
            .to_vec()
    };
    assert!(
        dump(&path) == dump(Path::new(original)),
        "the values changed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_understood() {
    let json = Layout::Json;
    let column = |name: &str, kind: &str, nullable| Column {
        name: name.into(),
        kind: kind.into(),
        nullable,
    };
    let cases: Vec<(&str, KeyKind, Layout)> = vec![
        (
            "CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT)",
            KeyKind::Int,
            json.clone(),
        ),
        (
            "CREATE TABLE c (k VARCHAR(20) PRIMARY KEY, doc JSON)",
            KeyKind::Text,
            json.clone(),
        ),
        (
            "CREATE TABLE c (k UUID PRIMARY KEY, data BLOB) WITHOUT ROWID",
            KeyKind::Uuid,
            json.clone(),
        ),
        (
            "CREATE TABLE c (k TEXT PRIMARY KEY, doc TEXT); INSERT INTO c VALUES ('a', '{\"b\":1}')",
            KeyKind::Text,
            json,
        ),
        (
            "CREATE TABLE c (id INT PRIMARY KEY, name TEXT NOT NULL, twice AS (name || name))",
            KeyKind::Int,
            Layout::Columns(vec![
                column("id", "INT", true),
                column("name", "TEXT", false),
            ]),
        ),
        (
            "CREATE TABLE c (b INTEGER, a TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID",
            KeyKind::Tuple(vec![KeyKind::Text, KeyKind::Int]),
            Layout::Columns(vec![
                column("b", "INTEGER", false),
                column("a", "TEXT", false),
            ]),
        ),
    ];
    for (sql, key, layout) in cases {
        let app = app(sql);
        let description = app.open().await.describe("c").await.unwrap().unwrap();
        assert_eq!(
            (description.key, description.layout),
            (key, layout),
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_no_collections_say_why() {
    let key = |columns: &[&str]| CollectionConfig {
        key: columns.iter().map(|c| (*c).to_owned()).collect(),
        ..CollectionConfig::default()
    };
    for (sql, config, why) in [
        ("CREATE TABLE c (id TEXT, data TEXT)", None, "key = [\"…\"]"),
        (
            "CREATE TABLE c (id TEXT, data TEXT)",
            Some(key(&["id"])),
            "unique index",
        ),
        (
            "CREATE TABLE c (id REAL PRIMARY KEY, data TEXT)",
            None,
            "floating-point",
        ),
        (
            "CREATE TABLE c (id TEXT PRIMARY KEY, data TEXT)",
            Some(key(&["nope"])),
            "no column \"nope\"",
        ),
        (
            "CREATE TABLE c (a TEXT, b TEXT, data TEXT); CREATE UNIQUE INDEX i ON c (a, b DESC)",
            Some(key(&["a", "b"])),
            "order",
        ),
        (
            "CREATE TABLE c (a TEXT, data TEXT); CREATE UNIQUE INDEX i ON c (a) WHERE a > 'b'",
            Some(key(&["a"])),
            "unique index",
        ),
    ] {
        let app = app(sql);
        let store = open_with(&app.path, config).await;
        let error = store.scan("c", &KeyRange::all(), 1, 1).await.unwrap_err();
        assert_eq!(error.code, Code::StoreShape, "{sql}: {error}");
        assert!(error.message.contains(why), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_table_is_seen() {
    let app = app("CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT)");
    let store = app.open().await;
    store
        .write(&[write(1, r#"{"name":"a"}"#, Guard::Any)])
        .await
        .unwrap();
    app.connection
        .execute_batch("ALTER TABLE c ADD COLUMN age INTEGER DEFAULT 5")
        .unwrap();
    let found = one(&*store, 1).await.body.map().unwrap().into_owned();
    assert_eq!(found.get("age"), Some(&Value::Int(5)));
    let outcomes = store
        .write(&[write(2, r#"{"name":"b","age":7}"#, Guard::Any)])
        .await
        .unwrap();
    assert_eq!(outcomes, [WriteOutcome::Applied]);
}
