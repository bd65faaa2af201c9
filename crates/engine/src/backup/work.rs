//! One page of documents becomes one chunk of the archive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use whimbrel_archive::{ArchiveError, AsOf, ChunkNote, MAX_DOCUMENT, Packed, Unfinished, pack};
use whimbrel_model::{Body, Code, DocError, Document, Draft, Key, Page, Value};

use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Work};
use crate::upgrade::reject_failure;

/// What the ledger remembers of a chunk, for the manifest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedChunk {
    pub chunk: ChunkNote,
    pub versions: BTreeMap<String, u64>,
    pub as_of: AsOf,
}

pub(super) struct BackupWork {
    archive: Unfinished,
    collection: usize,
    versions: Arc<VersionField>,
    as_of: AsOf,
}

impl BackupWork {
    pub(super) fn new(
        archive: Unfinished,
        collection: usize,
        version_field: &str,
        as_of: AsOf,
    ) -> Self {
        Self {
            archive,
            collection,
            versions: Arc::new(VersionField::new(version_field)),
            as_of,
        }
    }
}

/// A page cut into what goes into the archive and what cannot.
#[derive(Default)]
struct Cut {
    packed: Option<Packed>,
    documents: u64,
    versions: BTreeMap<String, u64>,
    failures: Vec<Failure>,
    /// Documents that are saved and waited in quarantine, perhaps.
    settled: Vec<String>,
}

#[async_trait]
impl Work for BackupWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled {
            failures: page.rejects.iter().map(reject_failure).collect(),
            ..Handled::default()
        };
        let recipients = self.archive.recipients().cloned();
        let versions = Arc::clone(&self.versions);
        let waiting = cx.waiting;
        // Compressing is computing: it must not hold up the runtime.
        let cut = tokio::task::spawn_blocking(move || {
            let (mut cut, documents) = versions.sort(page.documents, waiting);
            cut.documents = documents.len() as u64;
            if !documents.is_empty() {
                cut.packed = Some(pack(documents, recipients.as_deref())?);
            }
            Ok::<_, ArchiveError>(cut)
        })
        .await
        .map_err(|e| EngineError::Counts(format!("a compression ended abnormally ({e})")))??;
        if let Some(packed) = cut.packed {
            let saved = SavedChunk {
                chunk: self.archive.put(self.collection, packed).await?,
                versions: cut.versions,
                as_of: self.as_of.clone(),
            };
            let note = serde_json::to_value(&saved).map_err(|e| {
                EngineError::Counts(format!("a chunk cannot be written down ({e})"))
            })?;
            handled.note = Some(Box::new(note));
        }
        handled.failures.extend(cut.failures);
        handled.settled = cut.settled;
        handled.counts.written = cut.documents;
        handled.counts.quarantined = handled.failures.len() as u64;
        handled.counts.enumerated = handled.counts.written + handled.counts.quarantined;
        Ok(handled)
    }
}

/// Reads which schema version documents have.
pub(super) struct VersionField {
    name: String,
    finder: Finder<'static>,
}

impl VersionField {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            finder: Finder::new(name.as_bytes()).into_owned(),
        }
    }

    fn sort(&self, documents: Vec<Document>, waiting: bool) -> (Cut, Vec<(Key, Body)>) {
        let mut cut = Cut::default();
        let mut fit = Vec::with_capacity(documents.len());
        for Document { key, body, .. } in documents {
            if body.size() > MAX_DOCUMENT {
                let message = format!("it is larger than an archive takes ({MAX_DOCUMENT} bytes)");
                let error = DocError::new(Code::DocRefused, message);
                cut.failures.push(Failure::of(&key, None, error));
                continue;
            }
            let version = self.of(&body);
            match cut.versions.get_mut(version.as_ref()) {
                Some(count) => *count += 1,
                None => drop(cut.versions.insert(version.into_owned(), 1)),
            }
            if waiting {
                cut.settled.push(key.to_string());
            }
            fit.push((key, body));
        }
        (cut, fit)
    }

    /// `1` where there is none, `?` where it is no positive whole number or the body cannot be read.
    pub(super) fn of(&self, body: &Body) -> Cow<'static, str> {
        let found = match body {
            Body::Map(map) => map.get(&self.name).cloned(),
            Body::Json(bytes) => {
                // Without the name, and without an escape that might spell it, there is nothing to parse.
                if self.finder.find(bytes).is_none() && memchr::memchr(b'\\', bytes).is_none() {
                    return Cow::Borrowed("1");
                }
                let draft = Draft::from_json(bytes.clone());
                let found = draft.and_then(|mut d| d.get(&self.name).map(|v| v.cloned()));
                match found {
                    Ok(found) => found,
                    Err(_) => return Cow::Borrowed("?"),
                }
            }
        };
        match found {
            None | Some(Value::Int(1)) => Cow::Borrowed("1"),
            Some(Value::Int(n)) if u32::try_from(n).is_ok_and(|n| n > 0) => {
                Cow::Owned(n.to_string())
            }
            Some(_) => Cow::Borrowed("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_wherever_they_stand() {
        let field = VersionField::new("_schemaVersion");
        for (json, expect) in [
            ("{}", "1"),
            (r#"{"a":"b"}"#, "1"),
            (r#"{"_schemaVersion":3}"#, "3"),
            (r#"{"\u005fschemaVersion":3}"#, "3"),
            (r#"{"note":"_schemaVersion","a":"\n"}"#, "1"),
            (r#"{"a":{"_schemaVersion":7}}"#, "1"),
            (r#"{"_schemaVersion":"2"}"#, "?"),
            (r#"{"_schemaVersion":0}"#, "?"),
            (r#"{"_schemaVersion":"#, "?"),
        ] {
            let body = Body::from_json(json.as_bytes().to_vec());
            assert_eq!(field.of(&body), expect, "{json}");
        }
    }
}
