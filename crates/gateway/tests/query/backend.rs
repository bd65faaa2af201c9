//! A store that counts what is read from it.

use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use whimbrel_firestore::backend::{
    Change, Decide, Foreign, IndexId, IndexState, Line, Stored, Walk,
};
use whimbrel_firestore::{Backend, Fields, Micros, Place, View};
use whimbrel_model::StoreError;

#[derive(Debug, Default)]
pub struct Counts {
    pub lines: AtomicU64,
    pub documents: AtomicU64,
    /// The most documents that were handed out at once.
    pub at_once: AtomicU64,
    /// The most documents that one commit touched.
    pub touched: AtomicU64,
    pub made: AtomicU64,
    /// What another program does just before the next view is opened.
    pub before_view: Mutex<Option<(tokio_postgres::Client, &'static str)>>,
}

impl Counts {
    /// Lines and documents since the last time.
    pub fn take(&self) -> (u64, u64) {
        (
            self.lines.swap(0, Ordering::Relaxed),
            self.documents.swap(0, Ordering::Relaxed),
        )
    }
}

#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Backend>,
    counts: Arc<Counts>,
}

impl Counting {
    /// A store that counts what is read from `inner`.
    pub fn over(inner: Arc<dyn Backend>) -> (Arc<dyn Backend>, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let counting = Self {
            inner,
            counts: counts.clone(),
        };
        (Arc::new(counting), counts)
    }
}

#[async_trait]
impl Backend for Counting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        self.inner.get(places).await
    }

    async fn view(&self) -> Result<Box<dyn View>, StoreError> {
        let other = self.counts.before_view.lock().unwrap().take();
        if let Some((other, sql)) = other {
            other.batch_execute(sql).await.unwrap();
        }
        Ok(Box::new(CountingView {
            inner: self.inner.view().await?,
            counts: self.counts.clone(),
        }))
    }

    async fn commit(&self, touch: &[Place], decide: Decide) -> Result<(), StoreError> {
        let touched = touch.len() as u64;
        self.counts.touched.fetch_max(touched, Ordering::Relaxed);
        self.inner.commit(touch, decide).await
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        self.inner.last_commit().await
    }

    async fn foreign(&self, limit: u32) -> Result<Foreign, StoreError> {
        self.inner.foreign(limit).await
    }

    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        self.inner.indexes().await
    }

    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError> {
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        self.inner.create_index(definition).await
    }

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError> {
        self.inner.index_ready(index).await
    }

    async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        self.inner.forget(horizon).await
    }

    fn refuse(&self, place: &Place, fields: &Fields) -> Option<String> {
        self.inner.refuse(place, fields)
    }
}

struct CountingView {
    inner: Box<dyn View>,
    counts: Arc<Counts>,
}

impl CountingView {
    fn count(&self, lines: usize, documents: usize) {
        let counts = &self.counts;
        counts.lines.fetch_add(lines as u64, Ordering::Relaxed);
        counts
            .documents
            .fetch_add(documents as u64, Ordering::Relaxed);
        counts
            .at_once
            .fetch_max(documents as u64, Ordering::Relaxed);
    }
}

#[async_trait]
impl View for CountingView {
    fn at(&self) -> Micros {
        self.inner.at()
    }

    async fn get(
        &self,
        places: &[Place],
        at: Option<Micros>,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        self.count(places.len(), places.len());
        self.inner.get(places, at).await
    }

    async fn walk(&self, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let lines = self.inner.walk(walk).await?;
        self.count(lines.len(), if walk.documents { lines.len() } else { 0 });
        Ok(lines)
    }

    async fn count(&self, walk: &Walk) -> Result<u64, StoreError> {
        self.inner.count(walk).await
    }

    async fn collections(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.inner.collections().await
    }

    async fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let changes = self.inner.changed(since, until, after_place, limit).await?;
        self.count(changes.len(), 0);
        let both = changes.len() as u64 * 2;
        self.counts.at_once.fetch_max(both, Ordering::Relaxed);
        Ok(changes)
    }
}
