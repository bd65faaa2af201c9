//! `map_values`: a field's value becomes another one, by a table.

use super::Operate;
use super::residue::Residue;
use super::target::{Target, missing};
use indexmap::IndexMap;
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocContext, DocError, Value};

/// Strings are looked up as they are, integers and booleans by their text. Undone, the first old value
/// that leads to the present one comes back, or the very old value where the complement has another.
pub(crate) struct MapValues {
    pub(crate) path: FieldPath,
    pub(crate) map: IndexMap<String, Value>,
    pub(crate) otherwise: Otherwise,
    pub(crate) required: bool,
}

/// What becomes of a value that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    Keep,
    Fail,
}

impl MapValues {
    fn forth<'a>(&'a self, value: &'a Value) -> Option<&'a Value> {
        let found = match value {
            Value::String(text) => self.map.get(text),
            Value::Int(n) => self.map.get(&n.to_string()),
            Value::Bool(flag) => self.map.get(if *flag { "true" } else { "false" }),
            _ => None,
        };
        match self.otherwise {
            Otherwise::Keep => Some(found.unwrap_or(value)),
            Otherwise::Fail => found,
        }
    }

    fn back(&self, value: &Value) -> Value {
        self.map
            .iter()
            .find(|(_, new)| *new == value)
            .map_or_else(|| value.clone(), |(old, _)| Value::String(old.clone()))
    }
}

impl Operate for MapValues {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let Some(value) = on.peek(&self.path)? else {
            return if self.required {
                Err(missing(&self.path))
            } else {
                Ok(None)
            };
        };
        let Some(new) = self.forth(value) else {
            return Err(DocError::new(
                Code::DocType,
                "the value is not among those that map_values names",
            )
            .at(self.path.to_string()));
        };
        let residue = (self.back(new) != *value).then(|| Residue::was(value.clone()));
        if new != value {
            let new = new.clone();
            on.replace(&self.path, new)?;
        }
        Ok(residue)
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let Some(value) = on.peek(&self.path)? else {
            return Ok(());
        };
        let old = match residue.and_then(|residue| residue.was) {
            Some(was) if self.forth(&was) == Some(value) => was,
            _ => self.back(value),
        };
        if old != *value {
            on.replace(&self.path, old)?;
        }
        Ok(())
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "map_values {}: each side meets values that it does not know",
                self.path
            ),
        }
    }
}
