//! A `postgres://` URL as libpq reads it: what the driver cannot parse (`sslmode=verify-full`,
//! `sslrootcert`, …) is taken off before it sees the rest.

use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// How far the server is to be trusted, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Disable,
    /// TLS where the server offers it, unverified (also for `allow`, which would begin without).
    Prefer,
    /// TLS, unverified unless a root certificate is named.
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub trust: Trust,
    pub root_cert: Option<RootCert>,
    /// The client's own certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootCert {
    System,
    File(PathBuf),
}

#[derive(Debug)]
pub(super) struct Target {
    /// The URL without secrets: `postgres://user@host:port/database`.
    pub name: String,
    pub config: Config,
    pub tls: Tls,
}

fn invalid(message: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Terminal,
        Code::StoreUrl,
        "postgres",
        message,
    )
}

/// # Errors
/// The URL is not one of PostgreSQL, or names an option that is not known. No message quotes the URL.
pub(super) fn parse(url: &str) -> Result<Target, StoreError> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| invalid("the URL does not begin with postgres://"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut ssl = Ssl::default();
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !ssl.take(name, value)? {
            kept.push(pair);
        }
    }
    let plain = if kept.is_empty() {
        format!("postgres://{place}")
    } else {
        format!("postgres://{place}?{}", kept.join("&"))
    };
    // The driver's own message may quote the URL's parts; its kind is enough.
    let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        match cause {
            Some(cause) if cause.starts_with("unknown option") => {
                invalid(&format!("the URL is not valid: {cause}"))
            }
            _ => invalid(
                "the URL is not valid; expected postgres://user:password@host:port/database",
            ),
        }
    })?;
    let tls = ssl.finish()?;
    config.ssl_mode(match tls.trust {
        Trust::Disable => SslMode::Disable,
        Trust::Prefer => SslMode::Prefer,
        Trust::Require | Trust::VerifyCa | Trust::VerifyFull => SslMode::Require,
    });
    if config.get_application_name().is_none() {
        config.application_name("whimbrel");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    if config.get_tcp_user_timeout().is_none() {
        // A server that vanished must not hold a run for the system's quarter of an hour.
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    Ok(Target {
        name: name(&config),
        config,
        tls,
    })
}

#[derive(Default)]
struct Ssl {
    trust: Option<Trust>,
    root_cert: Option<RootCert>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Ssl {
    /// Whether the option is about TLS and was taken.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, StoreError> {
        let value = percent_decode(value)?;
        match name {
            "sslmode" => {
                self.trust = Some(match value.as_str() {
                    "disable" => Trust::Disable,
                    "allow" | "prefer" => Trust::Prefer,
                    "require" => Trust::Require,
                    "verify-ca" => Trust::VerifyCa,
                    "verify-full" => Trust::VerifyFull,
                    _ => {
                        return Err(invalid(
                            "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full",
                        ));
                    }
                });
            }
            "sslrootcert" if value == "system" => self.root_cert = Some(RootCert::System),
            "sslrootcert" => self.root_cert = Some(RootCert::File(value.into())),
            "sslcert" => self.cert = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "sslcrl" | "sslcrldir" | "sslpassword" => {
                // Ignoring a revocation list would trust what the user does not.
                return Err(invalid(&format!("the option {name} is not supported")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(self) -> Result<Tls, StoreError> {
        let client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(invalid("sslcert and sslkey are given only together")),
        };
        let mut trust = self
            .trust
            .unwrap_or(if self.root_cert == Some(RootCert::System) {
                Trust::VerifyFull
            } else {
                Trust::Prefer
            });
        // As in libpq: whoever names a root certificate wants it used.
        if trust == Trust::Require && self.root_cert.is_some() {
            trust = Trust::VerifyCa;
        }
        if trust == Trust::VerifyCa && self.root_cert == Some(RootCert::System) {
            return Err(invalid("sslrootcert=system needs sslmode=verify-full"));
        }
        Ok(Tls {
            trust,
            root_cert: self.root_cert,
            client,
        })
    }
}

fn name(config: &Config) -> String {
    let user = config
        .get_user()
        .map(|u| format!("{u}@"))
        .unwrap_or_default();
    let mut hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    if hosts.is_empty() {
        hosts = config
            .get_hostaddrs()
            .iter()
            .map(ToString::to_string)
            .collect();
    }
    let ports = config.get_ports();
    for (i, host) in hosts.iter_mut().enumerate() {
        if let Some(port) = ports.get(i).or(ports.first()) {
            host.push_str(&format!(":{port}"));
        }
    }
    let database = config.get_dbname().unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

/// # Errors
/// An escape is broken, or they are not UTF-8. No message quotes the text.
pub(crate) fn percent_decode(text: &str) -> Result<String, StoreError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(decoded.ok_or_else(|| invalid("the URL has a broken percent escape"))?);
        rest = &tail[2..];
    }
    String::from_utf8(out).map_err(|_| invalid("the URL's percent escapes are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_options_mean_what_libpq_means() {
        let check = |query: &str, expect: Option<Trust>| {
            let got = parse(&format!("postgres://u:p@h/db?{query}")).ok();
            assert_eq!(got.map(|t| t.tls.trust), expect, "{query}");
        };
        check("", Some(Trust::Prefer));
        check("sslmode=disable", Some(Trust::Disable));
        check("sslmode=allow", Some(Trust::Prefer));
        check("sslmode=require", Some(Trust::Require));
        check("sslmode=require&sslrootcert=/a", Some(Trust::VerifyCa));
        check("sslrootcert=system", Some(Trust::VerifyFull));
        check("sslmode=verify-ca&sslrootcert=system", None);
        check(
            "sslmode=verify-full&connect_timeout=3",
            Some(Trust::VerifyFull),
        );
        check("sslmode=full", None);
        check("sslcrl=/x", None);
        check("sslcert=/x", None);
        check("nonsense=1", None);
    }

    #[test]
    fn a_name_and_an_error_hold_no_secret() {
        let target =
            parse("postgresql://ann:s%2Fcret@db.example:5433/app?sslmode=require").unwrap();
        assert_eq!(target.name, "postgres://ann@db.example:5433/app");
        assert_eq!(target.config.get_password(), Some(&b"s/cret"[..]));
        for bad in [
            "postgres://ann:secret@h:port/app",
            "postgres://ann:secret@h/app?sslmode=secret",
            "postgres://ann:secret@h/app?password=secret&bogus=secret",
            "mysql://ann:secret@h/app",
        ] {
            let error = parse(bad).map(|t| t.name).unwrap_err();
            assert_eq!(error.code, Code::StoreUrl);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn percent_escapes_are_read() {
        assert_eq!(percent_decode("a%20b%2fc").unwrap(), "a b/c");
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert!(percent_decode(bad).is_err(), "{bad}");
        }
    }
}
