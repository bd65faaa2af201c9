//! Transactions: which are open, what they read, which documents they hold locked.

/// The open transactions.
#[derive(Debug, Default)]
pub struct Transactions {}
