//! What a command says when it could not do what it was asked.

use crate::exit::Exit;
use std::ops::Range;
use std::sync::Arc;
use whimbrel_model::{Code, JournalError, StoreError, StoreErrorKind};

/// A failure as a person needs it: what happened, what was not done, what to type next. Holds no value
/// of a document and no secret.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    pub code: Option<Code>,
    pub message: String,
    pub not_done: Option<String>,
    /// Commands or advice, one a line.
    pub next: Vec<String>,
    pub snippets: Vec<Snippet>,
}

/// A place in a file of the project, with what is wrong there.
#[derive(Debug, Clone)]
pub struct Snippet {
    pub file: String,
    pub source: Arc<str>,
    pub span: Range<usize>,
    pub label: String,
    pub help: Option<String>,
}

pub type Outcome = Result<Exit, Failure>;

impl Failure {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            exit: Exit::of(code),
            code: Some(code),
            message: message.into(),
            not_done: None,
            next: Vec::new(),
            snippets: Vec::new(),
        }
    }

    /// The command line itself asks for something that cannot be.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            code: None,
            message: message.into(),
            not_done: None,
            next: Vec::new(),
            snippets: Vec::new(),
        }
    }

    /// A file or the terminal failed.
    #[must_use]
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self {
            exit: Exit::Failed,
            ..Self::usage(format!("{what}: {error}"))
        }
    }

    #[must_use]
    pub fn not_done(mut self, what: impl Into<String>) -> Self {
        self.not_done = Some(what.into());
        self
    }

    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// `file:line:column` of a snippet, counted from 1; columns are characters.
    #[must_use]
    pub fn place(snippet: &Snippet) -> String {
        let start = snippet.span.start.min(snippet.source.len());
        let before = snippet.source.get(..start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", snippet.file)
    }

    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let places: Vec<_> = self
            .snippets
            .iter()
            .map(
                |s| serde_json::json!({ "at": Self::place(s), "message": s.label, "help": s.help }),
            )
            .collect();
        serde_json::json!({
            "error": {
                "code": self.code.map(Code::id),
                "title": self.code.map(Code::title),
                "message": self.message,
                "not_done": self.not_done,
                "next": self.next,
                "places": places,
                "exit": self.exit as u8,
                "page": self.code.map(page),
            }
        })
    }
}

/// The documentation page of a code.
#[must_use]
pub fn page(code: Code) -> String {
    format!("docs/errors/{}.md", code.id())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let mut failure = Failure::new(error.code, error.to_string());
        match error.kind {
            StoreErrorKind::Unknown => {
                failure.exit = Exit::Unknown;
                failure.not_done = Some(
                    "whether the last write happened is unknown; everything before it is recorded"
                        .into(),
                );
                failure = failure.next("run the same command again: it reads first, then decides");
            }
            StoreErrorKind::Transient => {
                failure = failure.next("run the same command again when the store answers");
            }
            StoreErrorKind::Terminal => {}
        }
        match error.code {
            Code::StoreUrl => {
                failure.next("whimbrel inspect sqlite:app.db   (an example of a URL)")
            }
            Code::StoreMissing => failure.next("whimbrel inspect   (lists what is there)"),
            Code::StoreFull => failure.next("free some space, then run the same command again"),
            Code::StoreDenied => failure.next("check the user and the rights in the store's URL"),
            _ => failure,
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let code = error.code();
        let failure = Failure::new(code, error.to_string());
        match code {
            Code::LeaseHeld => failure
                .not_done("nothing was begun and nothing was written")
                .next("whimbrel lock show    (who holds it, and since when)")
                .next("whimbrel lock break   (only if that process is gone for good)"),
            Code::LedgerMoved => failure.next("run the same command again"),
            Code::LedgerNewer => failure.next("use the newer whimbrel with this project"),
            Code::LedgerBroken => failure
                .not_done("nothing was begun and nothing was written")
                .next("restore the ledger from a backup; do not edit it by hand"),
            _ => failure,
        }
    }
}
