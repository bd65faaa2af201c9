//! The servers that tests run against.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use tokio_postgres::{Client, NoTls};

/// Whether what needs a server is tested: its address from `variable`. Fails where it is not set, unless servers
/// are left out on purpose.
pub fn server(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(address) => Some(address),
        Err(_) if std::env::var("WHIMBREL_TEST_WITHOUT_SERVERS").as_deref() == Ok("1") => {
            println!("SKIPPED: {variable} is not set, and WHIMBREL_TEST_WITHOUT_SERVERS=1");
            None
        }
        Err(_) => panic!(
            "{variable} is not set; set it, or leave the servers out with WHIMBREL_TEST_WITHOUT_SERVERS=1"
        ),
    }
}

/// A schema of PostgreSQL (`WHIMBREL_TEST_POSTGRES`) that is dropped with the test.
pub struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// `None` where servers are left out.
    pub async fn create(purpose: &str) -> Option<Self> {
        let schema = Self {
            server: server("WHIMBREL_TEST_POSTGRES")?,
            name: format!("gateway_{purpose}_{}", std::process::id()),
        };
        let name = &schema.name;
        // A run that was killed may have left one.
        let make = format!("{}; CREATE SCHEMA {name}", dropping(name));
        schema.run(&make).await;
        Some(schema)
    }

    pub fn url(&self) -> String {
        let mark = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{mark}options=-csearch_path%3D{}", self.server, self.name)
    }

    /// Runs statements as another program does.
    pub async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// Another program's connection.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = format!("SET search_path = {}", self.name);
        client.batch_execute(&sql).await.unwrap();
        client
    }
}

fn dropping(name: &str) -> String {
    format!(
        "DROP SCHEMA IF EXISTS {name} CASCADE; DROP SCHEMA IF EXISTS whimbrel_serve_{name} CASCADE"
    )
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), dropping(&self.name));
        // The test's own runtime may be on its way down.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
                tokio::spawn(connection);
                let sql = format!("SET lock_timeout = '5s'; {sql}");
                if let Err(error) = client.batch_execute(&sql).await {
                    println!("a schema is left behind: {error}");
                }
            });
        });
        let _ = dropped.join();
    }
}
