//! What somebody asks of the process that holds the lease. It lies beside the chain.

use super::trouble::Trouble;
use super::{PostgresJournal, begin, commit, server_now};
use crate::journal::{failed, request_of, request_text, unsigned};
use whimbrel_model::ledger::Request;

impl PostgresJournal {
    /// Needs no lease, and waits for nobody who has it.
    pub(super) async fn put_request(&self, request: &Request) -> Result<u64, Trouble> {
        let mut client = self.client().await?;
        let tx = begin(&mut client).await?;
        let text = request_text(&self.name, request, server_now(&*tx).await?)?;
        let insert = "INSERT INTO @.request (request) VALUES ($1) RETURNING id";
        let rows = self.run(&tx, insert, &[&text]).await?;
        let row = rows
            .first()
            .ok_or_else(|| failed(&self.name, "a row just written is missing".to_owned()))?;
        let id = unsigned(&self.name, row.try_get(0)?)?;
        commit(tx).await?;
        Ok(id)
    }

    pub(super) async fn waiting_requests(&self) -> Result<Vec<Request>, Trouble> {
        let sql = "SELECT id, request FROM @.request ORDER BY id";
        let rows = match self.rows(sql, &[]).await {
            // A ledger of an older program, opened for reading: nobody could ask it anything.
            Err(trouble) if trouble.is_undefined_table() => Vec::new(),
            rows => rows?,
        };
        let request = |row: &tokio_postgres::Row| -> Result<Request, Trouble> {
            let id = unsigned(&self.name, row.try_get(0)?)?;
            Ok(request_of(&self.name, id, row.try_get(1)?)?)
        };
        rows.iter().map(request).collect()
    }
}
