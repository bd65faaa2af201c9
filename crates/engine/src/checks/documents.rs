//! Checks that judge one document at a time: tests of fields, JSON Schemas, conditions in code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use whimbrel_model::check::{Condition, FieldTest};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::transform::Validate;
use whimbrel_model::{Code, DocContext, DocError, Document, Draft, Key, Timestamp};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Doc, Measured, Runner, Side};
use crate::options::Place;
use crate::patience::retry_store;

/// Documents fetched at a time from a pair's other collection.
const PAIRS: usize = 200;

pub(super) struct Fields {
    pub tests: Vec<(FieldPath, FieldTest)>,
}

#[async_trait]
impl Runner for Fields {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    fn look(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        findings: &mut Findings,
    ) {
        let values = findings.shows_values();
        docs.each(findings, |doc| {
            let tests = self.tests.iter();
            tests
                .filter_map(|(path, test)| judge(doc, path, test, values))
                .collect()
        });
    }

    async fn finish(&self, _findings: &mut Findings) -> Result<Measured, Impossible> {
        Ok(Measured::new())
    }
}

fn judge(doc: &mut Doc, path: &FieldPath, test: &FieldTest, values: bool) -> Option<Wrong> {
    if let (FieldTest::Required, [name]) = (test, path.names())
        && doc.draft.contains(name)
    {
        // A member of the document itself is found without being parsed.
        return None;
    }
    match doc.field(path) {
        Ok(value) => test
            .judge(value)
            .err()
            .map(|message| Wrong::at(path, message).with(value.filter(|_| values))),
        Err(wrong) => Some(wrong),
    }
}

pub(super) struct Judged {
    pub judge: Arc<dyn Validate>,
}

#[async_trait]
impl Runner for Judged {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    fn look(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        now: Timestamp,
        findings: &mut Findings,
    ) {
        for nth in 0..docs.len() {
            let Some(doc) = docs.get(nth) else { break };
            let verdict = self
                .judge
                .validate(&mut doc.draft, &DocContext::new(&doc.key, now));
            sort(findings, &doc.key, verdict);
        }
    }

    async fn finish(&self, _findings: &mut Findings) -> Result<Measured, Impossible> {
        Ok(Measured::new())
    }
}

pub(super) struct Conditioned {
    pub judge: Arc<dyn Condition>,
    /// Where the pair's other document is looked for.
    pub pair: Option<Place>,
    pub patience: Duration,
}

#[async_trait]
impl Runner for Conditioned {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    fn fetches(&self) -> bool {
        self.pair.is_some()
    }

    async fn fetch(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, Impossible> {
        let mut found = Vec::with_capacity(keys.len());
        if let Some(place) = &self.pair {
            for part in keys.chunks(PAIRS) {
                let (store, name) = (&place.store, &place.collection);
                found.extend(retry_store(self.patience, || store.get(name, part)).await?);
            }
        }
        Ok(found)
    }

    fn look(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        fetched: Vec<Option<Document>>,
        now: Timestamp,
        findings: &mut Findings,
    ) {
        let mut fetched = fetched.into_iter();
        for nth in 0..docs.len() {
            let Some(doc) = docs.get(nth) else { break };
            let partner = self.pair.as_ref().map(|_| fetched.next().flatten());
            let mut partner = match partner.map(|p| p.map(|p| Draft::from_body(p.body)).transpose())
            {
                None => None,
                Some(Ok(partner)) => Some(partner),
                Some(Err(error)) => {
                    let error = DocError::from(error);
                    let message = format!("the other document cannot be read: {}", error.message);
                    let wrong = Wrong {
                        message,
                        ..Wrong::default()
                    };
                    findings.document(Some(&doc.key), None, vec![wrong]);
                    continue;
                }
            };
            let other = partner.as_mut().map(Option::as_mut);
            let cx = DocContext::new(&doc.key, now);
            let verdict = self.judge.check(&mut doc.draft, other, &cx);
            sort(findings, &doc.key, verdict);
        }
    }

    async fn finish(&self, _findings: &mut Findings) -> Result<Measured, Impossible> {
        Ok(Measured::new())
    }
}

/// What a document does wrong is a finding; what keeps the judge from judging is not.
fn sort(findings: &mut Findings, key: &Key, verdict: Result<(), DocError>) {
    use Code as C;
    let Err(error) = verdict else { return };
    let impossible = matches!(
        error.code,
        C::DocTransform | C::DocTimeout | C::DocMemory | C::DocResult | C::ScriptInvalid
    );
    if impossible {
        let why = Impossible {
            code: Code::CheckImpossible,
            ..error.into()
        };
        findings.trouble(Some(key), why);
    } else {
        findings.document(Some(key), None, vec![error.into()]);
    }
}
