//! Migrations under attack: every kind of step under every fault, killed at every entry of the ledger, two
//! operators at once, words from other terminals, and any order of it all. What must hold in the end: the
//! ledger's chain and its fold, every document, and that calling again reaches the end.

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod fencing;
mod kills;
mod requests;
mod rules;
mod spoilt;
mod story;
mod table;
mod trouble;
mod world;
