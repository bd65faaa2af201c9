//! Documents, writes and transactions as the service gives them, over memory and SQLite.

mod failing;
mod lists;
mod model;
mod past;
mod stage;
mod streams;
mod transactions;
mod writes;
