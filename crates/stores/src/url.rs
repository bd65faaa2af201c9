//! What a store's URL names.

use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// A store's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// A file, relative to the process's directory; `None` is `sqlite::memory:`.
    Sqlite(Option<String>),
    Postgres,
    Firestore,
    /// A directory.
    Jsonl(String),
    /// A name shared inside the process; empty for a store of its own.
    Memory(String),
}

const SCHEMES: &[(&str, bool)] = &[
    ("sqlite:path", cfg!(feature = "sqlite")),
    ("postgres://user@host/database", cfg!(feature = "postgres")),
    ("jsonl:directory/", cfg!(feature = "sqlite")),
    ("firestore://project/database", cfg!(feature = "firestore")),
    ("memory:", true),
];

impl StoreUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(invalid(url, "it names no kind of store"));
        };
        match scheme {
            "sqlite" | "jsonl" => {
                let path = path(rest);
                if path.is_empty() {
                    return Err(invalid(url, "the path is missing"));
                }
                if path.contains(['?', '\0']) {
                    return Err(invalid(url, "the path takes no parameters"));
                }
                Ok(match (scheme, path) {
                    ("jsonl", path) => Self::Jsonl(path.to_owned()),
                    (_, ":memory:") => Self::Sqlite(None),
                    (_, path) => Self::Sqlite(Some(path.to_owned())),
                })
            }
            "postgres" | "postgresql" => Ok(Self::Postgres),
            "firestore" => Ok(Self::Firestore),
            "memory" => Ok(Self::Memory(rest.to_owned())),
            _ => Err(invalid(url, "there is no such kind of store")),
        }
    }
}

/// `//` after the scheme is tolerated: `sqlite:///var/app.db` is `/var/app.db`.
fn path(rest: &str) -> &str {
    rest.strip_prefix("//").unwrap_or(rest)
}

pub(crate) fn invalid(url: &str, why: &str) -> StoreError {
    let schemes: Vec<&str> = SCHEMES
        .iter()
        .filter_map(|(scheme, built_in)| built_in.then_some(*scheme))
        .collect();
    StoreError::new(
        StoreErrorKind::Terminal,
        Code::StoreUrl,
        &without_secret(url),
        format!("{why}; built in are {}", schemes.join(", ")),
    )
}

/// The URL as messages may show it: no user, password or parameters.
pub(crate) fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let place = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may hold `/`, `@` and `?` that nobody escaped; where that leaves doubt, nothing is shown.
    let shown = match place.rsplit_once('@') {
        Some((_, host)) => host,
        None if rest.contains('@') => "…",
        None => place,
    };
    format!("{scheme}://{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, expect) in [
            ("sqlite:app.db", StoreUrl::Sqlite(Some("app.db".into()))),
            ("sqlite:./a b.db", StoreUrl::Sqlite(Some("./a b.db".into()))),
            (
                "sqlite:///var/app.db",
                StoreUrl::Sqlite(Some("/var/app.db".into())),
            ),
            (
                "sqlite:/var/app.db",
                StoreUrl::Sqlite(Some("/var/app.db".into())),
            ),
            ("sqlite::memory:", StoreUrl::Sqlite(None)),
            ("postgres://u:p@h/d", StoreUrl::Postgres),
            ("postgresql:///d", StoreUrl::Postgres),
            ("firestore://p/d", StoreUrl::Firestore),
            ("jsonl:out/", StoreUrl::Jsonl("out/".into())),
            ("memory:", StoreUrl::Memory(String::new())),
            ("memory:shared", StoreUrl::Memory("shared".into())),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap(), expect, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_says_what_would_be() {
        for url in [
            "",
            "app.db",
            "mysql://u:secret@h/d",
            "sqlite:",
            "sqlite:a?mode=ro",
        ] {
            let error = StoreUrl::parse(url).unwrap_err();
            assert_eq!(error.code, Code::StoreUrl, "{url}");
            assert!(error.message.contains("memory:"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn secrets_stay_out_of_names() {
        for (url, expect) in [
            ("postgres://u:p@h:5/d?password=x", "postgres://h:5/d"),
            ("postgres://u:p/q@r@h/d", "postgres://h/d"),
            ("mysql://u:a?b@h/d", "mysql://…"),
            ("postgres://h", "postgres://h"),
            ("sqlite:a.db", "sqlite:a.db"),
        ] {
            assert_eq!(without_secret(url), expect);
        }
    }
}
