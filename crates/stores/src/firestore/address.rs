//! What `firestore://project/database?…` says.

use crate::url::invalid;
use std::path::PathBuf;
use whimbrel_firestore::DatabaseName;
use whimbrel_firestore::name::DEFAULT_DATABASE;
use whimbrel_model::StoreError;

/// Names an emulator, as all of Google's clients read it: `host:port`.
pub(super) const EMULATOR_VARIABLE: &str = "FIRESTORE_EMULATOR_HOST";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// What messages call the store.
    pub name: String,
    pub database: DatabaseName,
    pub server: Server,
    /// Whether writes begin at 500 a second and grow.
    pub ramp: bool,
    /// Whether snapshots are as of a whole minute, which point-in-time recovery keeps for days.
    pub whole_minutes: bool,
    /// Whether collections below documents are looked for.
    pub nested: bool,
    /// The credentials' file; without it they are looked for where Google's clients do.
    pub credentials: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// `host:port`, neither encrypted nor asking who calls.
    Emulator(String),
    /// A URL.
    Google(String),
}

const GOOGLE: &str = "https://firestore.googleapis.com";

impl Address {
    /// `emulator` is what [`EMULATOR_VARIABLE`] holds; the URL goes before it.
    pub(super) fn parse(url: &str, emulator: Option<String>) -> Result<Self, StoreError> {
        let wrong = |why: &str| invalid(url, why);
        let rest = url
            .strip_prefix("firestore://")
            .ok_or_else(|| wrong("after firestore: comes //project/database"))?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        let (project, database) = place.split_once('/').unwrap_or((place, DEFAULT_DATABASE));
        if !is_project(project) {
            return Err(wrong("the project's id is missing or malformed"));
        }
        if !is_database(database) {
            return Err(wrong(
                "a database's id is (default), or lower-case letters, digits and hyphens",
            ));
        }
        let mut address = Self {
            name: format!("firestore://{project}/{database}"),
            database: DatabaseName {
                project: project.to_owned(),
                database: database.to_owned(),
            },
            server: emulator
                .filter(|host| !host.is_empty())
                .map_or_else(|| Server::Google(GOOGLE.to_owned()), Server::Emulator),
            ramp: true,
            whole_minutes: false,
            nested: true,
            credentials: None,
        };
        let mut ramp = None;
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("emulator", "") => return Err(wrong("emulator= takes host:port")),
                ("emulator", host) => address.server = Server::Emulator(host.to_owned()),
                ("endpoint", url) if is_safe(url) => {
                    address.server = Server::Google(url.trim_end_matches('/').to_owned());
                }
                ("endpoint", _) => {
                    return Err(wrong(
                        "endpoint= takes https://host (http:// for this machine)",
                    ));
                }
                ("ramp", "on") => ramp = Some(true),
                ("ramp", "off") => ramp = Some(false),
                ("ramp", _) => return Err(wrong("ramp= is on or off")),
                ("read_time", "now") => address.whole_minutes = false,
                ("read_time", "minute") => address.whole_minutes = true,
                ("read_time", _) => return Err(wrong("read_time= is now or minute")),
                ("nested", "on") => address.nested = true,
                ("nested", "off") => address.nested = false,
                ("nested", _) => return Err(wrong("nested= is on or off")),
                ("credentials", path) if !path.is_empty() => {
                    address.credentials = Some(PathBuf::from(path));
                }
                ("credentials", _) => return Err(wrong("credentials= takes a file's path")),
                _ => {
                    return Err(wrong(
                        "parameters are emulator, endpoint, ramp, read_time, nested, credentials",
                    ));
                }
            }
        }
        // An emulator has no tablets that would have to split first.
        let emulated = matches!(address.server, Server::Emulator(_));
        address.ramp = ramp.unwrap_or(!emulated);
        Ok(address)
    }
}

/// `my-project`, or `example.com:my-project`.
fn is_project(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    !id.is_empty() && id.len() <= 200 && id.bytes().all(allowed)
}

fn is_database(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    id == DEFAULT_DATABASE || (!id.is_empty() && id.len() <= 63 && id.bytes().all(allowed))
}

/// Whether credentials may be sent there: encrypted, or not leaving this machine.
pub(super) fn is_safe(url: &str) -> bool {
    if let Some(host) = url.strip_prefix("https://") {
        return !host.is_empty() && !host.contains('@');
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            host
        } else {
            ""
        }
    });
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::Code;

    fn parse(url: &str) -> Address {
        Address::parse(url, None).unwrap()
    }

    #[test]
    fn urls_name_project_and_database() {
        for (url, name, database) in [
            (
                "firestore://p-1",
                "firestore://p-1/(default)",
                "projects/p-1/databases/(default)",
            ),
            (
                "firestore://p/",
                "firestore://p/(default)",
                "projects/p/databases/(default)",
            ),
            (
                "firestore://example.com:p/orders?ramp=off",
                "firestore://example.com:p/orders",
                "projects/example.com:p/databases/orders",
            ),
        ] {
            let address = parse(url);
            assert_eq!(address.name, name, "{url}");
            assert_eq!(address.database.to_string(), database, "{url}");
        }
    }

    #[test]
    fn the_url_goes_before_the_environment() {
        let from = |url: &str, variable: Option<&str>| {
            let address = Address::parse(url, variable.map(str::to_owned)).unwrap();
            (address.server, address.ramp)
        };
        let emulator = |host: &str| Server::Emulator(host.to_owned());
        let google = |url: &str| Server::Google(url.to_owned());
        assert_eq!(from("firestore://p", None), (google(GOOGLE), true));
        assert_eq!(from("firestore://p", Some("")), (google(GOOGLE), true));
        assert_eq!(from("firestore://p", Some("h:1")), (emulator("h:1"), false));
        assert_eq!(
            from("firestore://p?emulator=[::1]:9&ramp=on", Some("h:1")),
            (emulator("[::1]:9"), true)
        );
        assert_eq!(
            from("firestore://p?endpoint=https://eu.example/", Some("h:1")),
            (google("https://eu.example"), true)
        );
    }

    #[test]
    fn what_is_malformed_is_refused_without_its_parameters() {
        for url in [
            "firestore:p",
            "firestore://",
            "firestore:///d",
            "firestore://p/a/b",
            "firestore://p/UPPER",
            "firestore://user:secret@p/d",
            "firestore://p?ramp=maybe",
            "firestore://p?emulator=",
            "firestore://p?credentials=",
            "firestore://p?token=secret",
            "firestore://p?endpoint=http://example.com/secret",
            "firestore://p?endpoint=http://127.0.0.1@secret.example",
            "firestore://p?read_time=secret",
        ] {
            let error = Address::parse(url, None).unwrap_err();
            assert_eq!(error.code, Code::StoreUrl, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
