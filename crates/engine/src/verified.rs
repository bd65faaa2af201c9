//! Writing down what a verification found.

use whimbrel_model::Entry;
use whimbrel_model::ledger::Verified;

use crate::engine::Engine;
use crate::error::EngineError;

impl Engine {
    /// Writes a verification into the ledger, where there is one. Takes the lease for no longer than that,
    /// unless it is held around all of it.
    ///
    /// # Errors
    /// Another process holds the lease, or the ledger cannot be used.
    pub async fn remember(&self, verified: Verified, holder: &str) -> Result<(), EngineError> {
        let Some(ledger) = &self.ledger else {
            return Ok(());
        };
        let entry = Entry::Verified(Box::new(verified));
        if let Some(lease) = &self.held {
            ledger.append(lease.fence(), vec![entry], &[]).await?;
            return Ok(());
        }
        let lease = ledger.lock(holder).await?;
        ledger.append(lease.fence(), vec![entry], &[]).await?;
        Ok(lease.release().await?)
    }
}
