//! Queries: held against a plain model, and what they cost.

mod aggregates;
mod backend;
mod cost;
mod errors;
mod explain;
mod model;
mod others;
mod partitions;
mod past;
mod peer;
mod random;
mod results;
mod stage;
mod values;
