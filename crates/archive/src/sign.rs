//! Signatures: ed25519, detached, over the manifest as it is stored.

use crate::error::ArchiveError;
use crate::name::is_hex;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;
use std::str::FromStr;

const SECRET: &str = "WHIMBREL-SIGNING-KEY-";
const PUBLIC: &str = "whimbrel-public-";
/// Says what is signed, so that a signature made for something else never fits.
const CONTEXT: &[u8] = b"whimbrel archive manifest\0";

/// What signs manifests.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key of {}", self.public())
    }
}

impl SigningKey {
    /// A new key, and the text of its file. That text is the secret.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<(Self, String), ArchiveError> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| ArchiveError::sealed("the system gives no random numbers"))?;
        let key = Self::from_seed(&seed)?;
        let text = format!(
            "# Whoever has this can sign archives. Its public half: {}\n{SECRET}{}\n",
            key.public(),
            hex(&seed)
        );
        Ok((key, text))
    }

    /// Reads what [`SigningKey::generate`] wrote.
    ///
    /// # Errors
    /// The text is no signing key. The message holds nothing of it.
    pub fn parse(text: &str) -> Result<Self, ArchiveError> {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'));
        let seed = line.and_then(|line| unhex(line.strip_prefix(SECRET)?));
        let seed = seed.ok_or_else(|| {
            ArchiveError::sealed(
                "the file is no signing key (`whimbrel backup --new-key FILE` makes one)",
            )
        })?;
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; 32]) -> Result<Self, ArchiveError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| ArchiveError::sealed("the signing key cannot be used"))?;
        Ok(Self { pair })
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The signature file of a manifest.
    pub(crate) fn sign(&self, manifest: &[u8]) -> String {
        let signature = self.pair.sign(&message(manifest));
        format!("{} {}\n", self.public(), hex(signature.as_ref()))
    }
}

/// Whose signature is trusted: `whimbrel-public-` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = ArchiveError;

    fn from_str(text: &str) -> Result<Self, ArchiveError> {
        let bytes = text.trim().strip_prefix(PUBLIC).and_then(unhex);
        bytes.map(Self).ok_or_else(|| {
            ArchiveError::sealed(
                "that is no public key: it is whimbrel-public- and 64 hexadecimal digits",
            )
        })
    }
}

/// Checks a signature file against the manifest, and says who signed.
pub(crate) fn verify(signature: &str, manifest: &[u8]) -> Result<PublicKey, ArchiveError> {
    let wrong = || ArchiveError::invalid("the archive's signature is damaged");
    let (public, signature) = signature.trim().split_once(' ').ok_or_else(wrong)?;
    let public: PublicKey = public.parse().map_err(|_| wrong())?;
    let signature: [u8; 64] = unhex(signature).ok_or_else(wrong)?;
    UnparsedPublicKey::new(&ED25519, public.0)
        .verify(&message(manifest), &signature)
        .map_err(|_| {
            ArchiveError::invalid(
                "the archive's manifest does not match its signature: it was altered",
            )
        })?;
    Ok(public)
}

fn message(manifest: &[u8]) -> Vec<u8> {
    [CONTEXT, blake3::hash(manifest).as_bytes()].concat()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !is_hex(text) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_one_manifest_only() {
        let (key, text) = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&text).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        let signature = key.sign(b"{}");
        assert_eq!(verify(&signature, b"{}"), Ok(key.public()));
        assert!(verify(&signature, b"{ }").is_err());
        for damaged in [
            "",
            "x",
            "whimbrel-public-00 00",
            &signature[1..],
            &signature[..150],
        ] {
            assert!(verify(damaged, b"{}").is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_key_file_that_is_none_is_not_quoted() {
        for text in [
            "",
            "# only a comment",
            "hunter2",
            "WHIMBREL-SIGNING-KEY-00ff",
        ] {
            let error = SigningKey::parse(text).unwrap_err().to_string();
            assert!(
                !error.contains("hunter2") && !error.contains("00ff"),
                "{error}"
            );
        }
    }

    #[test]
    fn keys_do_not_print_their_secret() {
        let (key, text) = SigningKey::generate().unwrap();
        let secret = text.lines().last().unwrap().trim_start_matches(SECRET);
        assert!(!format!("{key:?}").contains(secret));
    }
}
