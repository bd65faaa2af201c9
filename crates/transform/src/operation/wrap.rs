//! `wrap` and `unwrap`: a value becomes the one content of an array or of a map, and back.

use super::Operate;
use super::residue::Residue;
use super::target::{Target, missing, wrong_type};
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocContext, DocError, Map, Value};

/// What a value is wrapped into.
#[derive(Clone, Debug)]
pub(crate) enum Wrapping {
    /// `as = "array"`
    Array,
    /// `in = "name"`: a map with this one field.
    Map(String),
}

impl Wrapping {
    fn around(&self, value: Value) -> Value {
        match self {
            Wrapping::Array => Value::Array(vec![value]),
            Wrapping::Map(name) => Value::Map(Map::from_iter([(name.clone(), value)])),
        }
    }

    /// Takes the value out of `wrapped`. The map's other fields come second, with null in the value's
    /// place.
    fn out_of(
        &self,
        wrapped: &mut Value,
        path: &FieldPath,
    ) -> Result<(Value, Option<Map>), DocError> {
        match (self, wrapped) {
            (Wrapping::Array, Value::Array(items)) => match items.pop() {
                Some(value) if items.is_empty() => Ok((value, None)),
                _ => Err(DocError::new(
                    Code::DocType,
                    "the array has not exactly one element, so it cannot be unwrapped without loss",
                )
                .at(path.to_string())),
            },
            (Wrapping::Map(name), Value::Map(map)) => match map.get_mut(name) {
                Some(slot) => {
                    let value = std::mem::replace(slot, Value::Null);
                    let rest = (map.len() > 1).then(|| std::mem::take(map));
                    Ok((value, rest))
                }
                None => Err(DocError::new(
                    Code::DocType,
                    format!("the map has no field {name:?} to unwrap"),
                )
                .at(path.to_string())),
            },
            (Wrapping::Array, other) => Err(wrong_type(path, other, "an array")),
            (Wrapping::Map(_), other) => Err(wrong_type(path, other, "a map")),
        }
    }

    fn describe(&self) -> String {
        match self {
            Wrapping::Array => "an array".to_owned(),
            Wrapping::Map(name) => format!("a map's {name:?}"),
        }
    }
}

/// Undone, the value is taken out again; what the app added beside it meanwhile makes that an error.
pub(crate) struct Wrap {
    pub(crate) path: FieldPath,
    pub(crate) wrapping: Wrapping,
    pub(crate) required: bool,
}

impl Operate for Wrap {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        match on.peek(&self.path)?.cloned() {
            Some(value) => on.replace(&self.path, self.wrapping.around(value))?,
            None if self.required => return Err(missing(&self.path)),
            None => {}
        }
        Ok(None)
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        _residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let Some(mut wrapped) = on.peek(&self.path)?.cloned() else {
            return Ok(());
        };
        let (value, rest) = self.wrapping.out_of(&mut wrapped, &self.path)?;
        if rest.is_some() {
            return Err(DocError::new(
                Code::DocType,
                "the map has got more fields, so it cannot be unwrapped without loss",
            )
            .at(self.path.to_string()));
        }
        on.replace(&self.path, value)
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "wrap {} into {}: its type changes",
                self.path,
                self.wrapping.describe()
            ),
        }
    }
}

/// The inverse of wrapping. Null stays null. Fields beside the one that is taken out come back with a
/// complement.
pub(crate) struct Unwrap {
    pub(crate) path: FieldPath,
    pub(crate) wrapping: Wrapping,
    pub(crate) required: bool,
}

impl Operate for Unwrap {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let mut wrapped = match on.peek(&self.path)?.cloned() {
            None if self.required => return Err(missing(&self.path)),
            None => return Ok(None),
            Some(Value::Null) => return Ok(Some(Residue::kept())),
            Some(wrapped) => wrapped,
        };
        let (value, rest) = self.wrapping.out_of(&mut wrapped, &self.path)?;
        on.replace(&self.path, value)?;
        Ok(rest.map(|rest| Residue::was(Value::Map(rest))))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let residue = residue.unwrap_or_default();
        let value = match on.peek(&self.path)? {
            None => return Ok(()),
            Some(Value::Null) if residue.kept => return Ok(()),
            Some(value) => value.clone(),
        };
        let wrapped = match (residue.was, &self.wrapping) {
            (Some(Value::Map(mut map)), Wrapping::Map(name)) => {
                map.insert(name.clone(), value);
                Value::Map(map)
            }
            _ => self.wrapping.around(value),
        };
        on.replace(&self.path, wrapped)
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "unwrap {} out of {}: its type changes",
                self.path,
                self.wrapping.describe()
            ),
        }
    }
}
