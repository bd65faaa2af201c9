//! Ranges that need not be read, because both stores say the same of them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_model::{Digest, Key, KeyRange, StoreError};

use super::walk::SideBySide;

/// A range with fewer documents is read at once: a further digest would take as long.
const WORTH_READING: u64 = 1_500;
/// The most parts that a differing range is cut into.
const PARTS: u64 = 32;

/// What is known of the beginning of a range.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Up to `end` both ends hold the same.
    Same { documents: u64, end: Option<Key> },
    /// This part must be read.
    Unknown(KeyRange),
}

/// By partition, what its digests said.
#[derive(Default)]
pub(super) struct Digests {
    /// By the partition's end: parts that follow each other.
    plans: Mutex<HashMap<Option<Key>, Vec<Part>>>,
    /// The two stores' digests cannot be compared.
    useless: AtomicBool,
}

#[derive(Clone, Debug)]
struct Part {
    range: KeyRange,
    /// How many documents are the same on both ends; `None`: it must be read.
    same: Option<u64>,
}

enum Said {
    Same(u64),
    Different(u64),
    Nothing,
}

impl Digests {
    /// What is known of the beginning of `range`, which is the rest of a partition.
    pub async fn of(&self, both: &SideBySide, range: &KeyRange) -> Result<Known, StoreError> {
        if self.useless.load(Ordering::Relaxed) {
            return Ok(Known::Unknown(range.clone()));
        }
        if let Some(known) = self.planned(range) {
            return Ok(known);
        }
        let plan = self.plan(both, range).await?;
        if let Ok(mut plans) = self.plans.lock() {
            plans.insert(range.through.clone(), plan);
        }
        Ok(self
            .planned(range)
            .unwrap_or_else(|| Known::Unknown(range.clone())))
    }

    fn planned(&self, range: &KeyRange) -> Option<Known> {
        let mut plans = self.plans.lock().ok()?;
        let plan = plans.get_mut(&range.through)?;
        // Parts that lie behind are of no more use.
        let reached =
            |part: &Part| part.range.through.is_some() && part.range.through == range.after;
        if let Some(last) = plan.iter().position(reached) {
            plan.drain(..=last);
        }
        let part = plan.first()?.clone();
        let known = match part.same {
            Some(documents) if part.range.after == range.after => Known::Same {
                documents,
                end: part.range.through,
            },
            // Begun in the middle it says nothing.
            Some(_) => {
                plans.remove(&range.through);
                return None;
            }
            None => Known::Unknown(KeyRange {
                after: range.after.clone(),
                through: part.range.through,
            }),
        };
        if plan.len() == 1 && matches!(known, Known::Same { .. }) {
            plans.remove(&range.through);
        }
        Some(known)
    }

    /// Compares digests of smaller and smaller ranges, until what is left is worth reading.
    async fn plan(&self, both: &SideBySide, range: &KeyRange) -> Result<Vec<Part>, StoreError> {
        let mut plan: Vec<Part> = Vec::new();
        let said = self.compare(both, range).await?;
        let mut todo = vec![(range.clone(), said)];
        while let Some((range, said)) = todo.pop() {
            let same = match said {
                Said::Same(documents) => Some(documents),
                Said::Different(documents) if documents > WORTH_READING => {
                    let parts = self.cut(both, &range, documents).await?;
                    let different = |p: &&(KeyRange, Said)| !matches!(p.1, Said::Same(_));
                    // Where most parts differ, comparing more digests would only cost time.
                    if parts.len() > 1 && parts.iter().filter(different).count() * 2 <= parts.len()
                    {
                        todo.extend(parts.into_iter().rev());
                        continue;
                    }
                    None
                }
                Said::Different(_) | Said::Nothing => None,
            };
            put(&mut plan, Part { range, same });
        }
        Ok(plan)
    }

    async fn cut(
        &self,
        both: &SideBySide,
        range: &KeyRange,
        documents: u64,
    ) -> Result<Vec<(KeyRange, Said)>, StoreError> {
        let parts = (documents / (WORTH_READING / 2)).clamp(2, PARTS);
        let parts = u32::try_from(parts).unwrap_or(2);
        let mut said = Vec::new();
        for part in both.cut(range, parts).await? {
            let answer = self.compare(both, &part).await?;
            said.push((part, answer));
        }
        Ok(said)
    }

    async fn compare(&self, both: &SideBySide, range: &KeyRange) -> Result<Said, StoreError> {
        let Some(target) = &both.target else {
            return Ok(Said::Nothing);
        };
        let source = &both.source;
        let (a, b) = futures::try_join!(
            source.store.digest(&source.collection, range),
            target.store.digest(&target.collection, range)
        )?;
        Ok(match (a, b) {
            (Some(a), Some(b)) if a.kind != b.kind => {
                self.useless.store(true, Ordering::Relaxed);
                Said::Nothing
            }
            (Some(a), Some(b)) => said(&a, &b),
            (a, b) => {
                // A store that never gives any need not be asked again.
                if a.is_none() && b.is_none() {
                    self.useless.store(true, Ordering::Relaxed);
                }
                Said::Nothing
            }
        })
    }
}

fn said(a: &Digest, b: &Digest) -> Said {
    if a == b {
        Said::Same(a.documents)
    } else {
        Said::Different(a.documents.max(b.documents))
    }
}

/// Appends a part, or makes the last one longer.
fn put(plan: &mut Vec<Part>, part: Part) {
    match plan.last_mut() {
        Some(Part { range, same }) if same.is_some() == part.same.is_some() => {
            range.through = part.range.through;
            *same = same.zip(part.same).map(|(a, b)| a + b);
        }
        _ => plan.push(part),
    }
}
