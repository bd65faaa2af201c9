//! A gateway over a store in memory, and a model of what lies in it at each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldFilter, FieldReference, Filter, Order, field_filter,
    filter::FilterType,
};
use whimbrel_firestore::v1::target::{
    DocumentsTarget, QueryTarget, TargetType, query_target::QueryType,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{Document, StructuredQuery, Target, Value, Write};
use whimbrel_firestore::{Backend, Fields, Micros};
use whimbrel_gateway::commit::request::Request;
use whimbrel_gateway::query::Query;
use whimbrel_gateway::{Gateway, names};
use whimbrel_stores::OpenOptions;

pub const DATABASE: &str = "projects/p/databases/(default)";

/// A document's path, and what it was made.
type Written = (String, Option<Fields>);

pub struct Stage {
    pub gateway: Arc<Gateway>,
    /// The commits, with their times.
    commits: Vec<(Micros, Vec<Written>)>,
}

pub fn fields(entries: &[(&str, i64)]) -> Fields {
    let value = |i: i64| Value {
        value_type: Some(ValueType::IntegerValue(i)),
    };
    entries
        .iter()
        .map(|(name, i)| ((*name).to_owned(), value(*i)))
        .collect()
}

pub fn name(path: &str) -> String {
    format!("{DATABASE}/documents/{path}")
}

impl Stage {
    pub async fn new() -> Self {
        Self::over("memory:").await
    }

    pub async fn over(url: &str) -> Self {
        let options = OpenOptions::default();
        Self::of(whimbrel_stores::serve::open(url, &options).await.unwrap()).await
    }

    pub async fn of(store: Arc<dyn Backend>) -> Self {
        Self {
            gateway: Gateway::open(store).await.unwrap(),
            commits: Vec::new(),
        }
    }

    /// Commits, and says when.
    pub async fn commit(&mut self, writes: &[(&str, Option<Fields>)]) -> Micros {
        let write = |(path, fields): &(&str, Option<Fields>)| Write {
            operation: Some(match fields {
                Some(fields) => Operation::Update(Document {
                    name: name(path),
                    fields: fields.clone(),
                    ..Document::default()
                }),
                None => Operation::Delete(name(path)),
            }),
            ..Write::default()
        };
        let database = names::database(DATABASE).unwrap();
        let request = Request::new(database, writes.iter().map(write).collect());
        let committed = self.gateway.write(request.unwrap(), None).await.unwrap();
        let at = committed.at;
        let writes = writes.iter();
        let writes = writes.map(|(path, to)| ((*path).to_owned(), to.clone()));
        self.commits.push((at, writes.collect()));
        at
    }

    pub async fn set(&mut self, path: &str, entries: &[(&str, i64)]) -> Micros {
        self.commit(&[(path, Some(fields(entries)))]).await
    }

    pub async fn delete(&mut self, path: &str) -> Micros {
        self.commit(&[(path, None)]).await
    }

    pub fn last(&self) -> Micros {
        self.commits.last().map_or(0, |(at, _)| *at)
    }

    /// What lay in the store then, by path.
    pub fn as_of(&self, at: Micros) -> BTreeMap<&str, &Fields> {
        let mut documents = BTreeMap::new();
        for (_, writes) in self.commits.iter().filter(|(then, _)| *then <= at) {
            for (path, to) in writes {
                match to {
                    Some(fields) => documents.insert(path.as_str(), fields),
                    None => documents.remove(path.as_str()),
                };
            }
        }
        documents
    }

    /// The documents of a target then, by their full names.
    pub fn result(&self, target: &Target, at: Micros) -> BTreeMap<String, Fields> {
        let documents = self.as_of(at);
        match target.target_type.as_ref().unwrap() {
            TargetType::Documents(wanted) => documents
                .into_iter()
                .map(|(path, fields)| (name(path), fields.clone()))
                .filter(|(name, _)| wanted.documents.contains(name))
                .collect(),
            TargetType::Query(target) => {
                let database = names::database(DATABASE).unwrap();
                let QueryType::StructuredQuery(query) = target.query_type.as_ref().unwrap();
                let query = Query::parse(&database, &target.parent, query).unwrap();
                let mut found: Vec<_> = documents
                    .into_iter()
                    .map(|(path, fields)| {
                        let stored = Stored {
                            fields: Arc::new(fields.clone()),
                            created: 0,
                            updated: 0,
                        };
                        (names::place(&database, path), stored)
                    })
                    .filter(|(place, stored)| query.matches(place, stored))
                    .collect();
                found.sort_by(|a, b| query.compare((&a.0, &a.1), (&b.0, &b.1)));
                let limit = query.limit().map_or(usize::MAX, |limit| limit as usize);
                found
                    .into_iter()
                    .skip(query.offset() as usize)
                    .take(limit)
                    .map(|(place, stored)| {
                        let fields = query.project(&stored.fields);
                        (names::name(&database, &place), fields)
                    })
                    .collect()
            }
        }
    }
}

pub fn documents(id: i32, paths: &[&str]) -> Target {
    Target {
        target_id: id,
        target_type: Some(TargetType::Documents(DocumentsTarget {
            documents: paths.iter().map(|path| name(path)).collect(),
        })),
        ..Target::default()
    }
}

pub fn query_below(id: i32, parent: &str, query: StructuredQuery) -> Target {
    let root = format!("{DATABASE}/documents");
    Target {
        target_id: id,
        target_type: Some(TargetType::Query(QueryTarget {
            parent: if parent.is_empty() {
                root
            } else {
                format!("{root}/{parent}")
            },
            query_type: Some(QueryType::StructuredQuery(query)),
        })),
        ..Target::default()
    }
}

pub fn query(id: i32, query: StructuredQuery) -> Target {
    query_below(id, "", query)
}

pub fn from(collection: &str) -> StructuredQuery {
    StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: collection.to_owned(),
            all_descendants: false,
        }],
        ..StructuredQuery::default()
    }
}

pub fn group(collection: &str) -> StructuredQuery {
    let mut query = from(collection);
    query.from[0].all_descendants = true;
    query
}

fn reference(field: &str) -> Option<FieldReference> {
    Some(FieldReference {
        field_path: field.to_owned(),
    })
}

pub fn ordered(mut query: StructuredQuery, field: &str, descending: bool) -> StructuredQuery {
    query.order_by.push(Order {
        field: reference(field),
        direction: if descending {
            Direction::Descending as i32
        } else {
            Direction::Ascending as i32
        },
    });
    query
}

pub fn limited(mut query: StructuredQuery, offset: i32, limit: Option<i32>) -> StructuredQuery {
    query.offset = offset;
    query.limit = limit;
    query
}

pub fn filtered(
    mut query: StructuredQuery,
    field: &str,
    op: field_filter::Operator,
    operand: i64,
) -> StructuredQuery {
    query.r#where = Some(Filter {
        filter_type: Some(FilterType::FieldFilter(FieldFilter {
            field: reference(field),
            op: op as i32,
            value: Some(Value {
                value_type: Some(ValueType::IntegerValue(operand)),
            }),
        })),
    });
    query
}

pub fn shown(mut query: StructuredQuery, fields: &[&str]) -> StructuredQuery {
    let fields = fields.iter().filter_map(|field| reference(field)).collect();
    query.select = Some(whimbrel_firestore::v1::structured_query::Projection { fields });
    query
}
