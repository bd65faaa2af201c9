//! What turns one document into another: TOML operations, TypeScript and JavaScript, JSON Schema.

mod checks;
mod error;
mod json_schema;
mod judge;
mod operation;
#[cfg(feature = "typescript")]
pub mod script;
mod table;
mod version;

pub use error::LoadError;
pub use json_schema::{JsonSchema, compare_json_schemas};
pub use judge::{judge, judge_all};
pub use operation::Operations;
pub use version::TomlVersion;
