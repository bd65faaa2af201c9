//! Secrets: where files name them, what they are, and how they are kept out of every text.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use whimbrel_model::migration::{Action, Migration, StepKind};

use super::redact::Redactor;

/// Secrets are short; anything longer is the wrong file.
const MOST_BYTES: u64 = 64 * 1024;

/// A text that may name secrets, and where it stands, for messages: `step notify of 0001_move`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub at: String,
    pub text: String,
}

/// Why a secret is not there. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct SecretError {
    pub at: String,
    pub why: String,
}

/// Every secret that a migration and the project's hooks name, looked up once before anything begins.
///
/// `$NAME` is a variable of the environment, `@file` a file's content without its last line's end, and
/// `${NAME}` a variable inside a longer text (`Bearer ${TOKEN}`). Any other text stands for itself.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    filled: BTreeMap<String, String>,
    redactor: Arc<Redactor>,
    warnings: Vec<String>,
}

/// The texts of a migration that may name secrets.
#[must_use]
pub fn wanted_by(migration: &Migration) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for step in &migration.steps {
        let StepKind::Run(run) = &step.kind else {
            continue;
        };
        let actions = [
            Some(&run.forward),
            run.backward.as_ref(),
            run.validate.as_ref(),
        ];
        for action in actions.into_iter().flatten() {
            let Action::Command { env, .. } = action else {
                continue;
            };
            wanted.extend(env.values().map(|text| Wanted {
                at: format!("step {} of {}", step.name, migration.id),
                text: text.clone(),
            }));
        }
    }
    wanted
}

/// Looks up every secret that is named. `variables` gives the environment's.
///
/// # Errors
/// Everything that is missing, unreadable or empty.
pub fn check_secrets(
    project: &Path,
    wanted: &[Wanted],
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Secrets, Vec<SecretError>> {
    let mut lookup = Lookup {
        project,
        variables,
        found: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let mut filled = BTreeMap::new();
    let mut errors: Vec<SecretError> = Vec::new();
    for Wanted { at, text } in wanted {
        match lookup.fill(text) {
            Ok(value) => {
                filled.insert(text.clone(), value);
            }
            Err(why) => {
                let at = at.clone();
                errors.extend(why.into_iter().map(|why| SecretError {
                    at: at.clone(),
                    why,
                }));
            }
        }
    }
    errors.dedup();
    if !errors.is_empty() {
        return Err(errors);
    }
    let (redactor, short) = Redactor::new(lookup.found);
    let mut warnings = lookup.warnings;
    warnings.extend(short.into_iter().map(|name| {
        format!("{name} is too short to be a secret: it is not hidden where it appears")
    }));
    Ok(Secrets {
        filled,
        redactor: Arc::new(redactor),
        warnings,
    })
}

impl Secrets {
    /// What the text stands for. `None` where it was not among those that were looked up.
    #[must_use]
    pub fn get(&self, text: &str) -> Option<&str> {
        self.filled.get(text).map(String::as_str)
    }

    /// Takes the secrets out of texts.
    #[must_use]
    pub fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.redactor)
    }

    /// What a person should know: files that others may read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

struct Lookup<'a> {
    project: &'a Path,
    variables: &'a dyn Fn(&str) -> Option<String>,
    /// By the name that stands for it in messages.
    found: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Lookup<'_> {
    fn fill(&mut self, text: &str) -> Result<String, Vec<String>> {
        if let Some(file) = text.strip_prefix('@') {
            return self.file(file).map_err(|why| vec![why]);
        }
        if let Some(name) = text.strip_prefix('$')
            && !name.starts_with('{')
        {
            return self.variable(name).map_err(|why| vec![why]);
        }
        let mut out = String::new();
        let mut wrong = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, after)) = behind.split_once('}') else {
                wrong.push("\"${\" without its \"}\"".to_owned());
                return Err(wrong);
            };
            match self.variable(name) {
                Ok(value) => out.push_str(&value),
                Err(why) => wrong.push(why),
            }
            rest = after;
        }
        out.push_str(rest);
        if wrong.is_empty() {
            Ok(out)
        } else {
            Err(wrong)
        }
    }

    fn variable(&mut self, name: &str) -> Result<String, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(usable) {
            // Not repeated: somebody may have written the secret itself here.
            return Err("what follows \"$\" is no variable's name".to_owned());
        }
        match (self.variables)(name) {
            None => Err(format!("the environment variable {name} is not set")),
            Some(value) if value.is_empty() => {
                Err(format!("the environment variable {name} is empty"))
            }
            Some(value) => {
                self.found.insert(name.to_owned(), value.clone());
                Ok(value)
            }
        }
    }

    fn file(&mut self, name: &str) -> Result<String, String> {
        let path = self.project.join(name);
        let failed = |e: std::io::Error| format!("the file {name} cannot be read: {}", e.kind());
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(format!("{name} is a folder, not a file"));
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(format!("the file {name} is too long for a secret (64 KiB)"));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| format!("the file {name} is no UTF-8 text"))?;
        let value = text.strip_suffix('\n').unwrap_or(&text);
        let value = value.strip_suffix('\r').unwrap_or(value).to_owned();
        if value.is_empty() {
            return Err(format!("the file {name} is empty"));
        }
        if readable_by_others(&about) {
            let warning = format!(
                "the file {name} holds a secret and may be read by every user of this machine (chmod 600)"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self.found.insert(name.to_owned(), value.clone());
        Ok(value)
    }
}

#[cfg(unix)]
fn readable_by_others(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    about.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_about: &std::fs::Metadata) -> bool {
    false
}
