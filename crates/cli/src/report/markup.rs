//! Text that may stand in markup, whatever it is.

use crate::paint::harmless;

/// Escaped for elements and attributes of HTML and of XML: control characters and those that turn the
/// direction of text are made visible, and what XML 1.0 cannot hold is replaced.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in harmless(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        for (text, expect) in [
            ("plain", "plain"),
            (
                "<script>alert('x')</script>",
                "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            ),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("a&amp;b", "a&amp;amp;b"),
            ("\u{0}\u{1b}[31m\n", "\\u{0}\\u{1b}[31m\\n"),
            ("]]>\u{fffe}", "]]&gt;\u{fffd}"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ] {
            assert_eq!(escaped(text), expect, "{text:?}");
        }
    }
}
