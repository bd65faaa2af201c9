//! A few colours, and text that fits its width.

pub use whimbrel_model::figures::{bytes, plural, thousands};

/// Whether to write escape sequences. Decided once for each of stdout and stderr.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    #[must_use]
    pub fn bad_soft(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// A command to type, a name to look up.
    #[must_use]
    pub fn name(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// `840 ms`, `12.4 s`, `3 min 20 s`, `2 h 05 min`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `2026-01-31T08:00:00Z`: no fraction of a second.
#[must_use]
pub fn instant(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text.to_owned(),
    }
}

/// Documents a second.
#[must_use]
pub fn rate(documents: u64, elapsed_ms: u64) -> u64 {
    documents.saturating_mul(1000) / elapsed_ms.max(1)
}

/// At most `width` characters, the end given up for an ellipsis.
#[must_use]
pub fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// The text in lines of at most `width` characters, broken between words. A longer word stays whole.
#[must_use]
pub fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let full = !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width;
        if full {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Control characters made visible, so that a document's text cannot drive the terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let hidden = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let escaped: Box<dyn Iterator<Item = char>> = if hidden {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            };
            escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, expect) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(n), expect);
        }
        for (ms, expect) in [
            (0, "0 ms"),
            (840, "840 ms"),
            (12_450, "12.4 s"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 05 min"),
        ] {
            assert_eq!(duration(ms), expect);
        }
        for (n, expect) in [(12, "12 B"), (1_400_000, "1.4 MB")] {
            assert_eq!(bytes(n), expect);
        }
    }

    #[test]
    fn text_is_folded_between_words() {
        assert_eq!(fold("one two  three", 7), ["one two", "three"]);
        assert_eq!(fold("a-very-long-word b", 6), ["a-very-long-word", "b"]);
        assert!(fold("", 5).is_empty());
    }

    #[test]
    fn text_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("abcd", 4), "abcd");
    }
}
