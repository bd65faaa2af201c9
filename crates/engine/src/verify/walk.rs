//! Reading two collections side by side, in the order of their keys.

use std::cmp::Ordering;
use std::collections::HashMap;

use whimbrel_model::{Document, Key, KeyRange, Page, Reject, StoreError};

use crate::chunk::COMPARE_BYTES;
use crate::options::Place;

/// What both ends have under one key; at least one of them has something.
#[derive(Debug)]
pub(super) struct Pair {
    pub source: Option<Document>,
    pub target: Option<Document>,
}

/// Everything that both ends have up to a key.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub pairs: Vec<Pair>,
    pub source_rejects: Vec<Reject>,
    pub target_rejects: Vec<Reject>,
    /// Where the next stretch begins; `None`: this was the rest of the range.
    pub through: Option<Key>,
}

/// Two collections whose stores walk keys in the same order.
#[derive(Clone, Debug)]
pub(super) struct SideBySide {
    /// Whether that order is `Key`'s own. Else only the stores know which of two keys is the greater one.
    pub sorted: bool,
    pub source: Place,
    /// `None`: the collection does not exist, so it holds nothing.
    pub target: Option<Place>,
}

impl SideBySide {
    /// Cuts where either end has its quantiles, and behind the last key of both.
    pub async fn cut(&self, range: &KeyRange, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        let of = |place: &Place| {
            let (store, collection) = (place.store.clone(), place.collection.clone());
            async move { store.partitions(&collection, range, parts).await }
        };
        let mut all = of(&self.source).await?;
        if !self.sorted {
            // Two lists of cuts cannot be made one. The last range goes on behind the source's last key.
            match all.last_mut() {
                Some(last) => last.through.clone_from(&range.through),
                None => all.push(range.clone()),
            }
            return Ok(all);
        }
        if let Some(target) = &self.target {
            all.extend(of(target).await?);
        }
        Ok(tile(range, all, parts))
    }

    /// What both ends have under some keys.
    pub async fn pairs(&self, keys: &[Key]) -> Result<Vec<Pair>, StoreError> {
        let of = |place: &Place| {
            let (store, collection) = (place.store.clone(), place.collection.clone());
            async move { store.get(&collection, keys).await }
        };
        let source = of(&self.source).await?;
        let target = match &self.target {
            Some(target) => of(target).await?,
            None => vec![None; keys.len()],
        };
        let pairs = source.into_iter().zip(target);
        Ok(pairs
            .map(|(source, target)| Pair { source, target })
            .collect())
    }

    pub async fn next(&self, range: &KeyRange, limit: u32) -> Result<Stretch, StoreError> {
        let source = scan(&self.source, range, limit).await?;
        let within = match &source.last {
            Some(last) => KeyRange {
                after: range.after.clone(),
                through: Some(last.clone()),
            },
            None => range.clone(),
        };
        let mut target = match &self.target {
            Some(target) => fill(target, &within, limit).await?,
            None => Filled::default(),
        };
        let mut documents = source.documents;
        let mut source_rejects = source.rejects;
        // A target that has far more in between than the source is taken in several stretches.
        let through = match (target.stopped_at.take(), source.last) {
            (Some(stop), Some(_)) if !self.sorted => {
                let before = KeyRange {
                    after: range.after.clone(),
                    through: Some(stop.clone()),
                };
                (documents, source_rejects) = read_all(&self.source, &before, limit).await?;
                Some(stop)
            }
            (Some(stop), _) => {
                // Without a last key the source has nothing more.
                let before = |key: &Key| !self.sorted || *key <= stop;
                documents.retain(|d| before(&d.key));
                source_rejects.retain(|r| r.key.as_ref().is_none_or(before));
                Some(stop)
            }
            (None, last) => last,
        };
        let pairs = match self.sorted {
            true => join(documents, target.page.documents),
            false => match_up(documents, target.page.documents),
        };
        Ok(Stretch {
            pairs,
            source_rejects,
            target_rejects: target.page.rejects,
            through,
        })
    }
}

async fn scan(place: &Place, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
    place
        .store
        .scan(&place.collection, range, limit.max(1), COMPARE_BYTES)
        .await
}

async fn read_all(
    place: &Place,
    range: &KeyRange,
    limit: u32,
) -> Result<(Vec<Document>, Vec<Reject>), StoreError> {
    let (mut documents, mut rejects) = (Vec::new(), Vec::new());
    let mut rest = range.clone();
    loop {
        let page = scan(place, &rest, limit).await?;
        documents.extend(page.documents);
        rejects.extend(page.rejects);
        match page.last {
            Some(last) => rest.after = Some(last),
            None => return Ok((documents, rejects)),
        }
    }
}

#[derive(Default)]
struct Filled {
    page: Page,
    /// The last key read, where the range has more.
    stopped_at: Option<Key>,
}

/// Reads a range to its end, or until about twice a page is full.
async fn fill(place: &Place, range: &KeyRange, limit: u32) -> Result<Filled, StoreError> {
    let mut filled = Filled::default();
    let mut rest = range.clone();
    let (mut documents, mut bytes) = (0_usize, 0_usize);
    loop {
        let page = scan(place, &rest, limit).await?;
        filled.page.rejects.extend(page.rejects);
        documents += page.documents.len();
        bytes += page.documents.iter().map(|d| d.body.size()).sum::<usize>();
        filled.page.documents.extend(page.documents);
        let Some(last) = page.last else {
            return Ok(filled);
        };
        if range.through.as_ref() == Some(&last) {
            return Ok(filled);
        }
        if documents >= 2 * limit.max(1) as usize || bytes >= 2 * COMPARE_BYTES {
            filled.stopped_at = Some(last);
            return Ok(filled);
        }
        rest.after = Some(last);
    }
}

/// Pairs documents up by key. Both sides are in order.
fn join(source: Vec<Document>, target: Vec<Document>) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(source.len().max(target.len()));
    let (mut source, mut target) = (source.into_iter().peekable(), target.into_iter().peekable());
    loop {
        let order = match (source.peek(), target.peek()) {
            (Some(a), Some(b)) => a.key.cmp(&b.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return pairs,
        };
        pairs.push(Pair {
            source: if order.is_le() { source.next() } else { None },
            target: if order.is_ge() { target.next() } else { None },
        });
    }
}

/// The same where the order of keys is not known here.
fn match_up(source: Vec<Document>, target: Vec<Document>) -> Vec<Pair> {
    let mut there: HashMap<Key, Document> =
        target.into_iter().map(|d| (d.key.clone(), d)).collect();
    let mut pairs: Vec<Pair> = Vec::with_capacity(source.len().max(there.len()));
    for document in source {
        let target = there.remove(&document.key);
        pairs.push(Pair {
            source: Some(document),
            target,
        });
    }
    pairs.extend(there.into_values().map(|document| Pair {
        source: None,
        target: Some(document),
    }));
    pairs
}

/// Ranges that follow each other without gaps, cut at the ends of all given ones (about `parts` of them),
/// behind each other up to the greatest end, or to the end of `range` where it has one.
fn tile(range: &KeyRange, given: Vec<KeyRange>, parts: u32) -> Vec<KeyRange> {
    if given.is_empty() {
        return Vec::new();
    }
    let endless = given.iter().any(|r| r.through.is_none());
    let mut ends: Vec<Key> = given.into_iter().filter_map(|r| r.through).collect();
    ends.sort();
    ends.dedup();
    let last = match &range.through {
        Some(through) => Some(through.clone()),
        None if endless => None,
        None => ends.last().cloned(),
    };
    let step = ends.len().div_ceil(parts.max(1) as usize).max(1);
    let mut ranges = Vec::new();
    let mut after = range.after.clone();
    for end in ends.into_iter().skip(step - 1).step_by(step) {
        if after.as_ref().is_none_or(|a| *a < end) && last.as_ref().is_none_or(|l| end < *l) {
            ranges.push(KeyRange {
                after: after.replace(end.clone()),
                through: Some(end),
            });
        }
    }
    ranges.push(KeyRange {
        after,
        through: last,
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::{Body, Revision};

    #[test]
    fn ranges_follow_each_other_up_to_the_greatest_end() {
        let check =
            |through: Option<i64>, ends: &[Option<i64>], parts: u32, expect: &[Option<i64>]| {
                let range = KeyRange {
                    after: None,
                    through: through.map(Key::Int),
                };
                let given = ends.iter().map(|end| KeyRange {
                    after: None,
                    through: end.map(Key::Int),
                });
                let tiles = tile(&range, given.collect(), parts);
                let mut after = None;
                for tile in &tiles {
                    assert_eq!(tile.after, after);
                    after.clone_from(&tile.through);
                }
                let found: Vec<_> = tiles.into_iter().map(|t| t.through).collect();
                let expect: Vec<_> = expect.iter().map(|e| e.map(Key::Int)).collect();
                assert_eq!(found, expect, "{ends:?}");
            };
        check(None, &[], 4, &[]);
        check(None, &[Some(5)], 4, &[Some(5)]);
        check(None, &[Some(5), Some(9)], 4, &[Some(5), Some(9)]);
        check(None, &[Some(9), Some(5), Some(5)], 4, &[Some(5), Some(9)]);
        check(
            None,
            &[Some(1), Some(2), Some(3), Some(4)],
            2,
            &[Some(2), Some(4)],
        );
        check(None, &[Some(5), None], 4, &[Some(5), None]);
        check(
            Some(7),
            &[Some(5), Some(6)],
            4,
            &[Some(5), Some(6), Some(7)],
        );
        check(Some(7), &[Some(7)], 4, &[Some(7)]);
    }

    #[test]
    fn keys_are_paired_up() {
        let documents = |keys: &[i64]| -> Vec<Document> {
            let document = |n: &i64| Document {
                key: Key::Int(*n),
                body: Body::from_json("{}"),
                revision: Revision(Vec::new()),
            };
            keys.iter().map(document).collect()
        };
        let check = |source: &[i64], target: &[i64], expect: &str| {
            let found: Vec<String> = join(documents(source), documents(target))
                .iter()
                .map(|p| match (&p.source, &p.target) {
                    (Some(s), Some(t)) => {
                        assert_eq!(s.key, t.key);
                        format!("{}", s.key)
                    }
                    (Some(s), None) => format!("-{}", s.key),
                    (None, Some(t)) => format!("+{}", t.key),
                    (None, None) => String::new(),
                })
                .collect();
            assert_eq!(found.join(" "), expect);
        };
        check(&[], &[], "");
        check(&[1, 2, 4], &[2, 3, 4, 5], "-1 2 +3 4 +5");
        check(&[1], &[], "-1");
        check(&[], &[1], "+1");
    }
}
