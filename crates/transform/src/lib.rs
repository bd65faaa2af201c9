//! What turns one document into another: TOML operations, TypeScript and JavaScript, JSON Schema.

mod error;
mod operation;
mod table;

pub use error::LoadError;
pub use operation::Operations;
