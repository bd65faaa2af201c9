//! PostgreSQL's array literals: `{1,NULL,"a \"b\""}`, nested for several dimensions.

/// One part of a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Null,
    Text(String),
    Array(Vec<Item>),
}

/// Reads a literal as the server writes it. `None` when it is none, or has bounds of its own
/// (`[2:3]={…}`).
pub(crate) fn read(text: &str) -> Option<Vec<Item>> {
    let mut rest = text.strip_prefix('{')?;
    let items = read_items(&mut rest)?;
    rest.is_empty().then_some(items)
}

/// Reads up to and over the closing brace.
fn read_items(rest: &mut &str) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    if let Some(tail) = rest.strip_prefix('}') {
        *rest = tail;
        return Some(items);
    }
    loop {
        items.push(read_item(rest)?);
        if let Some(tail) = rest.strip_prefix(',') {
            *rest = tail;
        } else {
            *rest = rest.strip_prefix('}')?;
            return Some(items);
        }
    }
}

fn read_item(rest: &mut &str) -> Option<Item> {
    if let Some(tail) = rest.strip_prefix('{') {
        *rest = tail;
        return read_items(rest).map(Item::Array);
    }
    if let Some(tail) = rest.strip_prefix('"') {
        let mut out = String::new();
        let mut chars = tail.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    *rest = &tail[at + 1..];
                    return Some(Item::Text(out));
                }
                '\\' => out.push(chars.next()?.1),
                c => out.push(c),
            }
        }
        return None;
    }
    let end = rest.find([',', '}'])?;
    let (word, tail) = rest.split_at(end);
    *rest = tail;
    Some(if word == "NULL" {
        Item::Null
    } else {
        Item::Text(word.to_owned())
    })
}

/// Appends the literal. Every text is quoted, so that none is taken for NULL or a brace.
pub(crate) fn write(items: &[Item], out: &mut String) {
    out.push('{');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        match item {
            Item::Null => out.push_str("NULL"),
            Item::Array(items) => write(items, out),
            Item::Text(text) => {
                out.push('"');
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_of_the_server_are_read() {
        let text = |t: &str| Item::Text(t.to_owned());
        let check = |literal: &str, expect: Option<Vec<Item>>| {
            assert_eq!(read(literal), expect, "{literal}");
        };
        check("{}", Some(vec![]));
        check(
            "{1,NULL,\"NULL\"}",
            Some(vec![text("1"), Item::Null, text("NULL")]),
        );
        check(
            r#"{"a \"b\\","x,}"}"#,
            Some(vec![text("a \"b\\"), text("x,}")]),
        );
        check(
            "{{1,2},{3,4}}",
            Some(vec![
                Item::Array(vec![text("1"), text("2")]),
                Item::Array(vec![text("3"), text("4")]),
            ]),
        );
        for bad in ["", "{", "{1", "{\"a}", "{1}}", "[2:3]={1,2}", "{1,2}x"] {
            check(bad, None);
        }
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let leaf = prop_oneof![Just(Item::Null), any::<String>().prop_map(Item::Text)];
        let item = leaf.prop_recursive(2, 8, 4, |inner| {
            prop::collection::vec(inner, 1..4).prop_map(Item::Array)
        });
        prop::collection::vec(item, 0..5)
    }

    proptest! {
        #[test]
        fn writing_and_reading_are_inverse(items in items()) {
            let mut out = String::new();
            write(&items, &mut out);
            prop_assert_eq!(read(&out), Some(items), "{}", out);
        }
    }
}
