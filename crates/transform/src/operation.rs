//! Operations: changes of shape that are written in TOML, run natively, and know their own inverse.
//!
//! An operation does its one thing or, where the field it speaks of is missing, nothing (an error where it
//! says `required = true`). A field of a type that it cannot work on is an error of the document.
//! What it drops or overwrites goes into the *complement*, so that
//! `down(up(document), complement) == document`, the order of fields included. Without a complement the
//! inverse does what each operation documents as its default.

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
