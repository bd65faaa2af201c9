//! Shows documents to the validator as plain JSON, without building that.

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, NodeIdentity, Object};
use std::borrow::Cow;
use whimbrel_model::draft::MemberRef;
use whimbrel_model::{Draft, GeoPoint, Map, Value, json};

/// The representation that validators of this crate read.
pub(crate) struct Document;

#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A draft all of whose members have been read.
    Draft(&'a Draft),
    Value(&'a Value),
    /// A number inside a vector or a geo point.
    Double(f64),
    /// A name, for `propertyNames`.
    Text(&'a str),
}

impl Json for Document {
    type Node<'a> = Node<'a>;
    type PreparedKey = String;
    type StringBuffer = String;

    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut String, string: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        buffer.clear();
        buffer.push_str(string);
        f(Node::Text(buffer))
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Fields<'a> {
    Draft(&'a Draft),
    Map(&'a Map),
    Geo(&'a GeoPoint),
}

#[derive(Clone, Copy)]
pub(crate) enum Items<'a> {
    Values(&'a [Value]),
    Doubles(&'a [f64]),
}

/// A number as it stands in the document.
pub(crate) enum Number<'a> {
    Int(i64),
    Double(f64),
    /// Beyond the others, by its literal.
    Decimal(&'a str),
}

impl<'a> Node<'a> {
    fn double(self) -> Option<f64> {
        match self {
            Node::Double(x) | Node::Value(&Value::Double(x)) => Some(x),
            _ => None,
        }
    }

    /// The number as a document's value, for exact arithmetic.
    pub(crate) fn as_numeric(&self) -> Option<Cow<'a, Value>> {
        match *self {
            Node::Value(value @ (Value::Int(_) | Value::Decimal(_))) => Some(Cow::Borrowed(value)),
            other => other
                .double()
                .filter(|x| x.is_finite())
                .map(|x| Cow::Owned(Value::Double(x))),
        }
    }
}

impl<'a> jsonschema::json::Node<'a, Document> for Node<'a> {
    type Object = Fields<'a>;
    type Array = Items<'a>;
    type Number = Number<'a>;

    fn as_object(&self) -> Option<Fields<'a>> {
        match *self {
            Node::Draft(doc) => Some(Fields::Draft(doc)),
            Node::Value(Value::Map(map)) => Some(Fields::Map(map)),
            Node::Value(Value::GeoPoint(point)) => Some(Fields::Geo(point)),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<Items<'a>> {
        match *self {
            Node::Value(Value::Array(items)) => Some(Items::Values(items)),
            Node::Value(Value::Vector(numbers)) => Some(Items::Doubles(numbers)),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match *self {
            Node::Text(text) => Some(Cow::Borrowed(text)),
            Node::Value(Value::String(text) | Value::Reference(text)) => Some(Cow::Borrowed(text)),
            Node::Value(value @ (Value::Timestamp(_) | Value::Bytes(_))) => {
                let mut out = Vec::new();
                json::write_plain(value, &mut out);
                match json::parse(&out) {
                    Ok(Value::String(text)) => Some(Cow::Owned(text)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn as_number(&self) -> Option<Number<'a>> {
        match *self {
            Node::Value(Value::Int(n)) => Some(Number::Int(*n)),
            Node::Value(Value::Decimal(decimal)) => Some(Number::Decimal(decimal.as_str())),
            other => other.double().filter(|x| x.is_finite()).map(Number::Double),
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match *self {
            Node::Value(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.json_type() == JsonType::Null
    }

    fn json_type(&self) -> JsonType {
        match *self {
            Node::Draft(_) => JsonType::Object,
            Node::Text(_) => JsonType::String,
            Node::Double(x) | Node::Value(&Value::Double(x)) => {
                if x.is_finite() {
                    JsonType::Number
                } else {
                    JsonType::Null
                }
            }
            Node::Value(value) => match value {
                Value::Null => JsonType::Null,
                Value::Bool(_) => JsonType::Boolean,
                Value::Int(_) | Value::Decimal(_) | Value::Double(_) => JsonType::Number,
                Value::Timestamp(_) | Value::String(_) | Value::Bytes(_) | Value::Reference(_) => {
                    JsonType::String
                }
                Value::Vector(_) | Value::Array(_) => JsonType::Array,
                Value::GeoPoint(_) | Value::Map(_) => JsonType::Object,
            },
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        use serde_json::Value as J;
        match expected {
            J::Null => self.is_null(),
            J::Bool(flag) => self.as_boolean() == Some(*flag),
            J::Number(number) => self
                .as_numeric()
                .is_some_and(|n| super::numbers::compare(&n, number).is_eq()),
            J::String(text) => self.as_string().is_some_and(|own| own == text.as_str()),
            J::Array(items) => self.as_array().is_some_and(|own| {
                own.len() == items.len()
                    && own.elements().zip(items).all(|(a, b)| a.equals_value(b))
            }),
            J::Object(map) => self.as_object().is_some_and(|own| {
                own.len() == map.len()
                    && map
                        .iter()
                        .all(|(name, b)| own.get(name).is_some_and(|a| a.equals_value(b)))
            }),
        }
    }

    /// Only for the validator's own messages, which are never shown: they hold values.
    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(serde_json::Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        match *self {
            Node::Draft(doc) => Some(NodeIdentity::new(std::ptr::from_ref(doc) as usize)),
            Node::Value(value) => Some(NodeIdentity::new(std::ptr::from_ref(value) as usize)),
            Node::Double(_) | Node::Text(_) => None,
        }
    }
}

fn member(doc: &Draft, at: usize) -> Option<(&str, Node<'_>)> {
    match doc.member_at(at)? {
        (name, MemberRef::Value(value)) => Some((name, Node::Value(value))),
        (name, MemberRef::Json(_)) => Some((name, Node::Value(&Value::Null))),
    }
}

const GEO: [&str; 2] = ["latitude", "longitude"];

impl<'a> Fields<'a> {
    fn at(&self, at: usize) -> Option<(&'a str, Node<'a>)> {
        match *self {
            Fields::Draft(doc) => member(doc, at),
            Fields::Map(map) => map
                .get_index(at)
                .map(|(name, value)| (name.as_str(), Node::Value(value))),
            Fields::Geo(point) => {
                let number = [point.latitude, point.longitude];
                Some((*GEO.get(at)?, Node::Double(number[at])))
            }
        }
    }
}

impl<'a> Object<'a, Document> for Fields<'a> {
    type Node = Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        match self {
            Fields::Draft(doc) => doc.len(),
            Fields::Map(map) => map.len(),
            Fields::Geo(_) => GEO.len(),
        }
    }

    fn get(&self, key: &String) -> Option<Node<'a>> {
        let at = match self {
            Fields::Draft(doc) => doc.position(key)?,
            Fields::Map(map) => map.get_index_of(key)?,
            Fields::Geo(_) => GEO.iter().position(|name| name == key)?,
        };
        self.at(at).map(|(_, node)| node)
    }

    fn members(&self) -> Members<'a> {
        Members { of: *self, at: 0 }
    }
}

pub(crate) struct Members<'a> {
    of: Fields<'a>,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let member = self.of.at(self.at)?;
        self.at += 1;
        Some(member)
    }
}

impl<'a> Array<'a, Document> for Items<'a> {
    type Node = Node<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        match self {
            Items::Values(values) => values.len(),
            Items::Doubles(numbers) => numbers.len(),
        }
    }

    fn elements(&self) -> Elements<'a> {
        Elements { of: *self, at: 0 }
    }

    fn is_unique(&self) -> bool {
        let mut seen: Vec<Node<'a>> = Vec::new();
        let mut hashes = std::collections::HashMap::<u64, Vec<usize>>::new();
        for node in self.elements() {
            let same = hashes.entry(super::numbers::rough_hash(&node)).or_default();
            if same.iter().any(|i| super::numbers::equal(&seen[*i], &node)) {
                return false;
            }
            same.push(seen.len());
            seen.push(node);
        }
        true
    }
}

pub(crate) struct Elements<'a> {
    of: Items<'a>,
    at: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let at = self.at;
        self.at += 1;
        match self.of {
            Items::Values(values) => values.get(at).map(Node::Value),
            Items::Doubles(numbers) => numbers.get(at).copied().map(Node::Double),
        }
    }
}

impl JsonNumber for Number<'_> {
    fn as_u64(&self) -> Option<u64> {
        match self {
            Number::Int(n) => u64::try_from(*n).ok(),
            Number::Double(_) => None,
            Number::Decimal(literal) => literal.parse().ok(),
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Number::Int(n) => Some(*n),
            Number::Double(_) | Number::Decimal(_) => None,
        }
    }

    /// None for a decimal: no number of a schema equals one that is neither an integer nor a double.
    fn as_f64(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Number::Int(n) => Some(*n as f64),
            Number::Double(x) => Some(*x),
            Number::Decimal(_) => None,
        }
    }

    fn as_str(&self) -> Cow<'_, str> {
        match self {
            Number::Int(n) => Cow::Owned(n.to_string()),
            Number::Double(x) => Cow::Owned(x.to_string()),
            Number::Decimal(literal) => Cow::Borrowed(literal),
        }
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let double = |x: f64| serde_json::Number::from_f64(x).unwrap_or_else(|| 0.into());
        Cow::Owned(match self {
            Number::Int(n) => (*n).into(),
            Number::Double(x) => double(*x),
            Number::Decimal(literal) => double(literal.parse().unwrap_or(0.0)),
        })
    }

    fn is_integer(&self) -> bool {
        match self {
            Number::Int(_) => true,
            Number::Double(x) => x.fract() == 0.0,
            Number::Decimal(literal) => super::numbers::is_whole(literal),
        }
    }
}
