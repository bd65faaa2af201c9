//! Documents in groups, at any number of them: their order is laid down in a scratch store, never in
//! memory.

use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_model::rule::Grouping;
use whimbrel_model::{
    Body, Code, DocError, Document, Draft, Guard, Key, KeyKind, KeyRange, Map, Page, Store,
    StoreError, Value, Write, WriteOutcome, order,
};

use crate::chunk::CHUNK_BYTES;
use crate::derive::{Derived, Deriver};
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled};
use crate::options::Place;
use crate::pages::Pages;
use crate::upgrade::reject_failure;

/// The scratch store's only collection: one row a source document, its key laid out so that rows of a
/// group lie together and in the rule's order.
const ORDER: &str = "order";

/// The pages of a grouped copy are pages of the scratch store.
pub(crate) struct GroupPages {
    scratch: Arc<dyn Store>,
}

impl GroupPages {
    /// Reads the whole source once and lays down the order of its documents. A resumed run does it again:
    /// the scratch store is thrown away, the place in it is not (it is made of values only).
    pub(crate) async fn gather(
        source: &Place,
        grouping: &Grouping,
        scratch: Arc<dyn Store>,
    ) -> Result<Self, EngineError> {
        scratch.ensure(ORDER, &KeyKind::Text).await?;
        for range in source
            .store
            .partitions(&source.collection, &KeyRange::all(), 1)
            .await?
        {
            let mut after = None;
            loop {
                let range = range.resumed_after(after.as_ref());
                let page = source
                    .store
                    .scan(&source.collection, &range, 5000, CHUNK_BYTES)
                    .await?;
                after.clone_from(&page.last);
                let mut rows: Vec<Row> = page
                    .documents
                    .into_iter()
                    .map(|doc| row_of(doc, grouping))
                    .collect();
                rows.extend(page.rejects.iter().map(|reject| {
                    let failure = reject_failure(reject);
                    Row::lone(&failure.label.clone(), failure.key, Some(failure.error))
                }));
                put(scratch.as_ref(), rows).await?;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(Self { scratch })
    }
}

#[async_trait]
impl Pages for GroupPages {
    async fn partitions(&self, _parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(vec![KeyRange::all()])
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        self.scratch.scan(ORDER, range, limit, CHUNK_BYTES).await
    }
}

/// One source document in the scratch store.
struct Row {
    place: String,
    body: Map,
}

impl Row {
    /// A document that belongs to no group because it failed.
    fn lone(label: &str, key: Option<Key>, error: Option<DocError>) -> Self {
        // "0" sorts before every group, whose places begin with "1".
        let mut row = Self {
            place: format!("0{}", hex(label.as_bytes())),
            body: Map::new(),
        };
        row.set("label", label.to_owned());
        if let Some(key) = key {
            row.set("key", serde_json::to_string(&key).unwrap_or_default());
        }
        if let Some(error) = error {
            row.set("error", serde_json::to_string(&error).unwrap_or_default());
        }
        row
    }

    fn set(&mut self, name: &str, text: String) {
        self.body.insert(name.to_owned(), Value::String(text));
    }
}

fn row_of(doc: Document, grouping: &Grouping) -> Row {
    let label = doc.key.to_string();
    match place_of(&doc, grouping) {
        Ok((group, place)) => {
            let mut row = Row::lone(&label, Some(doc.key), None);
            row.place = format!("1{}", hex(&place));
            row.body.insert("group".to_owned(), group);
            row
        }
        Err(error) => Row::lone(&label, Some(doc.key), Some(error)),
    }
}

/// The document's group, and bytes that sort as the rule orders.
fn place_of(doc: &Document, grouping: &Grouping) -> Result<(Value, Vec<u8>), DocError> {
    let mut draft = Draft::from_body(doc.body.clone())?;
    let Some(group) = grouping.by.get(&mut draft)?.cloned() else {
        return Err(DocError::new(
            Code::DocType,
            "the field that documents are grouped by is missing",
        )
        .at(grouping.by.to_string()));
    };
    let mut place = Vec::new();
    order::encode(&group, &mut place);
    for field in &grouping.order_by {
        match field.get(&mut draft)? {
            // A missing field sorts before every value, whose encodings begin with a byte above zero.
            None => place.push(0),
            Some(value) => order::encode(value, &mut place),
        }
    }
    match &doc.key {
        Key::Int(n) => order::encode(&Value::Int(*n), &mut place),
        other => order::encode(&Value::String(other.to_string()), &mut place),
    }
    Ok((group, place))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

async fn put(scratch: &dyn Store, rows: Vec<Row>) -> Result<(), EngineError> {
    let writes: Vec<Write> = rows
        .into_iter()
        .map(|row| Write {
            collection: ORDER.to_owned(),
            key: Key::text(row.place),
            to: Some(Body::Map(row.body)),
            guard: Guard::Any,
        })
        .collect();
    for part in writes.chunks(scratch.limits().batch_writes.max(1) as usize) {
        for (write, outcome) in part.iter().zip(scratch.write(part).await?) {
            if outcome != WriteOutcome::Applied {
                return Err(EngineError::Counts(format!(
                    "the scratch store did not take row {}",
                    write.key
                )));
            }
        }
    }
    Ok(())
}

/// A row as read back.
struct Member {
    row: Key,
    label: String,
    key: Option<Key>,
    group: Option<Value>,
    error: Option<DocError>,
}

fn member_of(row: Document) -> Option<Member> {
    let map = row.body.map().ok()?;
    let text = |name: &str| match map.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    Some(Member {
        label: text("label")?,
        key: text("key").and_then(|t| serde_json::from_str(&t).ok()),
        group: map.get("group").cloned(),
        error: text("error").and_then(|t| serde_json::from_str(&t).ok()),
        row: row.key,
    })
}

/// Derives from the groups of one page of the scratch store, reading on where the page ends inside a
/// group.
pub(crate) async fn derive_page(
    source: &Place,
    scratch: &dyn Store,
    deriver: &Arc<Deriver>,
    page: Page,
    cx: &ChunkContext,
    handled: &mut Handled,
) -> Result<Vec<Derived>, EngineError> {
    let damaged =
        || EngineError::Counts("the scratch store gave a row that was not put there".to_owned());
    let mut members: Vec<Member> = page
        .documents
        .into_iter()
        .map(member_of)
        .collect::<Option<_>>()
        .ok_or_else(damaged)?;
    // The last group may go on behind the page.
    while let Some(last) = members.last().filter(|m| m.group.is_some()) {
        let range = KeyRange {
            after: Some(last.row.clone()),
            through: None,
        };
        let (row, group) = (last.row.clone(), last.group.clone());
        let more = scratch.scan(ORDER, &range, 500, CHUNK_BYTES).await?;
        let more: Vec<Member> = more
            .documents
            .into_iter()
            .map(member_of)
            .collect::<Option<_>>()
            .ok_or_else(damaged)?;
        members.extend(more.into_iter().take_while(|m| m.group == group));
        if members.last().is_none_or(|m| m.row == row) {
            break;
        }
    }
    handled.counts.enumerated += members.len() as u64;
    handled.through = members.last().map(|m| m.row.clone());
    let mut derived = Vec::new();
    let mut group: Vec<Member> = Vec::new();
    for member in members {
        if let Some(error) = member.error {
            let failure = Failure {
                label: member.label,
                key: member.key,
                version: None,
                error,
            };
            derived.push(Derived::Failed(vec![failure]));
            continue;
        }
        if group
            .first()
            .is_some_and(|first| first.group != member.group)
        {
            derived.extend(
                derive_group(source, deriver, std::mem::take(&mut group), cx, handled).await?,
            );
        }
        group.push(member);
    }
    derived.extend(derive_group(source, deriver, group, cx, handled).await?);
    Ok(derived)
}

async fn derive_group(
    source: &Place,
    deriver: &Arc<Deriver>,
    members: Vec<Member>,
    cx: &ChunkContext,
    handled: &mut Handled,
) -> Result<Option<Derived>, EngineError> {
    let Some(value) = members.first().and_then(|m| m.group.clone()) else {
        return Ok(None);
    };
    let keys: Vec<Key> = members.into_iter().filter_map(|m| m.key).collect();
    let mut docs = Vec::with_capacity(keys.len());
    for part in keys.chunks(source.store.limits().batch_writes.max(1) as usize) {
        docs.extend(source.store.get(&source.collection, part).await?);
    }
    handled.counts.deleted += docs.iter().filter(|d| d.is_none()).count() as u64;
    let docs: Vec<Document> = docs.into_iter().flatten().collect();
    if docs.is_empty() {
        return Ok(None);
    }
    let (deriver, now) = (Arc::clone(deriver), cx.now);
    tokio::task::spawn_blocking(move || Some(deriver.group(&value, docs, now)))
        .await
        .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))
}
