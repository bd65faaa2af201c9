//! Fields that only one document may have the same values in.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Document, Draft, Key, Timestamp, Value, order};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Doc, Measured, Runner, Side};
use super::spool::{Spool, place_of};
use crate::options::Place;
use crate::patience::retry_store;

/// Documents read again at a time.
const CONFIRMED: usize = 200;

pub(super) struct Unique {
    pub own: Place,
    pub patience: Duration,
    pub fields: Vec<Vec<FieldPath>>,
    pub spool: Spool<Owner>,
}

/// A document and how much of its place is the fields' values.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Owner {
    key: Key,
    shared: usize,
}

#[async_trait]
impl Runner for Unique {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    fn look(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        findings: &mut Findings,
    ) {
        docs.each(findings, |doc| {
            let mut wrongs = Vec::new();
            for nth in 0..self.fields.len() {
                match self.place(nth, doc) {
                    Ok(None) => {}
                    Ok(Some(mut place)) => {
                        let shared = place.len();
                        key_place(&doc.key, &mut place);
                        let owner = Owner {
                            key: doc.key.clone(),
                            shared,
                        };
                        self.spool.add(place, owner, |_, _| {});
                    }
                    Err(wrong) => wrongs.push(wrong),
                }
            }
            wrongs
        });
    }

    async fn take(
        &self,
        _side: Side,
        _docs: &mut Chosen<'_>,
        _findings: &mut Findings,
    ) -> Result<(), Impossible> {
        self.spool.relieve().await
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        let mut rows = self.spool.sorted().await?;
        let mut telling = Telling::default();
        // The last row, until it is known whether the next one has the same place.
        let mut held: Option<(Vec<u8>, Key, bool)> = None;
        let mut suspects: Vec<(Vec<u8>, Key)> = Vec::new();
        while let Some((mut place, owner)) = rows.next().await? {
            place.truncate(owner.shared);
            let again = held.as_ref().is_some_and(|(last, ..)| *last == place);
            if let Some((last, key, twice)) = held.take()
                && (again || twice)
            {
                suspects.push((last, key));
            }
            held = Some((place, owner.key, again));
            if suspects.len() >= CONFIRMED {
                self.confirm(&mut suspects, &mut telling, findings).await?;
            }
        }
        suspects.extend(held.and_then(|(place, key, twice)| twice.then_some((place, key))));
        self.confirm(&mut suspects, &mut telling, findings).await?;
        Ok(Measured::from([(
            "values had twice".to_owned(),
            telling.groups.to_string(),
        )]))
    }
}

/// The group that is being told of.
#[derive(Default)]
struct Telling {
    place: Vec<u8>,
    first: Option<Key>,
    told: bool,
    groups: u64,
}

impl Unique {
    /// Where the fields of one combination put the document; `None` where one of them has no value.
    fn place(&self, nth: usize, doc: &mut Doc) -> Result<Option<Vec<u8>>, Wrong> {
        let number = u32::try_from(nth).unwrap_or(u32::MAX);
        let mut place = number.to_be_bytes().to_vec();
        for path in self.fields.get(nth).into_iter().flatten() {
            match doc.field(path)? {
                // As in SQL: what is not there is no duplicate of anything.
                None | Some(Value::Null) => return Ok(None),
                Some(value) => place_of(value, &mut place),
            }
        }
        Ok(Some(place))
    }

    /// Reads the suspects again: one that was written meanwhile may have been seen with a value that it no
    /// longer has. Those that still have it are told of, group by group.
    async fn confirm(
        &self,
        suspects: &mut Vec<(Vec<u8>, Key)>,
        telling: &mut Telling,
        findings: &mut Findings,
    ) -> Result<(), Impossible> {
        let suspects = std::mem::take(suspects);
        // Several combinations may suspect the same document, and a store is asked for each key once.
        let mut keys: Vec<Key> = suspects.iter().map(|(_, key)| key.clone()).collect();
        keys.sort();
        keys.dedup();
        let (store, name) = (&self.own.store, &self.own.collection);
        let found = retry_store(self.patience, || store.get(name, &keys)).await?;
        let mut now: BTreeMap<Key, Doc> = BTreeMap::new();
        for Document { key, body, .. } in found.into_iter().flatten() {
            if let Ok(draft) = Draft::from_body(body) {
                now.insert(key.clone(), Doc { key, draft });
            }
        }
        for (place, key) in suspects {
            let nth = place
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_be_bytes(*b)) as usize;
            let still = now.get_mut(&key).map(|doc| self.place(nth, doc));
            if !matches!(still, Some(Ok(Some(there))) if there == place) {
                continue;
            }
            if telling.place != place {
                telling.place = place;
                telling.first = None;
                telling.told = false;
            }
            let Some(first) = &telling.first else {
                telling.first = Some(key);
                continue;
            };
            let path = self.path(nth);
            if !telling.told {
                telling.told = true;
                telling.groups += 1;
                tell(findings, first, &key, &path);
            }
            tell(findings, &key, first, &path);
        }
        Ok(())
    }

    fn path(&self, nth: usize) -> String {
        let fields = self.fields.get(nth).into_iter().flatten();
        fields
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn tell(findings: &mut Findings, key: &Key, other: &Key, path: &str) {
    let message = format!("document {other} has the same");
    findings.document(Some(key), None, vec![Wrong::at(path, message)]);
}

/// Puts documents in the order of their keys.
pub(super) fn key_place(key: &Key, place: &mut Vec<u8>) {
    match key {
        Key::Int(n) => order::encode(&Value::Int(*n), place),
        other => order::encode(&Value::String(other.to_string()), place),
    }
}
