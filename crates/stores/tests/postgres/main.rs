//! What only PostgreSQL does: its types, its constraints, its failures, its TLS.
#![cfg(feature = "postgres")]

mod failures;
mod refusals;
mod scale;
#[path = "../conformance/servers.rs"]
mod servers;
mod shapes;
mod snapshots;
mod stage;
mod tls;
mod types;
