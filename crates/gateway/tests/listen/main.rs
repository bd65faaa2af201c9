//! Listen, driven as a client drives it: scripts, and a client's model held against the store's.

#[path = "../query/backend.rs"]
mod backend;
mod client;
mod harness;
mod model;
mod others;
mod resume;
mod scripts;
