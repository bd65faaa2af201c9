//! Writing: one Commit a batch, so that all of it happens or nothing.
//!
//! A guard is a precondition, and a Commit with one that does not hold fails as a whole, without a word on
//! which it was. So the guards are looked at, those that are lost are taken out, and the others are
//! committed anew under theirs: whoever wrote in between is noticed again. A document that the server does not take is
//! found in the same way, by commits that cannot happen.

use super::calls::{Client, pauses, with};
use super::error::{commit_error, is_settled, unwritten_error};
use super::names::Collection;
use super::{FirestoreStore, NO_DOCUMENT, fit, revision};
use prost::Message as _;
use std::collections::{BTreeSet, HashMap};
use tonic::metadata::MetadataMap;
use tonic::{Code as Rpc, Status};
use whimbrel_firestore::v1::{self, CommitRequest, Precondition, precondition, write};
use whimbrel_model::{Guard, Refusal, StoreError, Write, WriteOutcome};

/// Bytes of a request: Google takes 10 MiB.
const REQUEST_BYTES: usize = 9 << 20;

/// A write that may be sent.
struct Ready<'a> {
    /// Its place in the batch.
    index: usize,
    path: String,
    guard: &'a Guard,
    write: v1::Write,
}

/// What became of the batch's writes.
type Outcomes = Vec<Option<WriteOutcome>>;

impl FirestoreStore {
    pub(super) async fn write_all(
        &self,
        collections: &HashMap<&str, Collection>,
        writes: &[Write],
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        let mut outcomes: Outcomes = vec![None; writes.len()];
        let mut open: Vec<Ready> = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match self.prepare(collections, index, write) {
                Ok(ready) => open.push(ready),
                Err(outcome) => outcomes[index] = Some(outcome),
            }
        }
        let bytes: usize = open.iter().map(|one| one.write.encoded_len() + 8).sum();
        if bytes > REQUEST_BYTES {
            let message = format!(
                "writing: a batch of {} documents takes {bytes} bytes, and a commit at most {REQUEST_BYTES}; nothing was \
                 written; smaller batches (--batch) will do",
                open.len()
            );
            return Err(self.failed(message));
        }
        self.commit(open, &mut outcomes).await?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(WriteOutcome::Lost))
            .collect())
    }

    /// The write as it is sent, or what becomes of it without.
    fn prepare<'a>(
        &self,
        collections: &HashMap<&str, Collection>,
        index: usize,
        write: &'a Write,
    ) -> Result<Ready<'a>, WriteOutcome> {
        let refused = |message| WriteOutcome::Refused(Refusal { message });
        let database = self.calls.upstream.database();
        let path = collections
            .get(write.collection.as_str())
            .ok_or_else(|| "Firestore can have no such collection".to_owned())
            .and_then(|collection| collection.path_of(&write.key));
        let path = match (path, &write.to, &write.guard) {
            (Ok(path), _, _) => path,
            // No document is there, and none shall be.
            (Err(_), None, Guard::Any | Guard::Absent) => return Err(WriteOutcome::Applied),
            (Err(_), None, Guard::Unchanged(_)) => return Err(WriteOutcome::Lost),
            (Err(why), Some(_), _) => return Err(refused(why)),
        };
        let name = database.document(&path);
        let operation = match &write.to {
            None => write::Operation::Delete(name),
            Some(body) => {
                let map = body.map().map_err(|error| refused(error.to_string()))?;
                write::Operation::Update(v1::Document {
                    name,
                    fields: fit::document(&path, &map, database).map_err(refused)?,
                    ..v1::Document::default()
                })
            }
        };
        let condition = match &write.guard {
            Guard::Any => None,
            Guard::Absent => Some(precondition::ConditionType::Exists(false)),
            // A revision of another store's is none that a document here could still have.
            Guard::Unchanged(revision) => Some(precondition::ConditionType::UpdateTime(
                revision::time(revision).ok_or(WriteOutcome::Lost)?,
            )),
        };
        let ready = v1::Write {
            operation: Some(operation),
            current_document: condition.map(|condition| Precondition {
                condition_type: Some(condition),
            }),
            ..v1::Write::default()
        };
        let bytes = ready.encoded_len();
        if bytes + 8 > REQUEST_BYTES {
            return Err(refused(format!(
                "it takes {bytes} bytes in a request, and a commit at most {REQUEST_BYTES}"
            )));
        }
        Ok(Ready {
            index,
            path,
            guard: &write.guard,
            write: ready,
        })
    }

    /// Commits until each write has its outcome: all that are left at once, or none of them. Each round without progress
    /// waits longer, and there are only a few.
    async fn commit(
        &self,
        mut open: Vec<Ready<'_>>,
        outcomes: &mut Outcomes,
    ) -> Result<(), StoreError> {
        let mut pauses = pauses();
        while !open.is_empty() {
            let Err(status) = self.send(&open).await? else {
                for one in &open {
                    outcomes[one.index] = Some(WriteOutcome::Applied);
                }
                return Ok(());
            };
            let failed = || commit_error(self.calls.name(), &status);
            if !is_settled(&status) {
                return Err(failed());
            }
            match status.code() {
                // The server is busy: it is safe to send the same again.
                Rpc::ResourceExhausted | Rpc::Aborted => {}
                Rpc::FailedPrecondition
                | Rpc::AlreadyExists
                | Rpc::NotFound
                | Rpc::InvalidArgument => {
                    let mut out = self.lost(&open).await?;
                    for index in &out {
                        outcomes[*index] = Some(WriteOutcome::Lost);
                    }
                    if out.is_empty() && status.code() == Rpc::InvalidArgument {
                        out = self.not_taken(&open).await?;
                        let message = refusal(&status);
                        for index in &out {
                            let message = message.clone();
                            outcomes[*index] = Some(WriteOutcome::Refused(Refusal { message }));
                        }
                        if out.is_empty() {
                            return Err(self.failed(format!(
                                "writing: {message}, and not which of {}; nothing was written; smaller batches (--batch) \
                                 single it out",
                                open.len()
                            )));
                        }
                    }
                    if !out.is_empty() {
                        open.retain(|one| !out.contains(&one.index));
                        continue;
                    }
                    if open.iter().all(|one| *one.guard == Guard::Any) {
                        // No guard of ours is what it minds.
                        return Err(failed());
                    }
                }
                _ => return Err(failed()),
            }
            match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(failed()),
            }
        }
        Ok(())
    }

    async fn send(&self, open: &[Ready<'_>]) -> Result<Result<(), Status>, StoreError> {
        if let Some(ramp) = &self.shared.ramp {
            ramp.pass(open.len()).await;
        }
        self.calls
            .once(|client, metadata| commit(client, metadata, self.request(open)))
            .await
    }

    fn request(&self, open: &[Ready<'_>]) -> CommitRequest {
        CommitRequest {
            database: self.calls.upstream.database().to_string(),
            writes: open.iter().map(|one| one.write.clone()).collect(),
            ..CommitRequest::default()
        }
    }

    /// Whose guards do not hold now.
    async fn lost(&self, open: &[Ready<'_>]) -> Result<BTreeSet<usize>, StoreError> {
        let guarded = || open.iter().filter(|one| *one.guard != Guard::Any);
        let paths = guarded().map(|one| one.path.as_str()).collect();
        let found = self.by_path(paths, true).await?;
        let holds = |one: &&Ready<'_>| match (one.guard, found.get(&one.path)) {
            (Guard::Any, _) | (Guard::Absent, None) => true,
            (Guard::Unchanged(revision), Some(there)) => revision::of(there) == *revision,
            (Guard::Absent, Some(_)) | (Guard::Unchanged(_), None) => false,
        };
        Ok(guarded()
            .filter(|one| !holds(one))
            .map(|one| one.index)
            .collect())
    }

    /// The server minds a document without saying which. Halves are sent again and again, down to the ones at fault, each
    /// with a guard that never holds: so nothing is written. None, where the server looks at guards first.
    async fn not_taken(&self, open: &[Ready<'_>]) -> Result<BTreeSet<usize>, StoreError> {
        let mut found = BTreeSet::new();
        if let [only] = open {
            found.insert(only.index);
            return Ok(found);
        }
        let middle = open.len() / 2;
        let mut parts = vec![&open[middle..], &open[..middle]];
        while let Some(part) = parts.pop() {
            let mut request = self.request(part);
            request.writes.push(self.never());
            let answer = self
                .calls
                .try_read(|client, metadata| commit(client, metadata, request.clone()))
                .await?;
            let minds =
                |status: &Status| is_settled(status) && status.code() == Rpc::InvalidArgument;
            match (answer, part) {
                (Err(status), [only]) if minds(&status) => {
                    found.insert(only.index);
                }
                (Err(status), _) if minds(&status) => {
                    let middle = part.len() / 2;
                    parts.extend([&part[middle..], &part[..middle]]);
                }
                (Err(status), _) if is_guarded(&status) => {}
                (Err(status), _) => {
                    return Err(unwritten_error(self.calls.name(), &status));
                }
                // A server that does not heed guards: what it did is unknown.
                (Ok(()), _) => {
                    let status = Status::unknown("");
                    return Err(commit_error(self.calls.name(), &status));
                }
            }
        }
        Ok(found)
    }

    /// A write that never happens: no document has been unchanged since 1970. So no write beside it happens either.
    fn never(&self) -> v1::Write {
        let long_ago = prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        };
        v1::Write {
            operation: Some(write::Operation::Delete(
                self.calls.upstream.database().document(NO_DOCUMENT),
            )),
            current_document: Some(Precondition {
                condition_type: Some(precondition::ConditionType::UpdateTime(long_ago)),
            }),
            ..v1::Write::default()
        }
    }
}

/// Whether a guard is what kept the commit from happening.
fn is_guarded(status: &Status) -> bool {
    matches!(
        status.code(),
        Rpc::FailedPrecondition | Rpc::NotFound | Rpc::AlreadyExists
    )
}

async fn commit(
    mut client: Client,
    metadata: MetadataMap,
    request: CommitRequest,
) -> Result<(), Status> {
    client.commit(with(metadata, request)).await.map(drop)
}

/// Why the server does not take a document. Its own words may quote a value, so only known ones are told.
fn refusal(status: &Status) -> String {
    let known = [
        (
            "index entries",
            "it would have more than 40,000 index entries",
        ),
        ("longer than", "a value in it is too long for an index"),
        ("entity size", "it is larger than 1 MiB"),
        ("exceeds the maximum", "it is larger than 1 MiB"),
        (
            "nested",
            "its values are nested in a way that is not allowed",
        ),
        ("vector", "it holds a vector that is not allowed"),
    ];
    let said = status.message().to_ascii_lowercase();
    let why = known.iter().find(|(word, _)| said.contains(word));
    let why = why.map_or(
        "it does not say why in words that are safe to show",
        |(_, why)| why,
    );
    format!("Firestore does not take the document (INVALID_ARGUMENT): {why}")
}
