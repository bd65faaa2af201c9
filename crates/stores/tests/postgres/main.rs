//! What only PostgreSQL does: its types, its constraints, its failures, its TLS.
#![cfg(feature = "postgres")]

mod failures;
mod refusals;
mod scale;
mod shapes;
mod snapshots;
mod stage;
mod tls;
mod types;
