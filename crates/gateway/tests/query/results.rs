//! Results against the model, over every store that can be served here.

use crate::model::{self, Documents};
use crate::random::{Random, documents, fields, path, query};
use crate::stage::{Stage, memory, open};
use crate::values::ROOT;
use std::sync::Arc;
use tonic::Code;
use whimbrel_firestore::Backend;
use whimbrel_testkit::servers::Schema;

/// Runs random queries while the documents change; says how many were refused.
async fn check(backend: Arc<dyn Backend>, seed: u64, rounds: usize) -> (usize, usize) {
    // PostgreSQL's text holds no NUL.
    let nul = !backend.name().starts_with("postgres");
    let mut random = Random::new(seed);
    random.nul = nul;
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

#[tokio::test]
async fn results_are_those_of_the_model_in_postgresql() {
    for seed in 200..203 {
        let Some(schema) = Schema::create().await else {
            return;
        };
        check(open(&schema.url).await, seed, 60).await;
    }
}

/// Documents of one collection whose values are longer than keys keep and begin alike, more than fit a page.
#[tokio::test]
async fn long_values_are_ordered_by_all_of_them() {
    use crate::values::*;
    use whimbrel_firestore::v1::StructuredQuery;
    let mut random = Random::new(7);
    let stage = Stage::over(memory().await).await;
    let mut there = Documents::new();
    for i in 0..700_i64 {
        let start = ["x", "y"][usize::from(i % 7 == 0)].repeat(2_000);
        let text = text(format!("{start}{:04}", (i * 7_919) % 1_000));
        let fields = crate::stage::of(&[("s", text), ("n", int(i % 3))]);
        there.insert(format!("c/{i:04}"), fields);
    }
    let all: Vec<_> = there
        .iter()
        .map(|(path, fields)| (path.clone(), Some(fields.clone())))
        .collect();
    for chunk in all.chunks(200) {
        stage.write(chunk).await;
    }
    for round in 0..60 {
        let mut query = StructuredQuery {
            order_by: vec![order("s", random.one_in(2))],
            ..from("c")
        };
        if random.one_in(3) {
            query.r#where = Some(filter("n", Op::Equal, int(1)));
        }
        if random.one_in(3) {
            query.order_by.insert(0, order("n", random.one_in(2)));
        }
        let at = there.values().nth(random.below(700)).unwrap();
        let position = |query: &StructuredQuery, before| {
            let values = query.order_by.iter();
            let values = values.map(|o| at[o.field.as_ref().unwrap().field_path.as_str()].clone());
            Some(cursor(values.collect(), before))
        };
        if random.one_in(2) {
            query.start_at = position(&query, random.one_in(2));
        }
        if random.one_in(3) {
            query.end_at = position(&query, random.one_in(2));
        }
        if random.one_in(2) {
            query.limit = Some(i32::try_from(random.below(300)).unwrap());
            query.offset = i32::try_from(random.below(20)).unwrap();
        }
        let wanted = model::run(&there, "", &query);
        assert_eq!(
            stage.paths("", &query).await,
            wanted,
            "round {round}: {:?}",
            query.order_by
        );
        let found = crate::aggregates::aggregate(
            &stage,
            "",
            &query,
            vec![crate::aggregates::count("n", None)],
        );
        let count = i64::try_from(wanted.len()).unwrap();
        assert_eq!(found.await.unwrap()["n"], int(count), "round {round}");
    }
}

/// More documents than pages hold, with numeric ids among them or not, walked both ways.
#[tokio::test]
async fn large_collections_are_walked_in_the_order_of_names() {
    use crate::values::*;
    use whimbrel_firestore::v1::StructuredQuery;
    for numbers in [0, 3, 1_500] {
        let stage = Stage::over(memory().await).await;
        let mut there = Documents::new();
        for i in 0..1_600_u64 {
            // Names such as a numeric id would be mistaken for.
            let id = match i {
                i if i < numbers => format!("__id{}__", i * i + 1),
                i if i % 3 == 0 => format!("__idle{i}"),
                i => format!("{}{i}", ["A", "~"][usize::from(i % 2 == 0)]),
            };
            there.insert(format!("p/1/c/{id}"), crate::stage::of(&[("n", int(1))]));
        }
        let all: Vec<_> = there
            .iter()
            .map(|(path, fields)| (path.clone(), Some(fields.clone())))
            .collect();
        for chunk in all.chunks(400) {
            stage.write(chunk).await;
        }
        for descending in [false, true] {
            for (parent, query) in [
                ("p/1", from("c")),
                ("", group("c")),
                ("", group("")),
                ("p", from("none")),
            ] {
                if parent == "p" || (descending && query.from[0].collection_id.is_empty()) {
                    continue;
                }
                let at = reference("p/1/c/__id10__");
                let query = StructuredQuery {
                    order_by: vec![order("__name__", descending)],
                    start_at: Some(cursor(vec![at], false)),
                    ..query
                };
                let wanted = model::run(&there, parent, &query);
                assert_eq!(
                    stage.paths(parent, &query).await,
                    wanted,
                    "{numbers} {descending}"
                );
            }
        }
    }
}
