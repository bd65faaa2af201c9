//! Errors as the protocol says them. Clients run a commit or a transaction again on `UNAVAILABLE`,
//! `RESOURCE_EXHAUSTED`, `ABORTED`, `INTERNAL`, `UNKNOWN` and others: such a code is given only where nothing was
//! written, or a `create` would turn into ALREADY_EXISTS and an `increment` would count twice.

use tonic::{Code, Status};
use whimbrel_model::{StoreError, StoreErrorKind};

/// Bytes of a message, at most. It travels in a header, which clients accept only so long, and may name what is
/// longer than that.
const MESSAGE_BYTES: usize = 1024;
/// How much of a longer message's end is shown: it says what is wrong.
const END_BYTES: usize = 320;
const CUT: &str = " … ";

/// An error whose message may name what clients named: where it is very long, its middle is left out.
#[must_use]
pub fn named(code: Code, message: impl Into<String>) -> Status {
    Status::new(code, clipped(message.into()))
}

fn clipped(message: String) -> String {
    if message.len() <= MESSAGE_BYTES {
        return message;
    }
    let begin = message.floor_char_boundary(MESSAGE_BYTES - END_BYTES - CUT.len());
    let end = message.ceil_char_boundary(message.len() - END_BYTES);
    let (begin, end) = (message.get(..begin), message.get(end..));
    [begin.unwrap_or_default(), CUT, end.unwrap_or_default()].concat()
}

#[must_use]
pub fn invalid(message: impl Into<String>) -> Status {
    named(Code::InvalidArgument, message)
}

#[must_use]
pub fn of_store(error: StoreError) -> Status {
    let code = match error.kind {
        StoreErrorKind::Transient => Code::Unavailable,
        StoreErrorKind::Terminal => Code::FailedPrecondition,
        // Whether it landed is not known, so it must not be sent again: DATA_LOSS is a code no client retries.
        StoreErrorKind::Unknown => Code::DataLoss,
    };
    named(code, error.to_string())
}

/// A transaction lost to another one: nothing was written, and it may be run again.
#[must_use]
pub fn contention() -> Status {
    Status::aborted(
        "Too much contention on these documents. Please try again. (Nothing was written.)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let short = "ä".repeat(MESSAGE_BYTES / 2);
        assert_eq!(invalid(short.clone()).message(), short);
        for shift in 0..4 {
            let name = "x".repeat(shift) + &"\u{1f600}".repeat(2000);
            let status = invalid(format!("Document name \"{name}\" lacks \"/\" at index 7."));
            let message = status.message();
            assert!(message.len() <= MESSAGE_BYTES, "{}", message.len());
            assert!(message.len() > MESSAGE_BYTES - 10, "{}", message.len());
            assert!(message.starts_with("Document name \"") && message.contains(CUT));
            assert!(message.ends_with("\" lacks \"/\" at index 7."), "{message}");
        }
    }
}
