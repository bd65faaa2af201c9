//! `each`: operations on every element of an array, or on every value of a map.

use super::residue::Residue;
use super::target::{Target, inside, missing, wrong_type};
use super::{Operate, Operations};
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{DocContext, DocError, Map, Value};

/// Every element must be a map. Undone, each element finds its residue by its number (or its key), so
/// elements appended meanwhile are safe, while elements removed from the front shift the rest.
pub(crate) struct Each {
    pub(crate) path: FieldPath,
    pub(crate) operations: Operations,
    pub(crate) required: bool,
}

impl Each {
    fn visit(
        &self,
        on: Target<'_>,
        mut work: impl FnMut(&str, &mut Map) -> Result<(), DocError>,
    ) -> Result<(), DocError> {
        let name = super::target::last(&self.path);
        let Some(parent) = on.parent(&self.path)? else {
            return Ok(());
        };
        let mut element = |key: String, place: String, value: &mut Value| match value {
            Value::Map(map) => work(&key, map).map_err(|e| inside(e, &place)),
            other => Err(wrong_type(&place, other, "a map")),
        };
        match parent.into_mut(name)? {
            Some(Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    element(i.to_string(), format!("{}[{i}]", self.path), item)?;
                }
            }
            Some(Value::Map(map)) => {
                for (key, value) in map.iter_mut() {
                    element(key.clone(), format!("{}.{key}", self.path), value)?;
                }
            }
            Some(other) => return Err(wrong_type(&self.path, other, "an array or a map")),
            None => {}
        }
        Ok(())
    }

    /// A missing or null field has no elements.
    fn nothing_to_do(&self, on: &mut Target<'_>) -> Result<bool, DocError> {
        Ok(matches!(on.peek(&self.path)?, None | Some(Value::Null)))
    }
}

impl Operate for Each {
    fn apply(&self, mut on: Target<'_>, cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        if self.nothing_to_do(&mut on)? {
            return if self.required {
                Err(missing(&self.path))
            } else {
                Ok(None)
            };
        }
        let mut inner = Map::new();
        self.visit(on, |key, map| {
            let complement = self.operations.apply_to(Target::Map(map), cx)?;
            if !complement.is_empty() {
                inner.insert(key.to_owned(), Value::Map(complement));
            }
            Ok(())
        })?;
        Ok((!inner.is_empty()).then(|| Residue {
            inner: Some(inner),
            ..Residue::default()
        }))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        if self.nothing_to_do(&mut on)? {
            return Ok(());
        }
        let inner = residue.and_then(|residue| residue.inner);
        self.visit(on, |key, map| {
            let complement = match inner.as_ref().and_then(|inner| inner.get(key)) {
                Some(Value::Map(complement)) => Some(complement),
                _ => None,
            };
            self.operations.invert_on(Target::Map(map), complement, cx)
        })
    }

    fn judge(&self) -> Judgement {
        let judgements = self.operations.judge();
        let mut compatibility = Compatibility::Full;
        for judgement in &judgements {
            compatibility = compatibility.and(judgement.compatibility);
        }
        let reasons: Vec<_> = judgements.into_iter().map(|j| j.reason).collect();
        Judgement {
            compatibility,
            reason: format!("in each of {}: {}", self.path, reasons.join("; ")),
        }
    }
}
