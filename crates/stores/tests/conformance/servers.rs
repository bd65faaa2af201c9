//! The servers that tests run against, and a schema of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};
#[cfg(feature = "postgres")]
use tokio_postgres::{Client, NoTls};

/// Whether a store that needs a server is tested: its URL from `variable`. Fails where it is not set,
/// unless servers are left out on purpose.
pub fn server(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(url) => Some(url),
        Err(_) if std::env::var("WHIMBREL_TEST_WITHOUT_SERVERS").as_deref() == Ok("1") => {
            println!("SKIPPED: {variable} is not set, and WHIMBREL_TEST_WITHOUT_SERVERS=1");
            None
        }
        Err(_) => panic!(
            "{variable} is not set; set it, or leave the servers out with WHIMBREL_TEST_WITHOUT_SERVERS=1"
        ),
    }
}

/// A schema that is dropped with the test.
#[cfg(feature = "postgres")]
pub struct Schema {
    pub name: String,
    /// Opens stores whose unqualified names are this schema's tables.
    pub url: String,
    server: String,
}

pub fn unique() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    format!("whimbrel_test_{}_{number}", std::process::id())
}

#[cfg(feature = "postgres")]
impl Schema {
    pub async fn create(server: String) -> Self {
        let name = unique();
        let mark = if server.contains('?') { '&' } else { '?' };
        let schema = Self {
            url: format!("{server}{mark}options=-csearch_path%3D{name}"),
            server,
            name,
        };
        let name = &schema.name;
        let sql = format!(
            "DROP SCHEMA IF EXISTS {name} CASCADE; DROP SCHEMA IF EXISTS whimbrel_serve_{name} CASCADE; \
             CREATE SCHEMA {name}"
        );
        schema.client().await.batch_execute(&sql).await.unwrap();
        schema
    }

    /// A connection of the test's own, as an app would have one.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = format!("SET search_path = {}", self.name);
        client.batch_execute(&sql).await.unwrap();
        client
    }
}

#[cfg(feature = "postgres")]
impl Drop for Schema {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime may be on its way down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
                tokio::spawn(connection);
                let sql = format!(
                    "SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE; \
                     DROP SCHEMA IF EXISTS whimbrel_serve_{name} CASCADE"
                );
                if let Err(error) = client.batch_execute(&sql).await {
                    println!("schema {name} is left behind: {error}");
                }
            });
        });
        let _ = dropping.join();
    }
}
