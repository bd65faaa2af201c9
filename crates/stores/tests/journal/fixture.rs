//! A fresh ledger on each backend, and records to put into it.

use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_model::ledger::Filed;
use whimbrel_model::ledger::{Counts, JobKind, JobSpec, QuarantineItem, Record, State};
use whimbrel_model::{
    Code, DocError, Entry, Journal, JournalError, Key, KeyRange, ScanOrder, Timestamp,
};
use whimbrel_stores::journal;
use whimbrel_testkit::servers::{server, unique};

/// Makes each test twice, `sqlite::name` and `postgres::name`.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::fixture::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(place) = $crate::fixture::Place::postgres() {
                    super::$name(place).await;
                }
            })*
        }
    };
}
pub(crate) use on_both;

/// Where one test's ledger is.
pub enum Place {
    Sqlite(TempDir),
    Postgres { url: String, schema: String },
}

impl Place {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None` where the tests were told to do without servers.
    pub fn postgres() -> Option<Self> {
        let url = server("WHIMBREL_TEST_POSTGRES")?;
        let schema = format!("journal \"{}\"", unique());
        Some(Self::Postgres { url, schema })
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}/new/ledger.db", folder.path().display()),
            Self::Postgres { url, schema } => {
                let schema = schema.replace('"', "%22").replace(' ', "%20");
                let mark = if url.contains('?') { '&' } else { '?' };
                format!("{url}{mark}schema={schema}")
            }
        }
    }

    pub async fn open(&self) -> Arc<dyn Journal> {
        journal::open(&self.url()).await.unwrap()
    }

    /// Runs a statement behind the journal's back. `@.` stands before every table.
    pub async fn sql(&self, statement: &str) {
        match self {
            Self::Sqlite(folder) => {
                let path = folder.path().join("new/ledger.db");
                let connection = rusqlite::Connection::open(path).unwrap();
                connection
                    .execute_batch(&statement.replace("@.", ""))
                    .unwrap();
            }
            Self::Postgres { url, schema } => {
                let quoted = format!("\"{}\".", schema.replace('"', "\"\""));
                let client = connect(url).await;
                client
                    .batch_execute(&statement.replace("@.", &quoted))
                    .await
                    .unwrap();
            }
        }
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self::Postgres { url, schema } = self else {
            return;
        };
        let drop = format!(
            "DROP SCHEMA IF EXISTS \"{}\" CASCADE",
            schema.replace('"', "\"\"")
        );
        let url = url.clone();
        // The test's own runtime cannot be waited on here.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let _ = connect(&url).await.batch_execute(&drop).await;
            });
        });
        let _ = cleaning.join();
    }
}

pub const RUN: &str = "20261122-190455-7f3a";
pub const SUBJECT: &str = "upgrade app/conversations";

pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

pub fn started(run: &str) -> Entry {
    Entry::RunStarted {
        run: run.to_owned(),
        job: JobSpec {
            kind: JobKind::Upgrade,
            title: "upgrade app/conversations to v3".to_owned(),
            subject: SUBJECT.to_owned(),
            parameters: serde_json::json!({"to": 3, "rate": 0.1, "name": "ü\u{0}\"\\"}),
        },
        now: at(0).to_string(),
        partitions: vec![KeyRange::all()],
        scan: ScanOrder::Keys,
        tool: "0.1.0".to_owned(),
        step: None,
    }
}

pub fn chunk(run: &str, through: i64) -> Entry {
    Entry::ChunkDone {
        run: run.to_owned(),
        partition: 0,
        through: Some(Key::Int(through)),
        counts: Counts {
            enumerated: 1,
            written: 1,
            ..Counts::default()
        },
        last: false,
        note: None,
    }
}

pub fn item(label: &str) -> QuarantineItem {
    QuarantineItem {
        subject: SUBJECT.to_owned(),
        run: RUN.to_owned(),
        label: label.to_owned(),
        key: Some(Key::text(label)),
        version: Some(1),
        error: DocError::new(Code::DocTransform, "it failed").at("messages[3]"),
        at: at(5).to_string(),
        attempts: 1,
    }
}

/// The records that follow the journal's last one.
pub async fn following(journal: &dyn Journal, fence: u64, entries: Vec<Entry>) -> Vec<Record> {
    let state = fold(journal).await.unwrap();
    let (mut seq, mut hash) = (state.seq, state.hash);
    let mut records = Vec::new();
    for entry in entries {
        let record = Record::following((seq, &hash), at(seq as i64), fence, entry);
        (seq, hash) = (record.seq, record.hash.clone());
        records.push(record);
    }
    records
}

pub async fn fold(journal: &dyn Journal) -> Result<State, JournalError> {
    let mut state = State::default();
    loop {
        let records = journal.read(state.seq, 1000).await?;
        if records.is_empty() {
            return Ok(state);
        }
        for record in &records {
            state.apply(record)?;
        }
    }
}

/// A leased journal with a run of `chunks` chunks in it.
pub async fn filled(place: &Place, chunks: i64) -> (Arc<dyn Journal>, u64) {
    let journal = place.open().await;
    let fence = journal.acquire("test", 60_000).await.unwrap().fence;
    let entries = std::iter::once(started(RUN)).chain((1..=chunks).map(|n| chunk(RUN, n)));
    let records = following(journal.as_ref(), fence, entries.collect()).await;
    journal
        .append(fence, &records, Filed::default())
        .await
        .unwrap();
    (journal, fence)
}
