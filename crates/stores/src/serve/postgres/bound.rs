//! Bounds that are bytes, for keys that are texts.
//!
//! In the collation "C" texts compare as their bytes do, so a bound that is a text is one as it is. Bytes that are
//! no text (half a character; U+0000, which no text here holds) lie between two texts: then the least text above
//! them stands in, and whether the bound itself counts is no question.

use std::ops::Bound;

/// Where a walk begins. `None`: above all texts.
pub(super) fn from(bound: &Bound<Vec<u8>>) -> Option<Bound<String>> {
    Some(match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(bytes) | Bound::Excluded(bytes) => match text(bytes) {
            Some(text) if matches!(bound, Bound::Excluded(_)) => Bound::Excluded(text),
            Some(text) => Bound::Included(text),
            None => Bound::Included(above(bytes)?),
        },
    })
}

/// Where a walk ends.
pub(super) fn to(bound: &Bound<Vec<u8>>) -> Bound<String> {
    match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(bytes) | Bound::Excluded(bytes) => match text(bytes) {
            Some(text) if matches!(bound, Bound::Excluded(_)) => Bound::Excluded(text),
            Some(text) => Bound::Included(text),
            None => above(bytes).map_or(Bound::Unbounded, Bound::Excluded),
        },
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

/// The least text (without U+0000) above bytes that are none.
fn above(bytes: &[u8]) -> Option<String> {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?,
    };
    let valid = valid.split('\0').next().unwrap_or_default();
    let rest = bytes.get(valid.len()..)?;
    if let Some(next) = least_above(rest) {
        return Some(format!("{valid}{next}"));
    }
    // No character is above the rest, so what follows is the next text that does not begin as this one.
    let mut chars: Vec<char> = valid.chars().collect();
    while let Some(last) = chars.pop() {
        let mut bytes = [0; 4];
        let last = last.encode_utf8(&mut bytes).as_bytes();
        if let Some(next) = least_above(last) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// The least character whose bytes are above these.
fn least_above(bytes: &[u8]) -> Option<char> {
    // UTF-8 keeps the order of code points, so it can be searched by halves.
    let (mut low, mut high) = (1u32, 0x11_0000u32);
    while low < high {
        let middle = u32::midpoint(low, high);
        // Surrogates are no characters; the one below them stands in.
        let c = char::from_u32(middle).unwrap_or('\u{d7ff}');
        let mut encoded = [0; 4];
        if c.encode_utf8(&mut encoded).as_bytes() > bytes {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (0xd800..0xe000).contains(&low) {
        low = 0xe000;
    }
    char::from_u32(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn within(text: &str, from: Option<&Bound<String>>, to: &Bound<String>) -> bool {
        let Some(from) = from else { return false };
        let from = match from {
            Bound::Unbounded => true,
            Bound::Included(bound) => text >= bound.as_str(),
            Bound::Excluded(bound) => text > bound.as_str(),
        };
        let to = match to {
            Bound::Unbounded => true,
            Bound::Included(bound) => text <= bound.as_str(),
            Bound::Excluded(bound) => text < bound.as_str(),
        };
        from && to
    }

    fn check(text: &str, bound: &[u8]) {
        let key = text.as_bytes();
        let all = Bound::Unbounded;
        let (included, excluded) = (
            Bound::Included(bound.to_vec()),
            Bound::Excluded(bound.to_vec()),
        );
        let says = format!("{text:?} {bound:?}");
        assert_eq!(
            within(text, from(&included).as_ref(), &all),
            key >= bound,
            "{says}"
        );
        assert_eq!(
            within(text, from(&excluded).as_ref(), &all),
            key > bound,
            "{says}"
        );
        assert_eq!(
            within(text, Some(&all), &to(&included)),
            key <= bound,
            "{says}"
        );
        assert_eq!(
            within(text, Some(&all), &to(&excluded)),
            key < bound,
            "{says}"
        );
    }

    #[test]
    fn bytes_that_are_no_text_part_texts_where_they_should() {
        let texts = [
            "",
            "\u{1}",
            "a",
            "a\u{1}",
            "ab",
            "b",
            "é",
            "\u{7ff}",
            "\u{800}",
            "\u{d7ff}",
            "\u{e000}",
            "\u{ffff}",
            "\u{10000}",
            "\u{10ffff}",
            "a\u{10ffff}",
            "\u{10ffff}\u{10ffff}",
            "a/",
            "a0",
        ];
        let bounds: [&[u8]; 18] = [
            b"",
            b"\0",
            b"a\0",
            b"a\0b",
            b"a\x7f",
            b"a\x80",
            b"a\xc3",
            b"a\xff",
            b"\xff",
            b"\xc3\xa9",
            b"\xed\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xee",
            b"\xf4\x8f\xbf\xbf\xff",
            b"\xf4\x90",
            b"a\xf5",
            b"\xe0\x9f",
            b"a/\xff",
        ];
        for text in texts {
            for bound in bounds {
                check(text, bound);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_part_any_texts(
            text in "[\u{1}-\u{10ffff}]{0,3}",
            bound in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            check(&text, &bound);
        }

        #[test]
        fn cut_texts_part_their_neighbours(
            text in "[\u{1}-\u{10ffff}]{1,3}",
            cut in 0usize..12,
            more in prop::collection::vec(any::<u8>(), 0..2),
        ) {
            let mut bound = text.as_bytes()[..cut.min(text.len())].to_vec();
            bound.extend(more);
            check(&text, &bound);
        }
    }
}
