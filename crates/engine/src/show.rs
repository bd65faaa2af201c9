//! One document, read as any version.

use whimbrel_model::{Body, Code, DocContext, Draft, Key, Schema};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::Place;
use crate::preimage::Preimages;

/// A document as a chosen version sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub key: Key,
    /// The version it is stored as.
    pub stored: u32,
    /// The version it is shown as.
    pub version: u32,
    pub body: Body,
    /// Whether it is the exact document that was stored at that version, not a computed one.
    pub exact: bool,
}

impl Engine {
    /// Reads one document as `version` (as it is stored, where `None`), without writing anything.
    ///
    /// # Errors
    /// There is no such document, or it cannot be brought to that version.
    pub async fn show(
        &self,
        place: &Place,
        schema: Option<&Schema>,
        key: &Key,
        version: Option<u32>,
    ) -> Result<Shown, EngineError> {
        let found = place
            .store
            .get(&place.collection, std::slice::from_ref(key))
            .await?;
        let Some(doc) = found.into_iter().flatten().next() else {
            return Err(EngineError::NoDocument {
                key: key.to_string(),
                place: place.to_string(),
            });
        };
        let failed = |error| EngineError::Document {
            key: key.to_string(),
            error: Box::new(error),
        };
        let Some(schema) = schema else {
            return match version {
                None => Ok(Shown {
                    key: doc.key,
                    stored: 1,
                    version: 1,
                    body: doc.body,
                    exact: true,
                }),
                Some(_) => Err(EngineError::Job {
                    code: Code::SchemaUnknownVersion,
                    message: format!("{place} has no schema, so a document has only one version"),
                }),
            };
        };
        let mut draft = Draft::from_body(doc.body.clone()).map_err(|e| failed(e.into()))?;
        let stored = schema.version_of(&mut draft).map_err(failed)?;
        let to = version.unwrap_or(stored);
        if to == stored {
            return Ok(Shown {
                key: doc.key,
                stored,
                version: to,
                body: doc.body,
                exact: true,
            });
        }
        schema.version(to)?;
        let images = match &self.ledger {
            Some(ledger) => Preimages::load(ledger, &place.to_string(), vec![key.clone()]).await?,
            None => Preimages::default(),
        };
        let print = doc.body.fingerprint().map_err(|e| failed(e.into()))?;
        if let Some((version, body)) = images.nearest(key, print, stored, to) {
            if version == to {
                return Ok(Shown {
                    key: doc.key,
                    stored,
                    version: to,
                    body,
                    exact: true,
                });
            }
            draft = Draft::from_body(body).map_err(|e| failed(e.into()))?;
        }
        let cx = DocContext::new(key, self.clock.now());
        let complements = images.complements(key, schema, &cx);
        let moved = schema
            .migrate(draft, to, &|v| complements.get(&v).cloned(), &cx)
            .map_err(failed)?;
        Ok(Shown {
            key: doc.key,
            stored,
            version: to,
            body: moved.doc.into_body(),
            exact: false,
        })
    }
}
