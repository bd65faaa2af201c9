//! Firestore's protocol as Whimbrel speaks it, on both sides of it: the driver (`stores`) and the server
//! (`gateway`) share these types, paths and values.
//!
//! Messages come from `hidane-proto` and order, field paths and transforms from `hidane-core`
//! (ARCHITECTURE.md says why). Nothing here does I/O.

pub mod backend;
pub mod name;
pub mod size;
pub mod time;
pub mod value;

pub use backend::{Backend, View};
pub use hidane_core as core;
pub use hidane_proto as proto;
pub use hidane_proto::google::firestore::v1;
pub use hidane_proto::ordered::Fields;
pub use name::{DatabaseName, Place};
pub use time::Micros;
