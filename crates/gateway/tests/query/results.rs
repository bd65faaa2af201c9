//! Results against the model, over every store that can be served here.

use crate::model::{self, Documents};
use crate::random::{Random, documents, fields, path, query};
use crate::stage::{Stage, memory, open};
use crate::values::ROOT;
use std::sync::Arc;
use tonic::Code;
use whimbrel_firestore::Backend;

/// Runs random queries while the documents change; says how many were refused.
async fn check(backend: Arc<dyn Backend>, seed: u64, rounds: usize) -> (usize, usize) {
    let mut random = Random(seed);
    let stage = Stage::over(backend).await;
    let mut there: Documents = documents(&mut random, 60);
    let all: Vec<_> = there
        .iter()
        .map(|(path, fields)| (path.clone(), Some(fields.clone())))
        .collect();
    stage.write(&all).await;
    let (mut refused, mut found) = (0, 0);
    for round in 0..rounds {
        let (parent, asked) = query(&mut random, &there);
        match stage.documents(&parent, &asked, None).await {
            Ok(got) => {
                let got: Vec<String> = got
                    .into_iter()
                    .map(|document| document.name[ROOT.len() + 1..].to_owned())
                    .collect();
                let wanted = model::run(&there, &parent, &asked);
                assert_eq!(
                    got, wanted,
                    "seed {seed}, round {round}, below {parent:?}: {asked:#?}"
                );
                found += got.len();
            }
            Err(status) => {
                assert_eq!(
                    status.code(),
                    Code::InvalidArgument,
                    "seed {seed}, round {round}: {status}"
                );
                refused += 1;
            }
        }
        if random.one_in(3) {
            let path = path(&mut random);
            let fields = (!random.one_in(3)).then(|| fields(&mut random));
            match &fields {
                Some(fields) => there.insert(path.clone(), fields.clone()),
                None => there.remove(&path),
            };
            stage.write(&[(path, fields)]).await;
        }
    }
    (refused, found)
}

#[tokio::test]
async fn results_are_those_of_the_model_in_memory() {
    let (mut refused, mut found) = (0, 0);
    for seed in 0..40 {
        let (r, f) = check(memory().await, seed, 100).await;
        refused += r;
        found += f;
    }
    println!("{refused} refused, {found} documents found");
    assert!(
        refused < 2_000,
        "most queries are run: {refused} were refused"
    );
    assert!(found > 4_000, "queries find something: {found}");
}

#[tokio::test]
async fn results_are_those_of_the_model_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 100..104 {
        let url = format!("sqlite:{}/{seed}.db", directory.path().display());
        check(open(&url).await, seed, 60).await;
    }
}
