//! Errors as the protocol says them. Clients run a commit or a transaction again on `UNAVAILABLE`,
//! `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNKNOWN` and others: such a code is given only where nothing was
//! written, or a `create` would turn into ALREADY_EXISTS and an `increment` would count twice.

use tonic::{Code, Status};
use whimbrel_model::{StoreError, StoreErrorKind};

#[must_use]
pub fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

#[must_use]
pub fn of_store(error: StoreError) -> Status {
    let code = match error.kind {
        StoreErrorKind::Transient => Code::Unavailable,
        StoreErrorKind::Terminal => Code::FailedPrecondition,
        // Whether it landed is not known, so it must not be sent again: DATA_LOSS is a code no client retries.
        StoreErrorKind::Unknown => Code::DataLoss,
    };
    Status::new(code, error.to_string())
}

/// A transaction lost to another one: nothing was written, and it may be run again.
#[must_use]
pub fn contention() -> Status {
    Status::aborted(
        "Too much contention on these documents. Please try again. (Nothing was written.)",
    )
}
