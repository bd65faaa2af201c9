//! A check's condition written as a function.

use super::fault::Fault;
use super::outward::Given;
use super::sandbox::{Script, Session};
use super::validate::{Verdict, verdict};
use super::{ScriptError, ScriptLimits};
use rquickjs::Value;
use whimbrel_model::check::Condition;
use whimbrel_model::{Code, DocContext, DocError, Draft};

/// `export const check = (doc, ctx) => …`, or `(doc, other, ctx) => …` for a pair.
///
/// A document meets the condition when the function returns true, null, nothing or an empty array. False, a
/// text and an array of texts say that it does not; the texts go to the error's detail. An exception says that
/// the check could not be done.
#[derive(Debug)]
pub struct ScriptCondition {
    script: Script,
}

impl ScriptCondition {
    /// # Errors
    /// As [`super::ScriptVersion::load`].
    pub fn load(name: &str, text: &str, limits: ScriptLimits) -> Result<Self, ScriptError> {
        let script = Script::load(name, text, &["check"], limits)?;
        Ok(Self { script })
    }
}

impl Condition for ScriptCondition {
    fn check(
        &self,
        doc: &mut Draft,
        other: Option<Option<&mut Draft>>,
        cx: &DocContext<'_>,
    ) -> Result<(), DocError> {
        let outcome = self.script.run(cx, |session| {
            let answer = match &other {
                None => session.call(0, document(session, doc)?, None)?,
                Some(None) => {
                    let nothing = Value::new_null(session.kit.ctx.clone());
                    session.call_pair(0, document(session, doc)?, nothing)?
                }
                Some(Some(other)) => {
                    let (doc, other) = (document(session, doc)?, document(session, other)?);
                    session.call_pair(0, doc, other)?
                }
            };
            verdict(&answer, "check")
        });
        match outcome {
            Ok(Verdict::Valid) => Ok(()),
            Ok(Verdict::Invalid(reasons)) => {
                let error = DocError::new(Code::DocInvalid, "the condition does not hold");
                Err(if reasons.is_empty() {
                    error
                } else {
                    error.with_detail(reasons.join("; "))
                })
            }
            Err(error) => Err(DocError {
                message: error.message.replacen("the transform", "the check", 1),
                ..error
            }),
        }
    }

    fn checksum(&self) -> String {
        self.script.checksum().to_owned()
    }
}

fn document<'js>(session: &Session<'_, 'js>, doc: &Draft) -> Result<Value<'js>, Fault> {
    Ok(Given::new(session, doc)?.object.into_value())
}
