//! What a request's writes make of the documents as they are. Pure.

use super::request::{Change, Condition, Request, Transform, Write};
use crate::status::invalid;
use crate::{names, status, validate};
use std::sync::Arc;
use tonic::{Code, Status};
use whimbrel_firestore::backend::{Stored, There};
use whimbrel_firestore::core::field_path::apply_mask;
use whimbrel_firestore::core::normalize::normalize_value;
use whimbrel_firestore::core::transform;
use whimbrel_firestore::v1::{Value, WriteResult};
use whimbrel_firestore::{DatabaseName, Fields, Micros, Place, size, time};

/// What a request came to.
#[derive(Debug)]
pub struct Applied {
    /// One a write, in order.
    pub results: Vec<WriteResult>,
    /// What changed, by the request's places.
    pub steps: Vec<Step>,
    /// The documents as they are now, by the request's places, where it wants them.
    pub documents: Vec<Option<Stored>>,
}

/// A document's step from what it was to what it is. What was no document counts as absent.
#[derive(Debug)]
pub struct Step {
    pub slot: usize,
    pub before: Option<Stored>,
    pub after: Option<Stored>,
}

/// A document while the writes go over it.
struct Slot {
    before: Option<There>,
    /// Nothing as long as what stands there cannot be read.
    now: Option<Now>,
    /// Whether a write was applied.
    written: bool,
    /// A document that was deleted is another one when it is made again.
    deleted: bool,
}

struct Now {
    fields: Arc<Fields>,
    created: Micros,
}

/// Why the store cannot hold a document, if so: [`whimbrel_firestore::Backend::refuse`].
pub type Refuse<'a> = dyn Fn(&Place, &Fields) -> Option<String> + 'a;

/// Applies a request at the time `at`. `found` are its documents, in the order of its places.
///
/// # Errors
/// The first write's that cannot be applied; nothing is to be written then.
pub fn apply(
    request: &Request,
    found: Vec<Option<There>>,
    at: Micros,
    refuse: &Refuse<'_>,
) -> Result<Applied, Status> {
    let mut slots: Vec<Slot> = found.into_iter().map(Slot::new).collect();
    let mut results = Vec::with_capacity(request.writes.len());
    for write in &request.writes {
        let Some((place, slot)) = request
            .places
            .get(write.slot)
            .zip(slots.get_mut(write.slot))
        else {
            return Err(Status::new(
                Code::FailedPrecondition,
                "a write has lost its document; nothing was written",
            ));
        };
        let on = On {
            database: &request.database,
            place,
            at,
            refuse,
        };
        results.push(WriteResult {
            update_time: None,
            transform_results: on.apply(slot, write)?,
        });
    }
    let mut documents = Vec::new();
    let (steps, updated) = settle(slots, at, request.returning.then_some(&mut documents));
    for (write, result) in request.writes.iter().zip(&mut results) {
        result.update_time = match write.change {
            Change::Delete => None,
            _ => updated
                .get(write.slot)
                .copied()
                .flatten()
                .map(time::to_proto),
        };
    }
    Ok(Applied {
        results,
        steps,
        documents,
    })
}

/// What changed in the end, and when each document was last updated. Writes that leave a document as it was, to the
/// bit, are no update.
fn settle(
    slots: Vec<Slot>,
    at: Micros,
    mut documents: Option<&mut Vec<Option<Stored>>>,
) -> (Vec<Step>, Vec<Option<Micros>>) {
    let mut steps = Vec::with_capacity(slots.len());
    let mut updated = Vec::with_capacity(slots.len());
    for (i, slot) in slots.into_iter().enumerate() {
        let same = match (&slot.before, &slot.now) {
            (None, None) => true,
            (Some(There::Document(before)), Some(now)) => {
                !slot.deleted
                    && (Arc::ptr_eq(&before.fields, &now.fields)
                        || validate::identical(&before.fields, &now.fields))
            }
            (Some(There::Unreadable(_)), _) => !slot.written,
            _ => false,
        };
        let before = slot.before.and_then(|before| match before {
            There::Document(before) => Some(before),
            There::Unreadable(_) => None,
        });
        if same {
            if let Some(documents) = &mut documents {
                documents.push(before.clone());
            }
            updated.push(before.map(|before| before.updated));
            continue;
        }
        updated.push(slot.now.is_some().then_some(at));
        let after = slot.now.map(|now| Stored {
            fields: now.fields,
            created: now.created,
            updated: at,
        });
        if let Some(documents) = &mut documents {
            documents.push(after.clone());
        }
        steps.push(Step {
            slot: i,
            before,
            after,
        });
    }
    (steps, updated)
}

impl Slot {
    fn new(before: Option<There>) -> Self {
        let document = before.as_ref().and_then(There::document);
        Self {
            now: document.map(|before| Now {
                fields: before.fields.clone(),
                created: before.created,
            }),
            before,
            written: false,
            deleted: false,
        }
    }

    /// Why what stands there cannot be read, if so.
    fn unreadable(&self) -> Option<&str> {
        match &self.before {
            Some(There::Unreadable(why)) if !self.written => Some(why),
            _ => None,
        }
    }
}

/// The document that a write is about.
struct On<'a> {
    database: &'a DatabaseName,
    place: &'a Place,
    at: Micros,
    refuse: &'a Refuse<'a>,
}

impl On<'_> {
    fn apply(&self, slot: &mut Slot, write: &Write) -> Result<Vec<Value>, Status> {
        self.readable(slot, write)?;
        self.check(slot, write.condition)?;
        let fields = match &write.change {
            Change::Verify => return Ok(Vec::new()),
            Change::Delete => {
                slot.deleted |= slot.now.is_some();
                slot.now = None;
                slot.written = true;
                return Ok(Vec::new());
            }
            Change::Replace(fields) if write.transforms.is_empty() => {
                self.fits(fields)?;
                self.put(slot, fields.clone());
                return Ok(Vec::new());
            }
            Change::Replace(fields) => Fields::clone(fields),
            Change::Merge { fields, mask } => {
                let mut merged = slot.fields();
                apply_mask(&mut merged, fields, mask);
                merged
            }
            Change::Keep => slot.fields(),
        };
        let (fields, results) = self.transform(fields, &write.transforms)?;
        validate::depth(&fields)?;
        self.fits(&fields)?;
        self.put(slot, Arc::new(fields));
        Ok(results)
    }

    fn put(&self, slot: &mut Slot, fields: Arc<Fields>) {
        let created = slot.now.as_ref().map_or(self.at, |now| now.created);
        slot.now = Some(Now { fields, created });
        slot.written = true;
    }

    /// What cannot be read is written over only by who asks for just that: without a condition, and with nothing kept
    /// of what is there. To all others it can be said neither that there is a document nor that there is none.
    fn readable(&self, slot: &Slot, write: &Write) -> Result<(), Status> {
        let writes_over = write.condition.is_none()
            && matches!(write.change, Change::Replace(_) | Change::Delete);
        match slot.unreadable() {
            Some(why) if !writes_over => Err(status::named(
                Code::FailedPrecondition,
                format!(
                    "What stands in the store for {} is no document: {why}. Nothing was written. Mend it there, or set or \
                     delete the document without a condition.",
                    self.name()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// A condition on the update time is about the document as it was before the request: within it, no client can know
    /// another.
    fn check(&self, slot: &Slot, condition: Option<Condition>) -> Result<(), Status> {
        match condition {
            None => Ok(()),
            Some(Condition::Exists(true)) if slot.now.is_none() => Err(status::named(
                Code::NotFound,
                format!("No document to update: {}", self.name()),
            )),
            Some(Condition::Exists(false)) if slot.now.is_some() => Err(status::named(
                Code::AlreadyExists,
                format!("Document already exists: {}", self.name()),
            )),
            Some(Condition::Exists(_)) => Ok(()),
            Some(Condition::Updated(required)) => {
                let stored = match (&slot.before, &slot.now) {
                    (Some(There::Document(before)), Some(_)) => Some(before.updated),
                    _ => None,
                };
                if stored == Some(required) {
                    return Ok(());
                }
                // No document can ever have had it: a mistake of the request, where a stale time is one of timing.
                if required > self.at {
                    return Err(invalid(format!(
                        "the required base version ({required}) is in the future: {}",
                        self.name()
                    )));
                }
                // Google's words, in which 0 is the version of what is not there.
                let stored = stored.unwrap_or(0);
                Err(status::named(
                    Code::FailedPrecondition,
                    format!(
                        "the stored version ({stored}) does not match the required base version \
                         ({required}): {}",
                        self.name()
                    ),
                ))
            }
        }
    }

    fn transform(
        &self,
        mut fields: Fields,
        transforms: &[Transform],
    ) -> Result<(Fields, Vec<Value>), Status> {
        let at = time::to_proto(self.at);
        let mut results = Vec::with_capacity(transforms.len());
        for Transform { path, what } in transforms {
            let mut result = transform::apply_at(&mut fields, path, what, &at).map_err(invalid)?;
            normalize_value(&mut result);
            results.push(result);
        }
        Ok((fields, results))
    }

    fn fits(&self, fields: &Fields) -> Result<(), Status> {
        let bytes = size::document(&names::path(self.place), fields);
        if bytes > size::DOCUMENT_BYTES {
            return Err(invalid(format!(
                "Document '{}' cannot be written because its size ({} bytes) exceeds the maximum \
                 allowed size of {} bytes.",
                self.name(),
                grouped(bytes),
                grouped(size::DOCUMENT_BYTES)
            )));
        }
        match (self.refuse)(self.place, fields) {
            None => Ok(()),
            Some(why) => Err(invalid(format!(
                "Document '{}' cannot be written to the store: {why}",
                self.name()
            ))),
        }
    }

    fn name(&self) -> String {
        names::name(self.database, self.place)
    }
}

impl Slot {
    fn fields(&self) -> Fields {
        self.now
            .as_ref()
            .map(|now| Fields::clone(&now.fields))
            .unwrap_or_default()
    }
}

/// `1048576` as `1,048,576`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
