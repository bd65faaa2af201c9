//! Reads `whimbrel.toml`, and says everything that is wrong with it at once, each at its place.

use crate::failure::{Failure, Snippet};
use crate::project::{
    Collection, DEFAULT_LEDGER, GatewayDefaults, Project, RunDefaults, StoreEntry, nearest,
    resolve_url,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use whimbrel_engine::Threshold;
use whimbrel_model::Code;
use whimbrel_model::schema::DEFAULT_VERSION_FIELD;
use whimbrel_stores::{CollectionConfig, LayoutChoice};

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the text of a project file. `file` is how messages call it; relative paths start from `dir`;
/// `variables` gives what `${NAME}` stands for.
///
/// # Errors
/// All that is wrong with it, each with its place.
pub fn read(text: &str, file: &str, dir: &Path, variables: Variables) -> Result<Project, Failure> {
    let mut reader = Reader {
        file,
        source: Arc::from(text),
        problems: Vec::new(),
        variables,
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = error.message().to_owned();
        reader.problem(error.span().unwrap_or(0..0), message, None);
    }
    let project = reader.project(table.get_ref(), dir);
    if reader.problems.is_empty() {
        return Ok(project);
    }
    let count = reader.problems.len();
    let places = if count == 1 {
        "1 place".to_owned()
    } else {
        format!("{count} places")
    };
    let mut failure = Failure::new(Code::ProjectInvalid, format!("{file} is wrong in {places}"))
        .not_done("nothing was begun and nothing was written");
    failure.snippets = reader.problems;
    Err(failure)
}

pub(crate) struct Reader<'a> {
    file: &'a str,
    source: Arc<str>,
    problems: Vec<Snippet>,
    variables: Variables<'a>,
}

pub(crate) type Node<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    pub(crate) fn problem(
        &mut self,
        span: Range<usize>,
        label: impl Into<String>,
        help: Option<String>,
    ) {
        self.problems.push(Snippet {
            file: self.file.to_owned(),
            source: self.source.clone(),
            span,
            label: label.into(),
            help,
        });
    }

    fn project(&mut self, root: &DeTable, dir: &Path) -> Project {
        self.only(
            root,
            "the project file",
            &[
                "ledger",
                "stores",
                "collections",
                "run",
                "gateway",
                "migrations",
                "checks",
                "hook",
            ],
        );
        let mut project = Project::empty(dir);
        if let Some(ledger) = self.table(root, "ledger") {
            self.only(ledger, "[ledger]", &["url"]);
            let url = self
                .url(ledger, "url")
                .unwrap_or_else(|| DEFAULT_LEDGER.to_owned());
            project.ledger = resolve_url(&url, dir);
        }
        for (name, span, table) in self.tables(root, "stores") {
            let section = format!("[stores.{name}]");
            self.only(table, &section, &["url", "read_only"]);
            self.name_is_usable(&name, &span, "store");
            let url = match table.get("url") {
                Some(_) => self.url(table, "url"),
                None => {
                    let help = "url = \"sqlite:app.db\"   (or postgres://…, jsonl:dir/)".to_owned();
                    self.problem(span, format!("{section} has no url"), Some(help));
                    None
                }
            };
            let entry = StoreEntry {
                url: resolve_url(&url.unwrap_or_default(), dir),
                read_only: self.bool(table, "read_only").unwrap_or(false),
            };
            project.stores.insert(name, entry);
        }
        for (name, span, table) in self.tables(root, "collections") {
            let collection = self.collection(&name, &span, table, dir, &project.stores);
            project.collections.insert(name, collection);
        }
        project.hooks = self.hooks(root);
        if let Some(folder) = self.text(root, "migrations") {
            project.migrations = dir.join(folder);
        }
        if let Some(folder) = self.text(root, "checks") {
            project.checks = dir.join(folder);
        }
        if let Some(run) = self.table(root, "run") {
            project.run = self.run(run);
        }
        if let Some(gateway) = self.table(root, "gateway") {
            project.gateway = self.gateway(gateway, dir, &project.stores);
        }
        project
    }

    fn collection(
        &mut self,
        name: &str,
        span: &Range<usize>,
        table: &DeTable,
        dir: &Path,
        stores: &BTreeMap<String, StoreEntry>,
    ) -> Collection {
        let section = format!("[collections.{name}]");
        let known = [
            "store",
            "table",
            "key",
            "layout",
            "data",
            "rest",
            "plain",
            "version_field",
            "schemas",
        ];
        self.only(table, &section, &known);
        let names: Vec<&str> = stores.keys().map(String::as_str).collect();
        let store = match table.get("store") {
            Some(node) => {
                let store = self.text(table, "store").unwrap_or_default();
                if !store.is_empty() && !stores.contains_key(&store) {
                    self.no_store(&store, node.span(), &names);
                }
                store
            }
            // With one store there is nothing to choose.
            None if names.len() == 1 => names[0].to_owned(),
            None => {
                let help = Some("store = \"app\"".to_owned());
                self.problem(
                    span.clone(),
                    format!("{section} does not say in which store"),
                    help,
                );
                String::new()
            }
        };
        let default = format!("schemas/{name}");
        Collection {
            store,
            config: CollectionConfig {
                table: self.text(table, "table"),
                key: self.texts(table, "key"),
                layout: self.layout(table),
                data: self.text(table, "data"),
                rest: self.text(table, "rest"),
                plain: self.bool(table, "plain").unwrap_or(false),
            },
            version_field: self
                .text(table, "version_field")
                .unwrap_or_else(|| DEFAULT_VERSION_FIELD.to_owned()),
            schemas: dir.join(self.text(table, "schemas").unwrap_or(default)),
        }
    }

    fn layout(&mut self, table: &DeTable) -> LayoutChoice {
        match (self.text(table, "layout").as_deref(), table.get("layout")) {
            (Some("json"), _) => LayoutChoice::Json,
            (Some("columns"), _) => LayoutChoice::Columns,
            (Some(other), Some(node)) if other != "auto" => {
                self.problem(
                    node.span(),
                    format!("no layout is called \"{other}\""),
                    Some("json, columns or auto".to_owned()),
                );
                LayoutChoice::Auto
            }
            _ => LayoutChoice::Auto,
        }
    }

    fn run(&mut self, run: &DeTable) -> RunDefaults {
        let known = ["parallel", "batch", "max_failed", "max_latency_ms"];
        self.only(run, "[run]", &known);
        let max_failed = match run.get("max_failed") {
            Some(node) if node.get_ref().is_integer() => {
                self.whole(run, "max_failed").map(|n| n.to_string())
            }
            Some(node) => {
                let text = self.text(run, "max_failed");
                if let Some(Err(why)) = text.as_deref().map(str::parse::<Threshold>) {
                    self.problem(node.span(), why.to_string(), None);
                }
                text
            }
            None => None,
        };
        RunDefaults {
            parallel: self
                .whole(run, "parallel")
                .and_then(|n| u32::try_from(n).ok()),
            batch: self.whole(run, "batch").and_then(|n| u32::try_from(n).ok()),
            max_failed,
            max_latency_ms: self.whole(run, "max_latency_ms"),
        }
    }

    fn gateway(
        &mut self,
        table: &DeTable,
        dir: &Path,
        stores: &BTreeMap<String, StoreEntry>,
    ) -> GatewayDefaults {
        self.only(table, "[gateway]", &["store", "listen", "token_file"]);
        let store = self.text(table, "store");
        if let (Some(store), Some(node)) = (&store, table.get("store"))
            && !stores.contains_key(store)
        {
            let names: Vec<&str> = stores.keys().map(String::as_str).collect();
            self.no_store(store, node.span(), &names);
        }
        GatewayDefaults {
            store,
            listen: self.text(table, "listen"),
            token_file: self.text(table, "token_file").map(|file| dir.join(file)),
        }
    }

    fn no_store(&mut self, store: &str, span: Range<usize>, names: &[&str]) {
        let help = nearest(store, names).map(|n| format!("did you mean \"{n}\"?"));
        self.problem(span, format!("there is no [stores.{store}]"), help);
    }

    /// Refuses members that have no meaning here.
    pub(crate) fn only(&mut self, table: &DeTable, section: &str, known: &[&str]) {
        let unknown: Vec<_> = table
            .keys()
            .filter(|k| !known.contains(&k.get_ref().as_ref()))
            .map(|k| (k.span(), k.get_ref().to_string()))
            .collect();
        for (span, name) in unknown {
            let help = match nearest(&name, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.problem(
                span,
                format!("{section} has no setting \"{name}\""),
                Some(help),
            );
        }
    }

    fn name_is_usable(&mut self, name: &str, span: &Range<usize>, what: &str) {
        if name.is_empty() || name.contains(['/', ':', '#']) {
            let help = Some("letters, digits, - and _".to_owned());
            self.problem(
                span.clone(),
                format!("\"{name}\" cannot name a {what}"),
                help,
            );
        }
    }

    pub(crate) fn wrong(&mut self, node: &Node, name: &str, wanted: &str) {
        let found = node.get_ref().type_str();
        self.problem(
            node.span(),
            format!("{name} must be {wanted}, not a TOML {found}"),
            None,
        );
    }

    pub(crate) fn table<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
    ) -> Option<&'t DeTable<'i>> {
        let node = table.get(name)?;
        let inner = node.get_ref().as_table();
        if inner.is_none() {
            self.wrong(node, name, "a table");
        }
        inner
    }

    fn tables<'t, 'i>(
        &mut self,
        root: &'t DeTable<'i>,
        name: &str,
    ) -> Vec<(String, Range<usize>, &'t DeTable<'i>)> {
        let Some(outer) = self.table(root, name) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for (key, node) in outer {
            match node.get_ref().as_table() {
                Some(inner) => out.push((key.get_ref().to_string(), key.span(), inner)),
                None => self.wrong(node, &format!("{name}.{}", key.get_ref()), "a table"),
            }
        }
        out
    }

    pub(crate) fn text(&mut self, table: &DeTable, name: &str) -> Option<String> {
        let node = table.get(name)?;
        let text = node.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(node, name, "a string");
        }
        text
    }

    /// One string or a list of them.
    pub(crate) fn texts(&mut self, table: &DeTable, name: &str) -> Vec<String> {
        let Some(node) = table.get(name) else {
            return Vec::new();
        };
        if let Some(text) = node.get_ref().as_str() {
            return vec![text.to_owned()];
        }
        let all: Option<Vec<String>> = node.get_ref().as_array().and_then(|items| {
            items
                .iter()
                .map(|i| i.get_ref().as_str().map(str::to_owned))
                .collect()
        });
        all.unwrap_or_else(|| {
            self.wrong(node, name, "a column's name or a list of them");
            Vec::new()
        })
    }

    fn bool(&mut self, table: &DeTable, name: &str) -> Option<bool> {
        let node = table.get(name)?;
        let value = node.get_ref().as_bool();
        if value.is_none() {
            self.wrong(node, name, "true or false");
        }
        value
    }

    fn whole(&mut self, table: &DeTable, name: &str) -> Option<u64> {
        let node = table.get(name)?;
        let value = node
            .get_ref()
            .as_integer()
            .and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok())
            .filter(|n| *n > 0 || name == "max_failed");
        if value.is_none() {
            self.wrong(node, name, "a whole number above 0");
        }
        value
    }

    /// A URL with its `${NAME}`s filled in.
    fn url(&mut self, table: &DeTable, name: &str) -> Option<String> {
        let node = table.get(name)?;
        let text = self.text(table, name)?;
        match fill_in(&text, self.variables) {
            Ok(url) => Some(url),
            Err(wrong) => {
                for why in wrong {
                    self.problem(node.span(), why, None);
                }
                None
            }
        }
    }
}

/// Replaces each `${NAME}` by the variable's value.
///
/// # Errors
/// A variable is not set, or a `${` has no end: all such places.
pub fn fill_in(text: &str, variables: Variables) -> Result<String, Vec<String>> {
    let mut out = String::new();
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            wrong.push("\"${\" without its \"}\"".to_owned());
            return Err(wrong);
        };
        let name = &rest[at + 2..at + end];
        match variables(name) {
            Some(value) => out.push_str(&value),
            None => wrong.push(format!("the environment variable {name} is not set")),
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    if wrong.is_empty() {
        Ok(out)
    } else {
        Err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Project, Vec<String>> {
        let variables = |name: &str| (name == "DB").then(|| "postgres://me@host/db".to_owned());
        read(text, "whimbrel.toml", Path::new("/p"), &variables).map_err(|failure| {
            let line = |s: &Snippet| format!("{} {}", Failure::place(s), s.label);
            failure.snippets.iter().map(line).collect()
        })
    }

    #[test]
    fn a_full_file_is_read() {
        let project = parse(
            "[ledger]\nurl = \"sqlite:l.db\"\n[stores.app]\nurl = \"sqlite:app.db\"\n\
             [stores.pg]\nurl = \"${DB}\"\nread_only = true\n\
             [collections.conversations]\nstore = \"app\"\nkey = \"id\"\nlayout = \"json\"\n\
             [run]\nparallel = 4\nmax_failed = \"1%\"\n",
        )
        .unwrap();
        assert_eq!(project.ledger, "sqlite:/p/l.db");
        assert_eq!(project.stores["pg"].url, "postgres://me@host/db");
        assert!(project.stores["pg"].read_only);
        let collection = &project.collections["conversations"];
        assert_eq!(collection.config.key, ["id"]);
        assert_eq!(collection.schemas, Path::new("/p/schemas/conversations"));
        assert_eq!(project.run.parallel, Some(4));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let wrong = parse(
            "[store.app]\nurl = 1\n[stores.app]\nurl = \"${NOPE}\"\n[stores.b]\n\
             [collections.c]\nstore = \"ap\"\nlayout = \"rows\"\nkey = [1]\n\
             [run]\nparallel = 0\nmax_failed = \"many\"\n",
        )
        .unwrap_err();
        let expect = [
            "whimbrel.toml:1:2 the project file has no setting \"store\"",
            "whimbrel.toml:4:7 the environment variable NOPE is not set",
            "whimbrel.toml:5:9 [stores.b] has no url",
            "whimbrel.toml:7:9 there is no [stores.ap]",
            "whimbrel.toml:9:7 key must be a column's name or a list of them, not a TOML array",
            "whimbrel.toml:8:10 no layout is called \"rows\"",
            "whimbrel.toml:12:14 \"many\" is neither a number of documents (25) nor a share (5%)",
            "whimbrel.toml:11:12 parallel must be a whole number above 0, not a TOML integer",
        ];
        assert_eq!(wrong, expect);
    }

    #[test]
    fn broken_toml_is_told_with_its_place() {
        let wrong = parse("[stores.app\nurl = \"x\"\n[run]\nparallel = = 2\n").unwrap_err();
        assert!(wrong[0].starts_with("whimbrel.toml:1:12 "), "{wrong:?}");
        assert!(
            wrong.iter().any(|w| w.starts_with("whimbrel.toml:4:12 ")),
            "{wrong:?}"
        );
    }

    #[test]
    fn variables_are_filled_in() {
        let variables = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expect) in [
            ("x${A}y${A}", Ok("x1y1")),
            ("$A {A}", Ok("$A {A}")),
            ("${B}${C}", Err(2)),
            ("${A", Err(1)),
        ] {
            let got = fill_in(text, &variables);
            assert_eq!(got.as_deref().map_err(Vec::len), expect, "{text}");
        }
    }
}
