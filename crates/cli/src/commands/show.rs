//! `whimbrel show`: one document, as any schema version.

use crate::app::App;
use crate::commands::upgrade::parse_key;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::paint::harmless;
use crate::{place, schemas, values};
use clap::Args;

#[derive(Debug, Args)]
pub struct Show {
    /// A collection of the project, STORE/COLLECTION or URL#COLLECTION
    pub collection: String,

    /// The document's key
    pub key: String,

    /// The schema version to show it as [default: as it is stored]
    #[arg(long = "as", value_name = "N")]
    pub version: Option<u32>,
}

/// # Errors
/// There is no such document, or it cannot be brought to that version.
pub async fn run(app: &App, args: &Show) -> Outcome {
    let project = app.project()?;
    let (named, collection) = place::parse_collection(&args.collection, &project)?;
    let name = named.collection.clone().unwrap_or_default();
    let schema = schemas::load_if_any(&name, &collection)?;
    let place = named.place(&name, true, false).await?;
    let key = parse_key(&place, &args.key).await?;
    let engine = app.engine_to_read(&project).await?;
    let shown = engine
        .show(&place, schema.as_ref(), &key, args.version)
        .await?;
    let screen = &app.screen;
    screen.object(&serde_json::json!({
        "place": place.to_string(),
        "key": shown.key.to_string(),
        "stored": shown.stored,
        "version": shown.version,
        "exact": shown.exact,
        "document": values::to_json(&shown.body, screen.show_values),
    }));
    let key = screen.out.bold(&harmless(&shown.key.to_string()));
    let how = if shown.version == shown.stored {
        format!("v{}, as it is stored", shown.stored)
    } else if shown.exact {
        format!(
            "as v{}, exactly as it was before the upgrade (stored as v{})",
            shown.version, shown.stored
        )
    } else {
        format!(
            "as v{}, computed (stored as v{})",
            shown.version, shown.stored
        )
    };
    screen.line(format!("{place} {key}   {how}"));
    match shown.body.map() {
        Ok(map) => {
            for line in values::tree(&map, screen.show_values, screen.width) {
                screen.line(line);
            }
        }
        Err(error) => screen.line(format!("  it is no document: {error}")),
    }
    if !screen.show_values {
        screen.note(
            screen
                .out
                .dim("  values are hidden; --show-values shows them"),
        );
    }
    Ok(Exit::Done)
}
