//! Rust files as tidy reads them: without comments, without strings, and with test code known as such.

use super::Tree;

/// The views have the file's own length: a byte that is left out is a space, line ends stay.
pub struct Source {
    /// Neither comments nor what stands in strings and characters.
    pub code: String,
    /// With strings, without comments.
    pub code_and_strings: String,
    /// By line (from 0): whether it is test code.
    test_lines: Vec<bool>,
    /// The modules declared `#[cfg(test)] mod name;`.
    test_modules: Vec<String>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let kinds = kinds(text.as_bytes());
        let code = view(text, &kinds, |kind| kind == Kind::Code);
        let code_and_strings = view(text, &kinds, |kind| kind != Kind::Comment);
        let mut source = Self {
            test_lines: vec![is_test_path(path); text.lines().count()],
            test_modules: Vec::new(),
            code,
            code_and_strings,
        };
        source.find_test_code();
        source
    }

    /// Whether this line (from 1) is only built for tests.
    pub fn is_test(&self, line: usize) -> bool {
        line.checked_sub(1)
            .and_then(|index| self.test_lines.get(index))
            == Some(&true)
    }

    fn find_test_code(&mut self) {
        let mut from = 0;
        while let Some(found) = self.code[from..].find("#[cfg(test)]") {
            let start = from + found;
            let rest = &self.code[start..];
            let Some(end) = rest.find(['{', ';']) else {
                return;
            };
            if rest.as_bytes()[end] == b';' {
                self.test_modules.extend(module_name(&rest[..end]));
                from = start + end;
                continue;
            }
            let length = matching_brace(&rest[end..]).map_or(rest.len(), |close| end + close + 1);
            let first = line_of(&self.code, start);
            let last = line_of(&self.code, start + length - 1);
            for line in first..=last {
                if let Some(test) = self.test_lines.get_mut(line - 1) {
                    *test = true;
                }
            }
            from = start + length;
        }
    }
}

/// Marks the files of `#[cfg(test)] mod name;` as test code.
pub fn mark_test_modules(tree: &mut Tree) {
    let mut test_files = Vec::new();
    for (file, source) in tree.sources("") {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let folder = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
        };
        for module in &source.test_modules {
            test_files.push(format!("{folder}/{module}.rs"));
            test_files.push(format!("{folder}/{module}/"));
        }
    }
    for file in &mut tree.files {
        let test = test_files.iter().any(|test| {
            file.path == *test || (test.ends_with('/') && file.path.starts_with(test.as_str()))
        });
        if test && let Some(source) = &mut file.source {
            source.test_lines.fill(true);
        }
    }
}

fn is_test_path(path: &str) -> bool {
    let folders = ["/tests/", "/benches/", "/examples/"];
    folders.iter().any(|folder| path.contains(folder))
}

fn module_name(declaration: &str) -> Option<String> {
    let (_, name) = declaration.rsplit_once("mod ")?;
    Some(name.trim().to_owned())
}

/// The line, from 1, of a byte.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Where the brace that opens `code` is closed.
pub fn matching_brace(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
}

fn view(text: &str, kinds: &[Kind], keep: impl Fn(Kind) -> bool) -> String {
    let bytes = text.bytes().zip(kinds).map(|(byte, kind)| {
        // One space a byte keeps places; what is beyond ASCII is a word character either way.
        match byte {
            b'\n' => b'\n',
            _ if !keep(*kind) => b' ',
            byte if byte.is_ascii() => byte,
            _ => b'_',
        }
    });
    bytes.map(char::from).collect()
}

/// What each byte belongs to. Quotes belong to the code, what is between them to the text.
fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(bytes.len());
    while kinds.len() < bytes.len() {
        let rest = &bytes[kinds.len()..];
        let before = kinds.len().checked_sub(1).map_or(b' ', |at| bytes[at]);
        let word = before.is_ascii_alphanumeric() || before == b'_';
        if rest.starts_with(b"//") {
            push(&mut kinds, Kind::Comment, until(rest, b"\n"));
        } else if rest.starts_with(b"/*") {
            push(&mut kinds, Kind::Comment, block_comment(rest));
        } else if !word && let Some(length) = raw_string(rest) {
            quoted(&mut kinds, length);
        } else if rest[0] == b'"' {
            quoted(&mut kinds, escaped(rest, b'"'));
        } else if rest[0] == b'\''
            && let Some(length) = character(rest)
        {
            quoted(&mut kinds, length);
        } else {
            kinds.push(Kind::Code);
        }
    }
    kinds.truncate(bytes.len());
    kinds
}

fn push(kinds: &mut Vec<Kind>, kind: Kind, length: usize) {
    kinds.extend(std::iter::repeat_n(kind, length));
}

fn quoted(kinds: &mut Vec<Kind>, length: usize) {
    kinds.push(Kind::Code);
    push(kinds, Kind::Text, length.saturating_sub(2));
    kinds.push(Kind::Code);
}

fn until(bytes: &[u8], end: &[u8]) -> usize {
    bytes
        .windows(end.len())
        .position(|window| window == end)
        .unwrap_or(bytes.len())
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1_usize);
    while depth > 0 && at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r"…"`, `r#"…"#`, `br"…"`, `cr"…"` in whole, quotes and all.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let prefix = if bytes.starts_with(b"br") || bytes.starts_with(b"cr") {
        2
    } else {
        1
    };
    if bytes.get(prefix - 1) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let start = prefix + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    Some(start + 1 + until(&bytes[start + 1..], &end) + end.len())
}

fn escaped(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a character literal; `None` for a lifetime.
fn character(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'\\' => Some(escaped(bytes, b'\'')),
        // One character of up to four bytes, then the closing quote.
        first => {
            let width = first.leading_ones().max(1) as usize;
            (bytes.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_told_from_code() {
        for (text, code, strings) in [
            ("a // b\nc", "a     \nc", "a     \nc"),
            (
                "a /* b /* c */ d */ e",
                "a                   e",
                "a                   e",
            ),
            (
                r#"f("a//b") // c"#,
                r#"f("    ")     "#,
                r#"f("a//b")     "#,
            ),
            (r#""a\"b" c"#, r#""    " c"#, r#""a\"b" c"#),
            ("r#\"a\"b\"# c", "r      # c", "r#\"a\"b\"# c"),
            ("'\"' b '\\'' c", "' ' b '  ' c", "'\"' b '\\'' c"),
            (
                "fn f<'a>(x: &'a str)",
                "fn f<'a>(x: &'a str)",
                "fn f<'a>(x: &'a str)",
            ),
        ] {
            let source = Source::new("a.rs", text);
            assert_eq!(source.code, code, "code of {text}");
            assert_eq!(source.code_and_strings, strings, "strings of {text}");
        }
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'\\", "// abc", "r", "'"] {
            assert_eq!(Source::new("a.rs", text).code.len(), text.len(), "{text}");
        }
    }

    #[test]
    fn test_code_is_known() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { let _ = \"}\"; }\n}\nfn c() {}";
        let source = Source::new("crates/x/src/a.rs", text);
        let lines: Vec<_> = (1..=6).map(|line| source.is_test(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, false]);
        assert!(Source::new("crates/x/tests/a.rs", "fn a() {}").is_test(1));
    }

    #[test]
    fn files_of_test_modules_are_known() {
        let tree = Tree::of(&[
            (
                "crates/x/src/lib.rs",
                "#[cfg(test)]\nmod checks;\nmod other;",
            ),
            ("crates/x/src/checks.rs", "fn a() {}"),
            (
                "crates/x/src/other.rs",
                "#[cfg(test)]\npub(crate) mod deep;",
            ),
            ("crates/x/src/other/deep.rs", "fn a() {}"),
        ]);
        let tests: Vec<_> = tree
            .sources("")
            .map(|(_, source)| source.is_test(1))
            .collect();
        assert_eq!(tests, [false, true, false, true]);
    }
}
