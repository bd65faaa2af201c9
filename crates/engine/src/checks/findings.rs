//! What a check has found so far: all of it counted, the first places kept.

use std::collections::BTreeMap;

use whimbrel_model::finding::Example;
use whimbrel_model::{Code, DocError, Key, StoreError, Value, json};

use crate::error::EngineError;

/// The longest value that is shown where values were asked for.
const SHOWN_CHARS: usize = 200;

/// Why a check could not be done. `detail` may hold values.
#[derive(Clone, Debug)]
pub(super) struct Impossible {
    pub code: Code,
    pub message: String,
    pub detail: Option<String>,
}

impl Impossible {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            code: Code::CheckImpossible,
            message: message.into(),
            detail: None,
        }
    }
}

impl From<StoreError> for Impossible {
    fn from(error: StoreError) -> Self {
        Self {
            code: error.code,
            message: error.to_string(),
            detail: None,
        }
    }
}

impl From<EngineError> for Impossible {
    fn from(error: EngineError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            detail: None,
        }
    }
}

impl From<DocError> for Impossible {
    fn from(error: DocError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            detail: error.detail,
        }
    }
}

/// One thing that is wrong in a document. `detail` may hold values.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrong {
    pub path: Option<String>,
    pub message: String,
    pub detail: Option<String>,
}

impl Wrong {
    pub(super) fn at(path: impl ToString, message: impl Into<String>) -> Self {
        Self {
            path: Some(path.to_string()),
            message: message.into(),
            detail: None,
        }
    }

    pub(super) fn with(mut self, value: Option<&Value>) -> Self {
        self.detail = value.map(shown);
        self
    }
}

impl From<DocError> for Wrong {
    fn from(error: DocError) -> Self {
        Self {
            path: error.path,
            message: error.message,
            detail: error.detail,
        }
    }
}

/// A value's JSON, cut short.
pub(super) fn shown(value: &Value) -> String {
    let mut out = Vec::new();
    json::write(value, &mut out);
    let text = String::from_utf8_lossy(&out);
    if text.chars().count() <= SHOWN_CHARS {
        return text.into_owned();
    }
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    short.push('…');
    short
}

/// Where a finding stands in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: Option<Key>,
    label: Option<String>,
    path: Option<String>,
    message: String,
}

/// Merging is in any order: the same findings are kept.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    most: usize,
    show_values: bool,
    pub looked_at: u64,
    pub failed: u64,
    kept: BTreeMap<Place, Example>,
    /// Documents that the check could not judge, and the first of them.
    pub troubles: u64,
    trouble: Option<(Option<Key>, Impossible)>,
}

impl Findings {
    pub(super) fn new(most: usize, show_values: bool) -> Self {
        Self {
            most,
            show_values,
            looked_at: 0,
            failed: 0,
            kept: BTreeMap::new(),
            troubles: 0,
            trouble: None,
        }
    }

    /// None of it yet, for a part of the work.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.most, self.show_values)
    }

    pub(super) fn shows_values(&self) -> bool {
        self.show_values
    }

    /// A document that is wrong in one or more places; none: it is well.
    pub(super) fn document(&mut self, key: Option<&Key>, label: Option<&str>, wrongs: Vec<Wrong>) {
        if wrongs.is_empty() {
            return;
        }
        self.failed += 1;
        for wrong in wrongs {
            self.keep(key, label, wrong);
        }
    }

    /// Something that is wrong with the collection as a whole.
    pub(super) fn whole(&mut self, wrong: Wrong) {
        self.failed += 1;
        self.keep(None, None, wrong);
    }

    fn keep(&mut self, key: Option<&Key>, label: Option<&str>, wrong: Wrong) {
        let shown = key.map(ToString::to_string).or(label.map(str::to_owned));
        let place = Place {
            key: key.cloned(),
            label: label.map(str::to_owned),
            path: wrong.path.clone(),
            message: wrong.message.clone(),
        };
        let message = match wrong.detail {
            Some(detail) if self.show_values => format!("{}: {detail}", wrong.message),
            _ => wrong.message,
        };
        let example = Example {
            key: shown,
            path: wrong.path,
            message,
        };
        self.kept.insert(place, example);
        self.shorten();
    }

    fn shorten(&mut self) {
        while self.kept.len() > self.most {
            self.kept.pop_last();
        }
    }

    /// A document that could not be judged.
    pub(super) fn trouble(&mut self, key: Option<&Key>, why: Impossible) {
        self.troubles += 1;
        self.first_trouble(key.cloned(), why);
    }

    fn first_trouble(&mut self, key: Option<Key>, why: Impossible) {
        if self.trouble.as_ref().is_none_or(|(first, _)| key < *first) {
            self.trouble = Some((key, why));
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.looked_at += other.looked_at;
        self.failed += other.failed;
        self.kept.extend(other.kept);
        self.shorten();
        self.troubles += other.troubles;
        if let Some((key, why)) = other.trouble {
            self.first_trouble(key, why);
        }
    }

    /// The examples, and why the check could not be done for all.
    pub(super) fn into_parts(self) -> (Vec<Example>, Option<(Code, String)>) {
        let error = self.trouble.map(|(key, why)| {
            let place = key
                .map(|key| format!("document {key}: "))
                .unwrap_or_default();
            let more = match self.troubles {
                0 | 1 => String::new(),
                n => format!(" (and {} more)", n - 1),
            };
            let detail = match why.detail {
                Some(detail) if self.show_values => format!(": {detail}"),
                _ => String::new(),
            };
            (why.code, format!("{place}{}{detail}{more}", why.message))
        });
        (self.kept.into_values().collect(), error)
    }
}
