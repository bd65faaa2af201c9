//! A copy rule's transform written as a function.

use super::fault::Fault;
use super::outward::{self, Given};
use super::sandbox::{Script, Session, key_value};
use super::{ScriptError, ScriptLimits, inward, writer};
use rquickjs::{Array, Object, Value};
use whimbrel_model::{
    Code, DocContext, DocError, Draft, Emit, Key, Transform, TransformInput, json,
};

/// `export const transform = (doc, ctx) => …`.
///
/// The function returns one document (for the rule's own collection, under the source's key), an array of
/// `{collection?, key?, data}`, or null for no document at all. A rule that groups documents calls it
/// with an array of `{key, data}`, and `ctx.group` is the value that they share.
#[derive(Debug)]
pub struct ScriptTransform {
    script: Script,
}

impl ScriptTransform {
    /// # Errors
    /// As [`super::ScriptVersion::load`].
    pub fn load(name: &str, text: &str, limits: ScriptLimits) -> Result<Self, ScriptError> {
        let script = Script::load(name, text, &["transform"], limits)?;
        Ok(Self { script })
    }
}

impl Transform for ScriptTransform {
    fn apply(&self, input: TransformInput, cx: &DocContext<'_>) -> Result<Vec<Emit>, DocError> {
        match input {
            TransformInput::One { doc, .. } => self.script.run(cx, |session| {
                let given = [Given::new(session, &doc)?];
                let result = session.call(0, given[0].object.clone().into_value(), None)?;
                emits(session, &given, &result, &doc)
            }),
            TransformInput::Group { value, docs } => self.script.run(cx, |session| {
                let ctx = &session.kit.ctx;
                let array = Array::new(ctx.clone())?;
                let mut given = Vec::with_capacity(docs.len());
                for (i, (key, doc)) in docs.iter().enumerate() {
                    let document = Given::new(session, doc)?;
                    let pair = Object::new(ctx.clone())?;
                    pair.set("key", key_value(ctx, key)?)?;
                    pair.set("data", document.object.clone())?;
                    array.set(i, pair)?;
                    given.push(document);
                }
                let mut text = Vec::new();
                json::write(&value, &mut text);
                let group = inward::value(&session.kit, session.lazies, &text)?;
                let result = session.call(0, array.into_value(), Some(group))?;
                let first = docs.first().map(|(_, doc)| doc);
                match first {
                    Some(first) => emits(session, &given, &result, first),
                    None => emits(
                        session,
                        &given,
                        &result,
                        &Draft::from_map(whimbrel_model::Map::new()),
                    ),
                }
            }),
        }
    }

    fn checksum(&self) -> String {
        self.script.checksum().to_owned()
    }
}

fn emits<'js>(
    session: &Session<'_, 'js>,
    given: &[Given<'_, 'js>],
    result: &Value<'js>,
    first: &Draft,
) -> Result<Vec<Emit>, Fault> {
    if result.is_null() {
        return Ok(Vec::new());
    }
    let list = match result.as_object() {
        Some(object) if writer::is_list(object)? => object,
        _ => {
            let entries = outward::document(session, given, result)?;
            return Ok(vec![Emit {
                collection: None,
                key: None,
                body: outward::body(first, &entries),
            }]);
        }
    };
    let mut emits = Vec::new();
    for i in 0..writer::length_of(list)? {
        session.check_time()?;
        let item: Value<'js> = list.get(i)?;
        let emit = one(session, given, &item, first);
        emits.push(emit.map_err(|fault| fault.under(&format!("[{i}]")))?);
    }
    Ok(emits)
}

fn one<'js>(
    session: &Session<'_, 'js>,
    given: &[Given<'_, 'js>],
    item: &Value<'js>,
    first: &Draft,
) -> Result<Emit, Fault> {
    let shape = || {
        Fault::doc(
            Code::DocResult,
            "each element must be {collection?, key?, data}",
        )
    };
    let item = item.as_object().ok_or_else(shape)?;
    let data: Value<'js> = item.get("data")?;
    if data.is_undefined() {
        return Err(shape());
    }
    let collection: Value<'js> = item.get("collection")?;
    let collection = match collection.as_string() {
        Some(name) => Some(name.to_string()?),
        None if collection.is_undefined() || collection.is_null() => None,
        None => return Err(shape().under("collection")),
    };
    let key: Value<'js> = item.get("key")?;
    let key = if key.is_undefined() || key.is_null() {
        None
    } else {
        Some(key_of(session, &key)?)
    };
    let entries = outward::document(session, given, &data).map_err(|fault| fault.under("data"))?;
    Ok(Emit {
        collection,
        key,
        body: outward::body(first, &entries),
    })
}

/// A key that a script made: a text, a whole number, or an array of these.
fn key_of<'js>(session: &Session<'_, 'js>, value: &Value<'js>) -> Result<Key, Fault> {
    let wrong = || {
        Fault::doc(
            Code::DocKey,
            "a key must be a text, a whole number, or an array of these",
        )
        .under("key")
    };
    if let Some(text) = value.as_string() {
        let text = text.to_string()?;
        // A UUID key is a text to scripts; unchanged it is the source's key again.
        if matches!(session.cx.key, Key::Uuid(_)) && session.cx.key.to_string() == text {
            return Ok(session.cx.key.clone());
        }
        return Ok(Key::Text(text));
    }
    if let Some(n) = value.as_number() {
        #[allow(clippy::cast_possible_truncation)]
        return if n.fract() == 0.0 && n.abs() < 9_007_199_254_740_992.0 {
            Ok(Key::Int(n as i64))
        } else {
            Err(wrong())
        };
    }
    if let Some(big) = value.as_big_int() {
        let text = writer::text_of(session, big.as_value())?;
        return text.parse().map(Key::Int).map_err(|_| wrong());
    }
    let list = value.as_object().ok_or_else(wrong)?;
    if !writer::is_list(list)? {
        return Err(wrong());
    }
    let mut parts = Vec::new();
    for i in 0..writer::length_of(list)? {
        let part: Value<'js> = list.get(i)?;
        if part.is_object() || parts.len() > 32 {
            return Err(wrong());
        }
        parts.push(key_of(session, &part)?);
    }
    if parts.is_empty() {
        Err(wrong())
    } else {
        Ok(Key::Tuple(parts))
    }
}
