//! Documents, writes and transactions as the service gives them, over memory and SQLite; what SQL may do to them also
//! over PostgreSQL.

mod failing;
mod lists;
mod model;
mod past;
mod stage;
mod streams;
mod transactions;
mod unreadable;
mod writes;
