//! Listen, driven as a client drives it: scripts, and a client's model held against the store's.

mod client;
mod harness;
mod model;
mod others;
mod resume;
mod scripts;
