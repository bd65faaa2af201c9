//! Cuts a text into statements as PostgreSQL's own scanner would, so far as their ends need it: strings,
//! quoted names, dollar quotes, comments, parentheses, and bodies of functions (`BEGIN ATOMIC … END`).
//! With `standard_conforming_strings` on.

/// One statement, without its semicolon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'t> {
    pub text: &'t str,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its words outside of parentheses, in lower case: the first few, and then those that say what it does.
    words: Vec<String>,
}

/// Words that are kept of every statement, whatever they are.
const FIRST: usize = 4;

const DOES: [&str; 7] = [
    "select", "values", "table", "insert", "update", "delete", "merge",
];

impl Piece<'_> {
    fn first(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Whether it would begin or end a transaction.
    pub fn is_transaction(&self) -> bool {
        match self.first() {
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" => true,
            "prepare" => self.words.get(1).is_some_and(|w| w == "transaction"),
            _ => false,
        }
    }

    /// Whether it sends data beside the protocol that statements are sent by.
    pub fn is_copy(&self) -> bool {
        self.first() == "copy"
    }

    /// Whether it only names things, and computes no values.
    pub fn is_definition(&self) -> bool {
        let defines = matches!(
            self.first(),
            "create"
                | "alter"
                | "drop"
                | "truncate"
                | "grant"
                | "revoke"
                | "comment"
                | "lock"
                | "refresh"
                | "reindex"
                | "cluster"
                | "analyze"
                | "vacuum"
                | "set"
        );
        defines && !self.words.iter().any(|w| w == "select" || w == "values")
    }

    /// Whether the number that the server answers counts rows changed.
    pub fn changes(&self) -> bool {
        let first = self.first();
        let verb = if first == "with" {
            let does = self.words.iter().find(|w| DOES.contains(&w.as_str()));
            does.map_or("", String::as_str)
        } else {
            first
        };
        matches!(verb, "insert" | "update" | "delete" | "merge")
    }
}

/// The statements of a text, empty ones left out.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut scanner = Scanner {
        text,
        at: 0,
        begin: 0,
        parentheses: 0,
        bodies: 0,
        words: Vec::new(),
    };
    let mut found = Vec::new();
    while scanner.at < text.len() {
        if let Some(piece) = scanner.step() {
            found.push(piece);
        }
    }
    found.extend(scanner.cut());
    found
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Where the statement begins.
    begin: usize,
    parentheses: usize,
    /// How many `BEGIN` and `CASE` of a function's body are open.
    bodies: usize,
    words: Vec<String>,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Past one token; a statement where that ends one.
    fn step(&mut self) -> Option<Piece<'t>> {
        let rest = self.rest();
        let c = rest.chars().next()?;
        match c {
            ';' if self.parentheses == 0 && self.bodies == 0 => {
                let piece = self.cut();
                self.at += 1;
                self.begin = self.at;
                return piece;
            }
            '(' | '[' => self.parentheses += 1,
            ')' | ']' => self.parentheses = self.parentheses.saturating_sub(1),
            '\'' => return self.quoted('\'', false),
            '"' => return self.quoted('"', false),
            '-' if rest.starts_with("--") => {
                self.at += rest.find('\n').unwrap_or(rest.len());
                return None;
            }
            '/' if rest.starts_with("/*") => {
                self.at += comment(rest);
                return None;
            }
            '$' => {
                self.at += dollar_quoted(rest).unwrap_or(1);
                return None;
            }
            c if is_word_start(c) => return self.word(),
            c if c.is_ascii_digit() => {
                // `1$` would otherwise begin a quote.
                self.at += rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                return None;
            }
            _ => {}
        }
        self.at += c.len_utf8();
        None
    }

    fn word(&mut self) -> Option<Piece<'t>> {
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        self.at += end;
        if word == "e" && self.rest().starts_with('\'') {
            return self.quoted('\'', true);
        }
        if self.parentheses > 0 {
            return None;
        }
        self.bodies(&word);
        if self.words.len() < FIRST || DOES.contains(&word.as_str()) {
            self.words.push(word);
        }
        None
    }

    /// As psql does it: `BEGIN` within the making of a function opens its body.
    fn bodies(&mut self, word: &str) {
        let makes = |i: usize| {
            let word = self.words.get(i).map(String::as_str);
            matches!(word, Some("function" | "procedure"))
        };
        let function = self.words.first().is_some_and(|w| w == "create") && (makes(1) || makes(3));
        match word {
            "begin" if function => self.bodies += 1,
            "case" if self.bodies > 0 => self.bodies += 1,
            "end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
    }

    /// Past a quote that is doubled inside itself, or hidden behind a backslash where there are `escapes`.
    fn quoted(&mut self, quote: char, escapes: bool) -> Option<Piece<'t>> {
        self.at += 1;
        let mut chars = self.rest().char_indices();
        let mut end = self.rest().len();
        while let Some((i, c)) = chars.next() {
            if escapes && c == '\\' {
                chars.next();
            } else if c == quote {
                // A doubled one ends here and begins anew, which comes to the same, but for escapes.
                let again = escapes && self.rest()[i + 1..].starts_with(quote);
                if again {
                    chars.next();
                } else {
                    end = i + 1;
                    break;
                }
            }
        }
        self.at += end;
        None
    }

    fn cut(&mut self) -> Option<Piece<'t>> {
        let text = &self.text[self.begin..self.at];
        let words = std::mem::take(&mut self.words);
        (self.parentheses, self.bodies) = (0, 0);
        let blank = text.len() - text.trim_start().len();
        let line = 1 + self.text[..self.begin + blank].matches('\n').count();
        // Without a word there are only blanks and comments, or what the server shall judge.
        let empty = words.is_empty() && only_comments(text);
        (!empty).then(|| Piece {
            text: text.trim(),
            line,
            words,
        })
    }
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}

/// The length of a comment that may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`; `None` where the dollar begins no quote.
fn dollar_quoted(text: &str) -> Option<usize> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let fits = tag
        .chars()
        .enumerate()
        .all(|(i, c)| c != '$' && is_word(c) && (i > 0 || is_word_start(c)));
    if !fits {
        return None;
    }
    let mark = &text[..=end];
    let body = &text[mark.len()..];
    let length = body.find(mark).map_or(body.len(), |i| i + mark.len());
    Some(mark.len() + length)
}

fn only_comments(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else {
            return false;
        };
        rest = rest[length..].trim_start();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_their_statements() {
        let check = |text: &str, expect: &[&str]| {
            let found: Vec<&str> = pieces(text).iter().map(|p| p.text).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("", &[]);
        check(" ; ;; -- only ; this\n /* a /* b; */ ; */", &[]);
        check("SELECT 1", &["SELECT 1"]);
        check("SELECT 1; SELECT 2;", &["SELECT 1", "SELECT 2"]);
        check("SELECT ';', 'a''; b';x", &["SELECT ';', 'a''; b'", "x"]);
        check(r"SELECT E'\';', '\';x", &[r"SELECT E'\';', '\'", "x"]);
        check(r"SELECT E'a''\';';x", &[r"SELECT E'a''\';'", "x"]);
        check("SELECT \"a;\"\"b\";x", &["SELECT \"a;\"\"b\"", "x"]);
        check("DO $$ a; b $$; x", &["DO $$ a; b $$", "x"]);
        check("DO $t$ a; $$; $t$; x", &["DO $t$ a; $$; $t$", "x"]);
        check("SELECT a$b$c; x$b$", &["SELECT a$b$c", "x$b$"]);
        check("SELECT $1; x", &["SELECT $1", "x"]);
        check(
            "CREATE RULE r AS ON INSERT TO t DO (a; b); x",
            &["CREATE RULE r AS ON INSERT TO t DO (a; b)", "x"],
        );
        let body = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; \
                    RETURN 1; END";
        check(&format!("{body}; x"), &[body, "x"]);
        check("SELECT 'never ends; x", &["SELECT 'never ends; x"]);
        check("SELECT 'ü;' /* ü; */; ü", &["SELECT 'ü;' /* ü; */", "ü"]);
    }

    #[test]
    fn statements_are_known_by_their_words() {
        let check = |text: &str, transaction: bool, changes: bool| {
            let found = pieces(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(
                (found[0].is_transaction(), found[0].changes()),
                (transaction, changes),
                "{text}"
            );
        };
        for text in [
            "BEGIN",
            "/* x */ Commit",
            "end",
            "rollback to a",
            "ABORT",
            "start transaction",
            "PREPARE TRANSACTION 'x'",
        ] {
            check(text, true, false);
        }
        for text in [
            "INSERT INTO t SELECT 1",
            "update t set a = 1",
            "WITH x AS (SELECT 1) DELETE FROM t",
            "with x(a) as (select 1) insert into t select * from x",
        ] {
            check(text, false, true);
        }
        for text in [
            "SELECT 1",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "CREATE TABLE a AS SELECT 1",
            "PREPARE x AS UPDATE t SET a = 1",
            "DO $$ BEGIN COMMIT; END $$",
            "(SELECT 1)",
            "SAVEPOINT a",
        ] {
            check(text, false, false);
        }
    }

    #[test]
    fn lines_are_told() {
        let lines: Vec<usize> = pieces("a;\n\n b;\n-- x\nc")
            .iter()
            .map(|p| p.line)
            .collect();
        assert_eq!(lines, [1, 3, 4]);
    }
}
