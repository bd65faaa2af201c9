//! Reading: pages in the order of names, single documents, counts, and cuts into parts.

use super::calls::with;
use super::names::{self, Collection};
use super::query::{COUNTS, Rows, Walk};
use super::{FirestoreStore, revision};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tonic::Status;
use whimbrel_firestore::v1::{self, BatchGetDocumentsRequest, ListCollectionIdsRequest};
use whimbrel_firestore::v1::{
    DocumentMask, batch_get_documents_request, batch_get_documents_response,
    list_collection_ids_request,
};
use whimbrel_firestore::value::{localize, to_model};
use whimbrel_firestore::{Place, name::is_document_path};
use whimbrel_model::{Body, Document, Key, KeyRange, Page, StoreError};

/// Names read at once where only names are read.
const NAMES: usize = 3000;
/// Documents asked for at once.
const GETS: usize = 300;
/// Whoever only wants to know about how many there are does not wait longer.
const SOON: Duration = Duration::from_secs(5);
/// Into how many parts a range is cut that the server does not count in time.
const COUNTED_PARTS: u32 = 16;
/// Where the server does not cut a collection, its keys are sampled: at most so many are kept.
const SAMPLES: usize = 4096;
/// A collection that the server does not cut although it could is small. Only so many names are looked at.
const SMALL: usize = 10_000;

impl FirestoreStore {
    pub(super) async fn page(
        &self,
        collection: &Collection,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let mut walk = self.walk(collection, range)?;
        let mut page = Page::default();
        let (mut size, limit) = (0, limit.max(1) as usize);
        while size < bytes.max(1) && page.documents.len() < limit {
            let wanted = limit - page.documents.len();
            let left = bytes.saturating_sub(size).max(1);
            let Rows { documents, ended } = self.calls.rows(&walk, wanted, left).await?;
            let last = documents.last().and_then(|last| self.path(last));
            for document in documents {
                // Others have the same last collection id, but lie elsewhere.
                if let Some(document) = self.document(collection, document) {
                    size += document.body.size();
                    page.documents.push(document);
                }
            }
            if ended || last.is_none() {
                break;
            }
            walk.after = last;
        }
        page.last = page.documents.last().map(|last| last.key.clone());
        Ok(page)
    }

    /// # Errors
    /// An end of the range is no key of the collection.
    fn walk<'a>(
        &self,
        collection: &'a Collection,
        range: &KeyRange,
    ) -> Result<Walk<'a>, StoreError> {
        let (after, through) = collection
            .paths_of(range)
            .map_err(|why| self.failed(format!("nothing was read: {why}")))?;
        Ok(Walk {
            after,
            through,
            ..Walk::of(collection)
        })
    }

    /// The path of a document below the root.
    fn path(&self, document: &v1::Document) -> Option<String> {
        let path = self.calls.upstream.database().relative(&document.name)?;
        Some(path.to_owned())
    }

    fn document(&self, collection: &Collection, mut found: v1::Document) -> Option<Document> {
        let database = self.calls.upstream.database();
        let key = collection.key_of(database.relative(&found.name)?)?;
        localize(&mut found.fields, database);
        Some(Document {
            key,
            body: Body::Map(to_model(&found.fields)),
            revision: revision::of(&found),
        })
    }

    /// One answer a key, in the order asked; `None` also for keys that no document can have.
    pub(super) async fn documents(
        &self,
        collection: &Collection,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let paths: Vec<Option<String>> = keys
            .iter()
            .map(|key| collection.path_of(key).ok())
            .collect();
        let wanted: BTreeSet<&str> = paths.iter().flatten().map(String::as_str).collect();
        let found = self.by_path(wanted, false).await?;
        Ok(keys
            .iter()
            .zip(paths)
            .map(|(key, path)| {
                let found = found.get(path?.as_str())?.clone();
                let document = self.document(collection, found)?;
                // As it was asked for: a number's text is a text here.
                Some(Document {
                    key: key.clone(),
                    ..document
                })
            })
            .collect())
    }

    /// Documents by their paths. Those that are not there are left out.
    pub(super) async fn by_path(
        &self,
        paths: BTreeSet<&str>,
        names_only: bool,
    ) -> Result<HashMap<String, v1::Document>, StoreError> {
        let database = self.calls.upstream.database();
        let paths: Vec<&str> = paths.into_iter().collect();
        let mut all = HashMap::with_capacity(paths.len());
        for part in paths.chunks(GETS) {
            let request = BatchGetDocumentsRequest {
                database: database.to_string(),
                documents: part.iter().map(|path| database.document(path)).collect(),
                mask: names_only.then(|| DocumentMask {
                    field_paths: vec!["__name__".to_owned()],
                }),
                consistency_selector: self
                    .calls
                    .read_time
                    .map(batch_get_documents_request::ConsistencySelector::ReadTime),
                ..BatchGetDocumentsRequest::default()
            };
            let found = self
                .calls
                .read("reading documents", |mut client, metadata| {
                    let request = with(metadata, request.clone());
                    async move {
                        let mut stream = client.batch_get_documents(request).await?.into_inner();
                        let mut found = Vec::new();
                        while let Some(answer) = stream.message().await? {
                            if let Some(batch_get_documents_response::Result::Found(document)) =
                                answer.result
                            {
                                found.push(document);
                            }
                        }
                        Ok(found)
                    }
                })
                .await?;
            for document in found {
                if let Some(path) = self.path(&document) {
                    all.insert(path, document);
                }
            }
        }
        Ok(all)
    }

    pub(super) async fn exists(&self, collection: &Collection) -> Result<bool, StoreError> {
        let page = self.page(collection, &KeyRange::all(), 1, 1).await?;
        Ok(page.last.is_some())
    }

    pub(super) async fn counted(
        &self,
        collection: &Collection,
        range: &KeyRange,
    ) -> Result<u64, StoreError> {
        if !collection.is_nested() {
            return self.counted_by_parts(collection, range).await;
        }
        // The server counts all collections of the same last id: only the names tell them apart.
        let walk = self.walk(collection, range)?;
        let mut count = 0;
        self.each_key(collection, walk, &mut |_| {
            count += 1;
            true
        })
        .await?;
        Ok(count)
    }

    /// What takes the server too long to count at once is counted part by part.
    async fn counted_by_parts(
        &self,
        collection: &Collection,
        range: &KeyRange,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut open = vec![range.clone()];
        while let Some(range) = open.pop() {
            let walk = self.walk(collection, &range)?;
            if let Some(some) = self.calls.counted(&walk).await? {
                count += some;
                continue;
            }
            let parts = self.cut(collection, &range, COUNTED_PARTS).await?;
            // What is no smaller will take as long.
            if parts.len() == 1 {
                let status = Status::deadline_exceeded("no answer in time");
                return Err(self.calls.read_error(COUNTS, &status));
            }
            open.extend(parts);
        }
        Ok(count)
    }

    /// About how many documents there are, if the server has counted them soon.
    pub(super) async fn estimate(&self, collection: &Collection) -> Option<u64> {
        let walk = Walk::of(collection);
        let counting = self.calls.counted(&walk);
        tokio::time::timeout(SOON, counting).await.ok()?.ok()?
    }

    /// Calls `see` with every key of a walk, until it says that it has seen enough. Says whether it saw all.
    async fn each_key(
        &self,
        collection: &Collection,
        mut walk: Walk<'_>,
        see: &mut (dyn FnMut(Key) -> bool + Send),
    ) -> Result<bool, StoreError> {
        walk.names_only = true;
        loop {
            let Rows { documents, ended } = self.calls.rows(&walk, NAMES, usize::MAX).await?;
            for document in &documents {
                let path = self.path(document).unwrap_or_default();
                if let Some(key) = collection.key_of(&path)
                    && !see(key)
                {
                    return Ok(false);
                }
                walk.after = Some(path);
            }
            if ended {
                return Ok(true);
            }
        }
    }

    pub(super) async fn cut(
        &self,
        collection: &Collection,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let walk = self.walk(collection, range)?;
        let points = if parts > 1 {
            let points = parts - 1;
            self.calls.split_points(collection, points).await?
        } else {
            Some(Vec::new())
        };
        let points = match points {
            // The server does not cut, or found nothing to cut: small collections are looked at instead.
            None => {
                return self
                    .cut_by_samples(collection, range, walk, parts, usize::MAX)
                    .await;
            }
            Some(points) if points.is_empty() && parts > 1 => {
                let walk = walk.clone();
                let cut = self
                    .cut_by_samples(collection, range, walk, parts, SMALL)
                    .await?;
                if !cut.is_empty() || !self.exists(collection).await? {
                    return Ok(cut);
                }
                points
            }
            Some(points) => points,
        };
        self.cut_at(collection, range, walk, points).await
    }

    async fn cut_at(
        &self,
        collection: &Collection,
        range: &KeyRange,
        walk: Walk<'_>,
        points: Vec<String>,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let database = self.calls.upstream.database();
        let mut paths: Vec<&str> = points
            .iter()
            .filter_map(|name| database.relative(name))
            .filter(|path| collection.key_of(path).is_some())
            .filter(|path| {
                let (after, through) = (walk.after.as_deref(), walk.through.as_deref());
                after.is_none_or(|after| names::compare(path, after).is_gt())
                    && through.is_none_or(|through| names::compare(path, through).is_lt())
            })
            .collect();
        paths.sort_by(|a, b| names::compare(a, b));
        paths.dedup();
        let Some(last) = self.last_key(collection, walk, &paths).await? else {
            return Ok(Vec::new());
        };
        let end = collection.path_of(&last).unwrap_or_default();
        let mut ends: Vec<Key> = paths
            .iter()
            .filter(|path| names::compare(path, &end).is_lt())
            .filter_map(|path| collection.key_of(path))
            .collect();
        ends.push(last);
        Ok(ranges(range.after.clone(), ends))
    }

    /// The greatest key of a walk; `points` are paths on it, in order.
    async fn last_key(
        &self,
        collection: &Collection,
        walk: Walk<'_>,
        points: &[&str],
    ) -> Result<Option<Key>, StoreError> {
        let mut back = Walk {
            names_only: true,
            descending: true,
            ..walk.clone()
        };
        let mut limit = 1;
        loop {
            let rows = match self.calls.try_rows(&back, limit).await? {
                Ok(rows) => rows,
                // Google wants an index for the way back. Then the way there is gone to its end.
                Err(_) => break,
            };
            let key = |document: &v1::Document| collection.key_of(&self.path(document)?);
            if let Some(key) = rows.documents.iter().find_map(key) {
                return Ok(Some(key));
            }
            if rows.ended {
                return Ok(None);
            }
            back.through = rows.documents.last().and_then(|last| self.path(last));
            limit = NAMES;
        }
        // From the last point on; from one before it, where nothing is there any more.
        let starts = points.iter().rev().map(|point| Some((*point).to_owned()));
        for after in starts.chain([walk.after.clone()]) {
            let mut last = None;
            let mut note = |key| {
                last = Some(key);
                true
            };
            let walk = Walk {
                after,
                ..walk.clone()
            };
            self.each_key(collection, walk, &mut note).await?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Quantiles of all keys, or of a sample of them where there are many. Nothing where there are more than `most`.
    async fn cut_by_samples(
        &self,
        collection: &Collection,
        range: &KeyRange,
        walk: Walk<'_>,
        parts: u32,
        most: usize,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let mut samples = Samples::default();
        let mut note = |key| {
            samples.add(key);
            samples.seen <= most
        };
        if self.each_key(collection, walk, &mut note).await? {
            Ok(ranges(range.after.clone(), samples.quantiles(parts)))
        } else {
            Ok(Vec::new())
        }
    }

    /// The collections at the root.
    pub(super) async fn roots(&self) -> Result<Vec<String>, StoreError> {
        let mut request = ListCollectionIdsRequest {
            parent: self.calls.upstream.database().documents(),
            consistency_selector: self
                .calls
                .read_time
                .map(list_collection_ids_request::ConsistencySelector::ReadTime),
            ..ListCollectionIdsRequest::default()
        };
        let mut ids = Vec::new();
        loop {
            let call = |mut client: super::calls::Client, metadata| {
                let request = with(metadata, request.clone());
                async move { Ok(client.list_collection_ids(request).await?.into_inner()) }
            };
            let answer = self.calls.read("listing collections", call).await?;
            ids.extend(answer.collection_ids);
            if answer.next_page_token.is_empty() {
                return Ok(ids);
            }
            request.page_token = answer.next_page_token;
        }
    }

    /// Every collection that holds a document. Collections below documents are found only by walking along all
    /// names there are: nothing else knows of them.
    pub(super) async fn everywhere(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut found = BTreeSet::new();
        let mut walk = Walk {
            collection: None,
            after: None,
            through: None,
            names_only: true,
            descending: false,
        };
        loop {
            let Rows { documents, ended } = self.calls.rows(&walk, NAMES, usize::MAX).await?;
            for document in &documents {
                let path = self.path(document).filter(|path| is_document_path(path));
                if let Some(place) = path.as_deref().and_then(Place::of_path)
                    && !found.contains(&*place.collection)
                {
                    found.insert(place.collection.to_string());
                }
                walk.after = path.or(walk.after);
            }
            if ended {
                return Ok(found);
            }
        }
    }
}

fn ranges(mut after: Option<Key>, ends: Vec<Key>) -> Vec<KeyRange> {
    ends.into_iter()
        .map(|end| KeyRange {
            after: after.replace(end.clone()),
            through: Some(end),
        })
        .collect()
}

/// Every so-manieth key, and the last one.
#[derive(Default)]
struct Samples {
    keys: Vec<Key>,
    /// One of so many is kept.
    stride: usize,
    seen: usize,
    last: Option<Key>,
}

impl Samples {
    fn add(&mut self, key: Key) {
        self.stride = self.stride.max(1);
        self.seen += 1;
        if self.seen.is_multiple_of(self.stride) {
            self.keys.push(key.clone());
        }
        self.last = Some(key);
        if self.keys.len() == SAMPLES {
            // Those that the doubled stride would have kept.
            let mut index = 0;
            self.keys.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.stride *= 2;
        }
    }

    /// The keys at which parts end, the last of all at the end.
    fn quantiles(mut self, parts: u32) -> Vec<Key> {
        let Some(last) = self.last else {
            return Vec::new();
        };
        if self.keys.last() != Some(&last) {
            self.keys.push(last);
        }
        let parts = (parts.max(1) as usize).min(self.keys.len());
        (1..=parts)
            .map(|part| self.keys[part * self.keys.len() / parts - 1].clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_cut_evenly_and_end_at_the_last() {
        for (total, parts) in [
            (0, 3),
            (1, 4),
            (7, 3),
            (500, 1000),
            (100_000, 8),
            (123_457, 16),
        ] {
            let mut samples = Samples::default();
            for n in 0..total {
                samples.add(Key::Int(n));
            }
            assert!(samples.keys.len() < SAMPLES);
            let ends = samples.quantiles(parts);
            assert_eq!(ends.last(), (total > 0).then_some(&Key::Int(total - 1)));
            let mut before = -1;
            for end in &ends {
                let Key::Int(end) = end else { panic!() };
                let share = (end - before) as f64 / (total as f64 / ends.len() as f64);
                assert!(
                    (0.9..=1.1).contains(&share) || total < 1000,
                    "{share} of {total}"
                );
                before = *end;
            }
            let most = i64::from(parts).min(total);
            assert!(ends.len() as i64 <= most, "{} of {most}", ends.len());
        }
    }
}
