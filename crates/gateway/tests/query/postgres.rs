//! A schema of a test's own in the PostgreSQL that `WHIMBREL_TEST_POSTGRES` names.

use tokio_postgres::{Client, NoTls};

pub struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// `None` where no server is at hand.
    pub async fn create(purpose: &str) -> Option<Self> {
        let server = std::env::var("WHIMBREL_TEST_POSTGRES").ok()?;
        let schema = Self {
            server,
            name: format!("query_{purpose}_{}", std::process::id()),
        };
        let name = &schema.name;
        // A run that was killed may have left one.
        schema
            .run(&format!("{}; CREATE SCHEMA {name}", dropping(name)))
            .await;
        Some(schema)
    }

    pub fn url(&self) -> String {
        let mark = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{mark}options=-csearch_path%3D{}", self.server, self.name)
    }

    /// Drops everything again.
    pub async fn drop(self) {
        self.run(&dropping(&self.name)).await;
    }

    async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

fn dropping(name: &str) -> String {
    format!(
        "DROP SCHEMA IF EXISTS {name} CASCADE; DROP SCHEMA IF EXISTS whimbrel_serve_{name} CASCADE"
    )
}
