//! `whimbrel inspect`: stores, their collections, and which schema versions are in them.

use crate::app::App;
use crate::commands::upgrade::kind_name;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{bytes, harmless, thousands};
use crate::place::{self, Named};
use crate::project::{Collection, Project};
use crate::table::Table;
use clap::Args;
use std::collections::BTreeMap;
use whimbrel_model::store::{Description, Layout};
use whimbrel_model::{Code, Draft, KeyRange, Store, Value};

/// Documents looked at for the versions present, from all over the collection.
const SAMPLE: u32 = 400;

#[derive(Debug, Args)]
pub struct Inspect {
    /// STORE, STORE/COLLECTION or a URL [default: every store of the project]
    pub place: Option<String>,
}

/// What a collection looks like from outside.
struct Look {
    name: String,
    description: Description,
    count: u64,
    /// Documents of the sample by version; `None` where the version cannot be read.
    versions: BTreeMap<Option<u32>, u64>,
}

/// # Errors
/// A store cannot be opened or read.
pub async fn run(app: &App, args: &Inspect) -> Outcome {
    let project = app.project()?;
    let named: Vec<Named> = match &args.place {
        Some(text) => vec![one(text, &project)?],
        None => {
            let names: Vec<_> = project.stores.keys().cloned().collect();
            names
                .iter()
                .map(|name| place::parse(name, &project))
                .collect::<Result<_, _>>()?
        }
    };
    if named.is_empty() {
        return Err(
            Failure::usage("there is no project here, so a store must be named")
                .next("whimbrel inspect sqlite:app.db"),
        );
    }
    let mut objects = Vec::new();
    for (i, named) in named.iter().enumerate() {
        // One store that cannot be opened must not hide the others.
        match store(app, &project, named, i > 0).await {
            Ok(object) => objects.push(object),
            Err(failure) if args.place.is_none() && failure.code == Some(Code::StoreMissing) => {
                app.screen.line(format!(
                    "{}  does not exist yet",
                    app.screen.out.bold(&named.store)
                ));
                objects.push(serde_json::json!({ "store": named.store, "exists": false }));
            }
            Err(failure) => return Err(failure),
        }
    }
    app.screen.object(&serde_json::json!({ "stores": objects }));
    Ok(Exit::Done)
}

fn one(text: &str, project: &Project) -> Result<Named, Failure> {
    if !place::is_url(text)
        && project.collections.contains_key(text)
        && !project.stores.contains_key(text)
    {
        return Ok(place::parse_collection(text, project)?.0);
    }
    place::parse(text, project)
}

async fn store(
    app: &App,
    project: &Project,
    named: &Named,
    gap: bool,
) -> Result<serde_json::Value, Failure> {
    let store = named.open(true, false).await?;
    let names = match &named.collection {
        Some(one) => vec![one.clone()],
        None => store.collections().await?,
    };
    let mut looks = Vec::new();
    for name in names {
        let collection = project.collection(&named.store, &name);
        match look(store.as_ref(), &name, &collection).await? {
            Some(look) => looks.push(look),
            None if named.collection.is_some() => {
                return Err(Failure::new(
                    Code::UnknownCollection,
                    format!("there is no collection {name} in {}", named.store),
                )
                .next(format!(
                    "whimbrel inspect {}   (lists its collections)",
                    named.store
                )));
            }
            None => {}
        }
    }
    if gap {
        app.screen.line("");
    }
    say(app, named, store.name(), &looks);
    let objects: Vec<_> = looks.iter().map(look_json).collect();
    Ok(
        serde_json::json!({ "store": named.store, "url": store.name(), "exists": true, "collections": objects }),
    )
}

async fn look(
    store: &dyn Store,
    name: &str,
    collection: &Collection,
) -> Result<Option<Look>, Failure> {
    let Some(description) = store.describe(name).await? else {
        return Ok(None);
    };
    let count = store.count(name, &KeyRange::all()).await?;
    let mut versions = BTreeMap::new();
    let ranges = store.partitions(name, &KeyRange::all(), 8).await?;
    let each = SAMPLE.div_ceil(u32::try_from(ranges.len()).unwrap_or(1).max(1));
    for range in ranges {
        let page = store.scan(name, &range, each, 1 << 20).await?;
        for doc in page.documents {
            *versions
                .entry(version(doc.body, &collection.version_field))
                .or_insert(0) += 1;
        }
        if !page.rejects.is_empty() {
            *versions.entry(None).or_insert(0) += page.rejects.len() as u64;
        }
    }
    // Without a schema, and without a document that claims a version, there are none to speak of.
    if versions.keys().all(|v| *v == Some(1)) && !collection.schemas.is_dir() {
        versions.clear();
    }
    Ok(Some(Look {
        name: name.to_owned(),
        description,
        count,
        versions,
    }))
}

fn version(body: whimbrel_model::Body, field: &str) -> Option<u32> {
    let mut draft = Draft::from_body(body).ok()?;
    match draft.get(field).ok()? {
        None => Some(1),
        Some(Value::Int(n)) => u32::try_from(*n).ok(),
        Some(_) => None,
    }
}

fn say(app: &App, named: &Named, url: &str, looks: &[Look]) {
    let screen = &app.screen;
    let url = if named.store == url {
        String::new()
    } else {
        format!("  {}", screen.out.dim(url))
    };
    screen.line(format!("{}{url}", screen.out.bold(&named.store)));
    if looks.is_empty() {
        screen.line("  no collections");
        return;
    }
    let mut table = Table::new(&[
        "collection",
        "layout",
        "keys",
        "documents",
        "size",
        "versions (sample)",
    ]);
    for look in looks {
        let layout = match &look.description.layout {
            Layout::Json => "json".to_owned(),
            Layout::Columns(columns) => format!("{} columns", columns.len()),
            Layout::Native => "native".to_owned(),
        };
        table.row([
            harmless(&look.name),
            layout,
            kind_name(&look.description.key),
            thousands(look.count),
            look.description.bytes.map(bytes).unwrap_or_default(),
            shares(&look.versions),
        ]);
    }
    table.numbers(&[3, 4]);
    table.print(screen);
    if named.collection.is_some() {
        for look in looks {
            if let Layout::Columns(columns) = &look.description.layout {
                for column in columns {
                    let null = if column.nullable { "" } else { ", never null" };
                    screen.line(format!(
                        "    {}: {}{null}",
                        harmless(&column.name),
                        column.kind
                    ));
                }
            }
        }
    }
}

/// `v1 98 %, v3 2 %`
fn shares(versions: &BTreeMap<Option<u32>, u64>) -> String {
    let total: u64 = versions.values().sum();
    let parts: Vec<String> = versions
        .iter()
        .rev()
        .map(|(version, n)| {
            let name = version.map_or("unreadable".to_owned(), |v| format!("v{v}"));
            match (n * 100).div_euclid(total.max(1)) {
                100 => name,
                0 => format!("{name} <1 %"),
                share => format!("{name} {share} %"),
            }
        })
        .collect();
    parts.join(", ")
}

fn look_json(look: &Look) -> serde_json::Value {
    let columns = match &look.description.layout {
        Layout::Columns(columns) => columns
            .iter()
            .map(|c| serde_json::json!({ "name": c.name, "type": c.kind, "nullable": c.nullable }))
            .collect(),
        _ => Vec::new(),
    };
    let layout = match &look.description.layout {
        Layout::Json => "json",
        Layout::Columns(_) => "columns",
        Layout::Native => "native",
    };
    let versions: BTreeMap<String, u64> = look
        .versions
        .iter()
        .map(|(v, n)| (v.map_or("unreadable".to_owned(), |v| v.to_string()), *n))
        .collect();
    serde_json::json!({
        "name": look.name,
        "layout": layout,
        "columns": columns,
        "keys": look.description.key,
        "documents": look.count,
        "bytes": look.description.bytes,
        "versions_in_sample": versions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_newest_first() {
        for (versions, expect) in [
            (vec![(Some(1), 5)], "v1"),
            (vec![(Some(1), 3), (Some(3), 1)], "v3 25 %, v1 75 %"),
            (vec![(None, 1), (Some(1), 399)], "v1 99 %, unreadable <1 %"),
            (vec![], ""),
        ] {
            assert_eq!(shares(&versions.into_iter().collect()), expect);
        }
    }
}
