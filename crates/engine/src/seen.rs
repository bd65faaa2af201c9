//! What a copy's target has of the units that are to be delivered.

use std::collections::{BTreeMap, HashMap, HashSet};

use whimbrel_model::{Body, Code, Document, Guard, Key, Write};

use crate::deliver::Deliverer;
use crate::derive::{Output, Unit};
use crate::error::EngineError;
use crate::provenance::{PROVENANCE, Provenance, Spot, read_provenance};

/// What the target has.
#[derive(Default)]
pub(crate) struct Seen {
    pub documents: HashMap<Spot, Document>,
    /// Outputs that their collection would give back in another form.
    pub held: HashMap<Spot, Body>,
    pub provenance: HashMap<String, Provenance>,
}

impl Seen {
    /// The document that a planned write changes or removes.
    pub(crate) fn replaced_by(&self, write: &Write) -> Option<Body> {
        if write.guard == Guard::Absent {
            return None;
        }
        let found = if write.collection == PROVENANCE {
            let record = self.provenance.get(&write.key.to_string());
            record.map(|record| &record.document)
        } else {
            let spot = (write.collection.clone(), write.key.clone());
            self.documents.get(&spot)
        };
        found.map(|doc| doc.body.clone())
    }

    fn remember(&mut self, name: &Key, document: Document) -> Result<(), EngineError> {
        let spots = read_provenance(&document.body).ok_or_else(|| EngineError::Job {
            code: Code::DocMalformed,
            message: format!(
                "{PROVENANCE} document {name} is damaged; nothing of its source was written"
            ),
        })?;
        self.provenance
            .insert(name.to_string(), Provenance { document, spots });
        Ok(())
    }
}

impl Deliverer {
    /// Reads what the target has of the units: their provenance, and every document that it or the unit
    /// names.
    pub(crate) async fn look(&self, units: &[Unit]) -> Result<Seen, EngineError> {
        let names: Vec<Key> = units
            .iter()
            .filter_map(|u| u.provenance.as_ref())
            .map(|n| Key::text(n.clone()))
            .collect();
        let mut seen = Seen::default();
        if !names.is_empty() {
            for (name, found) in names
                .iter()
                .zip(self.target.store.get(PROVENANCE, &names).await?)
            {
                if let Some(doc) = found {
                    seen.remember(name, doc)?;
                }
            }
        }
        let mut wanted: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        let mut asked: HashSet<Spot> = HashSet::new();
        let own = units
            .iter()
            .flat_map(|u| u.outputs.iter().map(|o| self.spot_of(o)));
        let former = seen
            .provenance
            .values()
            .flat_map(|p| p.spots.iter().cloned());
        for (collection, key) in own.chain(former) {
            if asked.insert((collection.clone(), key.clone())) {
                wanted.entry(collection).or_default().push(key);
            }
        }
        self.see_as_held(units, &mut seen).await?;
        for (collection, keys) in wanted {
            for slice in keys.chunks(self.target.store.limits().batch_writes as usize) {
                let found = self.target.store.get(&collection, slice).await?;
                for (key, doc) in slice.iter().zip(found) {
                    if let Some(doc) = doc {
                        seen.documents
                            .insert((collection.clone(), key.clone()), doc);
                    }
                }
            }
        }
        Ok(seen)
    }

    /// What the target's collections would make of the outputs: typed columns and plain JSON give a
    /// document back in another form than it was written in.
    async fn see_as_held(&self, units: &[Unit], seen: &mut Seen) -> Result<(), EngineError> {
        let mut outputs: BTreeMap<&str, Vec<&Output>> = BTreeMap::new();
        for output in units.iter().flat_map(|u| &u.outputs) {
            outputs
                .entry(self.collection_of(output))
                .or_default()
                .push(output);
        }
        for (collection, outputs) in outputs {
            let keys: Vec<Key> = outputs.iter().map(|o| o.key.clone()).collect();
            let bodies = outputs.iter().map(|o| o.body.clone()).collect();
            let held = self.target.store.held(collection, &keys, bodies).await?;
            for (output, body) in outputs.into_iter().zip(held) {
                let same =
                    matches!((&output.body, &body), (Body::Json(a), Body::Json(b)) if a == b);
                if !same {
                    seen.held.insert(self.spot_of(output), body);
                }
            }
        }
        Ok(())
    }
}
