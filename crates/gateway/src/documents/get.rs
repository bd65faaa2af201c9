//! Documents by their names.

use super::Mask;
use crate::reads::{Read, When};
use crate::status::{invalid, named};
use crate::transaction::Begun;
use crate::{Gateway, names};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tonic::{Code, Status};
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::batch_get_documents_response::Result as Outcome;
use whimbrel_firestore::v1::{
    self, BatchGetDocumentsRequest, BatchGetDocumentsResponse, GetDocumentRequest,
    batch_get_documents_request, get_document_request,
};
use whimbrel_firestore::{DatabaseName, Micros, Place, time};

/// Documents read at once.
const AT_ONCE: usize = 100;

/// # Errors
/// NOT_FOUND, or as [`Gateway::read`].
pub async fn get(
    gateway: &Arc<Gateway>,
    request: GetDocumentRequest,
) -> Result<v1::Document, Status> {
    use get_document_request::ConsistencySelector as Selector;
    let (database, place) = names::document(&request.name)?;
    let mask = Mask::new(request.mask.as_ref())?;
    let when = match request.consistency_selector {
        None => When::Now,
        Some(Selector::Transaction(id)) => When::In(id),
        Some(Selector::ReadTime(at)) => When::at(&at)?,
    };
    match gateway.fetch(&when, &place).await?.stored {
        Some(stored) => Ok(mask.show(&database, &place, &stored)),
        None => Err(named(
            Code::NotFound,
            format!("Document \"{}\" not found.", request.name),
        )),
    }
}

/// The answers come in the order of the names; a name that comes twice is answered once.
///
/// # Errors
/// As [`Gateway::read`].
pub async fn batch_get(
    gateway: &Arc<Gateway>,
    request: BatchGetDocumentsRequest,
) -> Result<BoxStream<'static, Result<BatchGetDocumentsResponse, Status>>, Status> {
    use batch_get_documents_request::ConsistencySelector as Selector;
    let database = names::database(&request.database)?;
    let mask = Mask::new(request.mask.as_ref())?;
    let when = match request.consistency_selector {
        None => When::Now,
        Some(Selector::Transaction(id)) if id.is_empty() => {
            return Err(invalid("Invalid transaction."));
        }
        Some(Selector::Transaction(id)) => When::In(id),
        Some(Selector::NewTransaction(options)) => When::New(options),
        Some(Selector::ReadTime(at)) => When::at(&at)?,
    };
    let mut seen = HashSet::with_capacity(request.documents.len());
    let mut places = VecDeque::with_capacity(request.documents.len());
    for name in &request.documents {
        let place = names::document_in(&database, name)?;
        if seen.insert(place.clone()) {
            places.push_back(place);
        }
    }
    let show = Show { database, mask };
    if let (Some(place), 1) = (places.front(), places.len()) {
        let fetched = gateway.fetch(&when, place).await?;
        let mut answer = show.answer(place, fetched.stored, fetched.read_time);
        answer.transaction = fetched.begun.map(Begun::tell).unwrap_or_default();
        return Ok(stream::iter([Ok(answer)]).boxed());
    }
    let mut read = gateway.read(&when).await?;
    let begun = read.begun.take();
    let told = |begun: Option<Begun>| begun.map(Begun::tell).unwrap_or_default();
    if places.is_empty() {
        let answer = BatchGetDocumentsResponse {
            transaction: told(begun),
            read_time: Some(time::to_proto(read.read_time)),
            result: None,
        };
        return Ok(stream::iter([Ok(answer)]).boxed());
    }
    let mut pages = Pages { read, places, show };
    // The first page is read before the call is answered, so that its errors are the call's.
    let mut first = pages.next().await?;
    if let Some(first) = first.first_mut() {
        first.transaction = told(begun);
    }
    let rest = stream::unfold(Some(pages), |pages| async {
        let mut pages = pages.filter(|pages| !pages.places.is_empty())?;
        match pages.next().await {
            Ok(answers) => Some((answers.into_iter().map(Ok).collect(), Some(pages))),
            Err(error) => Some((vec![Err(error)], None)),
        }
    });
    let first = stream::iter(first.into_iter().map(Ok));
    Ok(first.chain(rest.flat_map(stream::iter)).boxed())
}

struct Pages {
    read: Read,
    places: VecDeque<Place>,
    show: Show,
}

impl Pages {
    async fn next(&mut self) -> Result<Vec<BatchGetDocumentsResponse>, Status> {
        let count = self.places.len().min(AT_ONCE);
        let page: Vec<Place> = self.places.drain(..count).collect();
        let found = self.read.get(&page).await?;
        let at = self.read.read_time;
        let answers = page.iter().zip(found);
        Ok(answers
            .map(|(place, stored)| self.show.answer(place, stored, at))
            .collect())
    }
}

struct Show {
    database: DatabaseName,
    mask: Mask,
}

impl Show {
    fn answer(
        &self,
        place: &Place,
        stored: Option<Stored>,
        at: Micros,
    ) -> BatchGetDocumentsResponse {
        BatchGetDocumentsResponse {
            transaction: Vec::new(),
            read_time: Some(time::to_proto(at)),
            result: Some(match stored {
                Some(stored) => Outcome::Found(self.mask.show(&self.database, place, &stored)),
                None => Outcome::Missing(names::name(&self.database, place)),
            }),
        }
    }
}
