//! What a script returned, as a document: which members are the source's own, and which are written anew.
//!
//! What the script left alone comes back as the bytes it was read from: a text, number or untouched
//! container under its old name or moved to another one.

use super::fault::Fault;
use super::inward::{self, Looked};
use super::sandbox::Session;
use super::writer::{Writer, is_plain, key_text, lazy_id, target_of};
use rquickjs::{Object, Value};
use std::collections::HashMap;
use whimbrel_model::draft::MemberRef;
use whimbrel_model::{Body, Code, DocError, Draft, json};

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
        let content = member(&mut writer, &mut origins, place, &name, &value)
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

/// What a result's member becomes.
fn member<'js>(
    writer: &mut Writer<'_, 'js>,
    origins: &mut Origins<'_, '_, 'js>,
    place: usize,
    name: &str,
    value: &Value<'js>,
) -> Result<Content, Fault> {
    let same = origins.same_name(place, name);
    if proven(writer.session, value)? {
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
        Some(i) if !inward::lock(writer.session.lazies).whole_doubles.is_empty() => {
            let mut text = Vec::new();
            origins.given[0].json(i, &mut text);
            Some(json::parse(&text)?)
        }
        _ => None,
    };
    writer.out.clear();
    writer.value(value, twin.as_ref())?;
    if let Some(i) = same {
        let mut before = Vec::new();
        origins.given[0].json(i, &mut before);
        if same_but_for_space(&before, &writer.out) || same_tagged(&before, &writer.out) {
            return Ok(Content::Same(i));
        }
    }
    Ok(Content::Json(writer.out.clone()))
}

/// Whether being the very same value proves that nothing in it was changed.
fn proven<'js>(session: &Session<'_, 'js>, value: &Value<'js>) -> Result<bool, Fault> {
    if !value.is_object() {
        return Ok(true);
    }
    let Some(id) = lazy_id(value)? else {
        return Ok(false);
    };
    Ok(matches!(
        inward::lock(session.lazies).looked(id),
        Looked::Never(_)
    ))
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
