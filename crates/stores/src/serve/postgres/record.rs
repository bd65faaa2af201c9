//! Rows as texts: `(1,,"a ""b"" \\ c",t)`, as the server writes them.

/// The columns of a row's text, in the order of the table; `None` is NULL. `None` where the text is no row's.
pub(super) fn read(text: &str) -> Option<Vec<Option<String>>> {
    let mut rest = text.strip_prefix('(')?;
    let mut columns = Vec::new();
    loop {
        let (column, tail) = read_column(rest)?;
        columns.push(column);
        match tail.strip_prefix(',') {
            Some(tail) => rest = tail,
            None => return (tail == ")").then_some(columns),
        }
    }
}

/// One column, and what follows it.
fn read_column(text: &str) -> Option<(Option<String>, &str)> {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find([',', ')'])?;
        let (column, tail) = text.split_at(end);
        // Nothing is NULL; an empty text has quotes.
        return Some(((end > 0).then(|| column.to_owned()), tail));
    };
    let mut out = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find(['"', '\\'])?;
        out.push_str(rest.get(..end)?);
        let mark = rest.get(end..=end)?;
        let tail = rest.get(end + 1..)?;
        let next = tail.chars().next()?;
        if mark == "\"" && next != '"' {
            return Some((Some(out), tail));
        }
        out.push(next);
        rest = tail.get(next.len_utf8()..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_read_as_the_server_writes_them() {
        let check = |text: &str, expect: Option<&[Option<&str>]>| {
            let expect = expect.map(|columns| {
                let owned = columns.iter().map(|column| column.map(str::to_owned));
                owned.collect::<Vec<_>>()
            });
            assert_eq!(read(text), expect, "{text}");
        };
        check("(1)", Some(&[Some("1")]));
        check("()", Some(&[None]));
        check("(,)", Some(&[None, None]));
        check("(1,,\"\",t)", Some(&[Some("1"), None, Some(""), Some("t")]));
        check(
            "(\"a \"\"b\"\" \\\\ c\",\"(x,y)\",\"é\n\")",
            Some(&[Some("a \"b\" \\ c"), Some("(x,y)"), Some("é\n")]),
        );
        for bad in [
            "", "(", "(1", "(1,", "1)", "(\"a)", "(\"a\"b)", "(1)x", "(\"\\",
        ] {
            check(bad, None);
        }
    }

    /// As of `record_out` in the server's rowtypes.c.
    fn write(columns: &[Option<String>]) -> String {
        let one = |column: &Option<String>| match column {
            None => String::new(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")),
        };
        let all: Vec<String> = columns.iter().map(one).collect();
        format!("({})", all.join(","))
    }

    proptest! {
        #[test]
        fn any_texts_come_back(columns in prop::collection::vec(any::<Option<String>>(), 1..5)) {
            prop_assert_eq!(read(&write(&columns)), Some(columns));
        }

        #[test]
        fn no_text_is_too_strange(text in "[(),\"\\\\a ]{0,12}") {
            let _ = read(&text);
        }
    }
}
