//! Documents as the tagged JSON that a table keeps.

use whimbrel_firestore::Fields;
use whimbrel_firestore::value::{self, Decimals};
use whimbrel_model::{Value, json};

/// Rows above this are no documents: one takes several times that of memory while it is read.
const DOCUMENT_BYTES: usize = 32 << 20;

pub(super) fn encode(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    json::write_map(&value::to_model(fields), &mut out);
    out
}

/// Plain JSON that others wrote is taken, too.
///
/// # Errors
/// Why the bytes are no document. Names fields, never values.
pub(super) fn decode(bytes: &[u8]) -> Result<Fields, String> {
    if bytes.len() > DOCUMENT_BYTES {
        return Err(format!("it is larger than {} MiB", DOCUMENT_BYTES >> 20));
    }
    match json::parse(bytes) {
        Ok(Value::Map(map)) => {
            value::from_model(&map, Decimals::Nearest).map_err(|e| e.to_string())
        }
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
