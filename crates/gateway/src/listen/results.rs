//! Reads of the store as of one time.

use crate::Gateway;
use crate::query::{Execution, Paging, Query, open, size};
use crate::reads::{Read, When};
use std::sync::Arc;
use std::vec;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::{Micros, Place};

/// The time that all reads of one kind are as of. Each opens a view of its own, so that none is held while the
/// client takes its time over another.
#[derive(Debug)]
pub struct Moment {
    gateway: Arc<Gateway>,
    /// `None` until the first read, which decides it.
    at: Option<Micros>,
}

impl Moment {
    #[must_use]
    pub fn present(gateway: &Arc<Gateway>) -> Self {
        Self {
            gateway: gateway.clone(),
            at: None,
        }
    }

    #[must_use]
    pub fn at(gateway: &Arc<Gateway>, at: Micros) -> Self {
        Self {
            gateway: gateway.clone(),
            at: Some(at),
        }
    }

    /// The time; 0 before the first read.
    #[must_use]
    pub fn time(&self) -> Micros {
        self.at.unwrap_or(0)
    }

    fn when(&self) -> When {
        self.at.map_or(When::Now, When::At)
    }

    /// # Errors
    /// The store fails, or does not know that time any more.
    pub async fn read(&mut self) -> Result<Read, Status> {
        let read = self.gateway.read(&self.when()).await?;
        self.at = Some(read.read_time);
        Ok(read)
    }

    /// The time, decided now if it was not.
    ///
    /// # Errors
    /// As [`Moment::read`].
    pub async fn fix(&mut self) -> Result<Micros, Status> {
        match self.at {
            Some(at) => Ok(at),
            None => Ok(self.read().await?.read_time),
        }
    }

    /// # Errors
    /// As [`Moment::read`].
    pub async fn get(&mut self, places: &[Place]) -> Result<Vec<Option<Stored>>, Status> {
        self.read().await?.get(places).await
    }

    /// # Errors
    /// As [`Moment::read`], or the query cannot be run.
    pub async fn results(&mut self, query: &Arc<Query>) -> Result<Results, Status> {
        let (read, execution) = open(&self.gateway, &self.when(), query).await?;
        self.at = Some(read.read_time);
        Ok(Results {
            read,
            execution,
            page: Vec::new().into_iter(),
        })
    }

    /// The next of the places, which are taken from them.
    ///
    /// # Errors
    /// As [`Moment::read`].
    pub async fn next_of<'p>(
        &mut self,
        places: &mut &'p [Place],
        paging: &mut Paging,
    ) -> Result<Vec<(&'p Place, Option<Stored>)>, Status> {
        let count = places.len().min(paging.limit() as usize);
        let (next, rest) = places.split_at(count);
        let found = self.get(next).await?;
        *places = rest;
        paging.read(found.iter().flatten().map(size));
        Ok(next.iter().zip(found).collect())
    }

    /// Calls `visit` with the place of every document that the query finds; from the index alone, where that is enough.
    ///
    /// # Errors
    /// As [`Moment::results`].
    pub async fn each_place(
        &mut self,
        query: &Arc<Query>,
        mut visit: impl FnMut(Place) + Send,
    ) -> Result<(), Status> {
        let (read, mut execution) = open(&self.gateway, &self.when(), query).await?;
        self.at = Some(read.read_time);
        if execution.is_countable() {
            return execution.each_place(&read, visit).await;
        }
        loop {
            let found = execution.next(&read).await?;
            if found.is_empty() {
                return Ok(());
            }
            found.into_iter().for_each(|(place, _)| visit(place));
        }
    }

    /// How many documents the query finds.
    ///
    /// # Errors
    /// As [`Moment::results`].
    pub async fn count(&mut self, query: &Arc<Query>) -> Result<usize, Status> {
        let (read, mut execution) = open(&self.gateway, &self.when(), query).await?;
        self.at = Some(read.read_time);
        if execution.is_countable() {
            let lines = execution.count(&read, u64::MAX).await?;
            return Ok(usize::try_from(lines).unwrap_or(usize::MAX));
        }
        let mut count = 0;
        loop {
            match execution.next(&read).await?.len() {
                0 => return Ok(count),
                more => count += more,
            }
        }
    }
}

/// A query's documents, one after the other.
pub struct Results {
    read: Read,
    execution: Execution,
    page: vec::IntoIter<(Place, Stored)>,
}

impl Results {
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self) -> Result<Option<(Place, Stored)>, Status> {
        if self.page.len() == 0 {
            self.page = self.execution.next(&self.read).await?.into_iter();
        }
        Ok(self.page.next())
    }
}
