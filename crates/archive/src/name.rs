//! Names inside a vault. Only names that this program makes itself are ever opened.

use crate::error::ArchiveError;

/// Where the chunks lie in an archive.
pub(crate) const CHUNKS: &str = "chunks";
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const MANIFEST_SEALED: &str = "manifest.json.age";
pub(crate) const SIGNATURE: &str = "manifest.sig";

const LONGEST_NAME: usize = 200;

/// Whether an archive may have this name: it becomes a folder of its own.
///
/// # Errors
/// It has anything but letters, digits, `.`, `_`, `-`, begins with a dot, is empty or long.
pub fn check_name(name: &str) -> Result<(), ArchiveError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fine = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && name.chars().all(plain);
    if fine {
        return Ok(());
    }
    Err(ArchiveError::missing(format!(
        "{name:?} is no name for an archive: letters, digits, '.', '_' and '-', not beginning with a dot"
    )))
}

/// Whether a collection of this name may be kept in an archive, and brought back from one. Some stores keep
/// a collection in a file of its name.
///
/// # Errors
/// A part of it leads elsewhere in a file system, or it holds control characters.
pub fn check_collection_name(name: &str) -> Result<(), ArchiveError> {
    let fine = !name.is_empty()
        && name.len() <= 4 * LONGEST_NAME
        && !name.chars().any(char::is_control)
        && !name
            .split(['/', '\\'])
            .any(|part| matches!(part, "" | "." | ".."));
    if fine {
        return Ok(());
    }
    Err(ArchiveError::invalid(format!(
        "{name:?} cannot be a collection's name in an archive"
    )))
}

/// The only name that a chunk can have: `0003-` and the first half of its hash.
pub(crate) fn chunk_name(collection: usize, blake3: &str, sealed: bool) -> String {
    let hash = blake3.get(..32).unwrap_or(blake3);
    let ending = if sealed { "zst.age" } else { "zst" };
    format!("{collection:04}-{hash}.{ending}")
}

/// Whether a file among the chunks is one that a backup wrote.
pub(crate) fn is_chunk_name(name: &str) -> bool {
    let stem = name
        .strip_suffix(".zst")
        .or_else(|| name.strip_suffix(".zst.age"));
    stem.and_then(|stem| stem.split_once('-'))
        .is_some_and(|(index, hash)| {
            index.len() >= 4
                && index.bytes().all(|b| b.is_ascii_digit())
                && hash.len() == 32
                && is_hex(hash)
        })
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for (name, fine) in [
            ("20261122-221045", true),
            ("0001_conversations.2.backup", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a\\b", false),
            ("a b", false),
            ("ä", false),
            (&"a".repeat(201), false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name}");
        }
        for (name, fine) in [
            ("conversations", true),
            ("public.conversations", true),
            ("users/1/notes", true),
            ("ünï cödé", true),
            ("..", false),
            ("../../etc/cron.d/x", false),
            ("/etc/passwd", false),
            ("a\\..\\b", false),
            ("a\0b", false),
            ("a\nb", false),
            ("", false),
        ] {
            assert_eq!(check_collection_name(name).is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn chunk_names_are_the_generated_ones() {
        let hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for sealed in [false, true] {
            assert!(is_chunk_name(&chunk_name(3, hash, sealed)));
        }
        for name in [
            "../manifest.json",
            "0000-0123456789abcdef0123456789abcdeg.zst",
            "0000-0123456789ABCDEF0123456789ABCDEF.zst",
            "0000-0123456789abcdef0123456789abcdef.zst.tmp",
            "0000-0123456789abcdef.zst",
            "0000.zst",
        ] {
            assert!(!is_chunk_name(name), "{name}");
        }
    }
}
