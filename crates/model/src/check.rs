//! Checks: rules that judge data, as a project's `checks/*.toml` define them.

mod baseline;
mod custom;
mod field;
mod format;

pub use baseline::{Baseline, Baselines, DistributionBaseline, LatencyBaseline};
pub use custom::{CustomCheck, Found};
pub use field::{Bounds, FieldTest, FieldTypes, Pattern};
pub use format::Format;

use crate::finding::Severity;
use crate::rule::{FieldPath, Filter};
use crate::transform::Validate;
use crate::{DocContext, DocError, Draft, Value};
use std::sync::Arc;
use std::time::Duration;

/// One named rule that judges data.
#[derive(Clone)]
pub struct Check {
    /// Unique in a project.
    pub name: String,
    pub severity: Severity,
    /// What it is for, in the team's words.
    pub description: String,
    /// A collection of the project, or `store/collection`; `None` where the check is about none.
    pub collection: Option<String>,
    /// The documents that it judges; `None`: all.
    pub filter: Option<Filter>,
    /// Which documents of the other collection count, where the check compares two; `None`: all.
    pub other_filter: Option<Filter>,
    pub kind: CheckKind,
    /// How many failing places are named.
    pub examples: usize,
    /// Changes when the check's meaning changes.
    pub checksum: String,
}

impl Check {
    /// A check with the usual severity and number of examples, for checks made in a program.
    #[must_use]
    pub fn new(name: impl Into<String>, collection: impl Into<String>, kind: CheckKind) -> Self {
        Self {
            name: name.into(),
            severity: Severity::Critical,
            description: String::new(),
            collection: Some(collection.into()),
            filter: None,
            other_filter: None,
            kind,
            examples: DEFAULT_EXAMPLES,
            checksum: String::new(),
        }
    }

    /// The second collection that the check reads, as the file names it.
    #[must_use]
    pub fn other(&self) -> Option<&str> {
        match &self.kind {
            CheckKind::Count(count) => count.must.same_as(),
            CheckKind::Aggregate(aggregate) => aggregate.must.same_as(),
            CheckKind::Reference(reference) => Some(&reference.to),
            CheckKind::Distribution(distribution) => match &distribution.like {
                Some(Like::Collection(other)) => Some(other),
                _ => None,
            },
            CheckKind::Condition { pair, .. } => pair.as_deref(),
            _ => None,
        }
    }

    /// The store that the check's statement runs in.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        match &self.kind {
            CheckKind::Sql { store, .. } => Some(store),
            _ => None,
        }
    }
}

/// How many failing places a check names unless it says otherwise.
pub const DEFAULT_EXAMPLES: usize = 5;

/// What a check asks for.
#[derive(Clone)]
pub enum CheckKind {
    Count(CountCheck),
    /// Tests of single fields: `required`, `types`, `format`, `range`, `pattern`, `enum`.
    Fields {
        /// The file's word.
        word: &'static str,
        tests: Vec<(FieldPath, FieldTest)>,
    },
    /// A JSON Schema, or anything else that judges one document.
    Document {
        word: &'static str,
        judge: Arc<dyn Validate>,
    },
    /// Each of these combinations of fields is had by one document only.
    Unique(Vec<Vec<FieldPath>>),
    Reference(ReferenceCheck),
    Aggregate(AggregateCheck),
    Distribution(DistributionCheck),
    Latency(LatencyCheck),
    /// A condition in code, on a document or on it and the document of the same key in `pair`.
    Condition {
        judge: Arc<dyn Condition>,
        pair: Option<String>,
    },
    /// A statement that must give back no row.
    Sql {
        store: String,
        statement: String,
    },
    /// A program that must exit with 0.
    Command {
        command: Vec<String>,
        timeout: Duration,
    },
    /// A check written in Rust.
    Custom(Arc<dyn CustomCheck>),
}

impl CheckKind {
    /// The file's word for it.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Count(_) => "count",
            Self::Fields { word, .. } | Self::Document { word, .. } => word,
            Self::Unique(_) => "unique",
            Self::Reference(_) => "reference",
            Self::Aggregate(_) => "aggregate",
            Self::Distribution(_) => "distribution",
            Self::Latency(_) => "latency",
            Self::Condition { .. } => "condition",
            Self::Sql { .. } => "sql",
            Self::Command { .. } => "command",
            Self::Custom(custom) => custom.kind(),
        }
    }
}

/// What a measured number must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Must {
    /// Limits that stand in the file. Inclusive; the tolerance widens them.
    Be { limits: Bounds, equals: bool },
    /// The same as in another collection.
    SameAs(String),
}

impl Must {
    fn same_as(&self) -> Option<&str> {
        match self {
            Self::SameAs(other) => Some(other),
            Self::Be { .. } => None,
        }
    }
}

/// How far two numbers may be apart and still count as the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Tolerance {
    /// By this much, a number.
    By(Value),
    /// By this share of the expected number, in per cent: a number.
    Percent(Value),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CountCheck {
    pub must: Must,
    pub tolerance: Option<Tolerance>,
}

/// Every value of `field` is a document's key, or the value of a field, in another collection. A missing
/// field, and null, refer to nothing; an array refers with each of its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceCheck {
    pub field: FieldPath,
    pub to: String,
    /// `None`: the document's key.
    pub to_field: Option<FieldPath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Sum,
    Avg,
    Min,
    Max,
    Count,
}

impl Function {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Sum, Self::Avg, Self::Min, Self::Max, Self::Count]
            .into_iter()
            .find(|f| f.word() == word)
    }
}

/// `sum(total)`; `count()` counts documents, `count(total)` those that have the field.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    pub function: Function,
    pub field: Option<FieldPath>,
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = self.field.as_ref().map(ToString::to_string);
        write!(f, "{}({})", self.function.word(), field.unwrap_or_default())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCheck {
    pub of: Measure,
    /// A number for each value of this field; `None`: one for all documents.
    pub by: Option<FieldPath>,
    pub must: Must,
    /// The other collection's, where they are named otherwise there.
    pub of_other: Measure,
    pub by_other: Option<FieldPath>,
    pub tolerance: Option<Tolerance>,
}

/// What a distribution is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Like {
    Collection(String),
    /// What the last recorded verification measured.
    Baseline,
}

/// How a field's values lie.
#[derive(Clone, Debug, PartialEq)]
pub struct DistributionCheck {
    pub field: FieldPath,
    /// Missing or null in at most this share of the documents, 0 to 1.
    pub null_share: Option<f64>,
    /// How many different values there are; null counts as none.
    pub distinct: Option<Bounds>,
    /// Limits of quantiles of the numbers (or the instants), by per cent from 1 to 99.
    pub quantiles: Vec<(u8, Bounds)>,
    pub top: Option<TopCheck>,
    pub like: Option<Like>,
    /// How far it may have moved from what it is compared with, 0 to 1.
    pub drift: Option<f64>,
}

/// The most frequent value.
#[derive(Clone, Debug, PartialEq)]
pub struct TopCheck {
    /// It is one of these; empty: any.
    pub one_of: Vec<Value>,
    /// Its share of the documents that have a value, 0 to 1.
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

/// How long single reads take.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyCheck {
    pub reads: u32,
    /// Limits of quantiles, by per cent: 50, 95 or 99.
    pub limits: Vec<(u8, Duration)>,
    /// Limits as multiples of the recorded baseline.
    pub times_baseline: Vec<(u8, f64)>,
}

/// A condition in code. Pure.
pub trait Condition: Send + Sync {
    /// `other` is the document of the same key in the pair's other collection; `Some(None)` where there is
    /// none.
    ///
    /// # Errors
    /// With [`crate::Code::DocInvalid`] the document does not meet the condition, and what it says stands in
    /// `detail`; with any other code the condition could not be judged.
    fn check(
        &self,
        doc: &mut Draft,
        other: Option<Option<&mut Draft>>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError>;

    fn checksum(&self) -> String;
}
