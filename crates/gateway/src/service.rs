//! The gRPC service: takes requests apart and hands them on.

use crate::Gateway;
use std::sync::Arc;
use whimbrel_firestore::v1::firestore_server::Firestore;

/// Firestore's protocol over one store.
#[derive(Debug)]
pub struct Service {
    gateway: Arc<Gateway>,
}

impl Service {
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

impl Firestore for Service {}
