//! What the server's answers mean for a store, told without a document's value or a secret.

use std::error::Error as _;
use tonic::{Code as Rpc, ConnectError, Status};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// The server's own words are cut here.
const WORDS: usize = 400;

/// Of a call that read: it can be made again. `past`: it asked for what was at an instant.
pub(super) fn read_error(store: &str, doing: &str, status: &Status, past: bool) -> StoreError {
    let (kind, code) = classify(status);
    let hint = match status.code() {
        // What such a read is refused for is its time, mostly.
        Rpc::FailedPrecondition | Rpc::InvalidArgument if past => {
            "; a snapshot can be read for an hour, and for days with point-in-time recovery and read_time=minute"
        }
        _ => hint(status),
    };
    let message = format!("{doing}: {}{hint}", words(status));
    StoreError::new(kind, code, store, message)
}

/// Of a commit: unless the server itself says that it did not happen, it may have.
pub(super) fn commit_error(store: &str, status: &Status) -> StoreError {
    if !is_settled(status) {
        let message = format!(
            "no answer came to a commit ({}): it may have happened",
            status.code()
        );
        return StoreError::new(StoreErrorKind::Unknown, Code::StoreUnknown, store, message);
    }
    unwritten_error(store, status)
}

/// Of a commit that did not happen.
pub(super) fn unwritten_error(store: &str, status: &Status) -> StoreError {
    let (kind, code) = classify(status);
    let said = match status.code() {
        Rpc::PermissionDenied
        | Rpc::Unauthenticated
        | Rpc::NotFound
        | Rpc::ResourceExhausted
        | Rpc::Unavailable
        | Rpc::Unimplemented => words(status),
        // The others may quote what was to be written.
        code => code.to_string(),
    };
    let message = format!("writing: {said}; nothing was written{}", hint(status));
    StoreError::new(kind, code, store, message)
}

/// Whether the commit certainly did not happen.
pub(super) fn is_settled(status: &Status) -> bool {
    // A status with a cause was made on this side: of a connection that broke after the commit was sent, whatever
    // its code.
    if status.source().is_some() {
        return never_sent(status);
    }
    matches!(
        status.code(),
        Rpc::InvalidArgument
            | Rpc::NotFound
            | Rpc::AlreadyExists
            | Rpc::PermissionDenied
            | Rpc::Unauthenticated
            | Rpc::ResourceExhausted
            | Rpc::FailedPrecondition
            | Rpc::Aborted
            | Rpc::Unimplemented
    )
}

/// Whether there was no connection to send it over.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the same call may succeed in a moment, as far as its code says.
pub(super) fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Rpc::ResourceExhausted
            | Rpc::Unavailable
            | Rpc::Aborted
            | Rpc::DeadlineExceeded
            | Rpc::Internal
            | Rpc::Unknown
            | Rpc::Cancelled
    )
}

fn classify(status: &Status) -> (StoreErrorKind, Code) {
    use StoreErrorKind::{Terminal, Transient};
    match status.code() {
        Rpc::PermissionDenied | Rpc::Unauthenticated => (Terminal, Code::StoreDenied),
        Rpc::NotFound => (Terminal, Code::StoreMissing),
        _ if is_passing(status) => (Transient, Code::StoreUnavailable),
        _ => (Terminal, Code::StoreFailed),
    }
}

fn words(status: &Status) -> String {
    let code = status.code();
    let mut said: String = status
        .message()
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS)
        .collect();
    if never_sent(status) {
        "no connection".clone_into(&mut said);
    }
    if said.is_empty() {
        code.to_string()
    } else {
        format!("{said} ({code:?})")
    }
}

fn hint(status: &Status) -> &'static str {
    match status.code() {
        Rpc::PermissionDenied => "; the account needs the role Cloud Datastore User",
        Rpc::Unauthenticated => "; the credentials are not accepted",
        Rpc::NotFound => "; is the database's id right?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Codes that a broken connection leaves behind are no word of the server's.
    #[test]
    fn what_this_side_made_up_settles_nothing() {
        for code in [
            Rpc::ResourceExhausted,
            Rpc::PermissionDenied,
            Rpc::Unavailable,
            Rpc::Aborted,
        ] {
            let theirs = Status::new(code, "no");
            assert_eq!(is_settled(&theirs), code != Rpc::Unavailable, "{code:?}");
            let mut ours = theirs.clone();
            ours.set_source(std::sync::Arc::new(io::Error::other("enhance your calm")));
            assert!(!is_settled(&ours), "{code:?}");
            let error = commit_error("firestore://p", &ours);
            assert_eq!(error.kind, StoreErrorKind::Unknown, "{code:?}");
        }
    }
}
