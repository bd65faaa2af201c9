//! Encryption with age: to recipients when written, with identities when read.

use crate::error::ArchiveError;
use std::io::{Read, Write};

/// Whom an archive is encrypted to.
pub struct Recipients {
    keys: Vec<age::x25519::Recipient>,
    texts: Vec<String>,
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

impl Recipients {
    /// Reads `age1…`. `None` where there is none: the archive is not encrypted.
    ///
    /// # Errors
    /// One of them is no x25519 recipient.
    pub fn parse(texts: &[String]) -> Result<Option<Self>, ArchiveError> {
        let mut keys = Vec::with_capacity(texts.len());
        for text in texts {
            let key = text.trim().parse().map_err(|why| {
                ArchiveError::sealed(format!(
                    "{text:?} is no age recipient (age1…, as `age-keygen` prints it): {why}"
                ))
            })?;
            keys.push(key);
        }
        let mut texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        texts.sort();
        Ok((!keys.is_empty()).then_some(Self { keys, texts }))
    }

    /// The public keys, sorted.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// What is written to the result arrives encrypted in `out`; `finish` ends it.
    pub(crate) fn wrap<W: Write>(
        &self,
        out: W,
    ) -> Result<age::stream::StreamWriter<W>, ArchiveError> {
        let failed = |why: String| ArchiveError::sealed(format!("encrypting: {why}"));
        let keys = self.keys.iter().map(|key| key as &dyn age::Recipient);
        age::Encryptor::with_recipients(keys)
            .map_err(|why| failed(why.to_string()))?
            .wrap_output(out)
            .map_err(|why| failed(why.to_string()))
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let failed = |why: std::io::Error| ArchiveError::sealed(format!("encrypting: {why}"));
        let mut writer = self.wrap(Vec::with_capacity(plain.len() + 1024))?;
        writer.write_all(plain).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

/// What opens an encrypted archive.
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Identities {
    /// Reads an identity file's text, as `age-keygen` writes it.
    ///
    /// # Errors
    /// It holds anything but x25519 identities and comments, or none.
    pub fn parse(text: &str) -> Result<Self, ArchiveError> {
        // age's own messages name a line, never its content.
        let wrong =
            |why: String| ArchiveError::sealed(format!("the identity file cannot be used: {why}"));
        let file = age::IdentityFile::from_buffer(text.as_bytes())
            .map_err(|why| wrong(why.to_string()))?;
        let identities = file
            .into_identities()
            .map_err(|why| wrong(why.to_string()))?;
        if identities.is_empty() {
            return Err(wrong("it holds no identity (AGE-SECRET-KEY-1…)".to_owned()));
        }
        Ok(Self(identities))
    }

    /// Decrypts to at most `most` bytes. `what` names it in messages.
    pub(crate) fn open(
        &self,
        sealed: &[u8],
        most: u64,
        what: &str,
    ) -> Result<Vec<u8>, ArchiveError> {
        let reader = age::Decryptor::new(sealed)
            .and_then(|d| d.decrypt(self.0.iter().map(|i| &**i as &dyn age::Identity)));
        let reader = match reader {
            Ok(reader) => reader,
            Err(age::DecryptError::NoMatchingKeys) => {
                return Err(ArchiveError::sealed(format!(
                    "{what} is encrypted to other recipients; none of the given identities opens it"
                )));
            }
            Err(why) => {
                return Err(ArchiveError::invalid(format!(
                    "{what} cannot be decrypted: {why}"
                )));
            }
        };
        let mut plain = Vec::with_capacity(sealed.len());
        reader
            .take(most.saturating_add(1))
            .read_to_end(&mut plain)
            .map_err(|why| ArchiveError::invalid(format!("{what} cannot be decrypted: {why}")))?;
        if plain.len() as u64 > most {
            return Err(ArchiveError::invalid(format!(
                "{what} is larger than it says"
            )));
        }
        Ok(plain)
    }
}
