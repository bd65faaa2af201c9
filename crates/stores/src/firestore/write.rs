//! Writing: one Commit a batch, so that all of it happens or nothing.
//!
//! A guard is a precondition, and a Commit with one that does not hold fails as a whole, without a word on
//! which it was. So the guards are looked at, those that are lost are taken out, and the others are
//! committed anew under theirs: whoever wrote in between is noticed again.

use super::calls::{pauses, with};
use super::error::commit_error;
use super::names::Collection;
use super::{FirestoreStore, fit, revision};
use prost::Message as _;
use std::collections::{BTreeSet, HashMap};
use tonic::{Code as Rpc, Status};
use whimbrel_firestore::v1::{self, CommitRequest, Precondition, precondition, write};
use whimbrel_model::{Code, Guard, Refusal, StoreError, StoreErrorKind, Write, WriteOutcome};

/// Bytes of a request: Google takes 10 MiB.
const REQUEST_BYTES: usize = 9 << 20;
/// How often a batch is committed anew because guards were lost meanwhile.
const ROUNDS: usize = 20;

/// A write that may be sent.
struct Ready<'a> {
    /// Its place in the batch.
    index: usize,
    path: String,
    guard: &'a Guard,
    write: v1::Write,
}

/// What became of a request's writes.
type Outcomes = Vec<Option<WriteOutcome>>;

impl FirestoreStore {
    pub(super) async fn write_all(
        &self,
        collections: &HashMap<&str, Collection>,
        writes: &[Write],
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        let mut outcomes: Outcomes = vec![None; writes.len()];
        let mut requests: Vec<Vec<Ready>> = Vec::new();
        let mut size = 0;
        for (index, write) in writes.iter().enumerate() {
            let ready = match self.prepare(collections, index, write) {
                Ok(ready) => ready,
                Err(outcome) => {
                    outcomes[index] = Some(outcome);
                    continue;
                }
            };
            let bytes = ready.write.encoded_len() + 8;
            size += bytes;
            match requests.last_mut() {
                Some(request) if size <= REQUEST_BYTES => request.push(ready),
                _ => {
                    size = bytes;
                    requests.push(vec![ready]);
                }
            }
        }
        let mut applied = false;
        for request in requests {
            self.commit(request, &mut outcomes, &mut applied).await?;
        }
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
        Ok(Ready {
            index,
            path,
            guard: &write.guard,
            write: v1::Write {
                operation: Some(operation),
                current_document: condition.map(|condition| Precondition {
                    condition_type: Some(condition),
                }),
                ..v1::Write::default()
            },
        })
    }

    /// Commits until each write has its outcome. `applied` says whether anything of the batch was written: then
    /// an error is of kind `Unknown`.
    async fn commit(
        &self,
        mut open: Vec<Ready<'_>>,
        outcomes: &mut Outcomes,
        applied: &mut bool,
    ) -> Result<(), StoreError> {
        let mut busy = pauses();
        for _ in 0..ROUNDS {
            if open.is_empty() {
                return Ok(());
            }
            let status = match self
                .send(&open)
                .await
                .map_err(|e| self.partly(e, *applied))?
            {
                Ok(()) => {
                    *applied = true;
                    for one in &open {
                        outcomes[one.index] = Some(WriteOutcome::Applied);
                    }
                    return Ok(());
                }
                Err(status) => status,
            };
            let failed = || self.partly(commit_error(self.calls.name(), &status), *applied);
            match status.code() {
                // The server says that nothing happened: it is safe to send the same again.
                Rpc::ResourceExhausted | Rpc::Aborted => match busy.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(failed()),
                },
                Rpc::FailedPrecondition
                | Rpc::AlreadyExists
                | Rpc::NotFound
                | Rpc::InvalidArgument => {
                    let lost = self
                        .lost(&open)
                        .await
                        .map_err(|error| self.partly(error, *applied))?;
                    for index in &lost {
                        outcomes[*index] = Some(WriteOutcome::Lost);
                    }
                    open.retain(|one| !lost.contains(&one.index));
                    if lost.is_empty() && status.code() == Rpc::InvalidArgument {
                        return self.single_out(open, &status, outcomes, applied).await;
                    }
                    if lost.is_empty() && open.iter().all(|one| *one.guard == Guard::Any) {
                        // No guard of ours is what it minds.
                        return Err(failed());
                    }
                }
                _ => return Err(failed()),
            }
        }
        let why = "others kept writing the same documents; nothing was written";
        let name = self.calls.name();
        let error = StoreError::new(StoreErrorKind::Transient, Code::StoreUnavailable, name, why);
        Err(self.partly(error, *applied))
    }

    async fn send(&self, open: &[Ready<'_>]) -> Result<Result<(), Status>, StoreError> {
        if let Some(ramp) = &self.shared.ramp {
            ramp.pass(open.len()).await;
        }
        let database = self.calls.upstream.database().to_string();
        self.calls
            .once(|mut client, metadata| {
                let request = CommitRequest {
                    database: database.clone(),
                    writes: open.iter().map(|one| one.write.clone()).collect(),
                    ..CommitRequest::default()
                };
                async move { client.commit(with(metadata, request)).await.map(drop) }
            })
            .await
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

    /// The server minds a document without saying which: halves are committed each for itself, down to the one.
    /// That is no longer one transaction; but documents that we ourselves find wrong never get so far.
    async fn single_out(
        &self,
        mut open: Vec<Ready<'_>>,
        status: &Status,
        outcomes: &mut Outcomes,
        applied: &mut bool,
    ) -> Result<(), StoreError> {
        if let [only] = open.as_slice() {
            let message = refusal(status);
            outcomes[only.index] = Some(WriteOutcome::Refused(Refusal { message }));
            return Ok(());
        }
        let rest = open.split_off(open.len() / 2);
        for half in [open, rest] {
            Box::pin(self.commit(half, outcomes, applied)).await?;
        }
        Ok(())
    }

    /// Where a part of the batch was written, no error may say that nothing was.
    fn partly(&self, error: StoreError, applied: bool) -> StoreError {
        if !applied {
            return error;
        }
        StoreError {
            kind: StoreErrorKind::Unknown,
            code: Code::StoreUnknown,
            message: format!("a part of the batch was written; then: {}", error.message),
            ..error
        }
    }
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
