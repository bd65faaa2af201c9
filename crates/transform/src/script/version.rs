//! A schema version written as functions.

use super::outward::{self, Given};
use super::sandbox::Script;
use super::{ScriptError, ScriptLimits};
use whimbrel_model::compat::Shape;
use whimbrel_model::{Code, DocContext, DocError, Draft, Map, VersionCode};

const EXPORTS: &[&str] = &["up", "down", "validate"];
const UP: usize = 0;
const DOWN: usize = 1;
const VALIDATE: usize = 2;

/// `export const up = (doc, ctx) => …`, `down`, `validate` and `description`.
///
/// Without `up` documents come up unchanged, which only the first version may want; without `down` there
/// is no way back; without `validate` every document is valid.
#[derive(Debug)]
pub struct ScriptVersion {
    script: Script,
}

impl ScriptVersion {
    /// `name` is the file's name as errors shall show it; its ending tells TypeScript from JavaScript.
    ///
    /// # Errors
    /// The file is no module that a sandbox can load.
    pub fn load(name: &str, text: &str, limits: ScriptLimits) -> Result<Self, ScriptError> {
        let script = Script::load(name, text, EXPORTS, limits)?;
        Ok(Self { script })
    }

    /// The module's `description`, empty where it has none.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.script.description
    }

    #[must_use]
    pub fn has_up(&self) -> bool {
        self.script.has(UP)
    }

    fn change(&self, doc: &mut Draft, cx: &DocContext<'_>, export: usize) -> Result<(), DocError> {
        let entries = self.script.run(cx, |session| {
            let given = [Given::new(session, doc)?];
            let result = session.call(export, given[0].object.clone().into_value(), None)?;
            outward::document(session, &given, &result)
        })?;
        outward::apply(doc, entries)
    }
}

impl VersionCode for ScriptVersion {
    /// The complement is always empty: a script keeps in the document what its `down` needs.
    fn up(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<Map, DocError> {
        if self.script.has(UP) {
            self.change(doc, cx, UP)?;
        }
        Ok(Map::new())
    }

    fn down(
        &self,
        doc: &mut Draft,
        _complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        if !self.script.has(DOWN) {
            return Err(DocError::new(
                Code::Irreversible,
                "the version exports no down",
            ));
        }
        self.change(doc, cx, DOWN)
    }

    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError> {
        if self.script.has(VALIDATE) {
            super::validate::judge(&self.script, VALIDATE, doc, cx)?;
        }
        Ok(())
    }

    fn reversible(&self) -> bool {
        self.script.has(DOWN)
    }

    fn shape(&self) -> Shape {
        Shape {
            script: true,
            ..Shape::default()
        }
    }

    fn checksum(&self) -> String {
        self.script.checksum().to_owned()
    }
}
