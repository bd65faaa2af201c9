//! What a query would use, and what it cost: the answer to `explain_options`.

use super::Query;
use super::index::{Definition, How, Known};
use super::plan::{Branch, Source};
use super::walk::Stats;
use prost_types::value::Kind;
use prost_types::{Duration, Struct, Value};
use std::time::Instant;
use tonic::Status;
use whimbrel_firestore::v1::{ExecutionStats, ExplainMetrics, PlanSummary};

/// What a query would use, as far as that can be said without looking at the documents.
///
/// # Errors
/// The filter has too many disjunctions.
pub fn planned(query: &Query, known: &Known) -> Result<PlanSummary, Status> {
    let branches = match query.scope.is_kindless() {
        true => Vec::new(),
        false => query.branches(known)?,
    };
    Ok(summary(query, &branches))
}

/// The indexes of the branches, each once.
#[must_use]
pub fn summary(query: &Query, branches: &[Branch]) -> PlanSummary {
    let mut used: Vec<String> = Vec::new();
    for branch in branches {
        let properties = properties(query, branch);
        if !used.contains(&properties) {
            used.push(properties);
        }
    }
    if used.is_empty() {
        used.push(shown(query, Vec::new(), false));
    }
    let scope = if query.scope.is_collection() {
        "Collection"
    } else {
        "Collection group"
    };
    let indexes_used = used
        .into_iter()
        .map(|properties| {
            object([
                ("properties", text(properties)),
                ("query_scope", text(scope.to_owned())),
            ])
        })
        .collect();
    PlanSummary { indexes_used }
}

/// As `(foo ASC, __name__ ASC)`: directions are those of the walk.
fn properties(query: &Query, branch: &Branch) -> String {
    match &branch.source {
        Source::Index(definition) => shown(
            query,
            fields(definition, branch),
            definition.name_descending != branch.descending,
        ),
        Source::Keys(_) | Source::Named(_) => shown(query, Vec::new(), branch.descending),
    }
}

fn fields(definition: &Definition, branch: &Branch) -> Vec<String> {
    definition
        .fields
        .iter()
        .enumerate()
        .map(|(i, (path, how))| {
            let turned = i >= branch.fixed && branch.descending;
            let how = match (how, turned) {
                (How::Contains, _) => "CONTAINS",
                (How::Ascending, false) | (How::Descending, true) => "ASC",
                (How::Descending, false) | (How::Ascending, true) => "DESC",
            };
            format!("{path} {how}")
        })
        .collect()
}

fn shown(query: &Query, mut fields: Vec<String>, name_descends: bool) -> String {
    let direction = if name_descends { "DESC" } else { "ASC" };
    fields.push(format!("__name__ {direction}"));
    fields.extend(
        query
            .nearest
            .as_ref()
            .map(super::nearest::Nearest::describe),
    );
    format!("({})", fields.join(", "))
}

/// What the query cost, in the words of Firestore's bill; `operations` are the reads it counts for. What is not measured
/// is not said.
#[must_use]
pub fn execution_stats(
    stats: Stats,
    results: u64,
    operations: u64,
    started: Instant,
) -> ExecutionStats {
    let elapsed = started.elapsed();
    let count = |n: u64| text(n.to_string());
    ExecutionStats {
        results_returned: i64::try_from(results).unwrap_or(i64::MAX),
        execution_duration: Some(Duration {
            seconds: i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX),
            // Never nothing, which clients take for absent.
            nanos: i32::try_from(elapsed.subsec_nanos().max(1)).unwrap_or(1),
        }),
        read_operations: i64::try_from(operations.max(1)).unwrap_or(i64::MAX),
        debug_stats: Some(object([
            (
                "billing_details",
                Value {
                    kind: Some(Kind::StructValue(object([(
                        "documents_billable",
                        count(results),
                    )]))),
                },
            ),
            ("documents_scanned", count(stats.documents)),
            ("index_entries_scanned", count(stats.lines)),
        ])),
    }
}

/// The answer to `explain_options`.
#[must_use]
pub fn metrics(plan: PlanSummary, stats: Option<ExecutionStats>) -> ExplainMetrics {
    ExplainMetrics {
        plan_summary: Some(plan),
        execution_stats: stats,
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Struct {
    Struct {
        fields: members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn text(text: String) -> Value {
    Value {
        kind: Some(Kind::StringValue(text)),
    }
}
