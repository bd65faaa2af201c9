//! Random commits against a model that keeps every version in a map.

use crate::stage::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tonic::Code;
use whimbrel_firestore::v1::{DocumentMask, Write};
use whimbrel_firestore::{Fields, Micros, time};

const DOCUMENTS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Set(i64),
    Merge(i64),
    Clear,
    Increment(i64),
    Delete,
}

#[derive(Clone, Copy, Debug)]
enum If {
    Nothing,
    Exists(bool),
    /// The update time that the document has, or one that it had.
    Updated(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3_i64).prop_map(Op::Set),
        2 => (0..3_i64).prop_map(Op::Merge),
        1 => Just(Op::Clear),
        3 => (0..3_i64).prop_map(Op::Increment),
        2 => Just(Op::Delete),
    ]
}

fn condition() -> impl Strategy<Value = If> {
    prop_oneof![
        6 => Just(If::Nothing),
        2 => any::<bool>().prop_map(If::Exists),
        1 => any::<bool>().prop_map(If::Updated),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    fields: BTreeMap<String, i64>,
    created: Micros,
    updated: Micros,
}

type Model = Vec<Option<Held>>;

fn path(document: usize) -> String {
    format!("a/{document}")
}

fn write(document: usize, op: &Op, condition: If, model: &Model) -> Write {
    let path = path(document);
    let masked = |field: &str, fields: Fields| Write {
        update_mask: Some(DocumentMask {
            field_paths: vec![field.to_owned()],
        }),
        ..set(&path, fields)
    };
    let write = match op {
        Op::Set(i) => set(&path, n(*i)),
        Op::Merge(i) => masked("m", fields(&[("m", *i)])),
        Op::Clear => masked("m", Fields::new()),
        Op::Increment(i) => increment(&path, *i),
        Op::Delete => delete(&path),
    };
    match condition {
        If::Nothing => write,
        If::Exists(exists) => if_exists(exists, write),
        If::Updated(right) => {
            let updated = model[document].as_ref().map_or(1000, |held| held.updated);
            if_updated(if right { updated } else { updated - 1 }, write)
        }
    }
}

/// What the commit should come to: the documents after it (their times still those from before), or the code.
fn expect(model: &Model, writes: &[(usize, Op, If)]) -> Result<Model, Code> {
    let mut after = model.clone();
    for (document, op, condition) in writes {
        let now = &mut after[*document];
        match condition {
            If::Exists(true) if now.is_none() => return Err(Code::NotFound),
            If::Exists(false) if now.is_some() => return Err(Code::AlreadyExists),
            If::Updated(right) => {
                let before = model[*document].is_some() && now.is_some();
                if !(*right && before) {
                    return Err(Code::FailedPrecondition);
                }
            }
            _ => {}
        }
        let fresh = || Held {
            fields: BTreeMap::new(),
            created: 0,
            updated: 0,
        };
        match op {
            Op::Delete => *now = None,
            Op::Set(i) => {
                let held = now.get_or_insert_with(fresh);
                held.fields = BTreeMap::from([("n".to_owned(), *i)]);
            }
            Op::Merge(i) => {
                let held = now.get_or_insert_with(fresh);
                held.fields.insert("m".to_owned(), *i);
            }
            Op::Clear => {
                now.get_or_insert_with(fresh).fields.remove("m");
            }
            Op::Increment(i) => {
                let held = now.get_or_insert_with(fresh);
                *held.fields.entry("n".to_owned()).or_insert(0) += i;
            }
        }
    }
    Ok(after)
}

/// Puts in the times that only the commit knows.
fn timed(before: &Model, mut after: Model, at: Micros) -> Model {
    for (before, after) in before.iter().zip(&mut after) {
        if let Some(after) = after {
            let same = before
                .as_ref()
                .is_some_and(|b| b.fields == after.fields && after.created != 0);
            if after.created == 0 {
                after.created = at;
            }
            if !same {
                after.updated = at;
            }
        }
    }
    after
}

async fn check(stage: &Stage, model: &Model, at: Option<Micros>) {
    for (i, expected) in model.iter().enumerate() {
        let found = match at {
            None => stage.get(&path(i)).await,
            Some(at) => stage.get_at(&path(i), at).await,
        };
        let found = found.map(|document| Held {
            fields: document
                .fields
                .keys()
                .map(|name| {
                    let one: Fields = [("n".to_owned(), document.fields[name.as_str()].clone())]
                        .into_iter()
                        .collect();
                    let alone = whimbrel_firestore::v1::Document {
                        fields: one,
                        ..Default::default()
                    };
                    (name.clone(), n_of(&alone))
                })
                .collect(),
            created: time::from_proto(document.create_time.as_ref().unwrap()),
            updated: time::from_proto(document.update_time.as_ref().unwrap()),
        });
        assert_eq!(&found, expected, "{} at {at:?}", path(i));
    }
}

async fn play(commits: Vec<Vec<(usize, Op, If)>>) {
    for stage in stages().await {
        let mut model: Model = vec![None; DOCUMENTS];
        let mut past: Vec<(Micros, Model)> = Vec::new();
        for commit in &commits {
            let writes = commit
                .iter()
                .map(|(document, op, condition)| write(*document, op, *condition, &model))
                .collect();
            match (stage.commit(writes).await, expect(&model, commit)) {
                (Ok(done), Ok(after)) => {
                    let at = at(done.commit_time.as_ref());
                    model = timed(&model, after, at);
                    past.push((at, model.clone()));
                }
                (Err(error), Err(code)) => assert_eq!(error.code(), code, "{error}"),
                (outcome, expected) => panic!("{outcome:?}, wanted {expected:?}"),
            }
            check(&stage, &model, None).await;
        }
        for (at, model) in &past {
            check(&stage, model, Some(*at)).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_commits_do_what_the_model_does(
        commits in prop::collection::vec(
            prop::collection::vec((0..DOCUMENTS, op(), condition()), 0..5),
            1..16,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(play(commits));
    }
}
