//! Tagged JSON to JavaScript values, without a text trip through the engine.
//!
//! A container of some size becomes a *lazy* one: a proxy whose target is filled at the first look. A
//! script that only passes it on costs nothing, and its very bytes come back (see `outward`).

use super::fault::Fault;
use super::sandbox::{Kit, Part};
use rquickjs::proxy::ProxyHandler;
use rquickjs::{Array, BigInt, Ctx, Object, Proxy, TypedArray, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whimbrel_model::{Code, DocError, Value as Model, json};

/// Containers below this many bytes are cheaper built than put off.
const LAZY_BYTES_MIN: usize = 64;

/// Beyond this, a JavaScript number no longer tells whole numbers apart.
const SAFE_INT_MAX: i64 = (1 << 53) - 1;

pub(super) type Shared = Arc<Mutex<Lazies>>;

pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Lazies> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lazy containers of the document at work.
#[derive(Debug, Default)]
pub(super) struct Lazies {
    /// The JSON that the spans lie in.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// The number of the first span. Numbers are never used twice, so that a container that outlived its
    /// document is noticed.
    base: u64,
    /// The doubles without a fraction that were handed out, as bits: JavaScript calls them integers, and
    /// they must come back as doubles.
    pub whole_doubles: Vec<u64>,
    /// Why a container could not be filled.
    pub error: Option<DocError>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    open: bool,
}

/// What has become of a lazy container.
pub(super) enum Looked {
    /// Nobody looked: its JSON still holds.
    Never(std::ops::Range<usize>),
    Yes,
    /// It belongs to an earlier document.
    Stale,
}

impl Lazies {
    /// Forgets the last document.
    pub fn begin(&mut self) {
        self.base += self.spans.len() as u64;
        self.spans.clear();
        self.bytes.clear();
        self.whole_doubles.clear();
        self.error = None;
    }

    fn add(&mut self, start: usize, end: usize) -> u64 {
        self.spans.push(Span {
            start,
            end,
            open: false,
        });
        self.base + self.spans.len() as u64 - 1
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn index(&self, id: f64) -> Option<usize> {
        let index = (id as u64).checked_sub(self.base)?;
        usize::try_from(index)
            .ok()
            .filter(|i| *i < self.spans.len())
    }

    pub fn looked(&self, id: f64) -> Looked {
        match self.index(id).map(|i| self.spans[i]) {
            None => Looked::Stale,
            Some(span) if span.open => Looked::Yes,
            Some(span) => Looked::Never(span.start..span.end),
        }
    }

    pub fn json(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

/// Fills a lazy container's target: what sandbox.js calls at the first look.
pub(super) fn fill<'js>(
    ctx: &Ctx<'js>,
    shared: &Shared,
    target: &Object<'js>,
    id: f64,
) -> rquickjs::Result<()> {
    let mut lazies = lock(shared);
    let Some(index) = lazies.index(id) else {
        return Err(rquickjs::Exception::throw_type(
            ctx,
            "this value belongs to an earlier document",
        ));
    };
    let span = lazies.spans[index];
    lazies.spans[index].open = true;
    let Some(values) = ctx.userdata::<Vec<Value<'js>>>() else {
        return Err(rquickjs::Error::Unknown);
    };
    let kit = Kit::new(ctx.clone(), values.clone());
    // Taken out so that the reader can add spans meanwhile; nothing else reads the bytes until then.
    let bytes = std::mem::take(&mut lazies.bytes);
    let mut reader = Reader {
        kit: &kit,
        lazies: &mut lazies,
        source: &bytes[..span.end],
        at: span.start,
    };
    let filled = match target.as_array() {
        Some(array) => reader.elements(array),
        None => reader.members(target),
    };
    lazies.bytes = bytes;
    match filled {
        Ok(()) => Ok(()),
        Err(Fault::Js(error)) => Err(error),
        Err(Fault::Doc(error)) => {
            lazies.error = Some(*error);
            Err(rquickjs::Exception::throw_type(
                ctx,
                "the document cannot be read",
            ))
        }
        Err(Fault::Engine) => Err(rquickjs::Error::Unknown),
    }
}

/// The JavaScript value of one JSON text.
pub(super) fn value<'js>(
    kit: &Kit<'js>,
    shared: &Shared,
    text: &[u8],
) -> Result<Value<'js>, Fault> {
    let mut lazies = lock(shared);
    if text.len() < LAZY_BYTES_MIN || !matches!(text.first(), Some(b'{' | b'[')) {
        // No part of it will be lazy, so that it need not be kept.
        let mut reader = Reader {
            kit,
            lazies: &mut lazies,
            source: text,
            at: 0,
        };
        return reader.value();
    }
    let start = lazies.bytes.len();
    lazies.bytes.extend_from_slice(text);
    let bytes = std::mem::take(&mut lazies.bytes);
    let mut reader = Reader {
        kit,
        lazies: &mut lazies,
        source: &bytes,
        at: start,
    };
    let value = reader.value();
    lazies.bytes = bytes;
    value
}

pub(super) fn int_value<'js>(ctx: &Ctx<'js>, n: i64) -> Result<Value<'js>, Fault> {
    if let Ok(small) = i32::try_from(n) {
        return Ok(Value::new_int(ctx.clone(), small));
    }
    if n.unsigned_abs() <= SAFE_INT_MAX.unsigned_abs() {
        #[allow(clippy::cast_precision_loss)]
        return Ok(Value::new_float(ctx.clone(), n as f64));
    }
    Ok(BigInt::from_i64(ctx.clone(), n)?.into_value())
}

pub(super) fn text_value<'js>(ctx: &Ctx<'js>, text: &str) -> Result<Value<'js>, Fault> {
    Ok(rquickjs::String::from_str(ctx.clone(), text)?.into_value())
}

struct Reader<'r, 'js> {
    kit: &'r Kit<'js>,
    lazies: &'r mut Lazies,
    source: &'r [u8],
    at: usize,
}

fn malformed() -> Fault {
    Fault::doc(Code::DocMalformed, Code::DocMalformed.title())
}

impl<'r, 'js> Reader<'r, 'js> {
    fn skip_space(&mut self) {
        while matches!(self.source.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.source.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(malformed())
        }
    }

    fn value(&mut self) -> Result<Value<'js>, Fault> {
        let ctx = || self.kit.ctx.clone();
        match self.peek().ok_or_else(malformed)? {
            b'"' => {
                let (inside, escaped) = self.string()?;
                if escaped {
                    text_value(&self.kit.ctx, &json::unescape(inside)?)
                } else {
                    let text = std::str::from_utf8(inside).map_err(|_| malformed())?;
                    text_value(&self.kit.ctx, text)
                }
            }
            b'{' | b'[' => self.container(),
            b't' => self.word(b"true").map(|()| Value::new_bool(ctx(), true)),
            b'f' => self.word(b"false").map(|()| Value::new_bool(ctx(), false)),
            b'n' => self.word(b"null").map(|()| Value::new_null(ctx())),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.source[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(malformed())
        }
    }

    /// The inside of the string that begins here, and whether it has escapes.
    fn string(&mut self) -> Result<(&'r [u8], bool), Fault> {
        let source = self.source;
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            let rest = source.get(at..).ok_or_else(malformed)?;
            let step = memchr::memchr2(b'"', b'\\', rest).ok_or_else(malformed)?;
            at += step;
            if source[at] == b'"' {
                self.at = at + 1;
                return Ok((&source[start..at], escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    fn number(&mut self) -> Result<Value<'js>, Fault> {
        let start = self.at;
        while matches!(
            self.source.get(self.at),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        ) {
            self.at += 1;
        }
        let literal = &self.source[start..self.at];
        if literal.iter().all(|b| b.is_ascii_digit() || *b == b'-') && literal != b"-0" {
            let text = std::str::from_utf8(literal).map_err(|_| malformed())?;
            if let Ok(n) = text.parse::<i64>() {
                return int_value(&self.kit.ctx, n);
            }
        }
        let value = json::parse(literal)?;
        self.tagged(&value)
    }

    fn container(&mut self) -> Result<Value<'js>, Fault> {
        let start = self.at;
        let end = end_of(self.source, start).ok_or_else(malformed)?;
        let text = &self.source[start..end];
        if begins_with_dollar(text) {
            match json::parse(text)? {
                // Of the user's own; under another name than it is written where it was escaped.
                Model::Map(map) => {
                    if let Some((name, _)) = map.first()
                        && map.len() == 1
                    {
                        return self.only_member(name);
                    }
                }
                tagged => {
                    self.at = end;
                    return self.tagged(&tagged);
                }
            }
        }
        if text.len() >= LAZY_BYTES_MIN {
            self.at = end;
            return self.lazy(start, end);
        }
        if text[0] == b'[' {
            let array = Array::new(self.kit.ctx.clone())?;
            self.elements(&array)?;
            return Ok(array.into_value());
        }
        let object = Object::new(self.kit.ctx.clone())?;
        self.members(&object)?;
        Ok(object.into_value())
    }

    /// The object that begins here, whose only member is called `name`.
    fn only_member(&mut self, name: &str) -> Result<Value<'js>, Fault> {
        let object = Object::new(self.kit.ctx.clone())?;
        self.expect(b'{')?;
        self.peek();
        self.string()?;
        self.expect(b':')?;
        object.set(name, self.value()?)?;
        self.expect(b'}')?;
        Ok(object.into_value())
    }

    fn lazy(&mut self, start: usize, end: usize) -> Result<Value<'js>, Fault> {
        let ctx = &self.kit.ctx;
        let id = self.lazies.add(start, end);
        let traps = self
            .kit
            .part(Part::LazyTraps)
            .as_object()
            .ok_or(Fault::Engine)?;
        let handler = Object::new_proto(ctx.clone(), Some(traps))?;
        #[allow(clippy::cast_precision_loss)]
        handler.set("id", Value::new_number(ctx.clone(), id as f64))?;
        let handler = ProxyHandler::from_object(handler)?;
        let target = if self.source[start] == b'[' {
            Array::new(ctx.clone())?.into_value()
        } else {
            Object::new(ctx.clone())?.into_value()
        };
        Ok(Proxy::new(ctx.clone(), target, handler)?.into_value())
    }

    fn elements(&mut self, array: &Array<'js>) -> Result<(), Fault> {
        self.expect(b'[')?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for i in 0.. {
            let value = self.value()?;
            array.set(i, value)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return self.expect(b']'),
            }
        }
        Ok(())
    }

    fn members(&mut self, object: &Object<'js>) -> Result<(), Fault> {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(malformed());
            }
            let (inside, escaped) = self.string()?;
            self.expect(b':')?;
            let value = self.value()?;
            if escaped {
                object.set(json::unescape(inside)?, value)?;
            } else {
                object.set(std::str::from_utf8(inside).map_err(|_| malformed())?, value)?;
            }
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => return self.expect(b'}'),
            }
        }
    }

    /// A value that JSON has no type for.
    fn tagged(&mut self, value: &Model) -> Result<Value<'js>, Fault> {
        let ctx = &self.kit.ctx;
        Ok(match value {
            Model::Int(n) => int_value(ctx, *n)?,
            Model::Double(f) => self.double(*f)?,
            Model::Timestamp(at) => self.timestamp(*at)?,
            Model::Decimal(d) => self.kit.function(Part::Decimal)?.call((d.as_str(),))?,
            Model::Reference(path) => self.kit.function(Part::Reference)?.call((path.as_str(),))?,
            Model::GeoPoint(p) => self
                .kit
                .function(Part::GeoPoint)?
                .call((p.latitude, p.longitude))?,
            Model::Vector(items) => self.kit.function(Part::Vector)?.call((items.clone(),))?,
            Model::Bytes(bytes) => {
                TypedArray::<u8>::new_copy(ctx.clone(), bytes.as_slice())?.into_value()
            }
            Model::Null | Model::Bool(_) | Model::String(_) | Model::Array(_) | Model::Map(_) => {
                return Err(malformed());
            }
        })
    }

    /// A whole double gets the engine's tag of a double, which it keeps wherever the script moves it.
    fn double(&mut self, f: f64) -> Result<Value<'js>, Fault> {
        if f.fract() != 0.0 {
            return Ok(Value::new_float(self.kit.ctx.clone(), f));
        }
        self.lazies.whole_doubles.push(f.to_bits());
        let tagged = Value::new_float(self.kit.ctx.clone(), f);
        if tagged.is_float() {
            return Ok(tagged);
        }
        Ok(self.kit.function(Part::AddHalf)?.call((f - 0.5,))?)
    }

    fn timestamp(&self, at: whimbrel_model::Timestamp) -> Result<Value<'js>, Fault> {
        let ms = at.millis_floor();
        #[allow(clippy::cast_precision_loss)]
        let number = ms as f64;
        if number.abs() > 8.64e15 {
            return Err(Fault::doc(
                Code::DocType,
                "a timestamp lies outside what a Date can hold",
            ));
        }
        let date = if at.nanos().is_multiple_of(1_000_000) {
            self.kit.function(Part::Date)?.call((number,))?
        } else {
            self.kit
                .function(Part::ExactDate)?
                .call((number, at.to_string()))?
        };
        Ok(date)
    }
}

/// Whether an object's first key begins with `$`: it may be a tagged value.
pub(super) fn begins_with_dollar(text: &[u8]) -> bool {
    let mut bytes = text.iter().filter(|b| !b.is_ascii_whitespace());
    bytes.next() == Some(&b'{') && bytes.next() == Some(&b'"') && bytes.next() == Some(&b'$')
}

/// Where the container that begins at `start` ends.
fn end_of(source: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_u32;
    let mut at = start;
    loop {
        match *source.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    at += memchr::memchr2(b'"', b'\\', source.get(at..)?)?;
                    if source[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
