//! A client as Firestore's own are: it applies what a stream says to the targets' documents, and shows them
//! when all of the stream is as of one time.

use crate::harness::{DATABASE, Stage};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use whimbrel_firestore::Micros;
use whimbrel_firestore::time::from_proto;
use whimbrel_firestore::v1::listen_request::TargetChange as Asked;
use whimbrel_firestore::v1::listen_response::ResponseType;
use whimbrel_firestore::v1::target_change::TargetChangeType;
use whimbrel_firestore::v1::{Document, ListenRequest, ListenResponse, Target, TargetChange};

#[derive(Debug, Default)]
pub struct View {
    pub documents: BTreeMap<String, Document>,
    pub current: bool,
    /// What an existence filter counted, where that was not what the client had.
    pub mismatch: Option<i32>,
    pub resets: usize,
    /// Messages about single documents.
    pub messages: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Added(Vec<i32>),
    Current(Vec<i32>),
    Reset(Vec<i32>),
    /// With the code of the cause, if there is one.
    Removed(Vec<i32>, Option<i32>),
    /// A document, the targets that it is in, and those that it left.
    Changed(String, Vec<i32>, Vec<i32>),
    Deleted(String, Vec<i32>),
    Left(String, Vec<i32>),
    Filter(i32, i32),
    Snapshot,
}

pub struct Client {
    pub requests: mpsc::Sender<Result<ListenRequest, Status>>,
    responses: BoxStream<'static, Result<ListenResponse, Status>>,
    pub views: BTreeMap<i32, View>,
    pub at: Micros,
    pub token: Vec<u8>,
    pub events: Vec<Event>,
}

impl Client {
    pub fn connect(stage: &Stage) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let responses =
            whimbrel_gateway::listen::listen(stage.gateway.clone(), ReceiverStream::new(receiver));
        Self {
            requests,
            responses,
            views: BTreeMap::new(),
            at: 0,
            token: Vec::new(),
            events: Vec::new(),
        }
    }

    async fn ask(&self, asked: Asked) {
        let request = ListenRequest {
            database: DATABASE.to_owned(),
            target_change: Some(asked),
            ..ListenRequest::default()
        };
        self.requests.send(Ok(request)).await.unwrap();
    }

    pub async fn add(&mut self, target: Target) {
        self.views.entry(target.target_id).or_default().current = false;
        self.ask(Asked::AddTarget(target)).await;
    }

    pub async fn remove(&mut self, id: i32) {
        self.ask(Asked::RemoveTarget(id)).await;
    }

    /// Takes the next response; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Result<Event, Status>> {
        let response = timeout(Duration::from_secs(600), self.responses.next());
        match response.await.expect("a heartbeat at least")? {
            Ok(response) => {
                let event = self.apply(response.response_type.unwrap());
                self.events.push(event.clone());
                Some(Ok(event))
            }
            Err(status) => Some(Err(status)),
        }
    }

    /// Goes on to the next consistent snapshot; says its time.
    pub async fn snapshot(&mut self) -> Micros {
        loop {
            match self.next().await {
                Some(Ok(Event::Snapshot)) => return self.at,
                Some(Ok(_)) => {}
                other => panic!("the stream ended: {other:?}"),
            }
        }
    }

    /// Goes on to a snapshot at this time or later.
    pub async fn until(&mut self, at: Micros) {
        while self.snapshot().await < at {}
    }

    /// The events since the last call.
    pub fn taken(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn apply(&mut self, response: ResponseType) -> Event {
        match response {
            ResponseType::TargetChange(change) => self.target(change),
            ResponseType::DocumentChange(change) => {
                let document = change.document.unwrap();
                let name = document.name.clone();
                for id in &change.target_ids {
                    let view = self.view(*id);
                    view.messages += 1;
                    view.documents.insert(name.clone(), document.clone());
                }
                self.take(&name, &change.removed_target_ids);
                Event::Changed(short(&name), change.target_ids, change.removed_target_ids)
            }
            ResponseType::DocumentDelete(delete) => {
                assert!(delete.read_time.is_some());
                self.take(&delete.document, &delete.removed_target_ids);
                Event::Deleted(short(&delete.document), delete.removed_target_ids)
            }
            ResponseType::DocumentRemove(remove) => {
                assert!(remove.read_time.is_some());
                self.take(&remove.document, &remove.removed_target_ids);
                Event::Left(short(&remove.document), remove.removed_target_ids)
            }
            ResponseType::Filter(filter) => {
                let view = self.view(filter.target_id);
                view.mismatch =
                    (view.documents.len() as i32 != filter.count).then_some(filter.count);
                Event::Filter(filter.target_id, filter.count)
            }
        }
    }

    fn view(&mut self, id: i32) -> &mut View {
        self.views
            .get_mut(&id)
            .unwrap_or_else(|| panic!("target {id} was not added"))
    }

    fn take(&mut self, name: &str, ids: &[i32]) {
        for id in ids {
            let view = self.view(*id);
            view.messages += 1;
            view.documents.remove(name);
        }
    }

    fn target(&mut self, change: TargetChange) -> Event {
        let ids = change.target_ids.clone();
        match change.target_change_type() {
            TargetChangeType::Add => Event::Added(ids),
            TargetChangeType::Current => {
                for id in &ids {
                    self.view(*id).current = true;
                }
                Event::Current(ids)
            }
            TargetChangeType::Reset => {
                for id in &ids {
                    let view = self.view(*id);
                    view.documents.clear();
                    view.current = false;
                    view.resets += 1;
                }
                Event::Reset(ids)
            }
            TargetChangeType::Remove => {
                for id in &ids {
                    self.views.remove(id);
                }
                Event::Removed(ids, change.cause.map(|cause| cause.code))
            }
            TargetChangeType::NoChange => {
                assert!(ids.is_empty());
                let at = from_proto(&change.read_time.unwrap());
                assert!(at >= self.at, "times go backwards");
                assert!(!change.resume_token.is_empty());
                self.at = at;
                self.token = change.resume_token;
                Event::Snapshot
            }
        }
    }
}

/// A document's path.
fn short(name: &str) -> String {
    let (_, path) = name.split_once("/documents/").unwrap();
    path.to_owned()
}
