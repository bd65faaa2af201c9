//! What operations work on: a document's own fields, or those of a map inside it.

use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocError, Draft, Map, Value, json};

/// A set of fields. On a draft, only the members that are looked into are parsed.
pub(crate) enum Target<'a> {
    Doc(&'a mut Draft),
    Map(&'a mut Map),
}

/// A value known beforehand, and its tagged JSON, written once.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    pub(crate) value: Value,
    json: bytes::Bytes,
}

impl Fixed {
    pub(crate) fn new(value: Value) -> Self {
        let mut out = Vec::new();
        json::write(&value, &mut out);
        Self {
            value,
            json: out.into(),
        }
    }
}

pub(crate) fn wrong_type(path: impl ToString, found: &Value, wanted: &str) -> DocError {
    DocError::new(
        Code::DocType,
        format!("the field is {}, not {wanted}", with_article(found)),
    )
    .at(path.to_string())
}

fn with_article(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(_) | Value::Array(_) => format!("an {}", value.type_name()),
        _ => format!("a {}", value.type_name()),
    }
}

pub(crate) fn missing(path: &FieldPath) -> DocError {
    DocError::new(Code::DocType, "a required field is missing").at(path.to_string())
}

/// Puts the place of an element before the path of an error inside it.
pub(crate) fn inside(error: DocError, place: &str) -> DocError {
    let path = match &error.path {
        Some(path) => format!("{place}.{path}"),
        None => place.to_owned(),
    };
    error.at(path)
}

impl<'a> Target<'a> {
    pub(crate) fn reborrow(&mut self) -> Target<'_> {
        match self {
            Target::Doc(doc) => Target::Doc(doc),
            Target::Map(map) => Target::Map(map),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Target::Doc(doc) => doc.len(),
            Target::Map(map) => map.len(),
        }
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        match self {
            Target::Doc(doc) => doc.position(name),
            Target::Map(map) => map.get_index_of(name),
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn get(&mut self, name: &str) -> Result<Option<&Value>, DocError> {
        match self {
            Target::Doc(doc) => doc.get(name).map_err(|e| DocError::from(e).at(name)),
            Target::Map(map) => Ok(map.get(name)),
        }
    }

    pub(crate) fn into_mut(self, name: &str) -> Result<Option<&'a mut Value>, DocError> {
        match self {
            Target::Doc(doc) => doc.get_mut(name).map_err(|e| DocError::from(e).at(name)),
            Target::Map(map) => Ok(map.get_mut(name)),
        }
    }

    /// Sets a field where it stands; a new one goes to the end.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        match self {
            Target::Doc(doc) => doc.set(name, value),
            Target::Map(map) => match map.get_mut(name) {
                Some(slot) => *slot = value,
                None => {
                    map.insert(name.to_owned(), value);
                }
            },
        }
    }

    pub(crate) fn put_fixed(&mut self, name: &str, fixed: &Fixed) {
        match self {
            Target::Doc(doc) => doc.set_json(name, fixed.json.clone()),
            Target::Map(_) => self.put(name, fixed.value.clone()),
        }
    }

    /// Puts a field at a place, or at the end where `at` is unknown or too great; one that is there
    /// already is set where it stands.
    pub(crate) fn insert(&mut self, at: Option<usize>, name: &str, value: Value) {
        let at = at.unwrap_or(usize::MAX).min(self.len());
        match self {
            Target::Doc(doc) => doc.insert(at, name, value),
            Target::Map(map) if map.contains_key(name) => {
                map.insert(name.to_owned(), value);
            }
            Target::Map(map) => {
                map.shift_insert(at, name.to_owned(), value);
            }
        }
    }

    /// Takes a field out, with the place it had (`None`: the last).
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<(Value, Option<usize>)>, DocError> {
        let Some(at) = self.position(name) else {
            return Ok(None);
        };
        let place = (at + 1 < self.len()).then_some(at);
        let value = match self {
            Target::Doc(doc) => doc.take(name).map_err(|e| DocError::from(e).at(name))?,
            Target::Map(map) => map.shift_remove(name),
        };
        Ok(value.map(|value| (value, place)))
    }

    /// Drops a field unparsed.
    pub(crate) fn remove(&mut self, name: &str) {
        match self {
            Target::Doc(doc) => {
                doc.remove(name);
            }
            Target::Map(map) => {
                map.shift_remove(name);
            }
        }
    }

    /// Renames a field where it stands, unparsed. One that has the new name already is replaced.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        match self {
            Target::Doc(doc) => {
                doc.rename(from, to);
            }
            Target::Map(map) => {
                if from != to && map.contains_key(from) {
                    map.shift_remove(to);
                    if let Some((at, _, value)) = map.shift_remove_full(from) {
                        map.shift_insert(at, to.to_owned(), value);
                    }
                }
            }
        }
    }

    /// Whether the field is there, without parsing it where its name alone says so.
    pub(crate) fn has(&mut self, path: &FieldPath) -> Result<bool, DocError> {
        match path.names() {
            [name] => Ok(self.contains(name)),
            _ => Ok(self.peek(path)?.is_some()),
        }
    }

    /// The field's value. A missing or null map on the way means that the field is missing; anything
    /// else that is no map is an error.
    pub(crate) fn peek(&mut self, path: &FieldPath) -> Result<Option<&Value>, DocError> {
        let names = path.names();
        let Some(mut value) = self.get(&names[0])? else {
            return Ok(None);
        };
        for (depth, name) in names.iter().enumerate().skip(1) {
            match value {
                Value::Map(map) => match map.get(name) {
                    Some(inner) => value = inner,
                    None => return Ok(None),
                },
                Value::Null => return Ok(None),
                other => return Err(wrong_type(way(names, depth), other, "a map")),
            }
        }
        Ok(Some(value))
    }

    /// The fields among which the path's last name stands; `None` where they are missing.
    pub(crate) fn parent(self, path: &FieldPath) -> Result<Option<Target<'a>>, DocError> {
        let names = path.names();
        let mut on = self;
        for depth in 1..names.len() {
            match on.into_mut(&names[depth - 1])? {
                Some(Value::Map(map)) => on = Target::Map(map),
                None | Some(Value::Null) => return Ok(None),
                Some(other) => return Err(wrong_type(way(names, depth), other, "a map")),
            }
        }
        Ok(Some(on))
    }

    /// As [`Target::parent`], making what is missing. Says how many maps were made.
    pub(crate) fn parent_made(self, path: &FieldPath) -> Result<(Target<'a>, usize), DocError> {
        let names = path.names();
        let mut on = self;
        let mut made = 0;
        for depth in 1..names.len() {
            let name = &names[depth - 1];
            if !on.contains(name) {
                on.put(name, Value::Map(Map::new()));
                made += 1;
            }
            match on.into_mut(name)? {
                Some(Value::Map(map)) => on = Target::Map(map),
                Some(other) => return Err(wrong_type(way(names, depth), other, "a map")),
                None => return Err(missing(path)),
            }
        }
        Ok((on, made))
    }

    /// Drops the innermost `made` maps on the way to `path`, as far as they are empty now.
    pub(crate) fn unmake(&mut self, path: &FieldPath, made: usize) -> Result<(), DocError> {
        let names = path.names();
        for drop in 0..made.min(names.len() - 1) {
            let Some(place) = FieldPath::from_names(names[..names.len() - 1 - drop].to_vec())
            else {
                return Ok(());
            };
            if !matches!(self.peek(&place)?, Some(Value::Map(map)) if map.is_empty()) {
                return Ok(());
            }
            if let Some(mut parent) = self.reborrow().parent(&place)? {
                parent.remove(last(&place));
            }
        }
        Ok(())
    }

    /// Replaces the value of a field that is there.
    pub(crate) fn replace(&mut self, path: &FieldPath, value: Value) -> Result<(), DocError> {
        if let Some(mut parent) = self.reborrow().parent(path)? {
            parent.put(last(path), value);
        }
        Ok(())
    }
}

pub(crate) fn last(path: &FieldPath) -> &str {
    path.names().last().map_or("", String::as_str)
}

fn way(names: &[String], depth: usize) -> String {
    FieldPath::from_names(names[..depth].to_vec()).map_or_else(String::new, |path| path.to_string())
}
