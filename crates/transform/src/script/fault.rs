//! From what went wrong in the engine to what is said of the document.

use super::ScriptLimits;
use super::compile::Compiled;
use rquickjs::{Ctx, Error, Value};
use whimbrel_model::json::JsonError;
use whimbrel_model::{Code, DocError};

/// Why a document's work in a sandbox ended early.
#[derive(Debug)]
pub(super) enum Fault {
    /// Known already.
    Doc(Box<DocError>),
    /// The engine has the reason.
    Js(Error),
    /// The sandbox itself is not as it must be.
    Engine,
}

impl Fault {
    pub fn doc(code: Code, message: impl Into<String>) -> Self {
        Fault::Doc(Box::new(DocError::new(code, message)))
    }

    /// Adds one step to the front of the place in the document.
    pub fn under(self, step: &str) -> Self {
        match self {
            Fault::Doc(mut error) => {
                error.path = Some(match error.path.take() {
                    None => step.to_owned(),
                    Some(rest) if rest.starts_with('[') => format!("{step}{rest}"),
                    Some(rest) => format!("{step}.{rest}"),
                });
                Fault::Doc(error)
            }
            other => other,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Js(error)
    }
}

impl From<DocError> for Fault {
    fn from(error: DocError) -> Self {
        Fault::Doc(Box::new(error))
    }
}

impl From<JsonError> for Fault {
    fn from(error: JsonError) -> Self {
        Fault::Doc(Box::new(error.into()))
    }
}

/// What can be said of a fault.
pub(super) struct Told {
    code: Code,
    /// For the script's author; may hold a document's values.
    pub text: String,
    /// Line and column in the user's file, from 1.
    pub place: Option<(u32, u32)>,
    file: String,
    known: Option<Box<DocError>>,
}

impl Told {
    pub fn into_doc_error(self, limits: &ScriptLimits) -> DocError {
        if let Some(known) = self.known {
            return *known;
        }
        let at = match self.place {
            Some((line, column)) => format!(" at {}:{line}:{column}", self.file),
            None => format!(" in {}", self.file),
        };
        let error = match self.code {
            Code::DocTimeout => DocError::new(
                self.code,
                format!("the transform took longer than {} ms{at}", limits.time_ms),
            ),
            Code::DocMemory => DocError::new(
                self.code,
                format!(
                    "the transform needed more than {} MiB of memory{at}",
                    limits.memory_bytes >> 20
                ),
            ),
            _ => DocError::new(self.code, format!("the transform threw an exception{at}")),
        };
        if self.text.is_empty() {
            error
        } else {
            error.with_detail(self.text)
        }
    }
}

pub(super) fn tell(ctx: &Ctx<'_>, fault: Fault, script: &Compiled, timed_out: bool) -> Told {
    let told = |code, text: String, place| Told {
        code,
        text,
        place,
        file: script.name.clone(),
        known: None,
    };
    match fault {
        Fault::Doc(error) => Told {
            known: Some(error.clone()),
            ..told(error.code, error.message, None)
        },
        Fault::Engine => told(
            Code::DocTransform,
            "the JavaScript engine gave an answer that it never gives".to_owned(),
            None,
        ),
        Fault::Js(Error::Exception) => {
            let thrown = ctx.catch();
            if timed_out {
                let place = thrown_place(&thrown, script);
                return told(Code::DocTimeout, String::new(), place);
            }
            exception(ctx, &thrown, script)
        }
        Fault::Js(Error::Allocation) => told(Code::DocMemory, String::new(), None),
        Fault::Js(Error::Utf8(_)) => told(
            Code::DocLoneSurrogate,
            Code::DocLoneSurrogate.title().to_owned(),
            None,
        ),
        Fault::Js(other) => told(Code::DocTransform, other.to_string(), None),
    }
}

fn exception(ctx: &Ctx<'_>, thrown: &Value<'_>, script: &Compiled) -> Told {
    let place = thrown_place(thrown, script);
    let text = thrown_text(thrown);
    // Whatever the script's own properties did while they were read.
    let _ = ctx.catch();
    let out_of_memory = thrown.is_error() && text == "InternalError: out of memory";
    // The engine throws null when not even the error finds room.
    let code = if out_of_memory || (thrown.is_null() && place.is_none()) {
        Code::DocMemory
    } else {
        Code::DocTransform
    };
    Told {
        code,
        text,
        place,
        file: script.name.clone(),
        known: None,
    }
}

/// `TypeError: message`, a thrown text, or the thrown value's type.
fn thrown_text(thrown: &Value<'_>) -> String {
    if let Some(text) = thrown.as_string() {
        return text.to_string().unwrap_or_default();
    }
    let Some(object) = thrown.as_object() else {
        return format!("threw {}", thrown.type_name());
    };
    let text = |name: &str| object.get::<_, String>(name).unwrap_or_default();
    let (name, message) = (text("name"), text("message"));
    match (name.is_empty(), message.is_empty()) {
        (_, true) => name,
        (true, false) => message,
        (false, false) => format!("{name}: {message}"),
    }
}

/// The first place of the user's file in the stack: lines end in `name:LINE:COLUMN)`.
fn thrown_place(thrown: &Value<'_>, script: &Compiled) -> Option<(u32, u32)> {
    let stack: String = thrown.as_object()?.get("stack").ok()?;
    let needle = format!("{}:", script.name);
    let at = stack.find(&needle)? + needle.len();
    let mut numbers = stack[at..].split(|c: char| !c.is_ascii_digit());
    let line = numbers.next()?.parse().ok()?;
    let column = numbers.next()?.parse().unwrap_or(1);
    Some(script.place(line, column))
}
