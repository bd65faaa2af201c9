//! Reads markup strictly: what does not nest, is not quoted or is no known entity is a panic.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;

/// Elements that HTML never closes.
const VOID: [&str; 2] = ["meta", "br"];

#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// Of this element and all in it.
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// All elements of that name, also further in.
    pub fn all(&self, name: &str) -> Vec<&Element> {
        let mut found = Vec::new();
        for child in &self.children {
            if child.name == name {
                found.push(child);
            }
            found.extend(child.all(name));
        }
        found
    }

    pub fn attribute(&self, name: &str) -> &str {
        let value = self.attributes.get(name);
        value.unwrap_or_else(|| panic!("<{}> has no {name}", self.name))
    }
}

/// The root element.
pub fn parse(text: &str) -> Element {
    let odd = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(odd, None, "a control character");
    let mut open = vec![Element::default()];
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let words = decoded(&rest[..at]);
        for element in &mut open {
            element.text.push_str(&words);
        }
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("a tag ends");
        let (tag, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        if tag.starts_with('?') || tag.eq_ignore_ascii_case("!doctype html") {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop().unwrap();
            assert_eq!(done.name, name, "elements nest");
            open.last_mut().unwrap().children.push(done);
            continue;
        }
        let (tag, closed) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let element = Element {
            name: name.to_owned(),
            attributes: pairs(attributes),
            ..Element::default()
        };
        if closed || VOID.contains(&name) {
            open.last_mut().unwrap().children.push(element);
        } else if name == "style" {
            let end = rest.find("</style>").expect("the style ends");
            rest = &rest[end + "</style>".len()..];
        } else {
            open.push(element);
        }
    }
    assert!(rest.trim().is_empty(), "text behind the end: {rest}");
    let [document] = &mut open[..] else {
        panic!("not closed: {:?}", open.last().map(|e| &e.name));
    };
    assert_eq!(document.children.len(), 1, "one root");
    document.children.remove(0)
}

fn pairs(mut text: &str) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    while let Some((name, rest)) = text.trim_start().split_once('=') {
        let rest = rest.strip_prefix('"').expect("a quoted value");
        let (value, behind) = rest.split_once('"').expect("the value ends");
        let before = pairs.insert(name.to_owned(), decoded(value));
        assert_eq!(before, None, "{name} stands twice");
        text = behind;
    }
    assert!(text.trim().is_empty(), "no attribute: {text}");
    pairs
}

fn decoded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').expect("an entity ends") + at;
        out.push_str(match &rest[at..=end] {
            "&amp;" => "&",
            "&lt;" => "<",
            "&gt;" => ">",
            "&quot;" => "\"",
            "&#39;" => "'",
            other => panic!("no known entity: {other}"),
        });
        rest = &rest[end + 1..];
    }
    out + rest
}
