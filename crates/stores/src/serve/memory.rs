//! A served store in memory: quick, and gone when the process ends.
//!
//! Every document and every line of an index has the times from and until which it holds, so a view is a
//! time and copies nothing. What no open view can see any more goes away at once (or, where one still
//! can, with the commits after it is dropped); what documents were is kept until it is forgotten.

mod state;
mod view;

use crate::OpenOptions;
use async_trait::async_trait;
use state::State;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use view::MemoryView;
use whimbrel_firestore::backend::{Decide, Foreign, Found, IndexId, IndexState, Stored, There};
use whimbrel_firestore::{Backend, Micros, Place, View};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

const NAME: &str = "memory:";

/// Lines looked at, or changes forgotten, before others get their turn.
const SLICE: usize = 4096;

/// An empty store of its own.
pub(super) fn open(options: &OpenOptions) -> Arc<dyn Backend> {
    Arc::new(MemoryBackend {
        shared: Arc::default(),
        committing: Mutex::default(),
        read_only: options.read_only,
    })
}

#[derive(Debug)]
struct MemoryBackend {
    shared: Arc<Shared>,
    /// Held from the reading of what a commit touches to its end.
    committing: Mutex<()>,
    read_only: bool,
}

/// Where both are locked, `state` is locked first.
#[derive(Debug, Default)]
struct Shared {
    state: RwLock<State>,
    /// The open views: how many of which time.
    views: Mutex<BTreeMap<Micros, usize>>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<Micros, usize>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the oldest open view; later than any where there is none.
    fn oldest_view(&self) -> Micros {
        let views = self.views();
        views.first_key_value().map_or(Micros::MAX, |(at, _)| *at)
    }
}

fn terminal(code: Code, message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Terminal, code, NAME, message)
}

fn no_index(index: IndexId) -> StoreError {
    terminal(Code::StoreMissing, format!("there is no index {}", index.0))
}

impl MemoryBackend {
    fn writable(&self) -> Result<(), StoreError> {
        if self.read_only {
            return Err(terminal(
                Code::StoreDenied,
                "the store was opened for reading only; nothing was written".to_owned(),
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &str {
        NAME
    }

    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        let state = self.shared.read();
        let one = |place| state.now(place).cloned();
        Ok(places.iter().map(one).collect())
    }

    async fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(MemoryView::new(&self.shared)))
    }

    async fn commit(&self, touch: &[Place], mut decide: Decide) -> Result<(), StoreError> {
        self.writable()?;
        let _alone = self
            .committing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Others go on reading while it is decided what is written.
        let found: Found = {
            let state = self.shared.read();
            let there = |place: &Place| {
                let stored = state.now(place)?.clone();
                Some((place.clone(), There::Document(stored)))
            };
            touch.iter().filter_map(there).collect()
        };
        let batch = decide(&found);
        let mut state = self.shared.write();
        state.check(&batch)?;
        state.apply(batch, self.shared.oldest_view());
        Ok(())
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        Ok(self.shared.read().last)
    }

    async fn foreign(&self, _limit: u32) -> Result<Foreign, StoreError> {
        Ok(Foreign::default())
    }

    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        Ok(self.shared.read().indexes())
    }

    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError> {
        self.writable()?;
        self.shared.write().create_index(definition)
    }

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError> {
        self.writable()?;
        self.shared.write().index_ready(index)
    }

    async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        loop {
            let horizon = horizon.min(self.shared.oldest_view());
            if !self.shared.write().forget(horizon, SLICE) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
