//! Whether two texts surely say the same, found without reading what they say.
//!
//! Stores give documents back in their own way: PostgreSQL's `jsonb` with its members in another order and a space
//! behind every comma. Strings and numbers are then still spelled alike, so that comparing their bytes is enough,
//! at a fraction of what reading and hashing both texts costs. Where that does not show them to be the same, they
//! may be so all the same.

use super::string::plain_end;

/// Longer and deeper texts, and objects with more members, are left to who reads them properly. A text's tokens may take ten
/// times its length.
const LONGEST: usize = 256 << 10;
const DEEPEST: usize = 64;
const MEMBERS: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    /// A number or one of the three words.
    Plain,
    Array,
    /// Its members follow: a name each, and its value.
    Object,
}

/// A value, and where in the text it stands. The values in it follow.
#[derive(Clone, Copy)]
struct Token {
    kind: Kind,
    start: u32,
    end: u32,
    /// How many elements or members it has.
    inside: u32,
    /// The first token behind the value.
    next: u32,
}

/// A text's tokens.
struct Tape<'t> {
    text: &'t [u8],
    at: usize,
    tokens: Vec<Token>,
}

/// `None`: this is no JSON, or too much of it.
type Read = Option<()>;

impl<'t> Tape<'t> {
    fn of(text: &'t [u8]) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut tape = Self {
            text,
            at: 0,
            tokens: Vec::with_capacity(text.len() / 12 + 8),
        };
        tape.value(0)?;
        tape.skip_space();
        (tape.at == text.len()).then_some(tape)
    }

    #[inline]
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Read {
        self.skip_space();
        match self.peek() {
            b'"' => self.string(),
            b'{' => self.container(depth, Kind::Object, b'}'),
            b'[' => self.container(depth, Kind::Array, b']'),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => {
                let digits = self.text[self.at..].iter();
                let is_part = |b: &&u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = digits.take_while(is_part).count();
                self.plain(length)
            }
            _ => None,
        }
    }

    fn container(&mut self, depth: usize, kind: Kind, close: u8) -> Read {
        let place = self.tokens.len();
        self.put(kind, self.at, self.at);
        self.at += 1;
        self.skip_space();
        let mut inside = 0;
        if depth == DEEPEST {
            return None;
        }
        if !self.takes(close) {
            loop {
                if kind == Kind::Object {
                    self.skip_space();
                    if self.peek() != b'"' {
                        return None;
                    }
                    self.string()?;
                    self.skip_space();
                    if !self.takes(b':') {
                        return None;
                    }
                }
                self.value(depth + 1)?;
                inside += 1;
                self.skip_space();
                if self.takes(close) {
                    break;
                }
                if !self.takes(b',') {
                    return None;
                }
            }
        }
        let next = u32::try_from(self.tokens.len()).ok()?;
        let token = &mut self.tokens[place];
        (token.inside, token.next) = (inside, next);
        Some(())
    }

    /// Up to the closing quote, which no backslash precedes.
    fn string(&mut self) -> Read {
        let start = self.at + 1;
        let mut end = plain_end(self.text, start);
        loop {
            match self.text.get(end)? {
                b'"' => break,
                b'\\' if end + 2 < self.text.len() => end = plain_end(self.text, end + 2),
                _ => return None,
            }
        }
        self.put(Kind::String, start, end);
        self.at = end + 1;
        Some(())
    }

    fn word(&mut self, word: &[u8]) -> Read {
        self.text[self.at..].starts_with(word).then_some(())?;
        self.plain(word.len())
    }

    fn plain(&mut self, length: usize) -> Read {
        self.put(Kind::Plain, self.at, self.at + length);
        self.at += length;
        Some(())
    }

    /// Places are below [`LONGEST`].
    #[allow(clippy::cast_possible_truncation)]
    fn put(&mut self, kind: Kind, start: usize, end: usize) {
        self.tokens.push(Token {
            kind,
            start: start as u32,
            end: end as u32,
            inside: 0,
            next: self.tokens.len() as u32 + 1,
        });
    }

    #[inline]
    fn bytes(&self, token: Token) -> &[u8] {
        &self.text[token.start as usize..token.end as usize]
    }

    #[inline]
    fn token(&self, at: u32) -> Token {
        self.tokens[at as usize]
    }
}

/// `true`: both say the same. `false`: nobody knows.
pub(super) fn surely(a: &[u8], b: &[u8]) -> bool {
    match (Tape::of(a), Tape::of(b)) {
        (Some(a), Some(b)) => a.tokens.len() == b.tokens.len() && same(&a, 0, &b, 0),
        _ => false,
    }
}

fn same(a: &Tape<'_>, at_a: u32, b: &Tape<'_>, at_b: u32) -> bool {
    let (x, y) = (a.token(at_a), b.token(at_b));
    if x.kind != y.kind || x.inside != y.inside || x.next - at_a != y.next - at_b {
        return false;
    }
    match x.kind {
        Kind::String | Kind::Plain => a.bytes(x) == b.bytes(y),
        Kind::Array => {
            let (mut p, mut q) = (at_a + 1, at_b + 1);
            while p < x.next {
                if !same(a, p, b, q) {
                    return false;
                }
                (p, q) = (a.token(p).next, b.token(q).next);
            }
            true
        }
        Kind::Object => same_members(a, at_a, b, at_b),
    }
}

/// Each member of one has its own in the other.
fn same_members(a: &Tape<'_>, at_a: u32, b: &Tape<'_>, at_b: u32) -> bool {
    let (x, y) = (a.token(at_a), b.token(at_b));
    if x.inside > MEMBERS {
        return false;
    }
    let mut taken = 0_u64;
    // Behind the member that was found last, where the next one stands if both have the same order.
    let (mut q, mut ordinal) = (at_b + 1, 0);
    let mut p = at_a + 1;
    while p < x.next {
        let name = a.bytes(a.token(p));
        let mut tried = 0;
        loop {
            if q >= y.next {
                (q, ordinal) = (at_b + 1, 0);
            }
            let value = q + 1;
            if taken >> ordinal & 1 == 0 && b.bytes(b.token(q)) == name {
                if !same(a, p + 1, b, value) {
                    return false;
                }
                taken |= 1 << ordinal;
                (q, ordinal) = (b.token(value).next, ordinal + 1);
                break;
            }
            (q, ordinal) = (b.token(value).next, ordinal + 1);
            tried += 1;
            if tried == y.inside {
                return false;
            }
        }
        p = a.token(p + 1).next;
    }
    true
}
