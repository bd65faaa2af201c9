//! Asking Google for a token. Nothing that was sent or answered ever becomes part of an error: it is all secret.

use serde::Deserialize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The machine's own server is near, or there is none.
const LIMIT_METADATA: Duration = Duration::from_secs(5);
/// No answer with a token is larger.
const ANSWER_BYTES: u64 = 64 << 10;

/// What is asked. Holds secrets.
#[derive(Clone)]
pub(super) enum Request {
    Form {
        url: String,
        form: Vec<(&'static str, String)>,
    },
    Metadata {
        url: String,
    },
}

pub(super) struct Token {
    pub value: String,
    pub good_for: Duration,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) struct Trouble {
    pub why: String,
    /// Whether it may pass by itself.
    pub passing: bool,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

pub(super) async fn fetch(request: Request) -> Result<Token, Trouble> {
    let asked = tokio::task::spawn_blocking(move || ask(&request)).await;
    asked.unwrap_or_else(|_| {
        Err(Trouble {
            why: "asking ended abnormally".to_owned(),
            passing: true,
        })
    })
}

fn ask(request: &Request) -> Result<Token, Trouble> {
    let answer = match request {
        Request::Form { url, form } => {
            let form = form.iter().map(|(name, value)| (*name, value.as_str()));
            agent(url, LIMIT).post(url).send_form(form)
        }
        Request::Metadata { url } => agent(url, LIMIT_METADATA)
            .get(url)
            .header("metadata-flavor", "Google")
            .call(),
    };
    let mut answer = answer.map_err(|error| trouble(&error))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(Trouble {
            why: format!("the answer is {status}"),
            passing: status >= 500 || status == 429,
        });
    }
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES);
    let body = body.read_to_vec().map_err(|error| trouble(&error))?;
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) if is_header(&answer.access_token) => Ok(Token {
            value: answer.access_token,
            good_for: Duration::from_secs(answer.expires_in.min(24 * 3600)),
        }),
        _ => Err(Trouble {
            why: "the answer is no token".to_owned(),
            passing: false,
        }),
    }
}

/// Whether it can stand in a header.
fn is_header(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())
}

/// The client's own messages may hold what was sent, so they are not repeated.
fn trouble(error: &ureq::Error) -> Trouble {
    let (why, passing) = match error {
        ureq::Error::Timeout(_) => ("no answer in time".to_owned(), true),
        // Whoever cannot be reached has refused nothing: its name may be found again in a moment.
        ureq::Error::HostNotFound => ("its host is not known".to_owned(), true),
        ureq::Error::ConnectionFailed => ("no connection".to_owned(), true),
        ureq::Error::Io(error) => (format!("the connection failed ({})", error.kind()), true),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            ("no secure connection could be made".to_owned(), false)
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => ("its URL is malformed".to_owned(), false),
        _ => ("the request failed".to_owned(), true),
    };
    Trouble { why, passing }
}

fn agent(url: &str, limit: Duration) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false);
    if url.starts_with("https://") {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(trusted().clone())
            .build();
        config = config.tls_config(tls);
    } else {
        // What stays on this machine takes no way around.
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Whom this machine trusts.
fn trusted() -> &'static RootCerts {
    static TRUSTED: OnceLock<RootCerts> = OnceLock::new();
    TRUSTED.get_or_init(|| {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let certificates = certificates
            .iter()
            .map(|c| Certificate::from_der(c.as_ref()).to_owned());
        RootCerts::from(certificates)
    })
}
