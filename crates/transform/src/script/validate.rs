//! A validator written as a function.

use super::fault::Fault;
use super::outward::Given;
use super::sandbox::Script;
use super::{ScriptError, ScriptLimits, writer};
use rquickjs::{Object, Value};
use whimbrel_model::{Code, DocContext, DocError, Draft};

/// `export const validate = (doc, ctx) => …`.
///
/// A document is valid when the function returns true, null, nothing or an empty array. False, a text, an
/// array of texts and a thrown exception say that it is not; the texts go to the error's detail.
#[derive(Debug)]
pub struct ScriptValidate {
    script: Script,
}

impl ScriptValidate {
    /// # Errors
    /// As [`super::ScriptVersion::load`].
    pub fn load(name: &str, text: &str, limits: ScriptLimits) -> Result<Self, ScriptError> {
        let script = Script::load(name, text, &["validate"], limits)?;
        Ok(Self { script })
    }
}

impl whimbrel_model::transform::Validate for ScriptValidate {
    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError> {
        judge(&self.script, 0, doc, cx)
    }

    fn checksum(&self) -> String {
        self.script.checksum().to_owned()
    }
}

/// # Errors
/// The document is not valid, or the function did not come to an answer.
pub(super) fn judge(
    script: &Script,
    export: usize,
    doc: &Draft,
    cx: &DocContext<'_>,
) -> Result<(), DocError> {
    let verdict = script.run(cx, |session| {
        let given = Given::new(session, doc)?;
        let answer = session.call(export, given.object.clone().into_value(), None)?;
        verdict(&answer, "validate")
    });
    match verdict {
        Ok(Verdict::Valid) => Ok(()),
        Ok(Verdict::Invalid(reasons)) => {
            let error = DocError::new(
                Code::DocInvalid,
                "validate says that the document is not valid",
            );
            Err(if reasons.is_empty() {
                error
            } else {
                error.with_detail(reasons.join("; "))
            })
        }
        Err(error) if error.code == Code::DocTransform => Err(DocError {
            code: Code::DocInvalid,
            message: error.message.replacen("the transform", "validate", 1),
            ..error
        }),
        Err(error) => Err(error),
    }
}

/// What a function that judges has returned.
pub(super) enum Verdict {
    Valid,
    Invalid(Vec<String>),
}

pub(super) fn verdict(answer: &Value<'_>, function: &str) -> Result<Verdict, Fault> {
    if answer.is_undefined() || answer.is_null() {
        return Ok(Verdict::Valid);
    }
    if let Some(valid) = answer.as_bool() {
        return Ok(if valid {
            Verdict::Valid
        } else {
            Verdict::Invalid(Vec::new())
        });
    }
    if let Some(text) = answer.as_string() {
        return Ok(Verdict::Invalid(vec![text.to_string()?]));
    }
    if let Some(array) = answer.as_object()
        && writer::is_list(array)?
    {
        return reasons(array, function);
    }
    Err(wrong(function, answer.type_name()))
}

fn wrong(function: &str, what: &str) -> Fault {
    Fault::doc(
        Code::DocResult,
        format!("{function} returned {what}; it may return a boolean, a text or an array of texts"),
    )
}

fn reasons(array: &Object<'_>, function: &str) -> Result<Verdict, Fault> {
    let mut reasons = Vec::new();
    for i in 0..writer::length_of(array)? {
        let item: Value<'_> = array.get(i)?;
        let text = item
            .as_string()
            .ok_or_else(|| wrong(function, "an array of other things"))?;
        reasons.push(text.to_string()?);
    }
    Ok(if reasons.is_empty() {
        Verdict::Valid
    } else {
        Verdict::Invalid(reasons)
    })
}
