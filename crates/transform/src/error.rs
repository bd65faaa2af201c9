//! Why a file of the project cannot be used.

use std::fmt;
use whimbrel_model::Code;

/// One thing that is wrong with a schema version, a script or a rules file. Holds no document's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    pub code: Code,
    /// As the user named it.
    pub file: String,
    /// Line and column, both from 1, where they are known.
    pub place: Option<(u32, u32)>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl LoadError {
    #[must_use]
    pub fn new(code: Code, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            file: file.into(),
            place: None,
            message: message.into(),
        }
    }

    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Self {
        self.place = Some((line, column));
        self
    }

    /// Places the error at a byte of the file's text.
    #[must_use]
    pub fn at_byte(self, text: &str, byte: usize) -> Self {
        let before = &text.as_bytes()[..byte.min(text.len())];
        let line_start = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |i| i + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..])
            .chars()
            .count()
            + 1;
        self.at(
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }
}

impl fmt::Display for LoadError {
    /// `schemas/users/0002_x.toml:3:1: unknown key "frm"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_their_place() {
        let at = |byte| LoadError::new(Code::SchemaInvalid, "x.toml", "m").at_byte("a\nüb\n", byte);
        assert_eq!(at(0).to_string(), "x.toml:1:1: m");
        assert_eq!(at(4).to_string(), "x.toml:2:2: m");
        assert_eq!(at(99).to_string(), "x.toml:3:1: m");
    }
}
