//! Checks over real stores: every kind finds what was planted and reports nothing else; what cannot be done
//! is said; values are shown only where they were asked for.

#[path = "../common/mod.rs"]
mod common;
mod custom;
mod kinds;
mod live;
mod measures;
mod outside;
mod project;
mod secrecy;
