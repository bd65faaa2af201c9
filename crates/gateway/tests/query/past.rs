//! Queries as of a time before the present.

use crate::model::{self, Documents};
use crate::random::{Random, documents, fields, path, query};
use crate::stage::Stage;
use crate::values::ROOT;
use tonic::Code;

#[tokio::test]
async fn a_query_at_a_past_time_sees_that_time() {
    let mut found = 0;
    for seed in 0..12 {
        let mut random = Random::new(1_000 + seed);
        let stage = Stage::new().await;
        let mut there: Documents = documents(&mut random, 40);
        let all: Vec<_> = there
            .iter()
            .map(|(path, fields)| (path.clone(), Some(fields.clone())))
            .collect();
        let mut history = vec![(stage.write(&all).await, there.clone())];
        for _ in 0..30 {
            let path = path(&mut random);
            let fields = (!random.one_in(3)).then(|| fields(&mut random));
            match &fields {
                Some(fields) => there.insert(path.clone(), fields.clone()),
                None => there.remove(&path),
            };
            history.push((stage.write(&[(path, fields)]).await, there.clone()));
        }
        for round in 0..150 {
            let (at, then) = random.pick(&history).clone();
            let (parent, asked) = query(&mut random, &then);
            match stage.documents(&parent, &asked, Some(at)).await {
                Ok(got) => {
                    let got: Vec<String> = got
                        .into_iter()
                        .map(|document| document.name[ROOT.len() + 1..].to_owned())
                        .collect();
                    found += got.len();
                    let wanted = model::run(&then, &parent, &asked);
                    assert_eq!(
                        got, wanted,
                        "seed {seed}, round {round}, below {parent:?}: {asked:#?}"
                    );
                }
                Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
            }
        }
    }
    assert!(found > 1_500, "queries find something: {found}");
}

#[tokio::test]
async fn more_old_versions_than_are_kept_at_once_come_in_order() {
    use crate::values::{from, int, order};
    let stage = Stage::new().await;
    let write = async |offset: i64| {
        let documents: Vec<_> = (0..1_200)
            .map(|i| {
                let fields = crate::stage::of(&[("n", int((i * 7_919) % 1_200 + offset))]);
                (format!("c/{i:04}"), Some(fields))
            })
            .collect();
        stage.write(&documents).await
    };
    let before = write(0).await;
    write(5_000).await;
    let query = whimbrel_firestore::v1::StructuredQuery {
        order_by: vec![order("n", true)],
        ..from("c")
    };
    let then = stage.documents("", &query, Some(before)).await.unwrap();
    let numbers: Vec<_> = then.iter().map(|d| d.fields["n"].clone()).collect();
    let wanted: Vec<_> = (0..1_200).rev().map(int).collect();
    assert_eq!(numbers, wanted);
}

/// An app's transaction that commits after a time was read at, between the gateway's look at what others wrote and the
/// view that the query reads.
#[tokio::test]
async fn what_sql_commits_late_is_not_in_the_past() {
    use crate::backend::Counting;
    use crate::stage::open;
    use crate::values::{Op, filter, from, int, wanting};
    use whimbrel_testkit::servers::Schema;
    let Some(schema) = Schema::create().await else {
        return;
    };
    let (backend, counts) = Counting::over(open(&schema.url).await);
    let stage = Stage::over(backend).await;
    for (path, n) in [("c/a", 1), ("c/b", 2), ("c/gone", 3)] {
        stage.put(path, &[("n", int(n))]).await;
    }
    let query = wanting(from("c"), filter("n", Op::GreaterThan, int(0)));
    let then = ["c/a", "c/b", "c/gone"];
    assert_eq!(stage.paths("", &query).await, then);
    for later in [false, true] {
        let app = schema.client().await;
        app.batch_execute(
            "BEGIN; UPDATE c SET data = '{\"n\": 9}' WHERE id = 'a'; DELETE FROM c WHERE id = 'gone'; \
             INSERT INTO c VALUES ('new', '{\"n\": 5}')",
        )
        .await
        .unwrap();
        let at = stage.gateway.clock.read_time();
        if later {
            stage.put("d/x", &[]).await;
        }
        let past = async || {
            let found = stage.documents("", &query, Some(at)).await.unwrap();
            let names = found
                .into_iter()
                .map(|d| d.name[ROOT.len() + 1..].to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(past().await, then, "before it commits, {later}");
        *counts.before_view.lock().unwrap() = Some((app, "COMMIT"));
        assert_eq!(past().await, then, "as it commits, {later}");
        assert_eq!(stage.paths("", &query).await, ["c/b", "c/new", "c/a"]);
        assert_eq!(past().await, then, "after it was taken in, {later}");
        schema
            .run(
                "DELETE FROM c WHERE id = 'new'; UPDATE c SET data = '{\"n\": 1}' WHERE id = 'a'; \
                  INSERT INTO c VALUES ('gone', '{\"n\": 3}')",
            )
            .await;
        assert_eq!(stage.paths("", &query).await, then);
    }
}
