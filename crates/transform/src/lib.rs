//! What turns one document into another: TOML operations, TypeScript and JavaScript, JSON Schema.

mod error;

pub use error::LoadError;
