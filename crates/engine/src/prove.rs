//! Reads an archive back, all of it, before anybody relies on it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use whimbrel_archive::{Archive, ChunkNote};
use whimbrel_model::{Counts, Event};

use crate::engine::Engine;
use crate::error::EngineError;

/// Chunks read at once: each takes a thread and some 6 MB.
const AT_ONCE: usize = 2;

/// What reading an archive back has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub archive: String,
    pub chunks: u64,
    /// Counted in the chunks themselves, where they could be opened; else as the manifest says.
    pub documents: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// Whether documents were decompressed and counted. Otherwise the chunks are encrypted to others, and
    /// only their hashes were checked.
    pub opened: bool,
    /// Who signed the manifest that the hashes were compared with.
    pub signed_by: Option<String>,
}

impl Engine {
    /// Reads every chunk of the archive back, compares its hash, decompresses it and counts its documents.
    /// Writes nothing and needs no ledger.
    ///
    /// # Errors
    /// Anything is not as the manifest says, or the vault cannot be read.
    pub async fn prove(&self, archive: &Archive) -> Result<Proof, EngineError> {
        let all: Vec<usize> = (0..archive.manifest().collections.len()).collect();
        self.prove_parts(archive, &all).await
    }

    /// The same for some of its collections, by their place in the manifest.
    pub(crate) async fn prove_parts(
        &self,
        archive: &Archive,
        parts: &[usize],
    ) -> Result<Proof, EngineError> {
        // Owned: futures made from borrowed notes are `Send` for some lifetimes only.
        let chunks: Vec<ChunkNote> = parts
            .iter()
            .filter_map(|at| archive.manifest().collections.get(*at))
            .flat_map(|part| &part.chunks)
            .cloned()
            .collect();
        let expected = chunks.iter().map(|c| c.documents).sum();
        let progress = Progress::start(self, archive, expected);
        let mut proof = Proof {
            archive: archive.shown(),
            chunks: 0,
            documents: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            opened: archive.opens(),
            signed_by: archive.signed_by().map(|key| key.to_string()),
        };
        let mut proved = futures::stream::iter(chunks)
            .map(|note| prove_chunk(archive.clone(), note))
            .buffer_unordered(AT_ONCE);
        while let Some(note) = proved.try_next().await? {
            proof.chunks += 1;
            proof.documents += note.documents;
            proof.raw_bytes += note.raw_bytes;
            proof.stored_bytes += note.stored_bytes;
            progress.step(note.documents, proof.documents);
            if self.stop.load(Ordering::SeqCst) {
                return Err(EngineError::Interrupted);
            }
        }
        progress.end(proof.documents);
        Ok(proof)
    }
}

async fn prove_chunk(archive: Archive, note: ChunkNote) -> Result<ChunkNote, EngineError> {
    let stored = archive.fetch(&note).await?;
    tokio::task::spawn_blocking(move || {
        match archive.opens() {
            true => drop(archive.documents(&stored, &note)?),
            false => archive.check(&stored, &note)?,
        }
        Ok(note)
    })
    .await
    .map_err(|e| EngineError::Counts(format!("reading a chunk ended abnormally ({e})")))?
}

/// Tells how far a proof is, as runs do. It leaves no trace, so it has no run of its own.
struct Progress<'a> {
    engine: &'a Engine,
    begun: Instant,
}

const RUN: &str = "proof";

impl<'a> Progress<'a> {
    fn start(engine: &'a Engine, archive: &Archive, expected: u64) -> Self {
        engine.send(&Event::Start {
            run: RUN.to_owned(),
            title: format!("read back {}", archive.shown()),
            resumed: false,
            done: Counts::default(),
            expected: Some(expected),
            partitions: 1,
            dry_run: false,
        });
        Self {
            engine,
            begun: Instant::now(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&self, documents: u64, all: u64) {
        self.engine.send(&Event::BatchComplete {
            run: RUN.to_owned(),
            partition: 0,
            counts: seen(documents),
            totals: seen(all),
            elapsed_ms: self.elapsed_ms(),
        });
    }

    fn end(&self, all: u64) {
        self.engine.send(&Event::Complete {
            run: RUN.to_owned(),
            totals: seen(all),
            elapsed_ms: self.elapsed_ms(),
            dry_run: false,
        });
    }
}

fn seen(documents: u64) -> Counts {
    Counts {
        enumerated: documents,
        unchanged: documents,
        ..Counts::default()
    }
}
