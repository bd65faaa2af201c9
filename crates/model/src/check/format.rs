//! Well-known forms of texts.

use crate::{Timestamp, Value};

/// A form that a text can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One `@`, a domain with a dot, no blanks: what mail can be sent to in practice, not all that RFC 5322
    /// allows.
    Email,
    /// With hyphens.
    Uuid,
    /// An instant, or its RFC 3339 text with an offset.
    Timestamp,
    /// `2026-01-31`
    Date,
    /// With a scheme, `//` and a host.
    Url,
    /// IPv4 or IPv6.
    Ip,
}

impl Format {
    const ALL: [Self; 6] = [
        Self::Email,
        Self::Uuid,
        Self::Timestamp,
        Self::Date,
        Self::Url,
        Self::Ip,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Url => "url",
            Self::Ip => "ip",
        }
    }

    /// # Errors
    /// Which formats there are.
    pub fn parse(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|f| f.word() == word);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.into_iter().map(Self::word).collect();
            format!("{word:?} is no format; there are {}", known.join(", "))
        })
    }

    pub(super) fn judge(self, value: &Value) -> Result<(), String> {
        let fits = match (self, value) {
            (Self::Timestamp, Value::Timestamp(_)) => true,
            (_, Value::String(text)) => self.fits(text),
            (_, other) => {
                let (word, kind) = (self.word(), other.type_name());
                return Err(format!("the field must be a text ({word}), not {kind}"));
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("the field is no {}", self.word()))
        }
    }

    fn fits(self, text: &str) -> bool {
        match self {
            Self::Email => is_email(text),
            Self::Uuid => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
            Self::Timestamp => Timestamp::parse(text).is_some(),
            Self::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Self::Url => is_url(text),
            Self::Ip => text.parse::<core::net::IpAddr>().is_ok(),
        }
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"@<>()[],;:\\\"".contains(c);
    let local_fits = (1..=64).contains(&local.len())
        && local.chars().all(plain)
        && local.split('.').all(|part| !part.is_empty());
    local_fits && domain.len() <= 255 && domain.contains('.') && is_domain(domain)
}

/// Letters of every script are let through: such names are common, and their encoding is another layer's.
fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    })
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let blank = |c: char| c.is_whitespace() || c.is_control() || "<>\"".contains(c);
    scheme_fits && is_host(host_port) && !rest.contains(blank)
}

fn is_host(host_port: &str) -> bool {
    let port_fits = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    if let Some(rest) = host_port.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, port)| {
            ip.parse::<core::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(port_fits))
        });
    }
    let (host, port) = host_port.split_once(':').unwrap_or((host_port, ""));
    let allowed = |c: char| c.is_alphanumeric() || "-._~%".contains(c);
    !host.is_empty() && host.chars().all(allowed) && port_fits(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told() {
        let table: [(Format, &[&str], &[&str]); 6] = [
            (
                Format::Email,
                &[
                    "a@b.co",
                    "first.last+tag@mail.example.org",
                    "ü@bücher.example",
                ],
                &[
                    "", "a", "a@", "@b.co", "a@b", "a b@c.de", "a@@b.co", "a@b..co", ".a@b.co",
                    "a@-b.co", "a@b.co ", "<a@b.co>", "a@b.co\n",
                ],
            ),
            (
                Format::Uuid,
                &[
                    "0190f6a2-7c1e-7b8a-9c55-3a1f0b6e2d44",
                    "0190F6A2-7C1E-7B8A-9C55-3A1F0B6E2D44",
                ],
                &[
                    "0190f6a27c1e7b8a9c553a1f0b6e2d44",
                    "0190f6a2-7c1e-7b8a-9c55-3a1f0b6e2d4",
                    "0190f6a2-7c1e-7b8a-9c55-3a1f0b6e2d4g",
                    "",
                ],
            ),
            (
                Format::Timestamp,
                &["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.5+02:00"],
                &[
                    "2026-01-31",
                    "2026-01-31T08:00:00",
                    "yesterday",
                    "2026-02-30T08:00:00Z",
                ],
            ),
            (
                Format::Date,
                &["2026-01-31", "2024-02-29"],
                &["2026-02-29", "2026-1-31", "2026-01-31T08:00:00Z", ""],
            ),
            (
                Format::Url,
                &[
                    "https://example.org",
                    "http://user:pw@localhost:8080/a?b#c",
                    "https://[::1]:443/",
                    "postgres://db/app",
                    "https://bücher.example/ü",
                ],
                &[
                    "example.org",
                    "https://",
                    "https:///path",
                    "1http://x.org",
                    "https://x.org/a b",
                    "https://x.org:99999",
                    "https://[::g]/",
                    "javascript:alert(1)",
                ],
            ),
            (
                Format::Ip,
                &["127.0.0.1", "::1"],
                &["127.0.0", "256.0.0.1", "localhost", "::g"],
            ),
        ];
        for (format, good, bad) in table {
            assert_eq!(Format::parse(format.word()), Ok(format));
            let judge = |text: &str| format.judge(&Value::String(text.to_owned()));
            for text in good {
                assert_eq!(judge(text), Ok(()), "{format:?} {text:?}");
            }
            for text in bad {
                let message = judge(text).expect_err(text);
                assert!(text.len() < 3 || !message.contains(text), "{message}");
            }
            assert!(format.judge(&Value::Int(5)).is_err());
        }
        assert!(Format::parse("mail").unwrap_err().contains("email"));
    }
}
