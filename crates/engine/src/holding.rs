//! Jobs of several runs, under one lease.

use std::sync::Arc;

use whimbrel_model::Code;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::{LeaseGuard, Ledger};

/// An engine that has the lease for everything it is asked to do.
pub(crate) struct Holding {
    pub engine: Engine,
    pub ledger: Arc<Ledger>,
    /// `None` where a migration holds the lease around this.
    own: Option<Arc<LeaseGuard>>,
}

impl Engine {
    /// Takes the lease, unless something around this has it already. It is stopped by the same word.
    ///
    /// # Errors
    /// There is no ledger, or another process holds its lease.
    pub(crate) async fn hold(&self, holder: &str) -> Result<Holding, EngineError> {
        let ledger = self.ledger.clone().ok_or_else(|| EngineError::Job {
            code: Code::LedgerFailed,
            message: "no ledger is open, so nothing can be written".to_owned(),
        })?;
        let (lease, own) = match &self.held {
            Some(lease) => (Arc::clone(lease), None),
            None => {
                let lease = Arc::new(ledger.lock(holder).await?);
                (Arc::clone(&lease), Some(lease))
            }
        };
        let engine = Engine {
            stop: Arc::clone(&self.stop),
            ..self.under(lease)
        };
        Ok(Holding {
            engine,
            ledger,
            own,
        })
    }
}

impl Holding {
    /// Gives the lease up, if it was taken here.
    ///
    /// # Errors
    /// `result`'s own, or the ledger cannot be written.
    pub(crate) async fn release<T>(self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        drop(self.engine);
        if let Some(lease) = self.own.and_then(Arc::into_inner) {
            let released = lease.release().await;
            // The original error is what counts; a ledger that cannot be written said so already.
            if result.is_ok() {
                released?;
            }
        }
        result
    }
}
