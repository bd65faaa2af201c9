//! Ranges that need not be read, because both stores say the same of them.
//!
//! Before the first chunk each store is asked once for the digests of every partition, each of them in cells by a
//! hash of the key. Where few cells differ, the documents of just those are listed with their hashes, so that
//! the differing keys are known and nothing else is read. Where many differ, the partition is read.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use whimbrel_model::{Cell, Cells, Digest, DigestLine, Digests as Sums, Key, KeyRange, StoreError};

use super::walk::SideBySide;
use crate::options::Place;

/// Cells of a partition.
const CELLS: u32 = 64;
/// Partitions that one statement computes: a bound on how long it takes.
const AT_ONCE: usize = 256;
/// Cells whose documents are listed at once: a bound on memory.
const LISTED: usize = 512;
/// A partition with more differing documents is read in order.
const WORTH_READING: usize = 200;

/// What is known of a range.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Both ends hold the same.
    Same(u64),
    /// So many documents are the same, and these keys are not.
    But(u64, Vec<Key>),
    /// It must be read.
    Nothing,
}

/// A range's bounds.
type Bounds = (Option<Key>, Option<Key>);

/// By range, what its digests said.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<HashMap<Bounds, Known>>,
}

/// Whether two collections give digests that can be compared. `end` is any key.
pub(super) async fn are_of_one_kind(
    source: &Place,
    target: &Place,
    end: Key,
) -> Result<bool, StoreError> {
    // A range behind its own end is empty: nothing is computed.
    let nothing = Cells {
        range: KeyRange {
            after: Some(end.clone()),
            through: Some(end),
        },
        cuts: Vec::new(),
        each: 1,
    };
    let one = source.store.digests(&source.collection, &nothing).await?;
    let other = target.store.digests(&target.collection, &nothing).await?;
    Ok(one.zip(other).is_some_and(|(a, b)| a.kind == b.kind))
}

impl Digests {
    /// What is known of a range that [`Digests::learn`] was given. What was begun is not known any more.
    pub fn of(&self, range: &KeyRange) -> Known {
        let name = (range.after.clone(), range.through.clone());
        let known = self.known.lock().ok().and_then(|mut k| k.remove(&name));
        known.unwrap_or(Known::Nothing)
    }

    /// Asks both ends about ranges, in the order of their keys.
    pub async fn learn(&self, both: &SideBySide, ranges: &[KeyRange]) -> Result<(), StoreError> {
        let end = ranges.iter().find_map(|range| range.through.clone());
        if let (Some(target), Some(end)) = (&both.target, end)
            && !are_of_one_kind(&both.source, target, end).await?
        {
            // Computing them would take about as long as reading both ends does.
            return Ok(());
        }
        let mut rest = ranges;
        while !rest.is_empty() {
            let follows = |pair: &[KeyRange]| pair[0].through == pair[1].after;
            let unbroken = 1 + rest.windows(2).take_while(|pair| follows(pair)).count();
            let (now, later) = rest.split_at(unbroken.min(AT_ONCE));
            if !self.learn_together(both, now).await? {
                return Ok(());
            }
            rest = later;
        }
        Ok(())
    }

    /// `false` where there is nothing to learn from these stores.
    async fn learn_together(
        &self,
        both: &SideBySide,
        ranges: &[KeyRange],
    ) -> Result<bool, StoreError> {
        let Some(asked) = Asked::new(both, ranges) else {
            return Ok(true);
        };
        let Some((ours, theirs)) = asked.sums().await? else {
            return Ok(false);
        };
        let mut known = vec![Known::Nothing; ranges.len()];
        let mut differing: HashMap<u32, Vec<Cell>> = HashMap::new();
        for (part, known) in (0..).zip(&mut known) {
            match compare(part, &ours, &theirs) {
                Said::Same(documents) => *known = Known::Same(documents),
                Said::Differs(cells) => {
                    differing.insert(part, cells);
                }
                Said::Nothing => {}
            }
        }
        let mut parts: Vec<(u32, Vec<Cell>)> = differing.into_iter().collect();
        parts.sort_by_key(|(part, cells)| (cells.len(), *part));
        let mut room = LISTED;
        parts.retain(|(_, cells)| {
            let fits = cells.len() <= room;
            room = if fits { room - cells.len() } else { 0 };
            fits
        });
        for (part, said) in asked.list(&parts, &ours).await? {
            if let Some(known) = known.get_mut(part as usize) {
                *known = said;
            }
        }
        if let Ok(mut all) = self.known.lock() {
            let names = ranges.iter().map(|r| (r.after.clone(), r.through.clone()));
            all.extend(names.zip(known));
        }
        Ok(true)
    }
}

/// What is asked of both ends.
struct Asked<'a> {
    both: &'a SideBySide,
    target: &'a Place,
    cells: Cells,
}

impl<'a> Asked<'a> {
    fn new(both: &'a SideBySide, ranges: &[KeyRange]) -> Option<Self> {
        let (first, last) = (ranges.first()?, ranges.last()?);
        let cuts = ranges[..ranges.len() - 1].iter();
        Some(Self {
            both,
            target: both.target.as_ref()?,
            cells: Cells {
                range: KeyRange {
                    after: first.after.clone(),
                    through: last.through.clone(),
                },
                cuts: cuts.filter_map(|r| r.through.clone()).collect(),
                each: CELLS,
            },
        })
    }

    async fn sums(&self) -> Result<Option<(Sums, Sums)>, StoreError> {
        let (source, target) = (&self.both.source, self.target);
        let (a, b) = futures::try_join!(
            source.store.digests(&source.collection, &self.cells),
            target.store.digests(&target.collection, &self.cells)
        )?;
        Ok(a.zip(b).filter(|(a, b)| a.kind == b.kind))
    }

    /// Finds out which keys make the cells differ.
    async fn list(
        &self,
        parts: &[(u32, Vec<Cell>)],
        ours: &Sums,
    ) -> Result<Vec<(u32, Known)>, StoreError> {
        let wanted: Vec<Cell> = parts.iter().flat_map(|(_, cells)| cells.clone()).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (source, target) = (&self.both.source, self.target);
        let (a, b) = futures::try_join!(
            source
                .store
                .digest_lines(&source.collection, &self.cells, &wanted),
            target
                .store
                .digest_lines(&target.collection, &self.cells, &wanted)
        )?;
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(Vec::new());
        };
        let (mut a, mut b) = (by_part(a), by_part(b));
        let said = parts.iter().map(|(part, cells)| {
            let listed: HashSet<&Cell> = cells.iter().collect();
            let of_part = ours.cells.range((*part, 0)..=(*part, u32::MAX));
            let same = of_part.filter(|(cell, _)| !listed.contains(cell));
            let same = same.map(|(_, digest)| digest.documents).sum();
            let lines = (a.remove(part), b.remove(part));
            let known = tell(
                same,
                lines.0.unwrap_or_default(),
                lines.1.unwrap_or_default(),
            );
            (*part, known)
        });
        Ok(said.collect())
    }
}

enum Said {
    Same(u64),
    Differs(Vec<Cell>),
    Nothing,
}

fn compare(part: u32, ours: &Sums, theirs: &Sums) -> Said {
    let of = |sums: &Sums| -> HashMap<Cell, Digest> {
        let cells = sums.cells.range((part, 0)..=(part, u32::MAX));
        cells.map(|(cell, digest)| (*cell, *digest)).collect()
    };
    let (ours, mut theirs) = (of(ours), of(theirs));
    if ours
        .values()
        .chain(theirs.values())
        .any(|d| d.unreadable > 0)
    {
        return Said::Nothing;
    }
    let documents = ours.values().map(|d| d.documents).sum();
    let mut differing: Vec<Cell> = ours
        .into_iter()
        .filter(|(cell, digest)| theirs.remove(cell).as_ref() != Some(digest))
        .map(|(cell, _)| cell)
        .collect();
    differing.extend(theirs.into_keys());
    match differing.len() {
        0 => Said::Same(documents),
        // Where most cells differ, listing them would take as long as reading.
        some if some * 2 > CELLS as usize => Said::Nothing,
        _ => Said::Differs(differing),
    }
}

fn by_part(lines: Vec<DigestLine>) -> HashMap<u32, Vec<DigestLine>> {
    let mut parts: HashMap<u32, Vec<DigestLine>> = HashMap::new();
    for line in lines {
        parts.entry(line.cell.0).or_default().push(line);
    }
    parts
}

fn tell(mut same: u64, ours: Vec<DigestLine>, theirs: Vec<DigestLine>) -> Known {
    if ours.iter().chain(&theirs).any(|line| line.hash.is_none()) {
        return Known::Nothing;
    }
    let mut there: HashMap<Key, Option<u64>> = theirs
        .into_iter()
        .map(|line| (line.key, line.hash))
        .collect();
    let mut keys = Vec::new();
    for line in ours {
        if there.remove(&line.key) == Some(line.hash) {
            same += 1;
        } else {
            keys.push(line.key);
        }
    }
    keys.extend(there.into_keys());
    keys.sort();
    match keys.len() {
        0 => Known::Same(same),
        some if some > WORTH_READING => Known::Nothing,
        _ => Known::But(same, keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use whimbrel_model::store::Description;
    use whimbrel_model::{Document, KeyKind, Limits, Page, Store, Write, WriteOutcome};

    /// Counts the digests of ranges that are not empty; gives no documents.
    #[derive(Debug)]
    struct OfKind(&'static str, AtomicU32);

    const NOTHING_ELSE: &str = "only digests are asked for";

    #[async_trait]
    impl Store for OfKind {
        fn name(&self) -> &str {
            self.0
        }
        fn limits(&self) -> Limits {
            panic!("{NOTHING_ELSE}")
        }
        async fn collections(&self) -> Result<Vec<String>, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn describe(&self, _: &str) -> Result<Option<Description>, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn ensure(&self, _: &str, _: &KeyKind) -> Result<(), StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn count(&self, _: &str, _: &KeyRange) -> Result<u64, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn partitions(
            &self,
            _: &str,
            _: &KeyRange,
            _: u32,
        ) -> Result<Vec<KeyRange>, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn scan(&self, _: &str, _: &KeyRange, _: u32, _: usize) -> Result<Page, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn get(&self, _: &str, _: &[Key]) -> Result<Vec<Option<Document>>, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn write(&self, _: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
            panic!("{NOTHING_ELSE}")
        }
        async fn digests(&self, _: &str, asked: &Cells) -> Result<Option<Sums>, StoreError> {
            let empty = asked.range.after == asked.range.through;
            self.1.fetch_add(u32::from(!empty), Ordering::Relaxed);
            Ok(Some(Sums {
                kind: self.0.to_owned(),
                ..sums(&[])
            }))
        }
    }

    /// Computing digests reads everything.
    #[tokio::test]
    async fn digests_are_computed_only_where_they_can_be_compared() {
        for (target, computed) in [("a", 1), ("b", 0)] {
            let stores = ["a", target].map(|kind| Arc::new(OfKind(kind, AtomicU32::new(0))));
            let [source, target] = stores.clone().map(|store| Place {
                store,
                store_name: "s".into(),
                collection: "docs".into(),
            });
            let both = SideBySide {
                sorted: true,
                source,
                target: Some(target),
            };
            let range = KeyRange {
                after: None,
                through: Some(Key::Int(9)),
            };
            let digests = Digests::default();
            digests
                .learn(&both, std::slice::from_ref(&range))
                .await
                .unwrap();
            assert!(
                stores
                    .iter()
                    .all(|s| s.1.load(Ordering::Relaxed) == computed)
            );
            let same = matches!(digests.of(&range), Known::Same(0));
            assert_eq!(same, computed == 1);
        }
    }

    fn sums(cells: &[(u32, u64, u64)]) -> Sums {
        let digest = |documents, hash| Digest {
            documents,
            unreadable: 0,
            hash,
        };
        Sums {
            kind: String::new(),
            cells: cells
                .iter()
                .map(|(c, n, h)| ((3, *c), digest(*n, *h)))
                .collect(),
        }
    }

    #[test]
    fn cells_are_compared() {
        let check = |ours: &[(u32, u64, u64)], theirs: &[(u32, u64, u64)], expect: &str| {
            let said = match compare(3, &sums(ours), &sums(theirs)) {
                Said::Same(documents) => format!("same {documents}"),
                Said::Differs(mut cells) => {
                    cells.sort_unstable();
                    format!("{cells:?}")
                }
                Said::Nothing => "nothing".to_owned(),
            };
            assert_eq!(said, expect);
        };
        check(&[], &[], "same 0");
        check(&[(0, 2, 7), (5, 1, 9)], &[(0, 2, 7), (5, 1, 9)], "same 3");
        check(&[(0, 2, 7), (5, 1, 9)], &[(0, 2, 7)], "[(3, 5)]");
        check(&[(0, 2, 7)], &[(0, 2, 7), (6, 1, 1)], "[(3, 6)]");
        check(&[(0, 2, 7)], &[(0, 3, 7)], "[(3, 0)]");
        let all: Vec<(u32, u64, u64)> = (0..CELLS).map(|c| (c, 1, 1)).collect();
        check(&all, &[], "nothing");
    }

    #[test]
    fn lines_tell_which_keys_differ() {
        let lines = |keys: &[(i64, u64)]| -> Vec<DigestLine> {
            let line = |(key, hash): &(i64, u64)| DigestLine {
                cell: (0, 0),
                key: Key::Int(*key),
                hash: Some(*hash),
            };
            keys.iter().map(line).collect()
        };
        let known = tell(
            10,
            lines(&[(1, 5), (2, 6), (3, 7)]),
            lines(&[(4, 8), (3, 0), (1, 5)]),
        );
        let Known::But(same, keys) = known else {
            panic!("{known:?}");
        };
        assert_eq!(
            (same, keys),
            (11, vec![Key::Int(2), Key::Int(3), Key::Int(4)])
        );
        assert!(matches!(
            tell(10, lines(&[(1, 5)]), lines(&[(1, 5)])),
            Known::Same(11)
        ));
    }
}
