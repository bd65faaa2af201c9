//! Native transforms of copy rules: operations, one document into many (split), many into one (merge).

use crate::LoadError;
use crate::operation::{Operations, operations};
use crate::table::{Source, Table, hash_meaning};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{
    Body, Code, DocContext, DocError, Draft, Emit, Key, Map, Transform, TransformInput, Value,
};

/// One list of operations: one document in, one out, under the same key.
pub struct OperationTransform {
    operations: Operations,
    checksum: String,
}

impl OperationTransform {
    /// Reads a TOML text whose operations stand under `[[do]]`.
    ///
    /// # Errors
    /// Everything that is wrong with the text, each with its line.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<LoadError>> {
        let source = Source::new(file, text, Code::RulesInvalid);
        let transform = source.parse().map(|root| {
            let table = Table::new(&source, root.get_ref(), 0..0);
            let operations = operations(&table.tables("do").unwrap_or_default());
            table.finish();
            let mut hasher = blake3::Hasher::new();
            hash_meaning(root.get_ref(), &[], &mut hasher);
            Self {
                operations,
                checksum: hasher.finalize().to_hex().to_string(),
            }
        });
        let errors = source.into_errors();
        match transform {
            Some(transform) if errors.is_empty() => Ok(transform),
            _ => Err(errors),
        }
    }
}

impl Transform for OperationTransform {
    fn apply(&self, input: TransformInput, cx: &DocContext<'_>) -> Result<Vec<Emit>, DocError> {
        let (_, mut doc) = one(input)?;
        self.operations.apply(&mut doc, cx)?;
        Ok(vec![Emit {
            collection: None,
            key: None,
            body: doc.into_body(),
        }])
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}

fn one(input: TransformInput) -> Result<(Key, Draft), DocError> {
    match input {
        TransformInput::One { key, doc } => Ok((key, doc)),
        TransformInput::Group { .. } => Err(DocError::new(
            Code::DocTransform,
            "the rule groups documents, but its transform takes them one by one",
        )),
    }
}

/// Every element of an array (or of a map) becomes a document.
///
/// A missing or null field has no elements: nothing comes of the document. Elements must be maps.
#[derive(Clone, Debug)]
pub struct Split {
    pub field: FieldPath,
    pub key: KeyTemplate,
    /// The field that gets the source document's key.
    pub parent: Option<String>,
    /// The field that gets the element's number, from 0 (of a map: its name).
    pub index: Option<String>,
    /// Fields of the source document that every derived one gets too, under their last names.
    pub keep: Vec<FieldPath>,
}

/// How a derived document's key is made. See [`KeyTemplate::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key,
    /// The element's number with at least so many digits, or its name in a map.
    Index(usize),
    Field(FieldPath),
}

impl KeyTemplate {
    /// `{key}` is the source document's key, `{index}` the element's number (`{index:06}`: with leading
    /// zeros; of a map: its name), any other `{path}` a field of the element, and `{.path}` too, where the
    /// field is called `key` or `index`. `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find('}').filter(|_| brace == "{");
            let end = end.ok_or_else(|| format!("{text:?} has a brace without its pair"))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Self::placeholder(&rest[..end])?);
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if parts
            .iter()
            .all(|part| matches!(part, Part::Text(_) | Part::Key))
        {
            return Err(format!(
                "{text:?} gives every element the same key: use {{index}} or a field of the element"
            ));
        }
        Ok(Self { parts })
    }

    fn placeholder(text: &str) -> Result<Part, String> {
        if let Some(width) = text.strip_prefix("index:") {
            let width = width.parse().ok().filter(|width| *width <= 20);
            return width
                .map(Part::Index)
                .ok_or_else(|| format!("{{{text}}} must be like {{index:06}}"));
        }
        match text {
            "key" => Ok(Part::Key),
            "index" => Ok(Part::Index(0)),
            _ => FieldPath::parse(text.strip_prefix('.').unwrap_or(text))
                .map(Part::Field)
                .ok_or_else(|| format!("{{{text}}} is no path of a field")),
        }
    }

    fn fill(&self, source: &Key, place: &Place, element: &Map) -> Result<Key, DocError> {
        use std::fmt::Write;
        // A key of one field alone keeps the field's type.
        if let [Part::Field(path)] = &self.parts[..] {
            return key_of(field(element, path), &path.to_string());
        }
        let mut text = String::new();
        for part in &self.parts {
            let written = match part {
                Part::Text(plain) => text.write_str(plain),
                Part::Key => write!(text, "{source}"),
                Part::Index(width) => match place {
                    Place::Number(n) => write!(text, "{n:0width$}"),
                    Place::Name(name) => text.write_str(name),
                },
                Part::Field(path) => {
                    let key = key_of(field(element, path), &path.to_string())?;
                    write!(text, "{key}")
                }
            };
            // Writing to a string cannot fail.
            debug_assert!(written.is_ok());
        }
        Ok(Key::Text(text))
    }
}

enum Place {
    Number(usize),
    Name(String),
}

impl Place {
    fn value(&self) -> Value {
        match self {
            Place::Number(n) => Value::Int(i64::try_from(*n).unwrap_or(i64::MAX)),
            Place::Name(name) => Value::String(name.clone()),
        }
    }
}

fn field<'a>(map: &'a Map, path: &FieldPath) -> Option<&'a Value> {
    let (first, rest) = path.names().split_first()?;
    let mut value = map.get(first)?;
    for name in rest {
        let Value::Map(inner) = value else {
            return None;
        };
        value = inner.get(name)?;
    }
    Some(value)
}

fn key_of(value: Option<&Value>, path: &str) -> Result<Key, DocError> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Ok(Key::text(text.as_str())),
        Some(Value::Int(n)) => Ok(Key::Int(*n)),
        found => {
            let found = found.map_or("nothing", Value::type_name);
            let message = format!("a key needs a text or an int, but there is {found}");
            Err(DocError::new(Code::DocKey, message).at(path))
        }
    }
}

fn value_of(key: &Key) -> Value {
    match key {
        Key::Int(n) => Value::Int(*n),
        other => Value::String(other.to_string()),
    }
}

/// Adds a field, which must not be there already: a document's own must not be lost.
fn give(map: &mut Map, name: &str, value: Value) -> Result<(), DocError> {
    if map.contains_key(name) {
        let message = "the derived document has a field of this name already";
        return Err(DocError::new(Code::DocTransform, message).at(name));
    }
    map.insert(name.to_owned(), value);
    Ok(())
}

impl Split {
    fn elements(&self, doc: &mut Draft) -> Result<Vec<(Place, String, Value)>, DocError> {
        let path = &self.field;
        let elements = match path.get(doc)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(i, item)| (Place::Number(i), format!("{path}[{i}]"), item.clone()))
                .collect(),
            Some(Value::Map(map)) => map
                .iter()
                .map(|(name, item)| {
                    let place = format!("{path}.{name}");
                    (Place::Name(name.clone()), place, item.clone())
                })
                .collect(),
            Some(other) => {
                let message = format!(
                    "only an array or a map can be split, not {}",
                    other.type_name()
                );
                return Err(DocError::new(Code::DocType, message).at(path.to_string()));
            }
        };
        Ok(elements)
    }

    fn derive(
        &self,
        source: &Key,
        kept: &[(String, Value)],
        place: &Place,
        element: Value,
    ) -> Result<Emit, DocError> {
        let Value::Map(mut map) = element else {
            let message = format!("an element must be a map, not {}", element.type_name());
            return Err(DocError::new(Code::DocType, message));
        };
        let key = self.key.fill(source, place, &map)?;
        if let Some(parent) = &self.parent {
            give(&mut map, parent, value_of(source))?;
        }
        if let Some(index) = &self.index {
            give(&mut map, index, place.value())?;
        }
        for (name, value) in kept {
            give(&mut map, name, value.clone())?;
        }
        Ok(Emit {
            collection: None,
            key: Some(key),
            body: Body::Map(map),
        })
    }

    pub(crate) fn split(&self, source: &Key, doc: &mut Draft) -> Result<Vec<Emit>, DocError> {
        let mut kept = Vec::new();
        for path in &self.keep {
            if let (Some(value), Some(name)) = (path.get(doc)?, path.names().last()) {
                kept.push((name.clone(), value.clone()));
            }
        }
        self.elements(doc)?
            .into_iter()
            .map(|(place, at, element)| {
                self.derive(source, &kept, &place, element).map_err(|e| {
                    let at = e
                        .path
                        .as_ref()
                        .map_or(at.clone(), |path| format!("{at}.{path}"));
                    e.at(at)
                })
            })
            .collect()
    }
}

/// All documents of a group become one: the group's value is its key, the documents are an array.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The field that gets the array.
    pub field: String,
    /// Fields that go from the first document to the merged one. They must be the same in all documents
    /// that have them.
    pub lift: Vec<String>,
    /// Fields that the array's elements lose (as the one that they are grouped by).
    pub without: Vec<String>,
}

impl Merge {
    pub(crate) fn merge(&self, docs: Vec<(Key, Draft)>) -> Result<Map, DocError> {
        let mut merged = Map::new();
        let mut elements = Vec::with_capacity(docs.len());
        for (key, doc) in docs {
            let at = |e: DocError| {
                let message = format!("{} (in the group's document {key})", e.message);
                DocError { message, ..e }
            };
            let mut map = doc.into_map().map_err(|e| at(e.into()))?;
            for name in &self.lift {
                let Some(value) = map.shift_remove(name) else {
                    continue;
                };
                match merged.get(name) {
                    None => {
                        merged.insert(name.clone(), value);
                    }
                    Some(first) if *first == value => {}
                    Some(_) => {
                        let message = "the field to lift differs among the group's documents";
                        return Err(at(
                            DocError::new(Code::DocTransform, message).at(name.as_str())
                        ));
                    }
                }
            }
            for name in &self.without {
                map.shift_remove(name);
            }
            elements.push(Value::Map(map));
        }
        give(&mut merged, &self.field, Value::Array(elements))?;
        Ok(merged)
    }
}

/// What a rule does natively: it merges where it groups, then applies its operations, then splits.
pub(crate) struct Pipeline {
    pub(crate) merge: Option<Merge>,
    pub(crate) operations: Operations,
    pub(crate) split: Option<Split>,
    pub(crate) checksum: String,
}

impl Transform for Pipeline {
    fn apply(&self, input: TransformInput, cx: &DocContext<'_>) -> Result<Vec<Emit>, DocError> {
        let (source, key, mut doc) = match (&self.merge, input) {
            (None, input) => {
                let (key, doc) = one(input)?;
                (key, None, doc)
            }
            (Some(merge), TransformInput::Group { value, docs }) => {
                let key = key_of(Some(&value), "the group's value")?;
                let doc = Draft::from_map(merge.merge(docs)?);
                (key.clone(), Some(key), doc)
            }
            (Some(_), TransformInput::One { .. }) => {
                let message =
                    "the rule merges documents, but it was given one outside of any group";
                return Err(DocError::new(Code::DocTransform, message));
            }
        };
        if !self.operations.is_empty() {
            self.operations.apply(&mut doc, cx)?;
        }
        match &self.split {
            Some(split) => split.split(&source, &mut doc),
            None => Ok(vec![Emit {
                collection: None,
                key,
                body: doc.into_body(),
            }]),
        }
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}
