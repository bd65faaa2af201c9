//! Operations: changes of shape that are written in TOML, run natively, and know their own inverse.
//!
//! | operation | keys | without a complement, the inverse |
//! |---|---|---|
//! | `add` | `path`; one of `value`, `json`, `now`, `copy` | takes the field away |
//! | `set` | as `add`, but overwrites | leaves the field as it is |
//! | `remove` | `path`, `default` | gives `default`, or nothing |
//! | `drop_null` | `path`: a null goes, anything else stays | leaves it missing |
//! | `rename` | `from`, `to` (the new name), `overwrite` | renames back |
//! | `move` | `from`, `to`, `overwrite` | moves back, behind the other fields |
//! | `copy` | `from`, `to`, `overwrite` | takes the copy away |
//! | `cast` | `path`, `to`, `from`, `unit` | casts to `from`; where there is none, leaves it |
//! | `map_values` | `path`, `map`, `otherwise` = `"keep"` or `"error"` | gives the first old value that fits |
//! | `wrap`, `unwrap` | `path`; `as = "array"` or `in = "name"` | unwraps, wraps |
//! | `each` | `path`, `do` | undoes `do` in each element |
//!
//! A path is written `profile.city`; `messages[].calls[].id` goes through the elements of arrays and maps.
//! An operation whose field is missing does nothing, or is an error of the document where it says
//! `required = true`. A field of a type that it cannot work on is an error of the document.
//!
//! What an operation drops or overwrites goes into the *complement*, so that
//! `down(up(document), complement) == document`, the order of fields included.
//!
//! What needs more than one field's neighbourhood (joining tool calls with the results that follow them,
//! say) is for TypeScript.

mod cast;
mod convert;
mod each;
mod fields;
#[cfg(test)]
mod laws;
mod map_values;
mod parse;
mod places;
mod residue;
mod supply;
mod target;
#[cfg(test)]
mod tests;
mod wrap;

pub(crate) use parse::operations;

use residue::Residue;
use target::Target;
use whimbrel_model::compat::Judgement;
use whimbrel_model::{DocContext, DocError, Draft, Map};

/// One operation.
pub(crate) trait Operate: Send + Sync {
    /// Says what was dropped, or what else the inverse could not know. On an error the target may be
    /// half changed.
    fn apply(&self, on: Target<'_>, cx: &DocContext<'_>) -> Result<Option<Residue>, DocError>;

    /// Undoes `apply`. What an app wrote between the two is kept where both can be had.
    fn invert(
        &self,
        on: Target<'_>,
        residue: Option<Residue>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError>;

    fn judge(&self) -> Judgement;
}

/// A list of operations, applied in order and undone in reverse.
#[derive(Default)]
pub struct Operations {
    list: Vec<Box<dyn Operate>>,
    /// The key of each operation's residue in a complement: its number, from 0.
    keys: Vec<String>,
}

impl Operations {
    fn new(list: Vec<Box<dyn Operate>>) -> Self {
        let keys = (0..list.len()).map(|i| i.to_string()).collect();
        Self { list, keys }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Applies all operations and gives the complement, empty where nothing was dropped.
    ///
    /// # Errors
    /// An operation cannot work on this document, which then is as it was.
    pub fn apply(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<Map, DocError> {
        self.or_restore(doc, |doc| self.apply_to(Target::Doc(doc), cx))
    }

    /// Undoes all operations.
    ///
    /// # Errors
    /// An operation cannot be undone on this document, which then is as it was.
    pub fn invert(
        &self,
        doc: &mut Draft,
        complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        self.or_restore(doc, |doc| self.invert_on(Target::Doc(doc), complement, cx))
    }

    #[must_use]
    pub fn judge(&self) -> Vec<Judgement> {
        self.list
            .iter()
            .map(|operation| operation.judge())
            .collect()
    }

    fn or_restore<T>(
        &self,
        doc: &mut Draft,
        work: impl FnOnce(&mut Draft) -> Result<T, DocError>,
    ) -> Result<T, DocError> {
        if self.list.is_empty() {
            return work(doc);
        }
        let before = doc.clone();
        let result = work(doc);
        if result.is_err() {
            *doc = before;
        }
        result
    }

    fn apply_to(&self, mut on: Target<'_>, cx: &DocContext<'_>) -> Result<Map, DocError> {
        let mut complement = Map::new();
        for (operation, key) in self.list.iter().zip(&self.keys) {
            if let Some(residue) = operation.apply(on.reborrow(), cx)? {
                complement.insert(key.clone(), residue.into_value());
            }
        }
        Ok(complement)
    }

    fn invert_on(
        &self,
        mut on: Target<'_>,
        complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        for (operation, key) in self.list.iter().zip(&self.keys).rev() {
            let residue = complement
                .and_then(|map| map.get(key))
                .and_then(Residue::from_value);
            operation.invert(on.reborrow(), residue, cx)?;
        }
        Ok(())
    }
}
