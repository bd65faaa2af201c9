//! Building values.

use super::number::{Number, Shape, classify};
use super::reader::{Build, Member, Reader, Result, Text};
use super::scan::facts;
use super::tag::{Single, dollars, single};
use super::{JsonError, JsonErrorKind};
use crate::{Decimal, Map, Value};

/// Elements and members of all open containers, one above the other, so that each array and map is
/// made once, in its final size.
#[derive(Default)]
struct Values {
    elements: Vec<Value>,
    members: Vec<(String, Value)>,
}

impl Build for Values {
    // A map notices a name that it already has.
    const CHECK_NAMES: bool = false;
    type Value = Value;
    type Array = usize;
    type Object = usize;

    fn null(&mut self) -> Value {
        Value::Null
    }

    fn bool(&mut self, bool: bool) -> Value {
        Value::Bool(bool)
    }

    fn number(&mut self, literal: &str, shape: Shape) -> Value {
        number(literal, shape)
    }

    fn string(&mut self, text: Text, source: &str) -> Result<Value> {
        Ok(Value::String(text.resolve(source)?.into_owned()))
    }

    fn array(&mut self) -> usize {
        self.elements.len()
    }

    fn element(&mut self, _: &mut usize, value: Value) {
        self.elements.push(value);
    }

    fn end_array(&mut self, base: usize) -> Value {
        Value::Array(self.elements.drain(base..).collect())
    }

    fn object(&mut self, _: u32) -> usize {
        self.members.len()
    }

    fn member(&mut self, _: &mut usize, member: Member<Value>, source: &str) -> Result<()> {
        let name = member.name.resolve(source)?.into_owned();
        self.members.push((name, member.value));
        Ok(())
    }

    fn end_object(&mut self, base: usize, _: &str) -> Result<Value> {
        let members = self.members.len() - base;
        if members == 1
            && let Some((name, _)) = self.members.last()
            && dollars(name) > 0
            && let Some((name, value)) = self.members.pop()
        {
            return Ok(match single(name, value) {
                Single::Tagged(value) => value,
                Single::Member(name, value) => Value::Map(Map::from_iter([(name, value)])),
            });
        }
        let mut map = Map::with_capacity(members);
        for (name, value) in self.members.drain(base..) {
            if map.insert(name, value).is_some() {
                return Err(JsonError {
                    kind: JsonErrorKind::DuplicateKey,
                    at: 0,
                    what: "a field that the object already has",
                }
                .into());
            }
        }
        Ok(Value::Map(map))
    }
}

pub(super) fn number(literal: &str, shape: Shape) -> Value {
    match classify(literal, shape) {
        Number::Int(int) => Value::Int(int),
        Number::Double(double) => Value::Double(double),
        // The reader has checked the syntax, so there always is one.
        Number::Decimal => Decimal::new(literal).map_or(Value::Null, Value::Decimal),
    }
}

pub(super) fn value(bytes: &[u8]) -> Result<Value> {
    let read = Reader::new(bytes, Values::default())?.read();
    match read {
        // Building does not know where the name stood; validating does.
        Err(error) if error.kind == JsonErrorKind::DuplicateKey => {
            Err(facts(bytes).err().unwrap_or(error))
        }
        read => read,
    }
}
