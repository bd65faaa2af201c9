//! `whimbrel init`: a whimbrel.toml for an existing database.

use crate::app::App;
use crate::commands::new::{write_new, write_types};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::place::{is_url, without_secret};
use crate::project::{FILE, resolve_url};
use crate::schemas::shown;
use clap::Args;
use whimbrel_model::store::Layout;
use whimbrel_stores::OpenOptions;

#[derive(Debug, Args)]
pub struct Init {
    /// The database: sqlite:app.db, postgres://user@host/db, jsonl:dir/
    pub url: String,

    /// What to call the store
    #[arg(long, value_name = "NAME", default_value = "app")]
    pub store: String,

    /// The collections to write into the project (may be given again) [default: all]
    #[arg(long, value_name = "NAME")]
    pub collection: Vec<String>,

    /// Show the file and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// # Errors
/// A project exists already, or the database cannot be opened.
pub async fn run(app: &App, args: &Init) -> Outcome {
    let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
    let dir = app
        .global
        .project
        .as_ref()
        .map_or(here.clone(), |d| here.join(d));
    let file = dir.join(FILE);
    if file.exists() {
        return Err(Failure::usage(format!("{} exists already", shown(&file)))
            .not_done("nothing was written"));
    }
    if !is_url(&args.url) {
        return Err(Failure::usage(format!("{} is no URL of a store", args.url))
            .next(format!("whimbrel init sqlite:{}", args.url)));
    }
    let collections = collections(args, &dir).await?;
    let text = project_text(args, &collections);
    let schemas: Vec<_> = collections
        .iter()
        .map(|c| dir.join("schemas").join(c).join("0001_initial.toml"))
        .filter(|f| !f.exists())
        .collect();
    app.screen.object(&serde_json::json!({
        "file": shown(&file),
        "schemas": schemas.iter().map(|f| shown(f)).collect::<Vec<_>>(),
        "collections": collections,
        "dry_run": args.dry_run,
    }));
    if args.dry_run {
        app.screen.line(text.trim_end());
        for schema in &schemas {
            app.screen
                .note(app.screen.out.dim(&format!("# and {}", shown(schema))));
        }
        return Ok(Exit::Done);
    }
    write_new(&file, &text)?;
    app.screen.line(format!("wrote {}", shown(&file)));
    let first = include_str!("../templates/first.toml");
    for schema in &schemas {
        write_new(
            schema,
            &first.replace("{description}", "as the app writes it today"),
        )?;
        app.screen.line(format!("wrote {}", shown(schema)));
    }
    write_types(app, &dir)?;
    app.screen.next("next", "whimbrel inspect", "");
    if let Some(first) = collections.first() {
        app.screen
            .next("", &format!("whimbrel new schema {first} NAME"), "");
    }
    Ok(Exit::Done)
}

/// The collections to name: those asked for, or all that keep documents as JSON.
async fn collections(args: &Init, dir: &std::path::Path) -> Result<Vec<String>, Failure> {
    let named = crate::place::Named {
        store: without_secret(&args.url),
        url: resolve_url(&args.url, dir),
        options: OpenOptions::default(),
        collection: None,
    };
    let store = named.open(true, false).await?;
    let found = store.collections().await?;
    if let Some(unknown) = args.collection.iter().find(|c| !found.contains(c)) {
        return Err(Failure::usage(format!(
            "the database has no collection \"{unknown}\" (it has: {})",
            found.join(", ")
        ))
        .not_done("nothing was written"));
    }
    if !args.collection.is_empty() {
        return Ok(args.collection.clone());
    }
    let mut kept = Vec::new();
    for name in found {
        let layout = store.describe(&name).await?.map(|d| d.layout);
        if matches!(layout, Some(Layout::Json | Layout::Native)) {
            kept.push(name);
        }
    }
    Ok(kept)
}

fn project_text(args: &Init, collections: &[String]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    // A password has no place in a file that is committed.
    let shown = without_secret(&args.url);
    let url = if args.url.contains("://") && shown != args.url {
        format!(
            "# The URL holds a secret: it is read from the environment.\nurl = {}\n",
            quoted("${DATABASE_URL}")
        )
    } else {
        format!("url = {}\n", quoted(&args.url))
    };
    let mut text = format!("[stores.{}]\n{url}", key(&args.store));
    for name in collections {
        text.push_str(&format!(
            "\n[collections.{}]\nstore = {}\n",
            key(name),
            quoted(&args.store)
        ));
    }
    text
}

/// A table's name, quoted where TOML needs that.
fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare {
        name.to_owned()
    } else {
        toml::Value::String(name.to_owned()).to_string()
    }
}
