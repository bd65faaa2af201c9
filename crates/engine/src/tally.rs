//! Gathers what became of a page's documents.

use whimbrel_model::ledger::Counts;
use whimbrel_model::{Key, Page, Reject};

use crate::decide::{Fate, Planned};
use crate::job::{ChunkContext, Failure, Handled};
use crate::upgrade::reject_failure;

/// Gathers what became of a page's documents.
#[derive(Default)]
pub(crate) struct Tally {
    pub counts: Counts,
    failures: Vec<Failure>,
    settled: Vec<String>,
    /// See [`ChunkContext::waiting`].
    waiting: bool,
    /// See [`ChunkContext::behind`].
    behind: bool,
}

impl Tally {
    /// Rows that cannot be read have their fate at once: they fail, unless they are to stay as they are.
    pub(crate) fn from_page(
        page: &Page,
        cx: &ChunkContext,
        stays: impl Fn(&Reject) -> bool,
    ) -> Self {
        let mut tally = Self {
            waiting: cx.waiting,
            behind: cx.behind,
            ..Self::default()
        };
        tally.counts.enumerated = (page.documents.len() + page.rejects.len()) as u64;
        for reject in &page.rejects {
            if stays(reject) {
                tally.counts.unchanged += 1;
                tally.settle(reject.label.clone());
            } else {
                tally.failed(reject_failure(reject));
            }
        }
        tally
    }

    pub(crate) fn written(&mut self, key: &Key) {
        self.counts.written += 1;
        self.settle(key.to_string());
    }

    fn settle(&mut self, label: String) {
        if self.waiting {
            self.settled.push(label);
        }
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        self.counts.quarantined += 1;
        self.failures.push(failure);
    }

    /// Counts what is decided and returns what is to be written.
    pub(crate) fn sort(&mut self, fates: Vec<Fate>) -> Vec<Planned> {
        let mut moves = Vec::with_capacity(fates.len());
        for fate in fates {
            match fate {
                // Counted before, or not there when the run began.
                Fate::Unchanged(key) | Fate::Written(key) if self.behind => {
                    self.counts.enumerated -= 1;
                    self.settle(key.to_string());
                }
                Fate::Newer if self.behind => self.counts.enumerated -= 1,
                Fate::Move(planned) => moves.push(planned),
                Fate::Unchanged(key) => {
                    self.counts.unchanged += 1;
                    self.settle(key.to_string());
                }
                Fate::Written(key) => self.written(&key),
                Fate::Newer => self.counts.newer += 1,
                Fate::Fail(failure) => self.failed(failure),
            }
        }
        moves
    }

    pub(crate) fn handled(self) -> Handled {
        Handled {
            counts: self.counts,
            failures: self.failures,
            settled: self.settled,
            through: None,
            note: None,
        }
    }
}
