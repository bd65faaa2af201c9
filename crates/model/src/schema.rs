//! The numbered history of one collection's shape.

use crate::compat::Shape;
use crate::{Code, DocContext, DocError, Draft, Map, Value};
use std::sync::Arc;

/// One version's behaviour: how to come from the version before, how to go back, and what holds at it.
/// Written by users in TOML, TypeScript, JavaScript or Rust.
pub trait VersionCode: Send + Sync {
    /// From the version before to this one. Returns the *complement*: what `down` needs to restore what
    /// this dropped (empty when nothing was).
    ///
    /// # Errors
    /// The document cannot be brought up; it is left as it was.
    fn up(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<Map, DocError>;

    /// From this version to the one before. `complement` is what `up` gave for this document, where it
    /// is known.
    ///
    /// # Errors
    /// The document cannot be brought down, or there is no way down ([`Code::Irreversible`]).
    fn down(
        &self,
        doc: &mut Draft,
        complement: Option<&Map>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError>;

    /// # Errors
    /// The document is not valid at this version.
    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError>;

    /// Whether there is a `down` at all.
    fn reversible(&self) -> bool;

    /// What is known of the change without running it, for the compatibility check.
    fn shape(&self) -> Shape;

    /// Changes when the meaning changes; comments and white space do not count.
    fn checksum(&self) -> String;
}

#[derive(Clone)]
pub struct Version {
    pub number: u32,
    /// The file's name without number and ending: `widget_state`.
    pub name: String,
    pub description: String,
    pub code: Arc<dyn VersionCode>,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "v{} {}", self.number, self.name)
    }
}

/// All versions of one collection, from 1 without a gap.
#[derive(Clone, Debug)]
pub struct Schema {
    collection: String,
    version_field: String,
    versions: Vec<Version>,
}

/// Why a set of versions is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error(
        "collection {collection}: schema version {missing} is missing (versions run from 1 to {newest}); nothing was written"
    )]
    Gap {
        collection: String,
        missing: u32,
        newest: u32,
    },
    #[error(
        "collection {collection}: schema version {number} exists twice ({first}, {second}); nothing was written"
    )]
    Twice {
        collection: String,
        number: u32,
        first: String,
        second: String,
    },
    #[error("collection {collection} has no schema version {wanted}; the newest is {newest}")]
    Unknown {
        collection: String,
        wanted: u32,
        newest: u32,
    },
    #[error("collection {collection} has no schema versions")]
    Empty { collection: String },
}

impl SchemaError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            SchemaError::Gap { .. } | SchemaError::Twice { .. } => Code::SchemaGap,
            SchemaError::Unknown { .. } | SchemaError::Empty { .. } => Code::SchemaUnknownVersion,
        }
    }
}

/// What one upgrade of one document did.
#[derive(Debug)]
pub struct Migrated {
    pub doc: Draft,
    pub from: u32,
    /// The complement of each version passed upwards, first passed first.
    pub complements: Vec<(u32, Map)>,
}

pub const DEFAULT_VERSION_FIELD: &str = "_schemaVersion";

impl Schema {
    /// # Errors
    /// Every gap and every doubled number, not only the first.
    pub fn new(
        collection: &str,
        version_field: &str,
        mut versions: Vec<Version>,
    ) -> Result<Self, Vec<SchemaError>> {
        versions.sort_by_key(|v| v.number);
        let newest = versions.last().map_or(0, |v| v.number);
        let mut errors = Vec::new();
        if versions.is_empty() {
            errors.push(SchemaError::Empty {
                collection: collection.to_owned(),
            });
        }
        for pair in versions.windows(2) {
            if pair[0].number == pair[1].number {
                errors.push(SchemaError::Twice {
                    collection: collection.to_owned(),
                    number: pair[0].number,
                    first: pair[0].name.clone(),
                    second: pair[1].name.clone(),
                });
            }
        }
        for missing in 1..newest {
            if !versions.iter().any(|v| v.number == missing) {
                errors.push(SchemaError::Gap {
                    collection: collection.to_owned(),
                    missing,
                    newest,
                });
            }
        }
        if errors.is_empty() {
            Ok(Self {
                collection: collection.to_owned(),
                version_field: version_field.to_owned(),
                versions,
            })
        } else {
            Err(errors)
        }
    }

    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    #[must_use]
    pub fn version_field(&self) -> &str {
        &self.version_field
    }

    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    #[must_use]
    pub fn newest(&self) -> u32 {
        self.versions.last().map_or(0, |v| v.number)
    }

    /// # Errors
    /// There is no such version.
    pub fn version(&self, number: u32) -> Result<&Version, SchemaError> {
        number
            .checked_sub(1)
            .and_then(|i| self.versions.get(i as usize))
            .ok_or_else(|| SchemaError::Unknown {
                collection: self.collection.clone(),
                wanted: number,
                newest: self.newest(),
            })
    }

    /// The version a document says it has; 1 where it says nothing.
    ///
    /// # Errors
    /// The version field holds no positive whole number.
    pub fn version_of(&self, doc: &mut Draft) -> Result<u32, DocError> {
        let wrong = || {
            DocError::new(
                Code::DocVersionUnreadable,
                "the version field holds no positive whole number",
            )
            .at(self.version_field.clone())
        };
        match doc.get(&self.version_field).map_err(DocError::from)? {
            None => Ok(1),
            Some(Value::Int(n)) => u32::try_from(*n).ok().filter(|n| *n > 0).ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }

    /// Brings a document to version `to`, up or down, validating at every version passed and at the end.
    /// `complements` gives, for a version on the way down, what its `up` dropped from this document.
    ///
    /// # Errors
    /// A step or a validation failed, or the document is newer than any version known.
    pub fn migrate(
        &self,
        mut doc: Draft,
        to: u32,
        complements: &dyn Fn(u32) -> Option<Map>,
        cx: &DocContext<'_>,
    ) -> Result<Migrated, DocError> {
        let from = self.version_of(&mut doc)?;
        if from > self.newest() {
            return Err(DocError::new(
                Code::DocNewer,
                format!(
                    "the document is at version {from}, newer than any known ({})",
                    self.newest()
                ),
            ));
        }
        let mut gathered = Vec::new();
        if to > from {
            for version in &self.versions[from as usize..to as usize] {
                let stage = |e: DocError| e.in_stage(format!("v{} up", version.number));
                let complement = version.code.up(&mut doc, cx).map_err(stage)?;
                self.stamp(&mut doc, version.number);
                self.validate_at(version, &mut doc, cx)?;
                gathered.push((version.number, complement));
            }
        } else {
            for version in self.versions[to as usize..from as usize].iter().rev() {
                let stage = |e: DocError| e.in_stage(format!("v{} down", version.number));
                let complement = complements(version.number);
                version
                    .code
                    .down(&mut doc, complement.as_ref(), cx)
                    .map_err(stage)?;
                self.stamp(&mut doc, version.number - 1);
                let below = &self.versions[version.number as usize - 2];
                self.validate_at(below, &mut doc, cx)?;
            }
        }
        Ok(Migrated {
            doc,
            from,
            complements: gathered,
        })
    }

    /// # Errors
    /// The document is not valid at `version`.
    pub fn validate_at(
        &self,
        version: &Version,
        doc: &mut Draft,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        version
            .code
            .validate(doc, cx)
            .map_err(|e| e.in_stage(format!("v{} validate", version.number)))
    }

    /// Writes the version into the document. Version 1 is what a document without the field has.
    fn stamp(&self, doc: &mut Draft, version: u32) {
        if version == 1 {
            doc.remove(&self.version_field);
        } else {
            doc.set(&self.version_field, Value::Int(i64::from(version)));
        }
    }
}
