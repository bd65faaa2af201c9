//! Whether readers and writers of neighbouring schema versions understand each other's documents.

use serde::{Deserialize, Serialize};

/// In the sense of schema registries. *Backward*: code written for the new version reads documents of
/// the old one. *Forward*: code written for the old version reads documents of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compatibility {
    Breaking,
    Forward,
    Backward,
    Full,
}

impl Compatibility {
    #[must_use]
    pub fn of(backward: bool, forward: bool) -> Self {
        match (backward, forward) {
            (true, true) => Self::Full,
            (true, false) => Self::Backward,
            (false, true) => Self::Forward,
            (false, false) => Self::Breaking,
        }
    }

    #[must_use]
    pub fn backward(self) -> bool {
        matches!(self, Self::Backward | Self::Full)
    }

    #[must_use]
    pub fn forward(self) -> bool {
        matches!(self, Self::Forward | Self::Full)
    }

    /// What holds when both changes are passed one after the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of(
            self.backward() && other.backward(),
            self.forward() && other.forward(),
        )
    }

    /// In which order to deploy.
    #[must_use]
    pub fn deploy_order(self) -> &'static str {
        match self {
            Self::Full => "readers and writers may be deployed in any order",
            Self::Backward => "deploy all readers first, then the writers",
            Self::Forward => "deploy all writers first, then the readers",
            Self::Breaking => "deploy no side alone: upgrade through Whimbrel, or stop the app",
        }
    }
}

/// What a version tells of its change without being run.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// One judgement an operation; empty for a script.
    pub judgements: Vec<Judgement>,
    /// The version's JSON Schema, where it has one.
    pub json_schema: Option<serde_json::Value>,
    /// Whether the change is a script, which only a trial on documents can judge.
    pub script: bool,
}

/// What one operation does to compatibility.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub compatibility: Compatibility,
    /// `rename title → name: old readers look for "title"`
    pub reason: String,
}

/// The verdict on one version (against the one before it, or transitively against an older one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub from: u32,
    pub to: u32,
    pub compatibility: Compatibility,
    pub reasons: Vec<String>,
    /// The documents (keys) that showed it, for scripts.
    pub documents: Vec<String>,
}
