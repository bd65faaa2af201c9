//! Resume tokens: up to when a client knows its targets. Only a time and the database, so they outlive the server.

use whimbrel_firestore::{DatabaseName, Micros};

/// What our tokens begin with: others (Firestore's own, a newer version's) are not read as if they were ours.
const MAGIC: &[u8] = b"wl1:";

const TIME: usize = size_of::<Micros>();

#[must_use]
pub fn write(database: &DatabaseName, at: Micros) -> Vec<u8> {
    let id = database.database.as_bytes();
    let mut token = Vec::with_capacity(MAGIC.len() + TIME + id.len());
    token.extend_from_slice(MAGIC);
    token.extend_from_slice(&at.to_be_bytes());
    token.extend_from_slice(id);
    token
}

/// The time in a token of this database; `None` where it is not ours.
#[must_use]
pub fn read(database: &DatabaseName, token: &[u8]) -> Option<Micros> {
    let (at, id) = token.strip_prefix(MAGIC)?.split_first_chunk::<TIME>()?;
    (id == database.database.as_bytes()).then(|| Micros::from_be_bytes(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_of_this_database_are_read() {
        let of = |database: &str| DatabaseName {
            project: "p".to_owned(),
            database: database.to_owned(),
        };
        let token = write(&of("(default)"), 1_700_000_000_123_456);
        assert_eq!(read(&of("(default)"), &token), Some(1_700_000_000_123_456));
        assert_eq!(read(&of("other"), &token), None);
        for alien in [
            &b""[..],
            b"wl1:",
            b"wl1:1234567",
            b"\x0a\x09\x09",
            &token[1..],
        ] {
            assert_eq!(read(&of("(default)"), alien), None, "{alien:?}");
        }
        for cut in 0..token.len() {
            assert_eq!(read(&of("(default)"), &token[..cut]), None);
        }
    }
}
