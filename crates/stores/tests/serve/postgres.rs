//! What is PostgreSQL's own: programs that write SQL beside the server, tables of all kinds, and connections that
//! are lost.

mod failures;
mod tables;
mod writers;

use crate::subject::{Subject, now, postgres_with, put};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_firestore::backend::{Batch, Change, Decide, Found, There};
use whimbrel_firestore::{Backend, Fields, Place};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

/// A store over tables that an app made before.
async fn over(sql: &str, configs: &[(&str, CollectionConfig)]) -> Option<Subject> {
    let collections: BTreeMap<String, CollectionConfig> = configs
        .iter()
        .map(|(name, config)| ((*name).to_owned(), config.clone()))
        .collect();
    let options = OpenOptions {
        collections,
        ..OpenOptions::default()
    };
    let mut subject = postgres_with(options).await?;
    subject.close();
    subject.sql(sql).await;
    subject.open().await.unwrap();
    Some(subject)
}

/// Columns are the fields.
fn columns() -> CollectionConfig {
    CollectionConfig {
        layout: LayoutChoice::Columns,
        ..CollectionConfig::default()
    }
}

/// Puts what `fields` makes of what is there, at a time of its own.
fn setting(
    place: &Place,
    mut fields: impl FnMut(Option<&Fields>) -> Option<Fields> + Send + 'static,
) -> Decide {
    let place = place.clone();
    Box::new(move |found: &Found| {
        let at = now();
        let before = found
            .get(&place)
            .and_then(There::document)
            .map(|stored| &*stored.fields);
        let put = put(found, &place, at, fields(before));
        Batch {
            at,
            documents: vec![put],
            ..Batch::default()
        }
    })
}

/// What others changed, as paths.
async fn noted(backend: &Arc<dyn Backend>) -> (Vec<Change>, Option<u64>) {
    let foreign = backend.foreign(1000).await.unwrap();
    (foreign.changes, foreign.mark)
}

fn paths(changes: &[Change]) -> Vec<String> {
    let mut paths: Vec<String> = changes.iter().map(|change| change.place.path()).collect();
    paths.sort();
    paths.dedup();
    paths
}
