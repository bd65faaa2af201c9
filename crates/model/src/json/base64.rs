//! Base64 with the standard alphabet and padding (RFC 4648, section 4), read strictly: one text only
//! stands for any bytes.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The six bits a letter stands for; `NONE` for any other byte.
const VALUES: [u8; 256] = values();
const NONE: u8 = 0xFF;

const fn values() -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut i = 0;
    while i < 64 {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
}

fn letter(bits: u32) -> u8 {
    ALPHABET[(bits & 63) as usize]
}

pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    let (whole, rest) = bytes.as_chunks::<3>();
    for &[a, b, c] in whole {
        let bits = u32::from_be_bytes([0, a, b, c]);
        out.extend_from_slice(&[
            letter(bits >> 18),
            letter(bits >> 12),
            letter(bits >> 6),
            letter(bits),
        ]);
    }
    match *rest {
        [a] => {
            let bits = u32::from(a) << 4;
            out.extend_from_slice(&[letter(bits >> 6), letter(bits), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, 0, a, b]) << 2;
            out.extend_from_slice(&[letter(bits >> 12), letter(bits >> 6), letter(bits), b'=']);
        }
        _ => {}
    }
}

/// `None` unless `text` is exactly what [`encode`] writes.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(groups.len() * 3);
    for (i, group) in groups.iter().enumerate() {
        let letters = match group {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 3,
            _ => 4,
        };
        if letters < 4 && i + 1 < groups.len() {
            return None;
        }
        let mut bits = 0;
        for &byte in &group[..letters] {
            let six = VALUES[usize::from(byte)];
            if six == NONE {
                return None;
            }
            bits = bits << 6 | u32::from(six);
        }
        bits <<= 6 * (4 - letters);
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (kept, spare) = bytes.split_at(letters - 1);
        if spare.iter().any(|&b| b != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        encode(&all, &mut out);
        assert_eq!(decode(&out), Some(all));
    }

    #[test]
    fn only_the_one_text_is_read() {
        for text in [
            "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "====", "Z===", "Zm9v\n", "Zm-v", "=Zm9",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
