//! Single documents and lists of them: the calls that need no query.

mod collections;
mod get;
mod list;
mod missing;
mod stream;
mod write;

pub use collections::list_collection_ids;
pub use get::{batch_get, get};
pub use list::list;
pub use stream::write_stream;
pub use write::{batch_write, commit, create, delete, update};

use crate::status::invalid;
use crate::{names, validate};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::core::field_path::{FieldPath, project};
use whimbrel_firestore::v1::{self, DocumentMask};
use whimbrel_firestore::value::globalize;
use whimbrel_firestore::{DatabaseName, Fields, Place, time};

/// Documents of one page, unless the client wants fewer.
const PAGE: usize = 300;

/// A document as clients see it. `fields` is what is shown of it.
#[must_use]
pub fn to_proto(
    database: &DatabaseName,
    place: &Place,
    stored: &Stored,
    mut fields: Fields,
) -> v1::Document {
    globalize(&mut fields, database);
    v1::Document {
        name: names::name(database, place),
        fields,
        create_time: Some(time::to_proto(stored.created)),
        update_time: Some(time::to_proto(stored.updated)),
    }
}

/// Which fields are returned.
#[derive(Clone, Debug)]
struct Mask(Option<Vec<FieldPath>>);

impl Mask {
    fn new(mask: Option<&DocumentMask>) -> Result<Self, Status> {
        mask.map(|mask| validate::read_mask(&mask.field_paths))
            .transpose()
            .map(Self)
    }

    fn show(&self, database: &DatabaseName, place: &Place, stored: &Stored) -> v1::Document {
        let fields = match &self.0 {
            None => Fields::clone(&stored.fields),
            Some(paths) => project(&stored.fields, paths),
        };
        to_proto(database, place, stored, fields)
    }
}

/// What a client is given to ask for the next page with.
fn page_token(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_page_token(token: &str) -> Result<Option<Vec<u8>>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    URL_SAFE_NO_PAD
        .decode(token)
        .map(Some)
        .map_err(|_| bad_page_token())
}

fn bad_page_token() -> Status {
    invalid("Invalid page token.")
}

fn page_size(size: i32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(PAGE),
        Ok(size) => Ok(size.min(PAGE)),
        Err(_) => Err(invalid("Page size must be nonnegative.")),
    }
}
