//! JavaScript values to tagged JSON.
//!
//! What the script left alone comes back as the bytes it was read from: a text, number or untouched
//! container under its old name or moved to another one. What is written anew keeps its type:
//! - The engine tells `1` from `1.0` by its own tag, and the tag travels with the value. A whole number
//!   with the tag of a double is a double again if the document had that very double, else an integer.
//! - Where a value lost its tag (`JSON.parse(JSON.stringify(doc))`), a whole number has the type of the
//!   same number at the same place of the document.

use super::fault::Fault;
use super::inward::{self, Looked};
use super::sandbox::{Part, Session};
use rquickjs::{Object, Value};
use std::collections::HashMap;
use whimbrel_model::draft::MemberRef;
use whimbrel_model::{
    Body, Code, Decimal, DocError, Draft, GeoPoint, Map, Timestamp, Value as Model, json,
};

/// A document as the script was given it.
pub(super) struct Given<'d, 'js> {
    draft: &'d Draft,
    pub object: Object<'js>,
    values: Vec<Value<'js>>,
}

impl<'d, 'js> Given<'d, 'js> {
    pub fn new(session: &Session<'_, 'js>, draft: &'d Draft) -> Result<Self, Fault> {
        let kit = &session.kit;
        let object = Object::new(kit.ctx.clone())?;
        let mut values = Vec::with_capacity(draft.len());
        let mut written = Vec::new();
        for i in 0..draft.len() {
            let Some((name, content)) = draft.member_at(i) else {
                break;
            };
            let text = match content {
                MemberRef::Json(text) => text,
                MemberRef::Value(value) => {
                    written.clear();
                    json::write(value, &mut written);
                    &written
                }
            };
            let value = inward::value(kit, session.lazies, text).map_err(|f| f.under(name))?;
            object.set(name, value.clone())?;
            values.push(value);
        }
        Ok(Self {
            draft,
            object,
            values,
        })
    }

    fn json(&self, index: usize, out: &mut Vec<u8>) {
        match self.draft.member_at(index) {
            Some((_, MemberRef::Json(text))) => out.extend_from_slice(text),
            Some((_, MemberRef::Value(value))) => json::write(value, out),
            None => {}
        }
    }
}

/// One member of a result.
pub(super) struct Entry {
    name: String,
    content: Content,
}

enum Content {
    /// The member of the same name of the first document given, unchanged.
    Same(usize),
    Json(Vec<u8>),
}

/// What a script returned, as a document's members in their order.
pub(super) fn document<'js>(
    session: &Session<'_, 'js>,
    given: &[Given<'_, 'js>],
    result: &Value<'js>,
) -> Result<Vec<Entry>, Fault> {
    let object = plain_object(session, result)?;
    let mut writer = Writer::new(session);
    let mut origins = Origins::new(given);
    let mut entries = Vec::with_capacity(origins.first_len() + 4);
    for (place, property) in object
        .own_props::<rquickjs::String<'js>, Value<'js>>(rquickjs::Filter::default())
        .enumerate()
    {
        let (name, value) = property?;
        if value.is_undefined() {
            continue;
        }
        let name = key_text(&name)?;
        let content = writer
            .member(&mut origins, place, &name, &value)
            .map_err(|fault| fault.under(&name))?;
        entries.push(Entry { name, content });
    }
    Ok(entries)
}

/// Finds the member that a value was read from.
struct Origins<'g, 'd, 'js> {
    given: &'g [Given<'d, 'js>],
    by_value: Option<HashMap<Value<'js>, (usize, usize)>>,
}

impl<'g, 'd, 'js> Origins<'g, 'd, 'js> {
    fn new(given: &'g [Given<'d, 'js>]) -> Self {
        Self {
            given,
            by_value: None,
        }
    }

    fn first_len(&self) -> usize {
        self.given.first().map_or(0, |g| g.values.len())
    }

    /// The first document's member of this name; `place` is where it would stand had nothing moved.
    fn same_name(&self, place: usize, name: &str) -> Option<usize> {
        let draft = self.given.first()?.draft;
        match draft.member_at(place) {
            Some((at, _)) if at == name => Some(place),
            _ => draft.position(name),
        }
    }

    /// Any member with this very text or object.
    fn anywhere(&mut self, value: &Value<'js>) -> Option<(usize, usize)> {
        let given = self.given;
        let members = || {
            given.iter().enumerate().flat_map(|(g, document)| {
                let values = document.values.iter().enumerate();
                values.map(move |(i, value)| (value, (g, i)))
            })
        };
        if given.len() == 1 && self.first_len() <= 32 {
            return members().find(|(v, _)| *v == value).map(|(_, at)| at);
        }
        let index = self
            .by_value
            .get_or_insert_with(|| members().map(|(v, at)| (v.clone(), at)).collect());
        index.get(value).copied()
    }
}

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

struct Writer<'s, 'js> {
    session: &'s Session<'s, 'js>,
    out: Vec<u8>,
    steps: u32,
}

impl<'s, 'js> Writer<'s, 'js> {
    fn new(session: &'s Session<'_, 'js>) -> Self {
        Self {
            session,
            out: Vec::new(),
            steps: 0,
        }
    }

    fn member(
        &mut self,
        origins: &mut Origins<'_, '_, 'js>,
        place: usize,
        name: &str,
        value: &Value<'js>,
    ) -> Result<Content, Fault> {
        let same = origins.same_name(place, name);
        if self.proven(value)? {
            if let Some(i) = same
                && origins.given[0].values[i] == *value
            {
                return Ok(Content::Same(i));
            }
            if (value.is_string() || value.is_object())
                && let Some((g, i)) = origins.anywhere(value)
            {
                let mut text = Vec::new();
                origins.given[g].json(i, &mut text);
                return Ok(Content::Json(text));
            }
        }
        let twin = match same {
            Some(i) if !inward::lock(self.session.lazies).whole_doubles.is_empty() => {
                let mut text = Vec::new();
                origins.given[0].json(i, &mut text);
                Some(json::parse(&text)?)
            }
            _ => None,
        };
        self.out.clear();
        self.value(value, twin.as_ref())?;
        if let Some(i) = same {
            let mut before = Vec::new();
            origins.given[0].json(i, &mut before);
            if same_but_for_space(&before, &self.out) || same_tagged(&before, &self.out) {
                return Ok(Content::Same(i));
            }
        }
        Ok(Content::Json(self.out.clone()))
    }

    /// Whether being the very same value proves that nothing in it was changed.
    fn proven(&self, value: &Value<'js>) -> Result<bool, Fault> {
        if !value.is_object() {
            return Ok(true);
        }
        let Some(id) = lazy_id(value)? else {
            return Ok(false);
        };
        Ok(matches!(
            inward::lock(self.session.lazies).looked(id),
            Looked::Never(_)
        ))
    }

    /// Writes a value with all that is in it. Not recursive: a result may be as deep as it likes.
    fn value(&mut self, value: &Value<'js>, twin: Option<&Model>) -> Result<(), Fault> {
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

fn key_text(name: &rquickjs::String<'_>) -> Result<String, Fault> {
    name.to_string()
        .map_err(|_| Fault::doc(Code::DocLoneSurrogate, Code::DocLoneSurrogate.title()))
}

/// The number of a lazy container; `None` for anything else.
fn lazy_id(value: &Value<'_>) -> Result<Option<f64>, Fault> {
    if !value.is_proxy() {
        return Ok(None);
    }
    let proxy = value.as_proxy().ok_or(Fault::Engine)?;
    Ok(Some(proxy.handler()?.get("id")?))
}

fn target_of<'js>(object: &Object<'js>) -> Result<Object<'js>, Fault> {
    match object.as_value().as_proxy() {
        Some(proxy) => Ok(proxy.target()?),
        None => Ok(object.clone()),
    }
}

fn is_plain<'js>(session: &Session<'_, 'js>, object: &Object<'js>) -> bool {
    match object.get_prototype() {
        None => true,
        Some(prototype) => prototype.as_value() == session.kit.part(Part::ObjectPrototype),
    }
}

/// The object that a script returned as a document.
fn plain_object<'js>(
    session: &Session<'_, 'js>,
    result: &Value<'js>,
) -> Result<Object<'js>, Fault> {
    let wrong = |what: &str| {
        Fault::doc(
            Code::DocResult,
            format!("the transform returned {what}, not a document"),
        )
    };
    let Some(object) = result.as_object() else {
        let what = match result.type_name() {
            "undefined" => "nothing (a \"return\" may be missing)",
            name => name,
        };
        return Err(wrong(what));
    };
    if result.is_promise() {
        return Err(wrong("a promise (transforms finish at once: no async)"));
    }
    if result.is_proxy() {
        // Any question makes it read.
        object.contains_key("id")?;
    }
    let object = target_of(object)?;
    if object.is_array() {
        return Err(wrong("an array"));
    }
    if object.is_function() {
        return Err(wrong("a function"));
    }
    if !is_plain(session, &object) {
        return Err(wrong("an instance of a class"));
    }
    Ok(object)
}

/// Whether two JSON texts differ at most in the white space of the first.
fn same_but_for_space(spaced: &[u8], tight: &[u8]) -> bool {
    if spaced == tight {
        return true;
    }
    if spaced.len() <= tight.len() {
        return false;
    }
    let mut rest = tight.iter();
    let mut inside = false;
    let mut escaped = false;
    for byte in spaced {
        if !inside && matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            continue;
        }
        if rest.next() != Some(byte) {
            return false;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    rest.next().is_none()
}

/// Whether two texts are the same value of a type that JSON lacks, written in two ways.
fn same_tagged(before: &[u8], after: &[u8]) -> bool {
    inward::begins_with_dollar(before)
        && matches!((json::parse(before), json::parse(after)), (Ok(a), Ok(b)) if a == b)
}

/// Gives the draft the members of the result, in the result's order.
pub(super) fn apply(draft: &mut Draft, entries: Vec<Entry>) -> Result<(), DocError> {
    if !in_place(draft, &entries) {
        let body = body(draft, &entries);
        *draft = Draft::from_body(body)?;
        return Ok(());
    }
    if entries.len() < draft.len() || entries.iter().any(|e| !draft.contains(&e.name)) {
        let gone: Vec<String> = draft
            .names()
            .filter(|name| !entries.iter().any(|e| e.name == *name))
            .map(str::to_owned)
            .collect();
        for name in gone {
            draft.remove(&name);
        }
    }
    for entry in entries {
        if let Content::Json(text) = entry.content {
            draft.set_json(&entry.name, text.into());
        }
    }
    Ok(())
}

/// Whether the result's members that the draft has stand in the draft's order, and before all others.
fn in_place(draft: &Draft, entries: &[Entry]) -> bool {
    let mut after = 0;
    let mut new = false;
    for entry in entries {
        let at = match entry.content {
            Content::Same(at) => Some(at),
            Content::Json(_) => draft.position(&entry.name),
        };
        match at {
            None => new = true,
            Some(at) if new || at < after => return false,
            Some(at) => after = at + 1,
        }
    }
    true
}

/// The result as one JSON object.
pub(super) fn body(draft: &Draft, entries: &[Entry]) -> Body {
    let mut out = Vec::with_capacity(256);
    out.push(b'{');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_string(&entry.name, &mut out);
        out.push(b':');
        match &entry.content {
            Content::Json(text) => out.extend_from_slice(text),
            Content::Same(at) => match draft.member_at(*at) {
                Some((_, MemberRef::Json(text))) => out.extend_from_slice(text),
                Some((_, MemberRef::Value(value))) => json::write(value, &mut out),
                None => out.extend_from_slice(b"null"),
            },
        }
    }
    out.push(b'}');
    Body::from_json(out)
}
