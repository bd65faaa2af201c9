use super::*;
use std::sync::OnceLock;
use whimbrel_firestore::v1::document_transform::FieldTransform;
use whimbrel_firestore::v1::document_transform::field_transform::{ServerValue, TransformType};
use whimbrel_firestore::v1::precondition::ConditionType;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{self, ArrayValue, DocumentMask, MapValue, Precondition};

const ROOT: &str = "projects/p/databases/(default)/documents";
const NOW: Micros = 5_000_000_123_456;

/// As a store that refuses documents with a field `refused`.
fn refuse(_: &Place, fields: &Fields) -> Option<String> {
    fields
        .contains_key("refused")
        .then(|| "the table has no column for it".to_owned())
}

fn int(i: i64) -> v1::Value {
    of(ValueType::IntegerValue(i))
}

fn text(text: &str) -> v1::Value {
    of(ValueType::StringValue(text.to_owned()))
}

fn of(kind: ValueType) -> v1::Value {
    v1::Value {
        value_type: Some(kind),
    }
}

fn map(entries: Vec<(&str, v1::Value)>) -> v1::Value {
    of(ValueType::MapValue(MapValue {
        fields: fields(entries),
    }))
}

fn array(values: Vec<v1::Value>) -> v1::Value {
    of(ValueType::ArrayValue(ArrayValue { values }))
}

fn fields(entries: Vec<(&str, v1::Value)>) -> Fields {
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn set(entries: Vec<(&str, v1::Value)>) -> v1::Write {
    v1::Write {
        operation: Some(Operation::Update(v1::Document {
            name: format!("{ROOT}/a/1"),
            fields: fields(entries),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn merge(mask: &[&str], entries: Vec<(&str, v1::Value)>) -> v1::Write {
    v1::Write {
        update_mask: Some(DocumentMask {
            field_paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..set(entries)
    }
}

fn delete() -> v1::Write {
    v1::Write {
        operation: Some(Operation::Delete(format!("{ROOT}/a/1"))),
        ..Default::default()
    }
}

fn verify() -> v1::Write {
    v1::Write {
        operation: Some(Operation::Verify(format!("{ROOT}/a/1"))),
        ..Default::default()
    }
}

fn if_exists(exists: bool, write: v1::Write) -> v1::Write {
    with(ConditionType::Exists(exists), write)
}

fn if_updated(at: Micros, write: v1::Write) -> v1::Write {
    with(ConditionType::UpdateTime(time::to_proto(at)), write)
}

fn with(condition: ConditionType, write: v1::Write) -> v1::Write {
    v1::Write {
        current_document: Some(Precondition {
            condition_type: Some(condition),
        }),
        ..write
    }
}

fn transform(path: &str, what: TransformType) -> FieldTransform {
    FieldTransform {
        field_path: path.to_owned(),
        transform_type: Some(what),
    }
}

fn transforming(write: v1::Write, transforms: Vec<FieldTransform>) -> v1::Write {
    v1::Write {
        update_transforms: transforms,
        ..write
    }
}

/// A transform that is a write of its own.
fn alone(path: &str, what: TransformType) -> v1::Write {
    v1::Write {
        operation: Some(Operation::Transform(v1::DocumentTransform {
            document: format!("{ROOT}/a/1"),
            field_transforms: vec![transform(path, what)],
        })),
        ..Default::default()
    }
}

fn database() -> &'static DatabaseName {
    static DATABASE: OnceLock<DatabaseName> = OnceLock::new();
    DATABASE.get_or_init(|| names::database("projects/p/databases/(default)").unwrap())
}

/// A document of long ago.
fn there(entries: Vec<(&str, v1::Value)>) -> Option<Stored> {
    Some(Stored {
        fields: Arc::new(fields(entries)),
        created: 1000,
        updated: 2000,
    })
}

fn outcome(before: Option<Stored>, writes: Vec<v1::Write>) -> Result<Applied, Status> {
    let request = Request::new(database().clone(), writes)?;
    let before = before.map(There::Document);
    let found = request.places.iter().map(|_| before.clone()).collect();
    apply(&request, found, NOW, &refuse)
}

/// What becomes of one document: its fields, or the code of the refusal.
#[track_caller]
fn becomes(
    before: Option<Stored>,
    writes: Vec<v1::Write>,
    expected: Result<Option<Vec<(&str, v1::Value)>>, Code>,
) -> Option<Applied> {
    let was = before.clone();
    match (outcome(before, writes), expected) {
        (Err(error), Err(code)) => {
            assert_eq!(error.code(), code, "{error}");
            None
        }
        (Ok(applied), Ok(expected)) => {
            let after = match applied.steps.first() {
                Some(step) => step.after.as_ref().map(|s| Fields::clone(&s.fields)),
                None => was.map(|s| Fields::clone(&s.fields)),
            };
            match (&after, expected.map(fields)) {
                (Some(after), Some(expected)) => {
                    assert!(validate::identical(after, &expected), "{after:?}");
                }
                (None, None) => {}
                (after, expected) => panic!("{after:?}, wanted {expected:?}"),
            }
            Some(applied)
        }
        (outcome, expected) => panic!("{outcome:?}, wanted {expected:?}"),
    }
}

#[test]
// tidy: long because it is a table.
fn documents_become_what_writes_say() {
    let old = || there(vec![("a", int(1)), ("m", map(vec![("x", int(1))]))]);
    let new = || vec![("b", int(2))];
    // Whole documents.
    becomes(None, vec![set(new())], Ok(Some(new())));
    becomes(old(), vec![set(new())], Ok(Some(new())));
    becomes(old(), vec![delete()], Ok(None));
    becomes(None, vec![delete()], Ok(None));
    // Masked: what the mask names becomes as it is in the document, or goes away; the rest stays.
    becomes(
        old(),
        vec![merge(
            &["b", "m.y"],
            vec![
                ("b", int(2)),
                ("m", map(vec![("y", int(3))])),
                ("z", int(9)),
            ],
        )],
        Ok(Some(vec![
            ("a", int(1)),
            ("b", int(2)),
            ("m", map(vec![("x", int(1)), ("y", int(3))])),
        ])),
    );
    becomes(
        old(),
        vec![merge(&["a", "m.x"], vec![])],
        Ok(Some(vec![("m", map(vec![]))])),
    );
    becomes(
        old(),
        vec![merge(&["m"], vec![])],
        Ok(Some(vec![("a", int(1))])),
    );
    becomes(
        None,
        vec![merge(&["a.b"], vec![("a", map(vec![("b", int(1))]))])],
        Ok(Some(vec![("a", map(vec![("b", int(1))]))])),
    );
    // A mask of nothing touches nothing, and makes the document.
    becomes(None, vec![merge(&[], new())], Ok(Some(vec![])));
    becomes(
        old(),
        vec![merge(&[], new())],
        Ok(Some(vec![("a", int(1)), ("m", map(vec![("x", int(1))]))])),
    );
    // Several writes see each other.
    becomes(
        None,
        vec![set(new()), merge(&["c"], vec![("c", int(3))])],
        Ok(Some(vec![("b", int(2)), ("c", int(3))])),
    );
    becomes(None, vec![set(new()), delete()], Ok(None));
    becomes(old(), vec![delete(), set(new())], Ok(Some(new())));
    becomes(
        old(),
        vec![delete(), if_exists(false, set(new()))],
        Ok(Some(new())),
    );
    becomes(
        None,
        vec![set(new()), if_exists(false, set(new()))],
        Err(Code::AlreadyExists),
    );
    becomes(
        old(),
        vec![delete(), if_exists(true, set(new()))],
        Err(Code::NotFound),
    );
}

#[test]
fn conditions() {
    let old = || there(vec![("a", int(1))]);
    let new = || vec![("b", int(2))];
    for (before, write, expected) in [
        (None, if_exists(false, set(new())), Ok(Some(new()))),
        (
            old(),
            if_exists(false, set(new())),
            Err(Code::AlreadyExists),
        ),
        (old(), if_exists(true, set(new())), Ok(Some(new()))),
        (None, if_exists(true, set(new())), Err(Code::NotFound)),
        (
            None,
            if_exists(true, merge(&["b"], new())),
            Err(Code::NotFound),
        ),
        (None, if_exists(true, delete()), Err(Code::NotFound)),
        (old(), if_exists(true, delete()), Ok(None)),
        (old(), if_updated(2000, set(new())), Ok(Some(new()))),
        (
            old(),
            if_updated(1999, set(new())),
            Err(Code::FailedPrecondition),
        ),
        (
            old(),
            if_updated(2001, set(new())),
            Err(Code::FailedPrecondition),
        ),
        (
            None,
            if_updated(2000, set(new())),
            Err(Code::FailedPrecondition),
        ),
        (
            None,
            if_updated(2000, delete()),
            Err(Code::FailedPrecondition),
        ),
        (old(), if_updated(2000, delete()), Ok(None)),
        (
            old(),
            if_exists(true, verify()),
            Ok(Some(vec![("a", int(1))])),
        ),
        (None, if_exists(true, verify()), Err(Code::NotFound)),
        (
            old(),
            if_updated(1, verify()),
            Err(Code::FailedPrecondition),
        ),
    ] {
        becomes(before, vec![write], expected);
    }
    // A client knows only the version before its request.
    becomes(
        old(),
        vec![
            if_updated(2000, set(new())),
            if_updated(2000, merge(&["c"], vec![("c", int(3))])),
        ],
        Ok(Some(vec![("b", int(2)), ("c", int(3))])),
    );
}

#[test]
fn transforms_are_applied_after_the_write_in_order() {
    let by = |i| TransformType::Increment(int(i));
    let union = |values| TransformType::AppendMissingElements(ArrayValue { values });
    let without = |values| TransformType::RemoveAllFromArray(ArrayValue { values });
    let now = TransformType::SetToServerValue(ServerValue::RequestTime.into());
    let millis = time::to_proto(NOW - NOW % 1000);
    let applied = becomes(
        there(vec![("n", int(1)), ("l", array(vec![int(1)]))]),
        vec![transforming(
            merge(&["s"], vec![("s", text("x"))]),
            vec![
                transform("n", by(2)),
                transform("n", TransformType::Maximum(int(10))),
                transform("new", TransformType::Minimum(int(7))),
                transform("l", union(vec![int(1), int(2)])),
                transform("k", without(vec![int(1)])),
                transform("at.t", now),
            ],
        )],
        Ok(Some(vec![
            ("n", int(10)),
            ("l", array(vec![int(1), int(2)])),
            ("s", text("x")),
            ("new", int(7)),
            ("k", array(vec![])),
            (
                "at",
                map(vec![("t", of(ValueType::TimestampValue(millis)))]),
            ),
        ])),
    )
    .unwrap();
    let results = &applied.results[0];
    let null = of(ValueType::NullValue(0));
    assert_eq!(
        results.transform_results,
        [
            int(3),
            int(10),
            int(7),
            null.clone(),
            null,
            of(ValueType::TimestampValue(millis)),
        ]
    );
    // Alone, they make a document.
    let twice = vec![alone("n", by(5)), alone("n", by(5))];
    becomes(None, twice, Ok(Some(vec![("n", int(10))])));
}

#[test]
fn times_say_when_a_document_became_what_it_is() {
    let old = || there(vec![("a", int(1))]);
    let updated = |before: Option<Stored>, writes: Vec<v1::Write>| {
        let applied = outcome(before, writes).unwrap();
        let last = applied.results.last().unwrap();
        let created = applied.steps.first().and_then(|step| step.after.as_ref());
        (
            applied.steps.len(),
            last.update_time.as_ref().map(time::from_proto),
            created.map(|stored| stored.created),
        )
    };
    let same = || set(vec![("a", int(1))]);
    let other = || set(vec![("a", int(2))]);
    assert_eq!(updated(None, vec![same()]), (1, Some(NOW), Some(NOW)));
    assert_eq!(updated(old(), vec![other()]), (1, Some(NOW), Some(1000)));
    // What changes nothing is no update, and nothing is written.
    assert_eq!(updated(old(), vec![same()]), (0, Some(2000), None));
    assert_eq!(updated(old(), vec![other(), same()]), (0, Some(2000), None));
    assert_eq!(
        updated(old(), vec![merge(&["a"], vec![("a", int(1))])]),
        (0, Some(2000), None)
    );
    assert_eq!(
        updated(
            old(),
            vec![set(vec![("a", of(ValueType::DoubleValue(1.0)))])]
        ),
        (1, Some(NOW), Some(1000))
    );
    // A document that is made again is another one.
    assert_eq!(
        updated(old(), vec![delete(), same()]),
        (1, Some(NOW), Some(NOW))
    );
    assert_eq!(updated(old(), vec![delete()]), (1, None, None));
    assert_eq!(updated(None, vec![delete()]), (0, None, None));
    assert_eq!(
        updated(old(), vec![if_exists(true, verify())]),
        (0, Some(2000), None)
    );
    // Finer digits than microseconds are no change.
    let instant = |nanos| {
        of(ValueType::TimestampValue(prost_types::Timestamp {
            seconds: 7,
            nanos,
        }))
    };
    let before = there(vec![("t", instant(1000))]);
    assert_eq!(
        updated(before, vec![set(vec![("t", instant(1999))])]),
        (0, Some(2000), None)
    );
}

#[test]
fn limits_hold_for_what_documents_become() {
    let half = || text(&"x".repeat(600_000));
    becomes(
        None,
        vec![set(vec![("a", half())])],
        Ok(Some(vec![("a", half())])),
    );
    becomes(
        None,
        vec![set(vec![("a", half()), ("b", half())])],
        Err(Code::InvalidArgument),
    );
    becomes(
        there(vec![("a", half())]),
        vec![merge(&["b"], vec![("b", half())])],
        Err(Code::InvalidArgument),
    );
    let union = TransformType::AppendMissingElements(ArrayValue {
        values: vec![half()],
    });
    becomes(
        there(vec![("a", half())]),
        vec![transforming(
            merge(&[], vec![]),
            vec![transform("b", union)],
        )],
        Err(Code::InvalidArgument),
    );
    let deep = vec!["f"; 22].join(".");
    let by = TransformType::Increment(int(1));
    becomes(
        None,
        vec![transforming(set(vec![]), vec![transform(&deep, by)])],
        Err(Code::InvalidArgument),
    );
    becomes(
        None,
        vec![set(vec![("refused", int(1))])],
        Err(Code::InvalidArgument),
    );
    becomes(there(vec![("refused", int(1))]), vec![delete()], Ok(None));
}

#[test]
fn what_cannot_be_read_is_written_over_only_by_who_asks_for_just_that() {
    let over = |writes: Vec<v1::Write>| {
        let request = Request::new(database().clone(), writes).unwrap();
        let found = There::Unreadable("it is no JSON object".to_owned());
        apply(&request, vec![Some(found)], NOW, &refuse)
    };
    let new = || set(vec![("a", int(1))]);
    let one = TransformType::Increment(int(1));
    let mut refused = vec![
        merge(&["a"], vec![("a", int(1))]),
        merge(&[], vec![]),
        transforming(merge(&[], vec![]), vec![transform("n", one.clone())]),
        alone("n", one.clone()),
    ];
    let at = ConditionType::UpdateTime(time::to_proto(0));
    for condition in [
        ConditionType::Exists(true),
        ConditionType::Exists(false),
        at,
    ] {
        refused.push(with(condition, new()));
        refused.push(with(condition, delete()));
        refused.push(with(condition, verify()));
    }
    for write in refused {
        let error = over(vec![write.clone()]).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{write:?}");
        for part in [ROOT, "it is no JSON object", "Nothing was written"] {
            assert!(error.message().contains(part), "{error}");
        }
        // Behind one that writes over it, it stands on what that one made.
        if write.current_document.is_none() {
            let applied = over(vec![new(), write]).unwrap();
            assert!(applied.steps[0].after.is_some());
        }
    }
    // A deletion is a step, although no document was there: the row has to go.
    let applied = over(vec![delete()]).unwrap();
    let step = &applied.steps[0];
    assert!(step.before.is_none() && step.after.is_none());
    let applied = over(vec![transforming(new(), vec![transform("n", one)])]).unwrap();
    let after = applied.steps[0].after.as_ref().unwrap();
    assert_eq!((after.created, after.updated), (NOW, NOW));
    assert_eq!(*after.fields, fields(vec![("a", int(1)), ("n", int(1))]));
}

#[test]
fn no_time_is_the_version_of_what_is_not_there() {
    for write in [set(vec![]), delete()] {
        let refused = Err(Code::FailedPrecondition);
        becomes(None, vec![if_updated(0, write)], refused);
    }
}

#[test]
fn references_into_the_database_are_held_as_paths() {
    let reference = |name: &str| of(ValueType::ReferenceValue(name.to_owned()));
    let own = format!("{ROOT}/users/alice");
    let other = "projects/q/databases/d/documents/users/bob";
    becomes(
        None,
        vec![set(vec![
            ("own", reference(&own)),
            ("other", array(vec![reference(other)])),
        ])],
        Ok(Some(vec![
            ("own", reference("users/alice")),
            ("other", array(vec![reference(other)])),
        ])),
    );
    becomes(
        there(vec![("l", array(vec![reference("users/alice")]))]),
        vec![transforming(
            merge(&[], vec![]),
            vec![transform(
                "l",
                TransformType::AppendMissingElements(ArrayValue {
                    values: vec![reference(&own)],
                }),
            )],
        )],
        Ok(Some(vec![("l", array(vec![reference("users/alice")]))])),
    );
}
