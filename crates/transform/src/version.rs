//! A schema version written in TOML.

use crate::LoadError;
use crate::checks::Checks;
use crate::operation::{Operations, operations};
use crate::table::{Source, Table, hash_meaning, hash_text};
use std::path::Path;
use whimbrel_model::compat::Shape;
use whimbrel_model::transform::Validate;
use whimbrel_model::{Code, DocContext, DocError, Draft, Map, VersionCode};

/// One version's operations and checks:
///
/// ```toml
/// description = "Give every conversation widget state"
///
/// [[up]]
/// op = "add"
/// path = "widgetState"
/// value = {}
///
/// # Instead of the inverse that is derived from `up`, or none at all: irreversible = true
/// [[down]]
/// op = "remove"
/// path = "widgetState"
///
/// [validate]
/// required = ["widgetState"]
/// ```
#[derive(Default)]
pub struct TomlVersion {
    description: String,
    up: Operations,
    down: Down,
    validate: Checks,
    checksum: String,
}

#[derive(Default)]
enum Down {
    /// The inverse of `up`, with its complement.
    #[default]
    Derived,
    /// The user's own operations; a complement is not needed.
    Given(Operations),
    None,
}

impl TomlVersion {
    /// `folder` is where the file lies: its JSON Schema is looked for there.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its line.
    pub fn load(file: &str, text: &str, folder: &Path) -> Result<Self, Vec<LoadError>> {
        let source = Source::new(file, text, Code::SchemaInvalid);
        let version = source.parse().map(|root| {
            let table = Table::new(&source, root.get_ref(), 0..0);
            let version = Self::parse(&table, folder);
            let mut hasher = blake3::Hasher::new();
            hash_meaning(root.get_ref(), &["description"], &mut hasher);
            hash_text(b'v', &version.validate.checksum(), &mut hasher);
            Self {
                checksum: hasher.finalize().to_hex().to_string(),
                ..version
            }
        });
        let errors = source.into_errors();
        match version {
            Some(version) if errors.is_empty() => Ok(version),
            _ => Err(errors),
        }
    }

    fn parse(table: &Table<'_, '_>, folder: &Path) -> Self {
        let description = table.text("description").unwrap_or_default().to_owned();
        let up = operations(&table.tables("up").unwrap_or_default());
        let given = table.tables("down").map(|down| operations(&down));
        let irreversible = table.flag("irreversible").unwrap_or(false);
        let validate = table
            .table("validate")
            .map(|validate| Checks::parse(&validate, folder))
            .unwrap_or_default();
        table.finish();
        let down = match (given, irreversible) {
            (None, false) => Down::Derived,
            (Some(down), false) => Down::Given(down),
            (None, true) => Down::None,
            (Some(_), true) => {
                table.error(
                    "irreversible",
                    "a version with a \"down\" is not irreversible",
                );
                Down::None
            }
        };
        Self {
            description,
            up,
            down,
            validate,
            checksum: String::new(),
        }
    }

    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }
}

impl VersionCode for TomlVersion {
    fn up(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<Map, DocError> {
        self.up.apply(doc, cx)
    }

    fn down(
        &self,
        doc: &mut Draft,
        complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        match &self.down {
            Down::Derived => self.up.invert(doc, complement, cx),
            Down::Given(down) => down.apply(doc, cx).map(|_| ()),
            Down::None => Err(DocError::new(
                Code::Irreversible,
                "the version says that there is no way back",
            )),
        }
    }

    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError> {
        self.validate.validate(doc, cx)
    }

    fn reversible(&self) -> bool {
        !matches!(self.down, Down::None)
    }

    fn shape(&self) -> Shape {
        Shape {
            judgements: self.up.judge(),
            json_schema: self.validate.json_schema(),
            script: false,
        }
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}
