//! Writing.

use crate::Gateway;
use std::sync::Arc;
use tonic::Status;

/// Groups the commits of all connections into the store's.
#[derive(Debug, Default)]
pub struct Committer {}

pub(crate) fn start(gateway: &Arc<Gateway>) {
    let _ = gateway;
}

impl Gateway {
    /// Takes in what others wrote in SQL since the last time: indexes and listeners follow. To be called before
    /// an index is walked. Quick where nothing happened.
    ///
    /// # Errors
    /// The store fails.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), Status> {
        Ok(())
    }
}
