//! Strings: finding their end, resolving and writing their escapes.

use super::{JsonError, JsonErrorKind};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the first byte from `at` on stands that no string literal may hold bare: a quote, a backslash
/// or a control character. The length where there is none.
///
/// Eight bytes at a time: a byte of `x - 0x01…` borrows into its high bit where it was zero ("Bit
/// Twiddling Hacks", `haszero` and `hasless`). Bits above the first hit may be wrong, the first is right.
#[inline]
pub(super) fn plain_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    let (words, rest) = bytes[at..].as_chunks::<8>();
    for word in words {
        let x = u64::from_le_bytes(*word);
        let quote = x ^ (ONES * b'"' as u64);
        let backslash = x ^ (ONES * b'\\' as u64);
        let hit = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (x.wrapping_sub(ONES * 0x20) & !x);
        let hit = hit & HIGHS;
        if hit != 0 {
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + rest
        .iter()
        .position(|&b| b == b'"' || b == b'\\' || b < 0x20)
        .unwrap_or(rest.len())
}

/// The code unit of four hexadecimal digits.
pub(super) fn hex4(digits: &[u8]) -> Option<u16> {
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit: u16, &d| {
        let four = (d as char).to_digit(16)?;
        Some(unit << 4 | u16::try_from(four).ok()?)
    })
}

/// What the escape after a backslash stands for.
pub(super) enum Escape {
    Char(char),
    Lone(u16),
}

/// Reads the escape whose backslash stands at `at`; says how many bytes it takes. `None`: no escape.
pub(super) fn escape(bytes: &[u8], at: usize) -> Option<(Escape, usize)> {
    let simple = match bytes.get(at + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let unit = hex4(bytes.get(at + 2..)?)?;
            if let Some(c) = char::from_u32(u32::from(unit)) {
                return Some((Escape::Char(c), 6));
            }
            let low = match bytes.get(at + 6..at + 8) {
                Some(b"\\u") => hex4(&bytes[at + 8..]),
                _ => None,
            };
            return Some(
                match low.map(|low| char::decode_utf16([unit, low]).next()) {
                    Some(Some(Ok(c))) => (Escape::Char(c), 12),
                    _ => (Escape::Lone(unit), 6),
                },
            );
        }
        _ => return None,
    };
    Some((Escape::Char(simple), 2))
}

/// Resolves escapes into `out`. Where `lone` is false an unpaired surrogate is an error, else it becomes
/// the three bytes that UTF-8 would give it (WTF-8), so that names that differ stay different.
fn resolve(inside: &[u8], lone: bool, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut at = 0;
    loop {
        let end = inside[at..]
            .iter()
            .position(|&b| b == b'\\')
            .map_or(inside.len(), |n| at + n);
        out.extend_from_slice(&inside[at..end]);
        if end == inside.len() {
            return Ok(());
        }
        match escape(inside, end) {
            Some((Escape::Char(c), taken)) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at = end + taken;
            }
            Some((Escape::Lone(unit), taken)) if lone => {
                let [high, low] = unit.to_be_bytes();
                let middle = 0x80 | (high & 0x0F) << 2 | low >> 6;
                out.extend_from_slice(&[0xE0 | high >> 4, middle, 0x80 | low & 0x3F]);
                at = end + taken;
            }
            Some((Escape::Lone(_), _)) => return Err(JsonError::lone_surrogate(end)),
            None => {
                return Err(JsonError::malformed(
                    end,
                    "an escape that JSON does not have",
                ));
            }
        }
    }
}

pub(super) fn unescape(inside: &[u8]) -> Result<String, JsonError> {
    let mut out = Vec::with_capacity(inside.len());
    resolve(inside, false, &mut out)?;
    String::from_utf8(out).map_err(|e| JsonError {
        kind: JsonErrorKind::InvalidUtf8,
        at: e.utf8_error().valid_up_to(),
        what: "the bytes are not UTF-8",
    })
}

/// The bytes that tell a name from others, unpaired surrogates included.
pub(super) fn unescape_any(inside: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(inside.len());
    // The reader has checked the escapes; with unpaired surrogates allowed nothing is left to fail.
    let _ = resolve(inside, true, &mut out);
    out
}

/// Appends a string literal. Only what must be escaped is.
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    write_inside(text, out);
    out.push(b'"');
}

pub(super) fn write_inside(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let end = plain_end(bytes, at);
        out.extend_from_slice(&bytes[at..end]);
        let Some(&byte) = bytes.get(end) else {
            return;
        };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            _ => {
                let (high, low) = (byte >> 4, byte & 15);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(high)], HEX[usize::from(low)]]);
            }
        }
        at = end + 1;
    }
}
