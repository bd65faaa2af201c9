//! Clients of Firestore's protocol, each with a connection of its own.

use super::{Load, MODEL, Outcome, TITLE, Taken, id};
use futures::StreamExt;
use std::future::Future;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{
    BatchGetDocumentsRequest, CommitRequest, Document, GetDocumentRequest, Value, Write,
};

const DATABASE: &str = "projects/demo-test/databases/(default)";

type Client = FirestoreClient<Channel>;

pub async fn run<F>(
    address: &str,
    load: Load,
    operation: impl Fn(Client, u32, u32) -> F + Copy + Send + 'static,
) -> Outcome<Taken>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let mut clients = Vec::new();
    for _ in 0..load.clients {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect()
            .await?;
        clients.push(FirestoreClient::new(channel));
    }
    let start = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(clients)
        .map(|(me, client)| {
            tokio::spawn(async move {
                let mut latencies: Vec<Duration> = Vec::new();
                for number in 0..load.operations {
                    let start = Instant::now();
                    operation(client.clone(), me, number).await?;
                    latencies.push(start.elapsed());
                }
                Outcome::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Taken {
        seconds: start.elapsed().as_secs_f64(),
        latencies,
    })
}

pub async fn commit(mut client: Client, me: u32, number: u32) -> Outcome<()> {
    let write = Write {
        operation: Some(Operation::Update(document(me, number))),
        ..Write::default()
    };
    let request = CommitRequest {
        database: DATABASE.to_owned(),
        writes: vec![write],
        ..CommitRequest::default()
    };
    let answer = client.commit(request).await?.into_inner();
    if answer.write_results.len() != 1 {
        return Err("a commit of one write has no result of one".into());
    }
    Ok(())
}

pub async fn get(mut client: Client, me: u32, number: u32) -> Outcome<()> {
    let request = GetDocumentRequest {
        name: name(me, number),
        ..GetDocumentRequest::default()
    };
    let found = client.get_document(request).await?.into_inner();
    whole(&found)
}

pub async fn batch_get(mut client: Client, me: u32, number: u32) -> Outcome<()> {
    use whimbrel_firestore::v1::batch_get_documents_response::Result as Got;
    let request = BatchGetDocumentsRequest {
        database: DATABASE.to_owned(),
        documents: vec![name(me, number)],
        ..BatchGetDocumentsRequest::default()
    };
    let mut answers = client.batch_get_documents(request).await?.into_inner();
    let mut found = None;
    while let Some(answer) = answers.next().await {
        if let Some(Got::Found(document)) = answer?.result {
            found = Some(document);
        }
    }
    whole(&found.ok_or("a document that was written is not found")?)
}

/// What was read is what was written, or the figure means nothing.
fn whole(document: &Document) -> Outcome<()> {
    if document.fields.len() == FIELDS {
        return Ok(());
    }
    Err(format!(
        "a document has {} fields of {FIELDS}",
        document.fields.len()
    )
    .into())
}

const FIELDS: usize = 5;

fn document(me: u32, number: u32) -> Document {
    let fields = [
        ("userId", ValueType::StringValue(format!("user-{me}"))),
        ("title", ValueType::StringValue(TITLE.to_owned())),
        ("model", ValueType::StringValue(MODEL.to_owned())),
        ("turn", ValueType::IntegerValue(i64::from(number))),
        ("done", ValueType::BooleanValue(number.is_multiple_of(2))),
    ];
    let fields: Fields = fields
        .into_iter()
        .map(|(name, value)| {
            let value = Value {
                value_type: Some(value),
            };
            (name.to_owned(), value)
        })
        .collect();
    Document {
        name: name(me, number),
        fields,
        ..Document::default()
    }
}

fn name(me: u32, number: u32) -> String {
    format!("{DATABASE}/documents/conversations/{}", id(me, number))
}
