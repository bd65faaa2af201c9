//! `rename`, `move`, `copy`: operations on where a field stands.
//!
//! A field that already stands at the new place is an error of the document, unless `overwrite = true`.

use super::Operate;
use super::residue::Residue;
use super::target::{Target, last, missing};
use whimbrel_model::compat::{Compatibility, Judgement};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocContext, DocError, Value};

/// From where to where, and what to do about the two ends.
pub(crate) struct Way {
    pub(crate) from: FieldPath,
    pub(crate) to: FieldPath,
    pub(crate) required: bool,
    pub(crate) overwrite: bool,
}

impl Way {
    /// Whether there is anything to do; `Err` holds the answer of an operation that has nothing to do.
    fn begin(&self, on: &mut Target<'_>) -> Result<Result<(), Option<Residue>>, DocError> {
        if on.has(&self.from)? {
            if !self.overwrite && on.has(&self.to)? {
                return Err(taken(&self.to));
            }
            return Ok(Ok(()));
        }
        if self.required {
            return Err(missing(&self.from));
        }
        // Going back would take a field that was at the new place all along.
        Ok(Err(on.has(&self.to)?.then(Residue::kept)))
    }

    /// Puts a value at the new place. What it overwrote and how many maps were made goes into `residue`.
    fn arrive(&self, on: Target<'_>, value: Value, residue: &mut Residue) -> Result<(), DocError> {
        let (mut parent, made) = on.parent_made(&self.to)?;
        let name = last(&self.to);
        if parent.contains(name) {
            if let Some(slot) = parent.into_mut(name)? {
                residue.was = Some(std::mem::replace(slot, value));
            }
        } else {
            parent.put(name, value);
        }
        residue.made = (made > 0).then_some(made);
        Ok(())
    }

    /// Takes the value from the new place and leaves there what was there before.
    fn leave(&self, mut on: Target<'_>, residue: &Residue) -> Result<Option<Value>, DocError> {
        let Some(mut parent) = on.reborrow().parent(&self.to)? else {
            return Ok(None);
        };
        let name = last(&self.to);
        if let Some(was) = &residue.was {
            return Ok(parent
                .into_mut(name)?
                .map(|slot| std::mem::replace(slot, was.clone())));
        }
        let value = parent.take(name)?.map(|(value, _)| value);
        on.unmake(&self.to, residue.made.unwrap_or(0))?;
        Ok(value)
    }
}

fn taken(path: &FieldPath) -> DocError {
    DocError::new(
        Code::DocType,
        "a field stands at the new place already (`overwrite = true` would replace it)",
    )
    .at(path.to_string())
}

fn some(residue: Residue) -> Option<Residue> {
    (residue != Residue::default()).then_some(residue)
}

/// Gives a field another name among the same siblings, at the same place.
pub(crate) struct Rename(pub(crate) Way);

impl Operate for Rename {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let Way { from, to, .. } = &self.0;
        if let Err(nothing) = self.0.begin(&mut on)? {
            return Ok(nothing);
        }
        let Some(mut parent) = on.parent(from)? else {
            return Ok(None);
        };
        let replaced = parent.take(last(to))?;
        parent.rename(last(from), last(to));
        Ok(replaced.map(|(was, at)| Residue {
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
        let Way { from, to, .. } = &self.0;
        let residue = residue.unwrap_or_default();
        if residue.kept || !on.has(to)? {
            return Ok(());
        }
        let Some(mut parent) = on.parent(to)? else {
            return Ok(());
        };
        parent.rename(last(to), last(from));
        if let Some(was) = residue.was {
            parent.insert(residue.at, last(to), was);
        }
        Ok(())
    }

    fn judge(&self) -> Judgement {
        let Way { from, to, .. } = &self.0;
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "rename {from} to {}: old readers look for {from}, new readers do not find it in old documents",
                last(to)
            ),
        }
    }
}

/// Takes a field to another level, behind the fields that are there.
pub(crate) struct Move(pub(crate) Way);

impl Operate for Move {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let way = &self.0;
        if let Err(nothing) = way.begin(&mut on)? {
            return Ok(nothing);
        }
        let Some(mut parent) = on.reborrow().parent(&way.from)? else {
            return Ok(None);
        };
        let Some((value, at)) = parent.take(last(&way.from))? else {
            return Ok(None);
        };
        let mut residue = Residue {
            at,
            ..Residue::default()
        };
        way.arrive(on, value, &mut residue)?;
        Ok(some(residue))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let way = &self.0;
        let residue = residue.unwrap_or_default();
        if residue.kept || !on.has(&way.to)? {
            return Ok(());
        }
        if let Some(value) = way.leave(on.reborrow(), &residue)? {
            let (mut parent, _) = on.parent_made(&way.from)?;
            parent.insert(residue.at, last(&way.from), value);
        }
        Ok(())
    }

    fn judge(&self) -> Judgement {
        let Way { from, to, .. } = &self.0;
        Judgement {
            compatibility: Compatibility::Breaking,
            reason: format!(
                "move {from} to {to}: old readers look for {from}, new readers do not find {to} in old documents"
            ),
        }
    }
}

/// Puts a field's value at a second place. Undone, the second place is as it was.
pub(crate) struct Copy(pub(crate) Way);

impl Operate for Copy {
    fn apply(&self, mut on: Target<'_>, _cx: &DocContext<'_>) -> Result<Option<Residue>, DocError> {
        let way = &self.0;
        if let Err(nothing) = way.begin(&mut on)? {
            return Ok(nothing);
        }
        if let (Target::Doc(doc), [from], [to]) = (&mut on, way.from.names(), way.to.names())
            && !doc.contains(to)
        {
            doc.copy(from, to);
            return Ok(None);
        }
        let Some(value) = on.peek(&way.from)?.cloned() else {
            return Ok(None);
        };
        let mut residue = Residue::default();
        way.arrive(on, value, &mut residue)?;
        Ok(some(residue))
    }

    fn invert(
        &self,
        mut on: Target<'_>,
        residue: Option<Residue>,
        _cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let residue = residue.unwrap_or_default();
        if residue.kept || !on.has(&self.0.to)? {
            return Ok(());
        }
        self.0.leave(on, &residue).map(|_| ())
    }

    fn judge(&self) -> Judgement {
        let Way { from, to, .. } = &self.0;
        Judgement {
            compatibility: Compatibility::Forward,
            reason: format!(
                "copy {from} to {to}: it differs by document, so new readers have no default for old documents"
            ),
        }
    }
}
