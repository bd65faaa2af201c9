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
#[derive(Clone, Default)]
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

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Vec<_> = self.filled.keys().collect();
        write!(f, "Secrets({named:?})")
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        write("token", b"from-a-file\n");
        write("two", b"one\ntwo\r\n");
        write("empty", b"\n");
        write("binary", &[0xff, 0xfe]);
        write("long", &vec![b'x'; 64 * 1024 + 1]);
        let variables = |name: &str| match name {
            "TOKEN" => Some("from-the-environment".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let wanted = Wanted {
            at: "hook 1".to_owned(),
            text: text.to_owned(),
        };
        let got = check_secrets(folder.path(), &[wanted], &variables);
        let got = got
            .as_ref()
            .map(|s| s.get(text).unwrap())
            .map_err(|errors| {
                let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
                all.join("; ")
            });
        assert_eq!(
            got,
            expect.map_err(|why| why.replace("AT", "hook 1")),
            "{text}"
        );
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files() {
        for (text, expect) in [
            ("plain", Ok("plain")),
            ("", Ok("")),
            ("$TOKEN", Ok("from-the-environment")),
            ("Bearer ${TOKEN}", Ok("Bearer from-the-environment")),
            (
                "${TOKEN}${TOKEN}",
                Ok("from-the-environmentfrom-the-environment"),
            ),
            ("@token", Ok("from-a-file")),
            ("@two", Ok("one\ntwo")),
            ("$NOPE", Err("AT: the environment variable NOPE is not set")),
            ("$EMPTY", Err("AT: the environment variable EMPTY is empty")),
            (
                "$p@ss word",
                Err("AT: what follows \"$\" is no variable's name"),
            ),
            ("x${TOKEN", Err("AT: \"${\" without its \"}\"")),
            (
                "${A}${B}",
                Err(
                    "AT: the environment variable A is not set; AT: the environment variable B is not set",
                ),
            ),
            (
                "@nope",
                Err("AT: the file nope cannot be read: entity not found"),
            ),
            ("@empty", Err("AT: the file empty is empty")),
            ("@binary", Err("AT: the file binary is no UTF-8 text")),
            (
                "@long",
                Err("AT: the file long is too long for a secret (64 KiB)"),
            ),
            ("@.", Err("AT: . is a folder, not a file")),
        ] {
            check(text, expect);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_told_of() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (mode, warns) in [(0o600, false), (0o640, false), (0o644, true)] {
            let path = folder.path().join("token");
            std::fs::write(&path, "sesame-sesame").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let wanted = ["@token", "@token"].map(|text| Wanted {
                at: "hook 1".to_owned(),
                text: text.to_owned(),
            });
            let secrets = check_secrets(folder.path(), &wanted, &|_| None).unwrap();
            assert_eq!(secrets.warnings().len(), usize::from(warns), "{mode:o}");
            let text = secrets.redactor().redact("open sesame-sesame");
            assert_eq!(text, "open [token]");
        }
    }

    #[test]
    fn nothing_shows_a_secret_by_accident() {
        let wanted = Wanted {
            at: "hook 1".to_owned(),
            text: "$TOKEN".to_owned(),
        };
        let variables = |_: &str| Some("open-sesame".to_owned());
        let secrets = check_secrets(Path::new("."), &[wanted], &variables).unwrap();
        assert!(!format!("{secrets:?}").contains("sesame"), "{secrets:?}");
    }
}
