//! Lists of a collection's documents, page by page: queries, but for documents that are not there.

use super::{Mask, bad_page_token, missing, page_size, page_token, read_page_token};
use crate::query::{self, Query};
use crate::reads::{Held, When};
use crate::status::{contention, invalid};
use crate::{Gateway, names};
use prost::Message;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::core::field_path::{FieldPath, get};
use whimbrel_firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{
    self, Cursor, ListDocumentsRequest, ListDocumentsResponse, StructuredQuery,
    list_documents_request,
};
use whimbrel_firestore::{DatabaseName, Micros, Place};

const NAME: &str = "__name__";

/// A page ends with the document that fills it.
const PAGE_BYTES: usize = 4 << 20;

/// How often a page of a transaction is read again because others wrote its documents.
const ATTEMPTS: usize = 5;

/// # Errors
/// INVALID_ARGUMENT, or as [`Gateway::read`].
pub async fn list(
    gateway: &Arc<Gateway>,
    request: ListDocumentsRequest,
) -> Result<ListDocumentsResponse, Status> {
    use list_documents_request::ConsistencySelector as Selector;
    let (database, parent) = names::parent(&request.parent)?;
    names::collection_id(&request.collection_id)?;
    let size = page_size(request.page_size)?;
    let mask = Mask::new(request.mask.as_ref())?;
    let when = match &request.consistency_selector {
        None => When::Now,
        Some(Selector::Transaction(id)) => When::In(id.clone()),
        Some(Selector::ReadTime(at)) => When::at(at)?,
    };
    let token = read_page_token(&request.page_token)?;
    if request.show_missing {
        check_missing(&request)?;
        let collection = names::collection(&database, parent, &request.collection_id);
        let page = missing::Page {
            database: &database,
            collection: &collection,
            size,
            mask: &mask,
        };
        return page.read(gateway, &when, token).await;
    }
    let start_at = token
        .map(|token| Cursor::decode(token.as_slice()).map_err(|_| bad_page_token()))
        .transpose()?;
    let orders = Orders::parse(&request.order_by)?;
    let limit = i32::try_from(size + 1).unwrap_or(i32::MAX);
    let query = StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: request.collection_id.clone(),
            all_descendants: false,
        }],
        order_by: orders.to_proto(),
        start_at: start_at.map(|cursor| Cursor {
            before: false,
            ..cursor
        }),
        limit: Some(limit),
        ..StructuredQuery::default()
    };
    let query = Query::parse(&database, &request.parent, &query).map_err(|error| {
        // Whoever changes a token sees no more than that it is wrong.
        if request.page_token.is_empty() {
            error
        } else {
            bad_page_token()
        }
    })?;
    let (found, more) = page(gateway, &when, &Arc::new(query), size).await?;
    let next_page_token = match found.last() {
        Some((place, stored)) if more => orders.token(&database, place, stored),
        _ => String::new(),
    };
    Ok(ListDocumentsResponse {
        documents: found
            .iter()
            .map(|(place, stored)| mask.show(&database, place, stored))
            .collect(),
        next_page_token,
    })
}

fn check_missing(request: &ListDocumentsRequest) -> Result<(), Status> {
    if request.collection_id.is_empty() {
        return Err(invalid(
            "collection id must be set when show_missing is true",
        ));
    }
    if !request.order_by.is_empty() {
        return Err(invalid("cannot specify an order when show_missing is true"));
    }
    Ok(())
}

/// The first documents of a query's result, and whether there are more.
async fn page(
    gateway: &Arc<Gateway>,
    when: &When,
    query: &Arc<Query>,
    size: usize,
) -> Result<(Vec<(Place, Stored)>, bool), Status> {
    for _ in 0..ATTEMPTS {
        let (mut read, mut execution) = query::open(gateway, when, query).await?;
        let mut found: Vec<(Place, Stored)> = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        'read: loop {
            let batch = execution.next(&read).await?;
            if batch.is_empty() {
                break;
            }
            for one in batch {
                if found.len() == size || bytes >= PAGE_BYTES {
                    more = true;
                    break 'read;
                }
                bytes += one
                    .1
                    .fields
                    .values()
                    .map(Message::encoded_len)
                    .sum::<usize>();
                found.push(one);
            }
        }
        let held: Vec<(Place, Micros)> = found
            .iter()
            .map(|(place, stored)| (place.clone(), stored.updated))
            .collect();
        if read.hold(&held).await? == Held::AsRead {
            return Ok((found, more));
        }
    }
    Err(contention())
}

/// What documents are ordered by. The last is always the name.
struct Orders(Vec<(FieldPath, bool)>);

impl Orders {
    /// Reads `priority desc, __name__ desc`.
    fn parse(text: &str) -> Result<Self, Status> {
        let wrong = || invalid(format!("Invalid order by clause \"{text}\"."));
        let mut orders = Vec::new();
        if !text.trim().is_empty() {
            for clause in clauses(text) {
                let clause = clause.trim();
                let (path, direction) = match clause.rsplit_once(char::is_whitespace) {
                    Some((path, direction)) if !direction.contains('`') => {
                        (path.trim_end(), direction)
                    }
                    _ => (clause, "asc"),
                };
                let descending = match direction.to_ascii_lowercase().as_str() {
                    "asc" => false,
                    "desc" => true,
                    _ => return Err(wrong()),
                };
                orders.push((FieldPath::parse(path).map_err(|_| wrong())?, descending));
            }
        }
        let is_name = |(path, _): &(FieldPath, bool)| path.to_string() == NAME;
        if !orders.iter().any(is_name) {
            let descending = orders.last().is_some_and(|(_, descending)| *descending);
            orders.push((FieldPath::from_segments([NAME]), descending));
        }
        Ok(Self(orders))
    }

    fn to_proto(&self) -> Vec<Order> {
        let direction = |descending| {
            if descending {
                Direction::Descending
            } else {
                Direction::Ascending
            }
        };
        self.0
            .iter()
            .map(|(path, descending)| Order {
                field: Some(FieldReference {
                    field_path: path.to_string(),
                }),
                direction: direction(*descending).into(),
            })
            .collect()
    }

    /// Where the next page begins: behind this document.
    fn token(&self, database: &DatabaseName, place: &Place, stored: &Stored) -> String {
        let mut fields = whimbrel_firestore::Fields::clone(&stored.fields);
        whimbrel_firestore::value::globalize(&mut fields, database);
        let values = self
            .0
            .iter()
            .map(|(path, _)| {
                if path.to_string() == NAME {
                    v1::Value {
                        value_type: Some(ValueType::ReferenceValue(names::name(database, place))),
                    }
                } else {
                    get(&fields, path).cloned().unwrap_or_default()
                }
            })
            .collect();
        let cursor = Cursor {
            values,
            before: false,
        };
        page_token(&cursor.encode_to_vec())
    }
}

/// The parts between commas that are not inside of quotes.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        let ends = c == ',' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '`' => quoted = !quoted,
            _ => {}
        }
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        for (text, expected) in [
            ("", "__name__ asc"),
            (" a ", "a asc, __name__ asc"),
            ("a desc", "a desc, __name__ desc"),
            ("a.b ASC,c  DESC", "a.b asc, c desc, __name__ desc"),
            ("`a, b` desc", "`a, b` desc, __name__ desc"),
            ("`a b`", "`a b` asc, __name__ asc"),
            ("`a\\`, b`", "`a\\`, b` asc, __name__ asc"),
            ("__name__ desc", "__name__ desc"),
        ] {
            let orders = Orders::parse(text).unwrap();
            let shown: Vec<String> = orders
                .0
                .iter()
                .map(|(path, descending)| {
                    format!("{path} {}", if *descending { "desc" } else { "asc" })
                })
                .collect();
            assert_eq!(shown.join(", "), expected, "{text}");
        }
        for text in [",", "a b", "a,,b", "a desc desc", "`a", "a-b"] {
            assert!(Orders::parse(text).is_err(), "{text}");
        }
    }
}
