//! What a verification measured, so that later ones can compare with it. Never a document's value.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was measured, by the check's name.
pub type Baselines = BTreeMap<String, Baseline>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyBaseline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<DistributionBaseline>,
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBaseline {
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// How values lay, without the values: quantiles are values, so they are not here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistributionBaseline {
    pub documents: u64,
    /// 0 to 1.
    pub null_share: f64,
    pub distinct: u64,
    /// The shares of the most frequent values among the documents that have one, falling.
    pub top_shares: Vec<f64>,
}
