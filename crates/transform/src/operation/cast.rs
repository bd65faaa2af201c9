//! `cast`: a field's value as another type.

use super::Operate;
use super::convert::{Kind, Unit, cast};
use super::residue::Residue;
use super::target::{Target, missing, wrong_type};
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocContext, DocError, Value};

/// A value that already has the type stays, null too; one that cannot be cast is an error of the
/// document. The complement keeps the old value wherever casting back would not give it. Without a
/// complement the inverse casts back to `from` (`json` and `json_string` to each other); where there is
/// no `from`, the value stays cast.
pub(crate) struct Cast {
    pub(crate) path: FieldPath,
    pub(crate) to: Kind,
    pub(crate) from: Option<Kind>,
    pub(crate) unit: Unit,
    pub(crate) required: bool,
}

impl Cast {
    /// What the inverse makes of `value` when it knows nothing.
    fn back(&self, value: &Value) -> Option<Value> {
        let kind = match (self.to, self.from) {
            (Kind::Json, _) => Kind::JsonString,
            (Kind::JsonString, _) => Kind::Json,
            (_, Some(from)) => from,
            (_, None) => return Some(value.clone()),
        };
        cast(value, kind, self.unit)
    }

    fn refuse(&self, value: &Value, to: Kind) -> DocError {
        let found = value.type_name();
        let message = format!("the field's value (type {found}) cannot be cast to {to}");
        DocError::new(Code::DocType, message).at(self.path.to_string())
    }
}

impl Operate for Cast {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let value = match on.peek(&self.path)? {
            None if self.required => return Err(missing(&self.path)),
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        let kind = Kind::of(value);
        if let Some(from) = self.from
            && kind != Some(from)
            && kind != Some(self.to)
        {
            return Err(wrong_type(&self.path, value, &format!("of type {from}")));
        }
        let new = cast(value, self.to, self.unit).ok_or_else(|| self.refuse(value, self.to))?;
        let residue =
            (self.back(&new).as_ref() != Some(value)).then(|| Residue::was(value.clone()));
        if new != *value {
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
        let was = residue.and_then(|residue| residue.was);
        let old = match was {
            Some(was) if cast(&was, self.to, self.unit).as_ref() == Some(value) => was,
            // The app changed the value meanwhile: keep its change, in the type it had.
            Some(was)
                if self.from.is_none() && !matches!(self.to, Kind::Json | Kind::JsonString) =>
            {
                let kind = Kind::of(&was).unwrap_or(self.to);
                cast(value, kind, self.unit).ok_or_else(|| self.refuse(value, kind))?
            }
            _ => self
                .back(value)
                .ok_or_else(|| self.refuse(value, self.from.unwrap_or(Kind::JsonString)))?,
        };
        if old != *value {
            on.replace(&self.path, old)?;
        }
        Ok(())
    }

    fn judge(&self) -> Judgement {
        let widening = matches!((self.from, self.to), (Some(Kind::Int), Kind::Double));
        let from = self
            .from
            .map_or(String::new(), |from| format!(" from {from}"));
        let (compatibility, why) = if widening {
            (
                Compatibility::Backward,
                "every int is a double, but not the other way round",
            )
        } else {
            (Compatibility::Breaking, "its type changes")
        };
        Judgement {
            compatibility,
            reason: format!("cast {}{from} to {}: {why}", self.path, self.to),
        }
    }
}
