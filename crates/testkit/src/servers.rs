//! The servers that tests run against, and names of a test's own.

use std::sync::atomic::{AtomicU32, Ordering};
#[cfg(feature = "postgres")]
use tokio_postgres::{Client, NoTls};

/// Whether what needs a server is tested: its address from `variable`, as `cargo xtask test` sets it; `None` where servers
/// are left out on purpose (`WHIMBREL_TEST_WITHOUT_SERVERS=1`).
///
/// # Panics
/// It is not set, and servers are not left out.
#[must_use]
pub fn server(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(url) => Some(url),
        Err(_) if std::env::var("WHIMBREL_TEST_WITHOUT_SERVERS").as_deref() == Ok("1") => {
            println!("SKIPPED: {variable} is not set, and WHIMBREL_TEST_WITHOUT_SERVERS=1");
            None
        }
        Err(_) => panic!(
            "{variable} is not set: run `cargo xtask test`, which starts the servers, or leave them out with \
             WHIMBREL_TEST_WITHOUT_SERVERS=1"
        ),
    }
}

/// The URL of a Firestore project that no other test has, in the emulator that `WHIMBREL_TEST_FIRESTORE` names (`host:port`);
/// `None` where servers are left out.
#[must_use]
pub fn firestore() -> Option<String> {
    let host = server("WHIMBREL_TEST_FIRESTORE")?;
    let project = unique().replace('_', "-");
    Some(format!("firestore://{project}?emulator={host}"))
}

/// A schema of PostgreSQL (`WHIMBREL_TEST_POSTGRES`) that is dropped with the test.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub struct Schema {
    pub name: String,
    /// Opens stores whose unqualified names are this schema's tables.
    pub url: String,
    server: String,
}

/// A name that no other test has.
#[must_use]
pub fn unique() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    format!("whimbrel_test_{}_{number}", std::process::id())
}

#[cfg(feature = "postgres")]
impl Schema {
    /// `None` where servers are left out.
    ///
    /// # Panics
    /// The server does not answer, or refuses.
    pub async fn create() -> Option<Self> {
        let server = server("WHIMBREL_TEST_POSTGRES")?;
        let name = unique();
        let mark = if server.contains('?') { '&' } else { '?' };
        let schema = Self {
            url: format!("{server}{mark}options=-csearch_path%3D{name}"),
            server,
            name,
        };
        let name = &schema.name;
        // A run that was killed may have left one.
        schema
            .run(&format!("{}; CREATE SCHEMA {name}", dropping(name)))
            .await;
        Some(schema)
    }

    /// Runs statements as an app does.
    ///
    /// # Panics
    /// They fail.
    pub async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// A connection of the test's own, as an app would have one.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = format!("SET search_path = {}", self.name);
        client.batch_execute(&sql).await.unwrap();
        client
    }
}

/// Drops a schema, and what serving it laid beside it.
#[cfg(feature = "postgres")]
fn dropping(name: &str) -> String {
    format!(
        "DROP SCHEMA IF EXISTS {name} CASCADE; DROP SCHEMA IF EXISTS whimbrel_serve_{name} CASCADE"
    )
}

#[cfg(feature = "postgres")]
impl Drop for Schema {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime may be on its way down.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
                tokio::spawn(connection);
                let sql = format!("SET lock_timeout = '5s'; {}", dropping(&name));
                if let Err(error) = client.batch_execute(&sql).await {
                    println!("schema {name} is left behind: {error}");
                }
            });
        });
        let _ = dropped.join();
    }
}
