//! What a target watches.

use crate::feed::Topic;
use crate::listen::token;
use crate::listen::window::Window;
use crate::names;
use crate::query::{Query, Scope};
use crate::status::invalid;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::time::from_proto;
use whimbrel_firestore::v1::{self, target};
use whimbrel_firestore::{DatabaseName, Micros, Place};

#[derive(Debug)]
pub struct Target {
    pub id: i32,
    pub watch: Watch,
    /// What the client was sent is the target as of this time.
    pub at: Micros,
    /// Whether the client was told that it has the whole result.
    pub current: bool,
    /// Whether it ends when it is current.
    pub once: bool,
}

#[derive(Debug)]
pub enum Watch {
    Documents(BTreeSet<Place>),
    Query {
        query: Arc<Query>,
        /// Where the result depends on more than each document by itself.
        window: Option<Window>,
    },
}

/// From when on a client wants to know what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// It has nothing.
    Nothing,
    Time(Micros),
    /// It has something, but with a token that says nothing to us.
    Unknown,
}

impl Watch {
    /// # Errors
    /// INVALID_ARGUMENT.
    pub fn parse(database: &DatabaseName, target: &v1::Target) -> Result<Self, Status> {
        match &target.target_type {
            Some(target::TargetType::Documents(documents)) => documents
                .documents
                .iter()
                .map(|name| names::document_in(database, name))
                .collect::<Result<_, _>>()
                .map(Self::Documents),
            Some(target::TargetType::Query(query)) => Self::parse_query(database, query),
            None => Err(invalid(
                "The target has neither a query nor documents to listen to.",
            )),
        }
    }

    fn parse_query(database: &DatabaseName, target: &target::QueryTarget) -> Result<Self, Status> {
        let (found, _) = names::parent(&target.parent)?;
        names::same_database(database, &found)?;
        let Some(target::query_target::QueryType::StructuredQuery(query)) = &target.query_type
        else {
            return Err(invalid("The target has no query to listen to."));
        };
        if query.find_nearest.is_some() {
            return Err(invalid("A query with find_nearest cannot be listened to."));
        }
        let query = Query::parse(database, &target.parent, query)?;
        Ok(Self::Query {
            window: Window::is_needed(&query).then(Window::default),
            query: Arc::new(query),
        })
    }

    /// What has to be followed in the feed.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<Topic> {
        match self {
            Self::Documents(places) => places.iter().map(Topic::document).collect(),
            Self::Query { query, .. } => BTreeSet::from([match query.scope() {
                Scope::Collection { name, keys } => Topic::children(name, keys),
                Scope::Group { id, .. } => Topic::group(id),
                Scope::Children { .. } | Scope::Descendants { .. } => Topic::everything(),
            }]),
        }
    }
}

impl Since {
    #[must_use]
    pub fn of(database: &DatabaseName, resume: Option<&target::ResumeType>) -> Self {
        match resume {
            None => Self::Nothing,
            Some(target::ResumeType::ResumeToken(token)) if token.is_empty() => Self::Nothing,
            Some(target::ResumeType::ResumeToken(token)) => {
                token::read(database, token).map_or(Self::Unknown, Self::Time)
            }
            Some(target::ResumeType::ReadTime(at)) => Self::Time(from_proto(at)),
        }
    }
}
