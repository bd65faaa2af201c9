//! What turns one document into another: TOML operations, TypeScript and JavaScript, JSON Schema; and the
//! loaders of a project's files.

mod checks;
mod checks_file;
mod error;
mod json_schema;
mod judge;
mod load;
mod migrations;
mod operation;
mod rules;
#[cfg(feature = "typescript")]
pub mod script;
mod table;
mod transform;
mod version;

pub use checks_file::{load_checks, parse_checks};
pub use error::LoadError;
pub use json_schema::{JsonSchema, compare_json_schemas};
pub use judge::{judge, judge_all};
pub use load::load_schema;
pub use migrations::{load_migrations, parse_migration};
pub use operation::Operations;
pub use rules::{Rules, load_rules, parse_rules};
#[cfg(feature = "typescript")]
pub use script::ScriptLimits;
pub use transform::{KeyTemplate, Merge, OperationTransform, Split};
pub use version::TomlVersion;

/// What a script may cost; this build has no scripts, so there is nothing to limit.
#[cfg(not(feature = "typescript"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimits {}

#[cfg(not(feature = "typescript"))]
fn script_unavailable(file: &str) -> LoadError {
    let message = "this build has no TypeScript and JavaScript (cargo feature \"typescript\")";
    LoadError::new(whimbrel_model::Code::ScriptInvalid, file, message)
}
