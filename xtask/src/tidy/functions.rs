//! Where functions begin and end.

use super::source::{line_of, matching_brace};

/// Lines from 1, both within.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
}

impl Function {
    pub fn lines(&self) -> usize {
        self.last - self.first + 1
    }
}

/// The functions with a body in a file's bare code, inner ones too.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ") {
        let start = from + at;
        from = start + 3;
        let word = code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String = code[from..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if word || name.is_empty() {
            continue;
        }
        if let Some(open) = body(&code[from..])
            && let Some(close) = matching_brace(&code[from + open..])
        {
            found.push(Function {
                name,
                first: line_of(code, start),
                last: line_of(code, from + open + close),
            });
        }
    }
    found
}

/// Where the body opens: the first brace outside brackets (`[u8; { N }]`); `None` for a declaration.
fn body(signature: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in signature.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_with_their_lengths() {
        let code = "fn one() {}\ntrait T {\n  fn none(&self) -> [u8; 2];\n  fn two(\n    a: [u8; 3],\n  ) {\n    if a { }\n  }\n}\nlet f: fn (u8) = x; fn three() {\n fn four() {\n }\n}";
        let found: Vec<_> = functions(code)
            .into_iter()
            .map(|f| (f.lines(), f.name))
            .collect();
        let expect = [(1, "one"), (5, "two"), (4, "three"), (2, "four")];
        assert_eq!(found, expect.map(|(lines, name)| (lines, name.to_owned())));
    }
}
