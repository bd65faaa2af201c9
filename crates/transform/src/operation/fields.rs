//! `add`, `set`, `remove`, `drop_null`: operations on one field.

use super::Operate;
use super::residue::Residue;
use super::supply::Supply;
use super::target::{Target, last, missing};
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{DocContext, DocError, Value};

/// Gives a field to documents that lack it. Undone, the field goes, unless it was there before.
pub(crate) struct Add {
    pub(crate) path: FieldPath,
    pub(crate) supply: Supply,
}

impl Operate for Add {
    fn apply(&self, mut on: Target<'_>, cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        if on.has(&self.path)? {
            return Ok(Some(Residue::kept()));
        }
        let Some(supplied) = self.supply.get(&mut on, cx)? else {
            return Ok(None);
        };
        let (mut parent, made) = on.parent_made(&self.path)?;
        supplied.put(&mut parent, last(&self.path));
        Ok((made > 0).then(|| Residue {
            made: Some(made),
            ..Residue::default()
        }))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let residue = residue.unwrap_or_default();
        if residue.kept || !on.has(&self.path)? {
            return Ok(());
        }
        if let Some(mut parent) = on.reborrow().parent(&self.path)? {
            parent.remove(last(&self.path));
        }
        on.unmake(&self.path, residue.made.unwrap_or(0))
    }

    fn judge(&self) -> Judgement {
        let path = &self.path;
        match self.supply {
            Supply::Fixed(_) => Judgement {
                compatibility: Compatibility::Full,
                reason: format!(
                    "add {path}: old readers ignore it, new readers have its default for documents without it"
                ),
            },
            Supply::Now(_) | Supply::Field(_) => Judgement {
                compatibility: Compatibility::Forward,
                reason: format!(
                    "add {path}: it differs by document, so new readers have no default for old documents"
                ),
            },
        }
    }
}

/// Sets a field whatever it was. Undone, the old value comes back; an app's later change of a field
/// that was set to a fixed value stays, and without a complement the field stays as it is.
pub(crate) struct Set {
    pub(crate) path: FieldPath,
    pub(crate) supply: Supply,
}

impl Operate for Set {
    fn apply(&self, mut on: Target<'_>, cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let was = on.peek(&self.path)?.cloned();
        let Some(supplied) = self.supply.get(&mut on, cx)? else {
            return Ok(None);
        };
        let (mut parent, made) = on.parent_made(&self.path)?;
        supplied.put(&mut parent, last(&self.path));
        Ok(Some(match was {
            Some(was) => Residue::was(was),
            None => Residue {
                made: Some(made),
                ..Residue::default()
            },
        }))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let Some(residue) = residue else {
            return Ok(());
        };
        let fixed = match &self.supply {
            Supply::Fixed(fixed) => Some(&fixed.value),
            Supply::Now(_) | Supply::Field(_) => None,
        };
        match on.peek(&self.path)? {
            Some(now) if fixed.is_none_or(|fixed| fixed == now) => {}
            _ => return Ok(()),
        }
        if let Some(was) = residue.was {
            return on.replace(&self.path, was);
        }
        if let Some(mut parent) = on.reborrow().parent(&self.path)? {
            parent.remove(last(&self.path));
        }
        on.unmake(&self.path, residue.made.unwrap_or(0))
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Full,
            reason: format!(
                "set {}: the shape stays where the value has the type that the field had",
                self.path
            ),
        }
    }
}

/// Drops a field. Undone, it comes back with its value at its place; without a complement it gets
/// `default`, or stays away where there is none.
pub(crate) struct Remove {
    pub(crate) path: FieldPath,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
}

impl Operate for Remove {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        if !on.has(&self.path)? {
            return if self.required {
                Err(missing(&self.path))
            } else {
                // Only a default could come back wrongly.
                Ok(self.default.as_ref().map(|_| Residue::kept()))
            };
        }
        let Some(mut parent) = on.parent(&self.path)? else {
            return Ok(None);
        };
        let taken = parent.take(last(&self.path))?;
        Ok(taken.map(|(was, at)| Residue {
            was: Some(was),
            at,
            ..Residue::default()
        }))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let residue = residue.unwrap_or_default();
        if residue.kept || on.has(&self.path)? {
            return Ok(());
        }
        if let Some(value) = residue.was.or_else(|| self.default.clone()) {
            let (mut parent, _) = on.parent_made(&self.path)?;
            parent.insert(residue.at, last(&self.path), value);
        }
        Ok(())
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Backward,
            reason: format!(
                "remove {0}: old readers look for {0}; new readers ignore it",
                self.path
            ),
        }
    }
}

/// Drops a field that is null, so that it is missing instead. Without a complement it stays missing.
pub(crate) struct DropNull {
    pub(crate) path: FieldPath,
}

impl Operate for DropNull {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        if !matches!(on.peek(&self.path)?, Some(Value::Null)) {
            return Ok(None);
        }
        let Some(mut parent) = on.parent(&self.path)? else {
            return Ok(None);
        };
        let taken = parent.take(last(&self.path))?;
        Ok(taken.map(|(was, at)| Residue {
            was: Some(was),
            at,
            ..Residue::default()
        }))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let Some(residue) = residue else {
            return Ok(());
        };
        if on.has(&self.path)? {
            return Ok(());
        }
        let (mut parent, _) = on.parent_made(&self.path)?;
        parent.insert(residue.at, last(&self.path), Value::Null);
        Ok(())
    }

    fn judge(&self) -> Judgement {
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "drop_null {0}: old readers may need {0} to be there, new readers meet null in old documents",
                self.path
            ),
        }
    }
}
