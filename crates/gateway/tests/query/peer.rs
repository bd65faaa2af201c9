//! The model itself, held against another Firestore (`WHIMBREL_TEST_FIRESTORE`, a host and a port): what we are
//! compared with must be true.

use crate::model::{self, Documents};
use crate::random::{Random, documents, query};
use crate::values::DATABASE;
use tonic::transport::Channel;
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_firestore::v1::run_query_request::QueryType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{CommitRequest, Document, RunQueryRequest, Write};
use whimbrel_testkit::servers::server;

#[tokio::test]
async fn the_model_says_what_another_firestore_says() {
    let Some(host) = server("WHIMBREL_TEST_FIRESTORE") else {
        return;
    };
    let channel = Channel::from_shared(format!("http://{host}")).unwrap();
    let mut client = FirestoreClient::new(channel.connect().await.unwrap());
    let (mut compared, mut found) = (0, 0);
    for seed in 0..20_u64 {
        // A project of its own for each run: nothing of others is in it.
        let project = format!("model-{}-{seed}", std::process::id());
        let database = format!("projects/{project}/databases/(default)");
        let here = |text: String| text.replace(DATABASE, &database);
        let mut random = Random::new(seed);
        let there: Documents = documents(&mut random, 60);
        let writes = there
            .iter()
            .map(|(path, fields)| Write {
                operation: Some(Operation::Update(Document {
                    name: format!("{database}/documents/{path}"),
                    fields: renamed(fields, &database),
                    ..Document::default()
                })),
                ..Write::default()
            })
            .collect();
        let commit = CommitRequest {
            database: database.clone(),
            writes,
            ..CommitRequest::default()
        };
        client.commit(commit).await.unwrap();
        for round in 0..100 {
            let (parent, asked) = query(&mut random, &there);
            let mut sent = asked.clone();
            rename_query(&mut sent, &database);
            let below = if parent.is_empty() {
                String::new()
            } else {
                format!("/{parent}")
            };
            let request = RunQueryRequest {
                parent: here(format!("{DATABASE}/documents{below}")),
                query_type: Some(QueryType::StructuredQuery(sent)),
                ..RunQueryRequest::default()
            };
            let Ok(responses) = client.run_query(request).await else {
                continue;
            };
            let mut responses = responses.into_inner();
            let prefix = format!("{database}/documents/");
            let mut got = Vec::new();
            while let Ok(Some(response)) = responses.message().await {
                got.extend(response.document.map(|d| d.name[prefix.len()..].to_owned()));
            }
            assert_eq!(
                got,
                model::run(&there, &parent, &asked),
                "seed {seed}, round {round}, below {parent:?}: {asked:#?}"
            );
            compared += 1;
            found += got.len();
        }
    }
    println!("{compared} queries compared, {found} documents found");
    assert!(compared > 500 && found > 1_000);
}

/// The fields with references into another project's database.
fn renamed(fields: &whimbrel_firestore::Fields, database: &str) -> whimbrel_firestore::Fields {
    let mut fields = fields.clone();
    whimbrel_firestore::value::each_reference(fields.values_mut(), &mut |name| {
        *name = name.replace(DATABASE, database);
    });
    fields
}

fn rename_query(query: &mut whimbrel_firestore::v1::StructuredQuery, database: &str) {
    use whimbrel_firestore::v1::structured_query::{Filter, filter::FilterType};
    use whimbrel_firestore::value::each_reference;
    fn filter(one: &mut Filter, change: &mut impl FnMut(&mut String)) {
        match one.filter_type.as_mut() {
            Some(FilterType::CompositeFilter(composite)) => {
                composite.filters.iter_mut().for_each(|f| filter(f, change));
            }
            Some(FilterType::FieldFilter(field)) => each_reference(field.value.iter_mut(), change),
            _ => {}
        }
    }
    let mut change = |name: &mut String| *name = name.replace(DATABASE, database);
    query
        .r#where
        .iter_mut()
        .for_each(|f| filter(f, &mut change));
    for cursor in query.start_at.iter_mut().chain(&mut query.end_at) {
        each_reference(cursor.values.iter_mut(), &mut change);
    }
}
