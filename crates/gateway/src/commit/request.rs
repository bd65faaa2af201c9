//! Writes as a request has them, checked and taken apart before they wait for their turn, so that inside the
//! store's transaction little is left to do.

use crate::status::invalid;
use crate::{names, validate};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::core::field_path::FieldPath;
use whimbrel_firestore::core::normalize::normalize_value;
use whimbrel_firestore::v1::document_transform::FieldTransform;
use whimbrel_firestore::v1::document_transform::field_transform::{ServerValue, TransformType};
use whimbrel_firestore::v1::precondition::ConditionType;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{self, Precondition};
use whimbrel_firestore::value::{each_reference, localize};
use whimbrel_firestore::{DatabaseName, Fields, Micros, Place, size, time};

/// Transforms of one document in one request.
const TRANSFORMS: usize = 500;

/// Bytes of a request.
pub const REQUEST_BYTES: usize = 10 << 20;

/// The writes of one request: all of them are applied, or none.
#[derive(Clone, Debug)]
pub struct Request {
    pub database: DatabaseName,
    /// The documents that are written or verified, each once.
    pub places: Vec<Place>,
    pub writes: Vec<Write>,
    /// Whether the documents as they are afterwards are wanted.
    pub returning: bool,
    /// About how much memory the request holds.
    pub bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Write {
    /// Which of the request's places it is about.
    pub slot: usize,
    pub condition: Option<Condition>,
    pub change: Change,
    pub transforms: Vec<Transform>,
}

/// What must hold for a write to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Exists(bool),
    Updated(Micros),
}

#[derive(Clone, Debug)]
pub enum Change {
    /// The document becomes these fields.
    Replace(Arc<Fields>),
    /// The paths become what the fields have there, or go away.
    Merge {
        fields: Fields,
        mask: Vec<FieldPath>,
    },
    /// Only transforms.
    Keep,
    Delete,
    /// Only the condition.
    Verify,
}

#[derive(Clone, Debug)]
pub struct Transform {
    pub path: FieldPath,
    pub what: FieldTransform,
}

impl Request {
    /// Checks everything that does not depend on the documents as they are.
    ///
    /// # Errors
    /// INVALID_ARGUMENT; nothing was written.
    pub fn new(database: DatabaseName, writes: Vec<v1::Write>) -> Result<Self, Status> {
        let mut request = Self {
            database,
            places: Vec::with_capacity(writes.len()),
            writes: Vec::with_capacity(writes.len()),
            returning: false,
            bytes: 0,
        };
        let mut slots = Slots::default();
        for write in writes {
            request.add(write, &mut slots)?;
        }
        let mut transforms = vec![0; request.places.len()];
        for write in &request.writes {
            if let Some(count) = transforms.get_mut(write.slot) {
                *count += write.transforms.len();
                if *count > TRANSFORMS {
                    return Err(invalid(format!(
                        "A document can have at most {TRANSFORMS} field transforms in a single request."
                    )));
                }
            }
        }
        Ok(request)
    }

    fn add(&mut self, write: v1::Write, slots: &mut Slots) -> Result<(), Status> {
        let Some(operation) = write.operation else {
            return Err(invalid("empty write operation"));
        };
        let (kind, name) = match &operation {
            Operation::Update(document) => ("update", &document.name),
            Operation::Delete(name) => ("delete", name),
            Operation::Verify(name) => ("verify", name),
            Operation::Transform(transform) => ("transform", &transform.document),
        };
        if kind != "update" && write.update_mask.is_some() {
            return Err(invalid(format!(
                "a {kind} must not specify a document mask."
            )));
        }
        if kind != "update" && !write.update_transforms.is_empty() {
            return Err(invalid(format!(
                "a {kind} must not specify a update transform."
            )));
        }
        let place = names::document_in(&self.database, name)?;
        let condition = write
            .current_document
            .as_ref()
            .map_or(Ok(None), Condition::new)?;
        let slot = slots.of(&mut self.places, place);
        let verify = matches!(operation, Operation::Verify(_));
        slots.check(slot, verify)?;
        let (change, transforms) = match operation {
            Operation::Update(document) => {
                let mut fields = document.fields;
                validate::fields(&fields)?;
                self.bytes += fields.values().map(size::value).sum::<usize>();
                fields.values_mut().for_each(normalize_value);
                localize(&mut fields, &self.database);
                let change = match write.update_mask {
                    None => Change::Replace(Arc::new(fields)),
                    Some(mask) => Change::Merge {
                        fields,
                        mask: mask
                            .field_paths
                            .iter()
                            .map(|path| validate::writable_path(path))
                            .collect::<Result<_, _>>()?,
                    },
                };
                (change, self.transforms(write.update_transforms)?)
            }
            Operation::Transform(transform) => {
                if transform.field_transforms.is_empty() {
                    return Err(invalid("The list of FieldTransform must not be empty."));
                }
                (Change::Keep, self.transforms(transform.field_transforms)?)
            }
            Operation::Delete(_) => (Change::Delete, Vec::new()),
            Operation::Verify(_) if condition.is_none() => {
                return Err(invalid("a verify must contain a precondition"));
            }
            Operation::Verify(_) => (Change::Verify, Vec::new()),
        };
        // What a write takes besides its values.
        self.bytes += 512;
        self.writes.push(Write {
            slot,
            condition,
            change,
            transforms,
        });
        Ok(())
    }

    fn transforms(&mut self, transforms: Vec<FieldTransform>) -> Result<Vec<Transform>, Status> {
        let mut checked: Vec<Transform> = Vec::with_capacity(transforms.len());
        for mut what in transforms {
            let path = validate::writable_path(&what.field_path)?;
            check_operand(what.transform_type.as_ref())?;
            let (new, inner) = (path.segments(), |a: &[String], b: &[String]| {
                a.len() < b.len() && b.starts_with(a)
            });
            if let Some(other) = checked.iter().find(|other| {
                inner(other.path.segments(), new) || inner(new, other.path.segments())
            }) {
                let outer = if inner(new, other.path.segments()) {
                    &path
                } else {
                    &other.path
                };
                return Err(invalid(format!(
                    "Cannot transform property {outer} and its nested property at the same time."
                )));
            }
            self.bytes += 128;
            if let Some(
                TransformType::AppendMissingElements(array)
                | TransformType::RemoveAllFromArray(array),
            ) = &mut what.transform_type
            {
                self.bytes += array.values.iter().map(size::value).sum::<usize>();
                array.values.iter_mut().for_each(normalize_value);
                each_reference(array.values.iter_mut(), &mut |name| {
                    if let Some(path) = self.database.relative(name) {
                        *name = path.to_owned();
                    }
                });
            }
            checked.push(Transform { path, what });
        }
        Ok(checked)
    }
}

impl Condition {
    fn new(precondition: &Precondition) -> Result<Option<Self>, Status> {
        Ok(match &precondition.condition_type {
            None => None,
            Some(ConditionType::Exists(exists)) => Some(Self::Exists(*exists)),
            Some(ConditionType::UpdateTime(at)) => Some(Self::Updated(whole_micros(at)?)),
        })
    }
}

/// A time that a client names: whole microseconds since the epoch.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn whole_micros(at: &prost_types::Timestamp) -> Result<Micros, Status> {
    if at.nanos % 1000 != 0 {
        return Err(invalid(
            "timestamp cannot have more than microseconds precision",
        ));
    }
    let micros = time::from_proto(at);
    if micros < 0 {
        return Err(invalid("Only timestamps past epoch are supported."));
    }
    Ok(micros)
}

fn check_operand(transform: Option<&TransformType>) -> Result<(), Status> {
    match transform {
        None => Err(invalid(
            "Operation type must be specified for field transformation.",
        )),
        Some(TransformType::SetToServerValue(kind)) => {
            if *kind == ServerValue::RequestTime as i32 {
                Ok(())
            } else {
                Err(invalid(
                    "ServerValue type must be specified for set_to_server_value transformation.",
                ))
            }
        }
        Some(
            TransformType::Increment(operand)
            | TransformType::Maximum(operand)
            | TransformType::Minimum(operand),
        ) => match operand.value_type {
            Some(ValueType::IntegerValue(_) | ValueType::DoubleValue(_)) => Ok(()),
            _ => Err(invalid("Input must be int64 or double.")),
        },
        Some(
            TransformType::AppendMissingElements(array) | TransformType::RemoveAllFromArray(array),
        ) => array.values.iter().try_for_each(validate::element),
    }
}

/// A document that comes more often than it may.
pub fn twice(problem: &str) -> Status {
    invalid(format!(
        "the same document cannot be {problem} in a single request"
    ))
}

/// Finds the place of a write among those of the request.
#[derive(Default)]
struct Slots {
    /// Empty while there is only one place.
    of: HashMap<Place, usize>,
    /// For each place: whether it is written, and whether it is verified.
    uses: Vec<(bool, bool)>,
}

impl Slots {
    fn of(&mut self, places: &mut Vec<Place>, place: Place) -> usize {
        match places.as_slice() {
            [] => {
                places.push(place);
                return 0;
            }
            [only] if *only == place => return 0,
            [only] => {
                self.of.insert(only.clone(), 0);
            }
            _ => {}
        }
        match self.of.entry(place) {
            Entry::Occupied(there) => *there.get(),
            Entry::Vacant(free) => {
                places.push(free.key().clone());
                *free.insert(places.len() - 1)
            }
        }
    }

    /// A document is verified at most once and then not written.
    fn check(&mut self, slot: usize, verify: bool) -> Result<(), Status> {
        if self.uses.len() <= slot {
            self.uses.resize(slot + 1, (false, false));
        }
        let Some(uses) = self.uses.get_mut(slot) else {
            return Ok(());
        };
        let problem = match (*uses, verify) {
            ((false, false), _) => None,
            ((_, true), true) => Some("verified more than once"),
            ((_, true), false) => Some("verified and then written"),
            ((true, false), true) => Some("written and then verified"),
            ((true, false), false) => None,
        };
        if let Some(problem) = problem {
            return Err(twice(problem));
        }
        if verify {
            uses.1 = true;
        } else {
            uses.0 = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_firestore::v1::{DocumentMask, DocumentTransform};

    const ROOT: &str = "projects/p/databases/(default)/documents";

    fn request(writes: Vec<v1::Write>) -> Result<Request, Status> {
        let database = names::database("projects/p/databases/(default)")?;
        Request::new(database, writes)
    }

    fn update(path: &str) -> v1::Write {
        v1::Write {
            operation: Some(Operation::Update(v1::Document {
                name: format!("{ROOT}/{path}"),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn verify(path: &str) -> v1::Write {
        v1::Write {
            operation: Some(Operation::Verify(format!("{ROOT}/{path}"))),
            current_document: Some(Precondition {
                condition_type: Some(ConditionType::Exists(true)),
            }),
            ..Default::default()
        }
    }

    fn increment(path: &str, by: ValueType) -> FieldTransform {
        FieldTransform {
            field_path: path.to_owned(),
            transform_type: Some(TransformType::Increment(v1::Value {
                value_type: Some(by),
            })),
        }
    }

    fn transforms(paths: &[&str]) -> v1::Write {
        let by = |path: &&str| increment(path, ValueType::IntegerValue(1));
        v1::Write {
            update_transforms: paths.iter().map(by).collect(),
            ..update("a/1")
        }
    }

    #[track_caller]
    fn refused(writes: Vec<v1::Write>, message: &str) {
        let error = request(writes).unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains(message), "{error}");
    }

    #[test]
    // tidy: long because it is a table.
    fn what_no_document_can_make_right_is_refused_before_it_waits() {
        refused(vec![v1::Write::default()], "empty write operation");
        refused(
            vec![v1::Write {
                update_mask: Some(DocumentMask::default()),
                ..verify("a/1")
            }],
            "a verify must not specify a document mask",
        );
        refused(
            vec![v1::Write {
                current_document: None,
                ..verify("a/1")
            }],
            "a verify must contain a precondition",
        );
        refused(vec![verify("a/1"), verify("a/1")], "more than once");
        refused(vec![verify("a/1"), update("a/1")], "then written");
        refused(vec![update("a/1"), verify("a/1")], "then verified");
        refused(
            vec![v1::Write {
                operation: Some(Operation::Transform(DocumentTransform {
                    document: format!("{ROOT}/a/1"),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            "must not be empty",
        );
        refused(vec![transforms(&["a", "a.b"])], "property a and its");
        refused(vec![transforms(&["a.b", "a"])], "property a and its");
        refused(vec![transforms(&["__a__"])], "reserved name");
        refused(vec![transforms(&["a..b"])], "Invalid property path");
        refused(vec![transforms(&["a"; 501])], "at most 500");
        refused(
            vec![transforms(&["a"; 300]), transforms(&["b"; 300])],
            "at most 500",
        );
        assert!(request(vec![transforms(&["a"; 500])]).is_ok());
        assert!(request(vec![transforms(&["a.b", "a.c", "ab"])]).is_ok());
        let text = ValueType::StringValue("1".to_owned());
        refused(
            vec![v1::Write {
                update_transforms: vec![increment("a", text)],
                ..update("a/1")
            }],
            "int64 or double",
        );
        let elsewhere = v1::Write {
            operation: Some(Operation::Delete(
                "projects/p/databases/d/documents/a/1".to_owned(),
            )),
            ..Default::default()
        };
        refused(vec![elsewhere], "attempting to access database");
        let finer = v1::Write {
            current_document: Some(Precondition {
                condition_type: Some(ConditionType::UpdateTime(prost_types::Timestamp {
                    seconds: 1,
                    nanos: 1,
                })),
            }),
            ..update("a/1")
        };
        refused(vec![finer], "microseconds");
    }

    #[test]
    fn writes_of_one_document_share_its_place() {
        let request = request(vec![
            update("a/1"),
            update("a/2"),
            update("a/1"),
            update("a/2"),
        ])
        .unwrap();
        assert_eq!(request.places.len(), 2);
        let slots: Vec<usize> = request.writes.iter().map(|w| w.slot).collect();
        assert_eq!(slots, [0, 1, 0, 1]);
    }
}
