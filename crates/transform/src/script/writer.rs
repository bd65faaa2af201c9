//! JavaScript values to tagged JSON.
//!
//! What is written anew keeps its type:
//! - The engine tells `1` from `1.0` by its own tag, and the tag travels with the value. A whole number
//!   with the tag of a double is a double again if the document had that very double, else an integer.
//! - Where a value lost its tag (`JSON.parse(JSON.stringify(doc))`), a whole number has the type of the
//!   same number at the same place of the document: its *twin*.

use super::fault::Fault;
use super::inward::{self, Looked};
use super::sandbox::{Part, Session};
use rquickjs::{Object, Value};
use whimbrel_model::{Code, Decimal, GeoPoint, Map, Timestamp, Value as Model, json};

/// A container whose content is being written.
enum Frame<'t, 'js> {
    Array(ArrayFrame<'t, 'js>),
    Members(MembersFrame<'t, 'js>),
}

impl Frame<'_, '_> {
    /// The way from the container to what is being written of it.
    fn step(&self) -> String {
        match self {
            Frame::Array(array) => format!("[{}]", array.next.saturating_sub(1)),
            Frame::Members(members) => members.name.clone(),
        }
    }
}

struct ArrayFrame<'t, 'js> {
    array: Object<'js>,
    length: u32,
    next: u32,
    twin: Option<&'t Model>,
}

/// The next value to write, with what the source has at its place; `None` at the end.
type Next<'t, 'js> = Result<Option<(Value<'js>, Option<&'t Model>)>, Fault>;

impl<'t, 'js> ArrayFrame<'t, 'js> {
    fn next(&mut self, out: &mut Vec<u8>) -> Next<'t, 'js> {
        if self.next == self.length {
            out.push(b']');
            return Ok(None);
        }
        if self.next > 0 {
            out.push(b',');
        }
        let at = self.next;
        self.next += 1;
        let twin = match self.twin {
            Some(Model::Array(items)) => items.get(at as usize),
            _ => None,
        };
        Ok(Some((self.array.get(at)?, twin)))
    }
}

struct MembersFrame<'t, 'js> {
    /// Where the object begins in what is written.
    start: usize,
    properties: rquickjs::object::ObjectIter<'js, rquickjs::String<'js>, Value<'js>>,
    written: u32,
    name: String,
    /// Where the last member's value begins.
    content: usize,
    twin: Option<&'t Model>,
}

impl<'t, 'js> MembersFrame<'t, 'js> {
    fn next(&mut self, out: &mut Vec<u8>) -> Next<'t, 'js> {
        for property in self.properties.by_ref() {
            let (name, value) = property?;
            if value.is_undefined() {
                continue;
            }
            self.name = key_text(&name)?;
            if self.written > 0 {
                out.push(b',');
            }
            self.written += 1;
            json::write_string(&self.name, out);
            out.push(b':');
            self.content = out.len();
            let twin = match self.twin {
                Some(Model::Map(map)) => map.get(&self.name),
                _ => None,
            };
            return Ok(Some((value, twin)));
        }
        // An object of the script's own that looks like a tagged value must be written escaped.
        if self.written == 1 && self.name.starts_with('$') {
            let inner = json::parse(&out[self.content..])?;
            out.truncate(self.start);
            let name = std::mem::take(&mut self.name);
            json::write(&Model::Map(Map::from_iter([(name, inner)])), out);
        } else {
            out.push(b'}');
        }
        Ok(None)
    }
}

/// Writes one value after the other into `out`.
pub(super) struct Writer<'s, 'js> {
    pub session: &'s Session<'s, 'js>,
    pub out: Vec<u8>,
    steps: u32,
}

impl<'s, 'js> Writer<'s, 'js> {
    pub fn new(session: &'s Session<'_, 'js>) -> Self {
        Self {
            session,
            out: Vec::new(),
            steps: 0,
        }
    }

    /// Writes a value with all that is in it. Not recursive: a result may be as deep as it likes.
    pub fn value(&mut self, value: &Value<'js>, twin: Option<&Model>) -> Result<(), Fault> {
        let mut stack = Vec::new();
        let written = self
            .begin(value, twin, &mut stack)
            .and_then(|()| self.rest(&mut stack));
        written.map_err(|fault| {
            stack
                .iter()
                .rev()
                .fold(fault, |f, frame| f.under(&frame.step()))
        })
    }

    fn rest<'t>(&mut self, stack: &mut Vec<Frame<'t, 'js>>) -> Result<(), Fault> {
        while let Some(frame) = stack.last_mut() {
            self.pace()?;
            let next = match frame {
                Frame::Array(array) => array.next(&mut self.out)?,
                Frame::Members(members) => members.next(&mut self.out)?,
            };
            match next {
                Some((value, twin)) => self.begin(&value, twin, stack)?,
                None => {
                    stack.pop();
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// Time or room is over.
    fn pace(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps.is_multiple_of(256) {
            self.session.check_time()?;
            if self.out.len() > self.session.limits.memory_bytes {
                return Err(Fault::doc(Code::DocMemory, "the result is too large"));
            }
        }
        Ok(())
    }

    /// Writes a value; of a container with content only the bracket, leaving the rest to the stack.
    fn begin<'t>(
        &mut self,
        value: &Value<'js>,
        twin: Option<&'t Model>,
        stack: &mut Vec<Frame<'t, 'js>>,
    ) -> Result<(), Fault> {
        if let Some(text) = value.as_string() {
            json::write_string(&text.to_string()?, &mut self.out);
        } else if let Some(n) = value.as_int() {
            self.int(n, twin);
        } else if let Some(f) = value.as_float() {
            self.float(f, twin);
        } else if let Some(b) = value.as_bool() {
            self.out
                .extend_from_slice(if b { b"true" } else { b"false" });
        } else if value.is_null() {
            self.out.extend_from_slice(b"null");
        } else if value.is_big_int() {
            // A literal beyond 64 bits is read as a decimal.
            self.out
                .extend_from_slice(text_of(self.session, value)?.as_bytes());
        } else if let Some(object) = value.as_object() {
            return self.object(object, twin, stack);
        } else {
            return Err(refused(value));
        }
        Ok(())
    }

    fn int(&mut self, n: i32, twin: Option<&Model>) {
        match twin {
            Some(Model::Double(f)) if *f == f64::from(n) => {
                json::write(&Model::Double(*f), &mut self.out)
            }
            _ => json::write(&Model::Int(i64::from(n)), &mut self.out),
        }
    }

    fn float(&mut self, f: f64, twin: Option<&Model>) {
        // 2^53: from here on, a whole number may be another one rounded.
        let whole = f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0;
        #[allow(clippy::cast_precision_loss)]
        let was_int = matches!(twin, Some(Model::Int(n)) if *n as f64 == f);
        let read = || {
            inward::lock(self.session.lazies)
                .whole_doubles
                .contains(&f.to_bits())
        };
        if whole && (was_int || !read()) {
            #[allow(clippy::cast_possible_truncation)]
            json::write(&Model::Int(f as i64), &mut self.out);
        } else {
            json::write(&Model::Double(f), &mut self.out);
        }
    }

    fn object<'t>(
        &mut self,
        object: &Object<'js>,
        twin: Option<&'t Model>,
        stack: &mut Vec<Frame<'t, 'js>>,
    ) -> Result<(), Fault> {
        let target = match lazy_id(object.as_value())? {
            None => object.clone(),
            Some(id) => {
                let lazies = inward::lock(self.session.lazies);
                match lazies.looked(id) {
                    Looked::Never(range) => {
                        self.out.extend_from_slice(lazies.json(range));
                        return Ok(());
                    }
                    Looked::Stale => {
                        return Err(Fault::doc(
                            Code::DocResult,
                            "a value belongs to an earlier document",
                        ));
                    }
                    Looked::Yes => target_of(object)?,
                }
            }
        };
        // The document itself is one level.
        if stack.len() + 1 >= json::MAX_DEPTH as usize {
            return Err(Fault::doc(
                Code::DocResult,
                format!(
                    "the result is nested more than {} deep, or contains itself",
                    json::MAX_DEPTH
                ),
            ));
        }
        if target.is_array() {
            self.out.push(b'[');
            stack.push(Frame::Array(ArrayFrame {
                length: length_of(&target)?,
                array: target,
                next: 0,
                twin,
            }));
        } else if target.is_function() {
            return Err(refused(target.as_value()));
        } else if is_plain(self.session, &target) {
            stack.push(Frame::Members(MembersFrame {
                start: self.out.len(),
                properties: target.own_props(rquickjs::Filter::default()),
                written: 0,
                name: String::new(),
                content: 0,
                twin,
            }));
            self.out.push(b'{');
        } else {
            return self.special(&target);
        }
        Ok(())
    }

    /// A value that JSON has no type for.
    fn special(&mut self, object: &Object<'js>) -> Result<(), Fault> {
        let described: Vec<Value<'js>> = self
            .session
            .kit
            .function(Part::Describe)?
            .call((object.clone(),))?;
        let text = |i: usize| -> Result<String, Fault> {
            Ok(described.get(i).ok_or(Fault::Engine)?.get::<String>()?)
        };
        let number = |i: usize| -> Result<f64, Fault> {
            let value: Option<f64> = described.get(i).and_then(Value::as_number);
            value.ok_or(Fault::Engine)
        };
        let value = match text(0)?.as_str() {
            #[allow(clippy::cast_possible_truncation)]
            "date" => Model::Timestamp(Timestamp::from_millis(number(1)? as i64)),
            "instant" => Model::Timestamp(Timestamp::parse(&text(1)?).ok_or(Fault::Engine)?),
            "decimal" => Model::Decimal(Decimal::new(text(1)?).ok_or(Fault::Engine)?),
            "reference" => Model::Reference(text(1)?),
            "geopoint" => Model::GeoPoint(GeoPoint {
                latitude: number(1)?,
                longitude: number(2)?,
            }),
            "vector" => {
                let items: Vec<f64> = described.get(1).ok_or(Fault::Engine)?.get()?;
                Model::Vector(items)
            }
            "bytes" => {
                self.out.extend_from_slice(b"{\"$bytes\":\"");
                self.out.extend_from_slice(text(1)?.as_bytes());
                self.out.extend_from_slice(b"\"}");
                return Ok(());
            }
            _ => {
                return Err(Fault::doc(
                    Code::DocResult,
                    format!("the result holds {}", text(1)?),
                ));
            }
        };
        json::write(&value, &mut self.out);
        Ok(())
    }
}

/// A big integer's digits.
pub(super) fn text_of<'js>(
    session: &Session<'_, 'js>,
    value: &Value<'js>,
) -> Result<String, Fault> {
    Ok(session.kit.function(Part::Text)?.call((value.clone(),))?)
}

/// An array's length. Engine and standard allow more than an `i32`, so that this is a number first.
pub(super) fn length_of(array: &Object<'_>) -> Result<u32, Fault> {
    let length: Value<'_> = array.get("length")?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(length.as_number().unwrap_or(0.0) as u32)
}

/// Whether an object is an array, looked into or not.
pub(super) fn is_list(object: &Object<'_>) -> Result<bool, Fault> {
    Ok(target_of(object)?.is_array())
}

fn refused(value: &Value<'_>) -> Fault {
    let what = match value.type_of() {
        rquickjs::Type::Undefined => "undefined (where null may be meant)",
        rquickjs::Type::Symbol => "a symbol",
        rquickjs::Type::Function | rquickjs::Type::Constructor => "a function",
        rquickjs::Type::Promise => "a promise (transforms finish at once: no async)",
        _ => "a value that no document can hold",
    };
    Fault::doc(Code::DocResult, format!("the result holds {what}"))
}

pub(super) fn key_text(name: &rquickjs::String<'_>) -> Result<String, Fault> {
    name.to_string()
        .map_err(|_| Fault::doc(Code::DocLoneSurrogate, Code::DocLoneSurrogate.title()))
}

/// The number of a lazy container; `None` for anything else.
pub(super) fn lazy_id(value: &Value<'_>) -> Result<Option<f64>, Fault> {
    if !value.is_proxy() {
        return Ok(None);
    }
    let proxy = value.as_proxy().ok_or(Fault::Engine)?;
    Ok(Some(proxy.handler()?.get("id")?))
}

pub(super) fn target_of<'js>(object: &Object<'js>) -> Result<Object<'js>, Fault> {
    match object.as_value().as_proxy() {
        Some(proxy) => Ok(proxy.target()?),
        None => Ok(object.clone()),
    }
}

pub(super) fn is_plain<'js>(session: &Session<'_, 'js>, object: &Object<'js>) -> bool {
    match object.get_prototype() {
        None => true,
        Some(prototype) => prototype.as_value() == session.kit.part(Part::ObjectPrototype),
    }
}
