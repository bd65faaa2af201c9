//! Writing a batch: judge the guards by the index, append the lines, then bring the index up to them.

use super::index::{self, Place};
use super::log::{AppendError, Log, Undo};
use super::{Collection, DOCUMENT_BYTES, Files, blocking, line};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use whimbrel_model::{
    Body, Code, Guard, Key, Refusal, StoreError, StoreErrorKind as Kind, Write, WriteOutcome,
};

/// What a batch does to one file.
struct Part {
    collection: Arc<Collection>,
    log: OwnedMutexGuard<Log>,
    /// Their places in the batch.
    members: Vec<usize>,
    lines: Vec<u8>,
    /// What the index will say; `None` for a deletion.
    changes: Vec<(Key, Option<Place>)>,
    /// Lines that the new ones make void, themselves included where they are deletions.
    void: u64,
}

pub(super) async fn write(
    files: &Files,
    writes: &[Write],
) -> Result<Vec<WriteOutcome>, StoreError> {
    let mut parts = take(files, writes).await?;
    let mut outcomes = vec![WriteOutcome::Lost; writes.len()];
    for part in &mut parts {
        judge(files, writes, part, &mut outcomes).await?;
    }
    parts.retain(|part| !part.lines.is_empty());
    let (mut parts, appended) = blocking(files, move || {
        let appended = append(&mut parts);
        (parts, appended)
    })
    .await?;
    appended.map_err(|error| failed(files, error))?;
    for part in &mut parts {
        settle(files, part).await?;
    }
    Ok(outcomes)
}

/// Locks the files in the order of their names, so that two batches never wait for each other.
async fn take(files: &Files, writes: &[Write]) -> Result<Vec<Part>, StoreError> {
    let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, write) in writes.iter().enumerate() {
        members
            .entry(files.file_name(&write.collection).map_err(|_| {
                let message = format!("there is no file for collection {:?}", write.collection);
                files.terminal(Code::StoreMissing, message)
            })?)
            .or_default()
            .push(i);
    }
    let mut parts = Vec::with_capacity(members.len());
    for members in members.into_values() {
        let collection = files.collection(&writes[members[0]].collection).await?;
        let log = collection.log.clone().lock_owned().await;
        if log.broken {
            return Err(files.terminal(
                Code::StoreFailed,
                "an earlier write failed in its middle; open the store again",
            ));
        }
        parts.push(Part {
            collection,
            log,
            members,
            lines: Vec::new(),
            changes: Vec::new(),
            void: 0,
        });
    }
    Ok(parts)
}

async fn judge(
    files: &Files,
    writes: &[Write],
    part: &mut Part,
    outcomes: &mut [WriteOutcome],
) -> Result<(), StoreError> {
    let keys: Vec<Key> = part
        .members
        .iter()
        .map(|&i| writes[i].key.clone())
        .collect();
    let index = part.collection.index.clone();
    let current = index
        .get(index::TABLE, &keys)
        .await
        .map_err(|e| files.own(e))?;
    let start = part.log.next_at();
    for (&i, current) in part.members.iter().zip(current) {
        let write = &writes[i];
        let holds = match &write.guard {
            Guard::Any => true,
            Guard::Absent => current.is_none(),
            Guard::Unchanged(revision) => current.as_ref().is_some_and(|d| d.revision == *revision),
        };
        let at = part.lines.len();
        let place = match &write.to {
            Some(body) => match add(&part.collection, &write.key, body, &mut part.lines) {
                Ok(()) if !holds => None,
                Ok(()) => Some(Place::new(
                    start + at as u64,
                    &part.lines[at..part.lines.len() - 1],
                )),
                Err(message) => {
                    outcomes[i] = WriteOutcome::Refused(Refusal { message });
                    continue;
                }
            },
            None => None,
        };
        if !holds {
            part.lines.truncate(at);
            continue;
        }
        outcomes[i] = WriteOutcome::Applied;
        part.void += u64::from(current.is_some());
        if place.is_none() {
            if current.is_none() {
                continue;
            }
            line::write_deletion(&write.key, &part.collection.id, &mut part.lines);
            part.void += 1;
        }
        part.changes.push((write.key.clone(), place));
    }
    Ok(())
}

fn add(collection: &Collection, key: &Key, body: &Body, lines: &mut Vec<u8>) -> Result<(), String> {
    let at = lines.len();
    if body.size() <= DOCUMENT_BYTES {
        line::write(key, body, &collection.id, collection.plain, lines)?;
        if lines.len() - at <= DOCUMENT_BYTES {
            return Ok(());
        }
    }
    lines.truncate(at);
    Err(format!(
        "the document is larger than {} MiB",
        DOCUMENT_BYTES >> 20
    ))
}

/// Appends to every file, or to none.
fn append(parts: &mut [Part]) -> Result<(), AppendError> {
    let mut done: Vec<Undo> = Vec::with_capacity(parts.len());
    for i in 0..parts.len() {
        let part = &mut parts[i];
        match part.log.append(&part.collection.lines, &part.lines) {
            Ok(undo) => done.push(undo),
            Err(error) => {
                for (part, undo) in parts.iter_mut().zip(&done) {
                    part.log.undo(undo)?;
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn failed(files: &Files, error: AppendError) -> StoreError {
    match error {
        AppendError::Nothing(error) => files.io("append to the file", error),
        AppendError::Unknown(error) => StoreError::new(
            Kind::Unknown,
            Code::StoreUnknown,
            &files.name,
            "the disk failed while lines were appended; open the store again to see which are there",
        )
        .with_source(error),
        AppendError::Changed => files.terminal(
            Code::StoreFailed,
            "another process changed the file; open the store again",
        ),
    }
}

async fn settle(files: &Files, part: &mut Part) -> Result<(), StoreError> {
    let changes = std::mem::take(&mut part.changes);
    let writes: Vec<Write> = changes
        .iter()
        .map(|(key, place)| Write {
            collection: index::TABLE.to_owned(),
            key: key.clone(),
            to: place.map(|p| Body::from_json(p.to_json())),
            guard: Guard::Any,
        })
        .collect();
    let written = part.collection.index.write(&writes).await;
    let whole = matches!(&written, Ok(all) if all.iter().all(|o| *o == WriteOutcome::Applied));
    if !whole {
        part.log.broken = true;
        let message = "the lines were appended, but not the index of them; open the store again";
        let error = StoreError::new(Kind::Unknown, Code::StoreUnknown, &files.name, message);
        return Err(match written {
            Err(source) => error.with_source(source),
            Ok(_) => error,
        });
    }
    part.log.loaded.void += part.void;
    for (key, place) in changes {
        match place {
            Some(_) => part.log.loaded.saw(key),
            None => part.log.loaded.ordered = false,
        }
    }
    Ok(())
}
