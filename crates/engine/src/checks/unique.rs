//! Fields that only one document may have the same values in.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Document, Key, Timestamp, Value};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Measured, Runner, Side};
use super::spool::{Spool, place_of};
use whimbrel_model::order;

pub(super) struct Unique {
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
            for (nth, fields) in self.fields.iter().enumerate() {
                let mut place = u32::try_from(nth)
                    .unwrap_or(u32::MAX)
                    .to_be_bytes()
                    .to_vec();
                let mut complete = true;
                for path in fields {
                    match doc.field(path) {
                        // As in SQL: what is not there is no duplicate of anything.
                        Ok(None | Some(Value::Null)) => complete = false,
                        Ok(Some(value)) => place_of(value, &mut place),
                        Err(wrong) => {
                            wrongs.push(wrong);
                            complete = false;
                        }
                    }
                }
                if complete {
                    let shared = place.len();
                    key_place(&doc.key, &mut place);
                    let owner = Owner {
                        key: doc.key.clone(),
                        shared,
                    };
                    self.spool.add(place, owner, |_, _| {});
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
        let mut group: Option<Group> = None;
        let mut groups = 0_u64;
        while let Some((mut place, owner)) = rows.next().await? {
            place.truncate(owner.shared);
            match &mut group {
                Some(group) if group.place == place => {
                    let nth = place
                        .first_chunk::<4>()
                        .map_or(0, |b| u32::from_be_bytes(*b));
                    let path = self.path(nth as usize);
                    if !group.told {
                        groups += 1;
                        group.told = true;
                        tell(findings, &group.first, &owner.key, &path);
                    }
                    tell(findings, &owner.key, &group.first, &path);
                }
                _ => {
                    group = Some(Group {
                        place,
                        first: owner.key,
                        told: false,
                    });
                }
            }
        }
        Ok(Measured::from([(
            "values had twice".to_owned(),
            groups.to_string(),
        )]))
    }
}

/// Documents with the same values, while they come by.
struct Group {
    place: Vec<u8>,
    first: Key,
    told: bool,
}

impl Unique {
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
