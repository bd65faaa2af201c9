//! One document, read as any version.

use whimbrel_model::{Body, Code, DocContext, DocError, Document, Draft, Key, Schema, Timestamp};

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
        let doc = place.fetch(key).await?;
        let failed = |error: DocError| EngineError::Document {
            key: key.to_string(),
            error: Box::new(error),
        };
        let as_stored = |stored, body| Shown {
            key: key.clone(),
            stored,
            version: stored,
            body,
            exact: true,
        };
        let Some(schema) = schema else {
            return match version {
                None => Ok(as_stored(1, doc.body)),
                Some(_) => Err(EngineError::Job {
                    code: Code::SchemaUnknownVersion,
                    message: format!("{place} has no schema, so a document has only one version"),
                }),
            };
        };
        let mut draft = Draft::from_body(doc.body.clone()).map_err(|e| failed(e.into()))?;
        let stored = schema.version_of(&mut draft).map_err(failed)?;
        match version {
            Some(to) if to != stored => {
                schema.version(to)?;
                let images = self.images(place, key).await?;
                let now = self.clock.now();
                as_version(schema, &doc, draft, (stored, to), &images, now).map_err(failed)
            }
            _ => Ok(as_stored(stored, doc.body)),
        }
    }

    async fn images(&self, place: &Place, key: &Key) -> Result<Preimages, EngineError> {
        match &self.ledger {
            Some(ledger) => Preimages::load(ledger, &place.to_string(), vec![key.clone()]).await,
            None => Ok(Preimages::default()),
        }
    }
}

fn as_version(
    schema: &Schema,
    doc: &Document,
    mut draft: Draft,
    (stored, to): (u32, u32),
    images: &Preimages,
    now: Timestamp,
) -> Result<Shown, DocError> {
    let key = &doc.key;
    let shown = |body, exact| Shown {
        key: key.clone(),
        stored,
        version: to,
        body,
        exact,
    };
    if let Some((version, body)) = images.nearest(key, doc.body.fingerprint()?, stored, to) {
        if version == to {
            return Ok(shown(body, true));
        }
        draft = Draft::from_body(body)?;
    }
    let cx = DocContext::new(key, now);
    let complements = images.complements(key, schema, &cx);
    let moved = schema.migrate(draft, to, &|v| complements.get(&v).cloned(), &cx)?;
    Ok(shown(moved.doc.into_body(), false))
}
