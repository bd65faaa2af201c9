//! One file a command.

pub mod approve;
pub mod backup;
pub mod copy;
pub mod demo;
pub mod down;
pub mod history;
pub mod init;
pub mod inspect;
pub mod lock;
pub mod new;
pub mod pause;
pub mod quarantine;
pub mod quarantine_retry;
pub mod restore;
pub mod schema;
#[cfg(feature = "firestore")]
pub mod serve;
pub mod show;
pub mod status;
pub mod status_migrations;
pub mod status_verified;
pub mod up;
pub mod upgrade;
pub mod verify;
