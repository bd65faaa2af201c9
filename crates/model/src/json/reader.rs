//! The grammar, once for every reading of JSON (RFC 8259).

use super::names::{Base, Names};
use super::number::Shape;
use super::string::{self, Escape, escape, plain_end};
use super::{JsonError, JsonErrorKind, MAX_DEPTH};
use std::borrow::Cow;
use std::ops::Range;

/// Boxed, so that what is passed at every token fits registers.
pub(super) type Result<T> = std::result::Result<T, Box<JsonError>>;

/// Makes something of what the reader tells, value by value. `source` is always the whole text.
pub(super) trait Build {
    /// Whether the reader looks for duplicate names; false where the builder notices them by itself.
    const CHECK_NAMES: bool;
    type Value;
    type Array;
    type Object;

    fn null(&mut self) -> Self::Value;
    fn bool(&mut self, bool: bool) -> Self::Value;
    fn number(&mut self, literal: &str, shape: Shape) -> Self::Value;
    fn string(&mut self, text: Text, source: &str) -> Result<Self::Value>;
    fn array(&mut self) -> Self::Array;
    fn element(&mut self, array: &mut Self::Array, value: Self::Value);
    fn end_array(&mut self, array: Self::Array) -> Self::Value;
    /// `depth` of the outermost container is 1.
    fn object(&mut self, depth: u32) -> Self::Object;
    fn member(
        &mut self,
        object: &mut Self::Object,
        member: Member<Self::Value>,
        source: &str,
    ) -> Result<()>;
    fn end_object(&mut self, object: Self::Object, source: &str) -> Result<Self::Value>;
}

/// A string between its quotes, checked but not resolved.
///
/// Two words without a gap: copies of a struct with padding stall on the loads they overlap.
#[derive(Clone, Copy)]
pub(super) struct Text {
    start: u32,
    /// With [`ESCAPED`] in its highest bit.
    end: u32,
}

const ESCAPED: u32 = 1 << 31;

impl Text {
    /// Places are below [`TOO_LONG`].
    #[inline]
    pub(super) fn new(start: usize, end: usize, escaped: bool) -> Self {
        let mark = if escaped { ESCAPED } else { 0 };
        Self {
            start: start as u32,
            end: end as u32 | mark,
        }
    }

    #[inline]
    pub(super) fn escaped(self) -> bool {
        self.end & ESCAPED != 0
    }

    #[inline]
    pub(super) fn range(self) -> Range<u32> {
        self.start..self.end & !ESCAPED
    }

    #[inline]
    pub(super) fn inside(self, source: &str) -> &str {
        let Range { start, end } = self.range();
        &source[start as usize..end as usize]
    }

    #[inline]
    pub(super) fn resolve(self, source: &str) -> Result<Cow<'_, str>> {
        let inside = self.inside(source);
        if !self.escaped() {
            return Ok(Cow::Borrowed(inside));
        }
        match string::unescape(inside.as_bytes()) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(mut error) => {
                error.at += self.start as usize;
                Err(error.into())
            }
        }
    }
}

pub(super) struct Member<V> {
    pub name: Text,
    pub value: V,
    /// The value's own bytes.
    pub range: Range<u32>,
}

/// Texts from 2 GiB on are refused, so that places fit 31 bits. No store takes such documents.
const TOO_LONG: usize = 1 << 31;

/// A container whose end is still to come.
enum Open<B: Build> {
    Array(B::Array),
    Object {
        object: B::Object,
        names: Base,
        /// Of the member that is being read.
        name: Text,
        /// Where its value begins.
        from: u32,
    },
}

/// Keeps the open containers on the heap: hostile nesting costs no stack.
pub(super) struct Reader<'a, B: Build> {
    text: &'a str,
    at: usize,
    open: Vec<Open<B>>,
    names: Names,
    pub(super) build: B,
    /// A string or name held U+0000.
    pub(super) nul: bool,
    /// A string or name held an unpaired surrogate.
    pub(super) lone_surrogate: bool,
    pub(super) deepest: u32,
}

impl<'a, B: Build> Reader<'a, B> {
    pub(super) fn new(bytes: &'a [u8], build: B) -> Result<Self> {
        if bytes.len() >= TOO_LONG {
            return Err(JsonError::malformed(0, "a text of 2 GiB or more").into());
        }
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError {
            kind: JsonErrorKind::InvalidUtf8,
            at: e.valid_up_to(),
            what: "the bytes are not UTF-8",
        })?;
        Ok(Self {
            text,
            at: 0,
            open: Vec::with_capacity(8),
            names: Names::new(B::CHECK_NAMES),
            build,
            nul: false,
            lone_surrogate: false,
            deepest: 0,
        })
    }

    /// Reads the one value that the text must be.
    pub(super) fn read(&mut self) -> Result<B::Value> {
        self.skip_space();
        let value = loop {
            if let Some(value) = self.begin()?
                && let Some(outermost) = self.end(value)?
            {
                break outermost;
            }
        };
        self.skip_space();
        if self.at < self.text.len() {
            return self.fail("something after the end of the JSON text");
        }
        Ok(value)
    }

    /// The next byte; 0, which no token begins with, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[cold]
    fn fail<T>(&self, what: &'static str) -> Result<T> {
        let ended = self.at >= self.text.len();
        let what = if ended {
            "the JSON text breaks off"
        } else {
            what
        };
        Err(JsonError::malformed(self.at, what).into())
    }

    /// Reads a value that is there at once, or opens a container that has something in it, up to the
    /// first value in there.
    #[inline]
    fn begin(&mut self) -> Result<Option<B::Value>> {
        let value = match self.peek() {
            b'"' => {
                let text = self.string()?;
                self.build.string(text, self.text)?
            }
            b'{' => return self.begin_object(),
            b'[' => return self.begin_array(),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => {
                self.word("true")?;
                self.build.bool(true)
            }
            b'f' => {
                self.word("false")?;
                self.build.bool(false)
            }
            b'n' => {
                self.word("null")?;
                self.build.null()
            }
            _ => return self.fail("expected a value"),
        };
        Ok(Some(value))
    }

    fn begin_object(&mut self) -> Result<Option<B::Value>> {
        let depth = self.enter()?;
        let object = self.build.object(depth);
        self.at += 1;
        self.skip_space();
        if self.peek() == b'}' {
            self.at += 1;
            return self.build.end_object(object, self.text).map(Some);
        }
        let names = self.names.open();
        let name = self.name(names)?;
        self.open.push(Open::Object {
            object,
            names,
            name,
            from: self.at as u32,
        });
        Ok(None)
    }

    fn begin_array(&mut self) -> Result<Option<B::Value>> {
        self.enter()?;
        let array = self.build.array();
        self.at += 1;
        self.skip_space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(Some(self.build.end_array(array)));
        }
        self.open.push(Open::Array(array));
        Ok(None)
    }

    #[inline]
    fn enter(&mut self) -> Result<u32> {
        let depth = self.open.len() as u32 + 1;
        if depth > MAX_DEPTH {
            return Err(JsonError {
                kind: JsonErrorKind::TooDeep,
                at: self.at,
                what: "nesting deeper than 512 levels",
            }
            .into());
        }
        self.deepest = self.deepest.max(depth);
        Ok(depth)
    }

    /// Gives a value to the container around it, and every container that thereby ends to its own. The
    /// outermost value, if it came to that; otherwise the next value follows.
    #[inline]
    fn end(&mut self, mut value: B::Value) -> Result<Option<B::Value>> {
        loop {
            let Some(open) = self.open.last_mut() else {
                return Ok(Some(value));
            };
            match open {
                Open::Array(array) => self.build.element(array, value),
                Open::Object {
                    object, name, from, ..
                } => {
                    let member = Member {
                        name: *name,
                        value,
                        range: *from..self.at as u32,
                    };
                    self.build.member(object, member, self.text)?;
                }
            }
            self.skip_space();
            if self.peek() == b',' {
                self.at += 1;
                self.skip_space();
                self.go_on()?;
                return Ok(None);
            }
            match (self.peek(), self.open.pop()) {
                (b']', Some(Open::Array(array))) => {
                    self.at += 1;
                    value = self.build.end_array(array);
                }
                (b'}', Some(Open::Object { object, names, .. })) => {
                    self.at += 1;
                    if B::CHECK_NAMES {
                        self.names.close(names, self.text.as_bytes())?;
                    }
                    value = self.build.end_object(object, self.text)?;
                }
                (_, Some(Open::Array(_))) => {
                    return self.fail("expected a comma or the end of the array");
                }
                _ => return self.fail("expected a comma or the end of the object"),
            }
        }
    }

    /// After a comma: up to the next value.
    #[inline]
    fn go_on(&mut self) -> Result<()> {
        let Some(Open::Object { names, .. }) = self.open.last() else {
            return Ok(());
        };
        let next = self.name(*names)?;
        let at = self.at as u32;
        if let Some(Open::Object { name, from, .. }) = self.open.last_mut() {
            *name = next;
            *from = at;
        }
        Ok(())
    }

    /// Reads a member's name and what stands between it and its value.
    #[inline]
    fn name(&mut self, names: Base) -> Result<Text> {
        if self.peek() != b'"' {
            return self.fail("expected a field's name");
        }
        let name = self.string()?;
        if B::CHECK_NAMES {
            self.names.add(names, self.text.as_bytes(), name)?;
        }
        self.skip_space();
        if self.peek() != b':' {
            return self.fail("expected a colon");
        }
        self.at += 1;
        self.skip_space();
        Ok(name)
    }

    fn word(&mut self, word: &'static str) -> Result<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// Reads a string whose opening quote is the next byte.
    #[inline]
    fn string(&mut self) -> Result<Text> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let end = plain_end(bytes, start);
        if bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Text::new(start, end, false));
        }
        self.string_with_escapes(start, end)
    }

    #[cold]
    fn string_with_escapes(&mut self, start: usize, at: usize) -> Result<Text> {
        let bytes = self.text.as_bytes();
        self.at = at;
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(Text::new(start, self.at - 1, true));
                }
                b'\\' => match escape(bytes, self.at) {
                    Some((Escape::Char(c), taken)) => {
                        self.nul |= c == '\0';
                        self.at += taken;
                    }
                    Some((Escape::Lone(_), taken)) => {
                        self.lone_surrogate = true;
                        self.at += taken;
                    }
                    None => return self.fail("an escape that JSON does not have"),
                },
                _ => return self.fail("a control character in a string"),
            }
            self.at = plain_end(bytes, self.at);
        }
    }

    fn number(&mut self) -> Result<B::Value> {
        let start = self.at;
        let mut shape = Shape {
            negative: self.peek() == b'-',
            fraction: false,
            exponent: false,
            digits: 0,
        };
        self.at += usize::from(shape.negative);
        let leading_zero = self.peek() == b'0';
        shape.digits = self.digits()?;
        if leading_zero && shape.digits > 1 {
            return self.fail("a number with a leading zero");
        }
        if self.peek() == b'.' {
            self.at += 1;
            shape.fraction = true;
            shape.digits += self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            shape.exponent = true;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits()?;
        }
        Ok(self.build.number(&self.text[start..self.at], shape))
    }

    /// Passes over one digit or more; says how many.
    #[inline]
    fn digits(&mut self) -> Result<usize> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start {
            return self.fail("expected a digit");
        }
        Ok(self.at - start)
    }
}
