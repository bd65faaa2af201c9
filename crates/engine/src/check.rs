//! Which readers and writers understand which version: what is known of each change, and what a trial on
//! real documents shows.

use whimbrel_model::compat::{Compatibility, Verdict};
use whimbrel_model::{
    Body, DocContext, DocError, Document, Draft, KeyRange, Map, Schema, Value, Version,
};

use crate::chunk::CHUNK_BYTES;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::Place;

/// How many documents are named as examples of one finding.
const EXAMPLES: usize = 3;

/// Judge every version of a schema.
#[derive(Clone, Debug)]
pub struct CheckJob {
    pub schema: Schema,
    /// What is known of each version's change without running it, by version, from version 2 on.
    pub known: Vec<(u32, Compatibility, Vec<String>)>,
    /// Where to take documents for the trial; `None` judges without one.
    pub place: Option<Place>,
    /// Documents to try.
    pub sample: u32,
}

/// The verdicts on a schema.
#[derive(Clone, Debug, Default)]
pub struct SchemaCheck {
    /// Each version against the one before it.
    pub steps: Vec<Verdict>,
    /// The newest version against each older one.
    pub transitive: Vec<Verdict>,
    /// Documents tried.
    pub tried: u32,
    /// Documents that could not be tried, with the version at which they failed: `(key, error)`.
    pub failed: Vec<(String, DocError)>,
}

impl Engine {
    /// Judges each version against the one before, and the newest against all, by what is known of the
    /// changes and by trial: `up`, `down`, and `validate` under the neighbouring version. Writes nothing.
    ///
    /// # Errors
    /// The documents for the trial cannot be read.
    pub async fn check_schema(&self, job: &CheckJob) -> Result<SchemaCheck, EngineError> {
        let docs = match &job.place {
            Some(place) => sample(place, job.sample).await?,
            None => Vec::new(),
        };
        let (schema, known, now) = (job.schema.clone(), job.known.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || judge(&schema, &known, &docs, now))
            .await
            .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))
    }
}

/// Documents from all over the collection.
async fn sample(place: &Place, wanted: u32) -> Result<Vec<Document>, EngineError> {
    let ranges = place
        .store
        .partitions(&place.collection, &KeyRange::all(), 16)
        .await?;
    let each = wanted
        .div_ceil(u32::try_from(ranges.len()).unwrap_or(1).max(1))
        .max(1);
    let mut docs = Vec::new();
    for range in ranges {
        docs.extend(
            place
                .store
                .scan(&place.collection, &range, each, CHUNK_BYTES)
                .await?
                .documents,
        );
    }
    docs.truncate(wanted as usize);
    Ok(docs)
}

fn judge(
    schema: &Schema,
    known: &[(u32, Compatibility, Vec<String>)],
    docs: &[Document],
    now: whimbrel_model::Timestamp,
) -> SchemaCheck {
    let mut check = SchemaCheck::default();
    let mut trials: Vec<Trial> = schema
        .versions()
        .iter()
        .skip(1)
        .map(|v| Trial::new(v.number))
        .collect();
    for doc in docs {
        let cx = DocContext::new(&doc.key, now);
        match try_document(schema, doc, &cx, &mut trials) {
            Ok(()) => check.tried += 1,
            Err(error) => check.failed.push((doc.key.to_string(), error)),
        }
    }
    for trial in trials {
        let static_part = known.iter().find(|(number, ..)| *number == trial.version);
        check.steps.push(trial.verdict(static_part));
    }
    let newest = schema.newest();
    for from in 1..newest {
        let passed = check.steps.iter().filter(|s| s.from >= from);
        let compatibility = passed
            .clone()
            .fold(Compatibility::Full, |all, step| all.and(step.compatibility));
        let reasons = passed
            .filter(|s| s.compatibility != Compatibility::Full)
            .map(|s| format!("v{} → v{} is {}", s.from, s.to, name(s.compatibility)))
            .collect();
        check.transitive.push(Verdict {
            from,
            to: newest,
            compatibility,
            reasons,
            documents: Vec::new(),
        });
    }
    check
}

fn name(compatibility: Compatibility) -> &'static str {
    match compatibility {
        Compatibility::Full => "fully compatible",
        Compatibility::Backward => "backward compatible only",
        Compatibility::Forward => "forward compatible only",
        Compatibility::Breaking => "breaking",
    }
}

/// What trials showed of one version.
struct Trial {
    version: u32,
    backward: bool,
    forward: bool,
    reasons: Vec<String>,
    documents: Vec<String>,
}

impl Trial {
    fn new(version: u32) -> Self {
        Self {
            version,
            backward: true,
            forward: true,
            reasons: Vec::new(),
            documents: Vec::new(),
        }
    }

    fn note(&mut self, reason: String, key: &str) {
        if !self.reasons.contains(&reason) && self.reasons.len() < 20 {
            self.reasons.push(reason);
        }
        if self.documents.len() < EXAMPLES && !self.documents.iter().any(|k| k == key) {
            self.documents.push(key.to_owned());
        }
    }

    fn verdict(self, known: Option<&(u32, Compatibility, Vec<String>)>) -> Verdict {
        let tried = Compatibility::of(self.backward, self.forward);
        let mut reasons = self.reasons;
        let mut compatibility = tried;
        if let Some((_, judged, why)) = known {
            compatibility = compatibility.and(*judged);
            reasons.extend(why.iter().cloned());
        }
        Verdict {
            from: self.version - 1,
            to: self.version,
            compatibility,
            reasons,
            documents: self.documents,
        }
    }
}

fn try_document(
    schema: &Schema,
    doc: &Document,
    cx: &DocContext<'_>,
    trials: &mut [Trial],
) -> Result<(), DocError> {
    let draft = Draft::from_body(doc.body.clone())?;
    let mut old = schema.migrate(draft, 1, &|_| None, cx)?.doc;
    for trial in trials {
        let new = schema.migrate(old.clone(), trial.version, &|_| None, cx)?;
        try_step(schema, &old, new.doc.clone(), new.complements, cx, trial)?;
        old = new.doc;
    }
    Ok(())
}

fn try_step(
    schema: &Schema,
    old: &Draft,
    new: Draft,
    complements: Vec<(u32, Map)>,
    cx: &DocContext<'_>,
    trial: &mut Trial,
) -> Result<(), DocError> {
    let key = cx.key.to_string();
    let versions = schema.versions();
    let (before, after): (&Version, &Version) = (
        &versions[trial.version as usize - 2],
        &versions[trial.version as usize - 1],
    );
    if let Err(error) = before.code.validate(&mut new.clone(), cx) {
        trial.forward = false;
        trial.note(rejected(before.number, after.number, &error), &key);
    }
    if let Err(error) = after.code.validate(&mut old.clone(), cx) {
        trial.backward = false;
        trial.note(rejected(after.number, before.number, &error), &key);
    }
    let (was, is) = (old.clone().into_map()?, new.clone().into_map()?);
    if after.code.shape().script {
        for lost in lost_fields(&was, &is, schema.version_field()) {
            trial.forward = false;
            trial.note(lost, &key);
        }
    }
    if after.code.reversible() {
        let complement = |v: u32| {
            complements
                .iter()
                .find(|(n, _)| *n == v)
                .map(|(_, c)| c.clone())
        };
        match schema.migrate(new, before.number, &complement, cx) {
            Ok(back)
                if Body::Map(back.doc.clone().into_map()?).fingerprint()?
                    == old.fingerprint()? => {}
            Ok(_) => trial.note(
                format!("v{}: down(up(document)) is not the document", after.number),
                &key,
            ),
            Err(error) => trial.note(format!("v{} down fails: {error}", after.number), &key),
        }
    } else {
        trial.note(
            format!("v{} has no down: there is no way back", after.number),
            &key,
        );
    }
    Ok(())
}

fn rejected(reader: u32, writer: u32, error: &DocError) -> String {
    let place = error
        .path
        .as_ref()
        .map(|p| format!(" at {p}"))
        .unwrap_or_default();
    format!(
        "v{reader} rejects a document of v{writer}: {}{place}",
        error.message
    )
}

/// Fields that old readers know and that are gone or of another type.
fn lost_fields(was: &Map, is: &Map, version_field: &str) -> Vec<String> {
    let kind = |v: &Value| match v {
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => "number",
        other => other.type_name(),
    };
    was.iter()
        .filter(|(name, _)| *name != version_field)
        .filter_map(|(name, old)| match is.get(name) {
            None => Some(format!("field {name} is gone, which old readers look for")),
            Some(new) if kind(old) != kind(new) && !matches!(old, Value::Null) => Some(format!(
                "field {name} was {} and is {}",
                kind(old),
                kind(new)
            )),
            Some(_) => None,
        })
        .collect()
}
