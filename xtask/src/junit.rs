//! JUnit reports, as test runners write them: as much of XML as it takes to read those.

/// Text and attributes as they were before they were written.
pub fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#10;", "\n")
        // The last, because what it gives may look like another.
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_comes_back() {
        let text = "a &lt;b&gt; &quot;c&quot; &apos;d&apos;&#10;&amp;lt; e";
        assert_eq!(unescape(text), "a <b> \"c\" 'd'\n&lt; e");
    }
}
