//! What the commands about archives have in common: keys from files, and how archives are shown.

use crate::failure::Failure;
use crate::paint::{Paint, bytes, harmless, instant, plural, thousands};
use crate::screen::Screen;
use std::path::Path;
use std::sync::Arc;
use whimbrel_archive::{Archive, ArchiveError, Identities, Manifest, SigningKey};
use whimbrel_engine::{EngineError, Proof};

/// No file of keys is larger.
const LARGEST: u64 = 1 << 20;

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        EngineError::from(error).into()
    }
}

/// Reads a small file of a user's. Its content never reaches a message.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn read(what: &str, file: &Path) -> Result<String, Failure> {
    let shown = format!("reading the {what} {}", file.display());
    let meta = std::fs::metadata(file).map_err(|e| Failure::io(&shown, &e))?;
    if meta.len() > LARGEST {
        return Err(Failure::usage(format!(
            "{shown}: it is too large to be one"
        )));
    }
    std::fs::read_to_string(file).map_err(|e| Failure::io(shown, &e))
}

/// # Errors
/// The file holds no signing key.
pub fn signing_key(file: Option<&Path>) -> Result<Option<Arc<SigningKey>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let key = SigningKey::parse(&read("signing key", file)?)?;
    Ok(Some(Arc::new(key)))
}

/// # Errors
/// The file holds no identities.
pub fn identities(file: Option<&Path>) -> Result<Option<Arc<Identities>>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let identities = Identities::parse(&read("identity file", file)?)?;
    Ok(Some(Arc::new(identities)))
}

/// Says what an archive is: where, how large, and of when.
pub fn say_archive(screen: &Screen, archive: &Archive) {
    let manifest = archive.manifest();
    let all = |of: fn(&whimbrel_archive::CollectionPart) -> u64| -> u64 {
        manifest.collections.iter().map(of).sum()
    };
    let chunks: usize = manifest.collections.iter().map(|c| c.chunks.len()).sum();
    screen.labelled(
        "archive",
        Paint::bold,
        screen.out.name(&harmless(&archive.shown())),
    );
    let mut facts = vec![
        format!(
            "{} from {}",
            bytes(all(|c| c.stored_bytes)),
            bytes(all(|c| c.raw_bytes))
        ),
        plural(chunks as u64, "chunk"),
    ];
    if manifest.encrypted {
        facts.push("encrypted".to_owned());
    }
    if let Some(key) = archive.signed_by() {
        facts.push(format!("signed by {key}"));
    }
    screen.labelled("", Paint::bold, facts.join(", "));
    screen.labelled("", Paint::bold, moments(manifest));
}

/// Of when the documents are.
fn moments(manifest: &Manifest) -> String {
    let mut instants: Vec<_> = manifest.collections.iter().flat_map(|c| &c.as_of).collect();
    instants.sort();
    instants.dedup();
    let first = instants.first().map(|a| instant(&a.at)).unwrap_or_default();
    match (manifest.consistent, instants.iter().any(|a| a.live)) {
        (true, _) if instants.len() == 1 => format!("all as of {first}"),
        (true, _) => format!("each store as of one instant, the first of them {first}"),
        (false, true) => {
            format!("read from {first} on while others could write: the store gives no snapshot")
        }
        (false, false) => format!(
            "from {} snapshots, the first of {first}: it was interrupted and went on",
            instants.len()
        ),
    }
}

/// Says what reading an archive back has shown.
pub fn say_proof(screen: &Screen, proof: &Proof) {
    let chunks = plural(proof.chunks, "chunk");
    let text = match proof.opened {
        true => format!(
            "{} documents in {chunks} were read back, and are what the manifest says",
            thousands(proof.documents)
        ),
        false => format!(
            "{chunks} were read back and match their hashes; what is in them is encrypted to others"
        ),
    };
    screen.labelled("proved", Paint::good, text);
}

/// The same for machines.
#[must_use]
pub fn archive_json(archive: &Archive, proof: Option<&Proof>) -> serde_json::Value {
    let manifest = archive.manifest();
    let collections: Vec<_> = manifest
        .collections
        .iter()
        .map(|c| {
            serde_json::json!({
                "store": c.store,
                "collection": c.collection,
                "documents": c.documents,
                "unreadable": c.unreadable,
                "raw_bytes": c.raw_bytes,
                "stored_bytes": c.stored_bytes,
                "chunks": c.chunks.len(),
                "versions": c.versions,
                "as_of": c.as_of,
            })
        })
        .collect();
    serde_json::json!({
        "archive": archive.shown(),
        "name": archive.name(),
        "manifest": archive.hash(),
        "created": manifest.created,
        "consistent": manifest.consistent,
        "encrypted": manifest.encrypted,
        "signed_by": manifest.signed_by,
        "collections": collections,
        "proof": proof,
    })
}
