//! Which method a path stands for, and what the path says of its request.
//!
//! ```text
//! GET    /v1/{name=…/documents/a/1}                    GetDocument
//! GET    /v1/{parent=…/documents[/a/1]}/{collection}   ListDocuments
//! POST   /v1/{parent=…/documents[/a/1]}/{collection}   CreateDocument
//! PATCH  /v1/{document.name=…/documents/a/1}           UpdateDocument
//! DELETE /v1/{name=…/documents/a/1}                    DeleteDocument
//! POST   /v1/{database=…}/documents:commit             and others of a whole database
//! POST   /v1/{parent=…/documents[/a/1]}:runQuery       and others below a parent
//! ```

use http::Method;
use percent_encoding::percent_decode_str;

/// What the request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none: everything stands in the path and in the query.
    None,
    Message,
    Field(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The protocol's name of the method.
    pub method: &'static str,
    /// Fields of the request that the path says.
    pub bound: Vec<(&'static str, String)>,
    pub content: Content,
}

/// Of a whole database.
const OF_DATABASE: &[(&str, &str)] = &[
    ("batchGet", "BatchGetDocuments"),
    ("batchWrite", "BatchWrite"),
    ("beginTransaction", "BeginTransaction"),
    ("commit", "Commit"),
    ("executePipeline", "ExecutePipeline"),
    ("listen", "Listen"),
    ("rollback", "Rollback"),
    ("write", "Write"),
];

/// Below a parent: the database's documents, or one document.
const OF_PARENT: &[(&str, &str)] = &[
    ("listCollectionIds", "ListCollectionIds"),
    ("partitionQuery", "PartitionQuery"),
    ("runAggregationQuery", "RunAggregationQuery"),
    ("runQuery", "RunQuery"),
];

const DOCUMENTS: &str = "documents";

/// Nothing where no method has this path, or where the path is no UTF-8.
pub(super) fn find(method: &Method, path: &str) -> Option<Call> {
    let path = path.strip_prefix("/v1/")?;
    let segments: Vec<&str> = path.split('/').collect();
    let ["projects", _, "databases", _, below @ ..] = &segments[..] else {
        return None;
    };
    if *method == Method::POST
        && let Some((path, verb)) = path.rsplit_once(':')
        && !verb.contains('/')
        && let Some(call) = with_verb(path, verb)
    {
        return Some(call);
    }
    let [DOCUMENTS, below @ ..] = below else {
        return None;
    };
    let last = below.last()?;
    let even = below.len() % 2 == 0;
    let whole = |field| Some(vec![(field, decoded(path)?)]);
    let in_parent = || {
        let parent = path.strip_suffix(last)?.strip_suffix('/')?;
        let collection = ("collection_id", decoded(last)?);
        Some(vec![("parent", decoded(parent)?), collection])
    };
    let (method, bound, content) = match *method {
        Method::GET if even => ("GetDocument", whole("name")?, Content::None),
        Method::GET => ("ListDocuments", in_parent()?, Content::None),
        Method::POST => ("CreateDocument", in_parent()?, Content::Field("document")),
        Method::PATCH => (
            "UpdateDocument",
            whole("document.name")?,
            Content::Field("document"),
        ),
        Method::DELETE => ("DeleteDocument", whole("name")?, Content::None),
        _ => return None,
    };
    Some(Call {
        method,
        bound,
        content,
    })
}

/// A document's id may hold a colon: what stands behind one is a verb only if it is known.
fn with_verb(path: &str, verb: &str) -> Option<Call> {
    let method_of = |verbs: &[(&str, &'static str)]| {
        let found = verbs.iter().find(|(name, _)| *name == verb);
        found.map(|(_, method)| *method)
    };
    let below = path.splitn(5, '/').nth(4)?;
    let (method, bound) = if below == DOCUMENTS
        && let Some(method) = method_of(OF_DATABASE)
    {
        let database = path.strip_suffix(DOCUMENTS)?.strip_suffix('/')?;
        (method, ("database", decoded(database)?))
    } else {
        let inside = below.strip_prefix(DOCUMENTS)?;
        if !inside.is_empty() && !inside.starts_with('/') {
            return None;
        }
        (method_of(OF_PARENT)?, ("parent", decoded(path)?))
    };
    Some(Call {
        method,
        bound: vec![bound],
        content: Content::Message,
    })
}

/// No id holds a slash, so an escaped one cannot become a step of the path.
fn decoded(path: &str) -> Option<String> {
    let text = percent_decode_str(path).decode_utf8().ok()?;
    let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    (slashes(&text) == slashes(path)).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "projects/p/databases/(default)";

    fn found(method: &str, path: &str) -> Option<String> {
        let method: Method = method.parse().unwrap();
        let call = find(&method, &format!("/v1/{ROOT}/{path}"))?;
        let bound: Vec<String> = call
            .bound
            .iter()
            .map(|(field, value)| format!("{field}={}", value.replace(ROOT, "~")))
            .collect();
        Some(format!("{} {}", call.method, bound.join(" ")))
    }

    #[test]
    fn paths_stand_for_methods() {
        for (method, path, expect) in [
            ("GET", "documents/a/1", "GetDocument name=~/documents/a/1"),
            (
                "GET",
                "documents/a/1/b/2",
                "GetDocument name=~/documents/a/1/b/2",
            ),
            (
                "GET",
                "documents/a",
                "ListDocuments parent=~/documents collection_id=a",
            ),
            (
                "GET",
                "documents/a/1/b",
                "ListDocuments parent=~/documents/a/1 collection_id=b",
            ),
            (
                "POST",
                "documents/a",
                "CreateDocument parent=~/documents collection_id=a",
            ),
            (
                "POST",
                "documents/a/1/a",
                "CreateDocument parent=~/documents/a/1 collection_id=a",
            ),
            (
                "PATCH",
                "documents/a/1",
                "UpdateDocument document.name=~/documents/a/1",
            ),
            (
                "DELETE",
                "documents/a/1",
                "DeleteDocument name=~/documents/a/1",
            ),
            ("POST", "documents:commit", "Commit database=~"),
            ("POST", "documents:batchGet", "BatchGetDocuments database=~"),
            ("POST", "documents:listen", "Listen database=~"),
            ("POST", "documents:runQuery", "RunQuery parent=~/documents"),
            (
                "POST",
                "documents/a/1:runQuery",
                "RunQuery parent=~/documents/a/1",
            ),
            (
                "POST",
                "documents/a/x:y:runAggregationQuery",
                "RunAggregationQuery parent=~/documents/a/x:y",
            ),
            (
                "POST",
                "documents/a/1/b/2:listCollectionIds",
                "ListCollectionIds parent=~/documents/a/1/b/2",
            ),
            // Colons that are no verbs belong to ids.
            (
                "POST",
                "documents/a:b",
                "CreateDocument parent=~/documents collection_id=a:b",
            ),
            (
                "POST",
                "documents/a/1/commit:commit",
                "CreateDocument parent=~/documents/a/1 collection_id=commit:commit",
            ),
            (
                "GET",
                "documents/a/x:runQuery",
                "GetDocument name=~/documents/a/x:runQuery",
            ),
            (
                "POST",
                "documents/a%3ArunQuery",
                "CreateDocument parent=~/documents collection_id=a:runQuery",
            ),
            (
                "GET",
                "documents/a%20b/%C3%A9%2B+",
                "GetDocument name=~/documents/a b/é++",
            ),
        ] {
            assert_eq!(
                found(method, path).as_deref(),
                Some(expect),
                "{method} {path}"
            );
        }
        for (method, path) in [
            ("GET", "documents"),
            ("GET", "indexes"),
            ("PUT", "documents/a/1"),
            ("GET", "documents:commit"),
            ("POST", "documents:nothing"),
            ("POST", "documentsx:runQuery"),
            ("GET", "documents/a/b%2Fc"),
            ("GET", "documents/a/%FF"),
        ] {
            assert_eq!(found(method, path), None, "{method} {path}");
        }
        assert_eq!(
            find(&Method::GET, "/v2/projects/p/databases/d/documents/a/1"),
            None
        );
        assert_eq!(find(&Method::POST, "/v1/x:commit"), None);
    }
}
