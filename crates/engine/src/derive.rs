//! From source documents to the target documents that a copy rule makes of them.

use whimbrel_model::rule::CopyRule;
use whimbrel_model::{
    Body, Code, DocContext, DocError, Document, Draft, Emit, Key, Schema, Timestamp,
    TransformInput, Value,
};

use crate::copy::CopyJob;
use crate::job::Failure;
use crate::options::Place;
use crate::provenance::Origin;

/// One target document as the rule wants it.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// `None`: the copy's own target collection.
    pub collection: Option<String>,
    pub key: Key,
    pub body: Body,
}

/// Source documents that are handled together, and what they become.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// The source documents: one, or a group.
    pub sources: Vec<Key>,
    pub outputs: Vec<Output>,
    /// What the unit is called in the target's provenance; `None` where the one output lies under the
    /// source's own key, so that nothing needs to be remembered.
    pub provenance: Option<String>,
}

/// What became of one source document or group.
#[derive(Debug)]
pub(crate) enum Derived {
    Unit(Unit),
    /// The rule leaves these documents out.
    Filtered(Vec<Key>),
    Failed(Vec<Failure>),
}

/// A copy rule with what it needs to be applied.
pub(crate) struct Deriver {
    pub rule: CopyRule,
    pub schema: Option<Schema>,
    /// Names the units in the target's provenance.
    pub origin: Origin,
    pub target: Place,
}

impl Deriver {
    pub(crate) fn new(copy: &CopyJob) -> Self {
        let target = copy.target.clone();
        Self {
            origin: Origin::new(&*target.store, &copy.source.collection, &copy.rule),
            rule: copy.rule.clone(),
            schema: copy.schema.clone(),
            target,
        }
    }

    /// A key as the target gives it back, so that what is written and what is found have the same. One that the
    /// target cannot have stays: writing it will say why.
    fn held(&self, collection: Option<&str>, key: Key) -> Key {
        let collection = collection.unwrap_or(&self.target.collection);
        let held = self.target.store.held_key(collection, &key);
        held.unwrap_or(key)
    }

    pub(crate) fn one(&self, doc: Document, now: Timestamp) -> Derived {
        if self.flows_through() {
            let output = Output {
                collection: None,
                key: self.held(None, doc.key.clone()),
                body: doc.body,
            };
            return Derived::Unit(Unit {
                sources: vec![doc.key],
                outputs: vec![output],
                provenance: None,
            });
        }
        let key = doc.key.clone();
        let cx = DocContext::new(&key, now);
        match self.try_one(doc, &cx) {
            Ok(derived) => derived,
            Err((version, error)) => {
                let error = self.staged(error);
                Derived::Failed(vec![Failure::of(&key, version, error)])
            }
        }
    }

    /// Whether documents are copied as their very bytes.
    pub(crate) fn flows_through(&self) -> bool {
        let rule = &self.rule;
        rule.read_as.is_none()
            && rule.filter.is_none()
            && rule.transform.is_none()
            && rule.validate.is_none()
            && rule.migrated_at.is_none()
            && rule.source_id.is_none()
    }

    fn staged(&self, mut error: DocError) -> DocError {
        error
            .stage
            .get_or_insert_with(|| format!("rule {}", self.rule.name));
        error
    }

    fn try_one(
        &self,
        doc: Document,
        cx: &DocContext<'_>,
    ) -> Result<Derived, (Option<u32>, DocError)> {
        let key = doc.key;
        let Some(draft) = self.read(doc.body, cx)? else {
            return Ok(Derived::Filtered(vec![key]));
        };
        let emits = match &self.rule.transform {
            Some(transform) => transform
                .apply(
                    TransformInput::One {
                        key: key.clone(),
                        doc: draft,
                    },
                    cx,
                )
                .map_err(|e| (None, e))?,
            None => vec![Emit {
                collection: None,
                key: None,
                body: draft.into_body(),
            }],
        };
        let same_place =
            |e: &Emit| e.collection.is_none() && e.key.as_ref().is_none_or(|k| *k == key);
        let provenance = match emits.as_slice() {
            [one] if same_place(one) => None,
            _ => Some(self.origin.of(&key.to_string())),
        };
        let outputs = self
            .outputs(emits, Some(&key), &key.to_string(), cx)
            .map_err(|e| (None, e))?;
        Ok(Derived::Unit(Unit {
            sources: vec![key],
            outputs,
            provenance,
        }))
    }

    /// Reads a document as the rule's version; `None` where the filter leaves it out.
    fn read(
        &self,
        body: Body,
        cx: &DocContext<'_>,
    ) -> Result<Option<Draft>, (Option<u32>, DocError)> {
        let mut draft = Draft::from_body(body).map_err(|e| (None, e.into()))?;
        if let (Some(version), Some(schema)) = (self.rule.read_as, &self.schema) {
            let from = schema.version_of(&mut draft).map_err(|e| (None, e))?;
            draft = schema
                .migrate(draft, version, &|_| None, cx)
                .map_err(|e| (Some(from), e))?
                .doc;
        }
        if let Some(filter) = &self.rule.filter
            && !filter.matches(&mut draft).map_err(|e| (None, e.into()))?
        {
            return Ok(None);
        }
        Ok(Some(draft))
    }

    /// Derives from a whole group, in the rule's order already.
    pub(crate) fn group(&self, value: &Value, docs: Vec<Document>, now: Timestamp) -> Derived {
        let keys: Vec<Key> = docs.iter().map(|d| d.key.clone()).collect();
        let name = group_name(value);
        let group_key = Key::text(name.clone());
        let cx = DocContext::new(&group_key, now);
        let mut kept = Vec::with_capacity(docs.len());
        for doc in docs {
            match self.read(doc.body, &cx) {
                Ok(Some(draft)) => kept.push((doc.key, draft)),
                Ok(None) => {}
                Err((_, error)) => return self.group_failed(&keys, &error, Some(&doc.key)),
            }
        }
        if kept.is_empty() {
            return Derived::Filtered(keys);
        }
        let input = TransformInput::Group {
            value: value.clone(),
            docs: kept,
        };
        let emits = match &self.rule.transform {
            Some(transform) => transform.apply(input, &cx),
            None => Err(DocError::new(
                Code::RulesInvalid,
                "a grouping rule needs a transform or a merge",
            )),
        };
        let outputs = emits.and_then(|emits| self.outputs(emits, None, &name, &cx));
        match outputs {
            Ok(outputs) => Derived::Unit(Unit {
                sources: keys,
                outputs,
                provenance: Some(self.origin.of(&format!("group:{name}"))),
            }),
            Err(error) => self.group_failed(&keys, &error, None),
        }
    }

    fn group_failed(&self, keys: &[Key], error: &DocError, culprit: Option<&Key>) -> Derived {
        let failures = keys.iter().map(|key| {
            let mut error = self.staged(error.clone());
            if let Some(culprit) = culprit
                && culprit != key
            {
                error.message = format!(
                    "document {culprit} of the same group failed: {}",
                    error.message
                );
            }
            Failure::of(key, None, error)
        });
        Derived::Failed(failures.collect())
    }

    fn outputs(
        &self,
        emits: Vec<Emit>,
        source: Option<&Key>,
        source_id: &str,
        cx: &DocContext<'_>,
    ) -> Result<Vec<Output>, DocError> {
        let count = emits.len();
        let mut outputs: Vec<Output> = Vec::with_capacity(count);
        for (i, emit) in emits.into_iter().enumerate() {
            let key = match (emit.key, source) {
                (Some(key), _) => key,
                (None, Some(source)) if count == 1 => source.clone(),
                _ => {
                    return Err(DocError::new(
                        Code::DocKey,
                        format!(
                            "derived document {i} has no key; only one document from one source may take the source's"
                        ),
                    ));
                }
            };
            let key = self.held(emit.collection.as_deref(), key);
            if outputs
                .iter()
                .any(|o| o.key == key && o.collection == emit.collection)
            {
                return Err(DocError::new(
                    Code::DocKey,
                    format!("derived document {i} has the same key as one before it"),
                ));
            }
            let body = self.finish(emit.body, source_id, cx)?;
            outputs.push(Output {
                collection: emit.collection,
                key,
                body,
            });
        }
        Ok(outputs)
    }

    /// Validates a derived document and writes its provenance fields.
    fn finish(&self, body: Body, source_id: &str, cx: &DocContext<'_>) -> Result<Body, DocError> {
        let rule = &self.rule;
        if rule.validate.is_none() && rule.migrated_at.is_none() && rule.source_id.is_none() {
            return Ok(body);
        }
        let mut draft = Draft::from_body(body)?;
        if let Some(validate) = &rule.validate {
            validate.validate(&mut draft, cx)?;
        }
        if let Some(field) = &rule.source_id {
            draft.set(field, Value::String(source_id.to_owned()));
        }
        if let Some(field) = &rule.migrated_at {
            draft.set(field, Value::Timestamp(cx.now));
        }
        Ok(draft.into_body())
    }
}

/// A group's value as text: a string as it is, anything else as tagged JSON.
pub(crate) fn group_name(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let mut out = Vec::new();
            whimbrel_model::json::write(other, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}
