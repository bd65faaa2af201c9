//! What an operation leaves behind so that its inverse restores the document exactly.

use whimbrel_model::{Map, Value};

/// The part of a complement that belongs to one operation. Where an operation did the ordinary thing
/// and dropped nothing there is none.
///
/// In the complement it is a map under the operation's number, with these members, all optional:
/// `was` a dropped or overwritten value, `at` the place among its siblings that a field had, `made` how
/// many missing maps were made on the way to a new field, `kept: true` where the operation found nothing
/// to do but its inverse would, `inner` the residues of nested operations by element.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Residue {
    pub(crate) was: Option<Value>,
    pub(crate) at: Option<usize>,
    pub(crate) made: Option<usize>,
    pub(crate) kept: bool,
    pub(crate) inner: Option<Map>,
}

impl Residue {
    pub(crate) fn kept() -> Self {
        Self {
            kept: true,
            ..Self::default()
        }
    }

    pub(crate) fn was(value: Value) -> Self {
        Self {
            was: Some(value),
            ..Self::default()
        }
    }

    pub(crate) fn into_value(self) -> Value {
        let number = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let mut map = Map::new();
        if let Some(was) = self.was {
            map.insert("was".to_owned(), was);
        }
        if let Some(at) = self.at {
            map.insert("at".to_owned(), number(at));
        }
        if let Some(made) = self.made {
            map.insert("made".to_owned(), number(made));
        }
        if self.kept {
            map.insert("kept".to_owned(), Value::Bool(true));
        }
        if let Some(inner) = self.inner {
            map.insert("inner".to_owned(), Value::Map(inner));
        }
        Value::Map(map)
    }

    /// `None` when the value was not written by [`Residue::into_value`].
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let Value::Map(map) = value else {
            return None;
        };
        let number = |name: &str| match map.get(name) {
            Some(Value::Int(n)) => usize::try_from(*n).ok(),
            _ => None,
        };
        Some(Self {
            was: map.get("was").cloned(),
            at: number("at"),
            made: number("made"),
            kept: map.get("kept") == Some(&Value::Bool(true)),
            inner: match map.get("inner") {
                Some(Value::Map(inner)) => Some(inner.clone()),
                _ => None,
            },
        })
    }
}
