//! One POST to a team's own address: retried where that may help, never followed elsewhere.

use std::sync::OnceLock;
use std::time::Duration;

use backon::BackoffBuilder;
use std::sync::Arc;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

const TRIES: usize = 3;
/// What is said where the file does not say otherwise.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    (
        "user-agent",
        concat!("whimbrel/", env!("CARGO_PKG_VERSION")),
    ),
];

/// What is sent where. Holds secrets: neither is ever part of an error.
#[derive(Clone)]
pub(super) struct Post {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How long one try may take.
    pub limit: Duration,
}

/// Why a try failed, and whether another may succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    why: String,
    again: bool,
}

/// Sends it; up to three times where the network or the other side is in trouble.
///
/// # Errors
/// Why it did not arrive, without any part of the URL or the headers.
pub(super) async fn send(post: Post) -> Result<(), String> {
    usable(&post.url)?;
    let mut pauses = backon::ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(500))
        .with_max_times(TRIES - 1)
        .build();
    let mut tries = 0;
    loop {
        tries += 1;
        let post = post.clone();
        let tried = tokio::task::spawn_blocking(move || attempt(&post)).await;
        let refusal = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refusal)) => refusal,
            Err(_) => return Err("the request ended abnormally".to_owned()),
        };
        match pauses.next() {
            Some(pause) if refusal.again => tokio::time::sleep(pause).await,
            _ if tries == 1 => return Err(refusal.why),
            _ => return Err(format!("{} (tried {tries} times)", refusal.why)),
        }
    }
}

/// What a secret stands for is only known now.
fn usable(url: &str) -> Result<(), String> {
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(())
    } else {
        Err("its URL begins neither with https:// nor with http://".to_owned())
    }
}

fn attempt(post: &Post) -> Result<(), Refusal> {
    let mut request = agent(post).post(&post.url);
    for (name, value) in HEADERS {
        if !post
            .headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            request = request.header(*name, *value);
        }
    }
    for (name, value) in &post.headers {
        request = request.header(name, value);
    }
    // The answer's body says nothing that is needed: it is never read.
    let answer = request.send(&post.body[..]);
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(200..=299) => Ok(()),
        Ok(status @ 300..=399) => Err(Refusal {
            why: format!("it answered {status}: redirects are not followed"),
            again: false,
        }),
        Ok(status) => Err(Refusal {
            why: format!("it answered {status}"),
            again: status >= 500 || status == 429,
        }),
        Err(error) => Err(refusal(&error, post.limit)),
    }
}

/// The client's own messages may hold the URL, so they are not repeated.
fn refusal(error: &ureq::Error, limit: Duration) -> Refusal {
    let (why, again) = match error {
        ureq::Error::Timeout(_) => (format!("no answer within {limit:?}"), true),
        ureq::Error::HostNotFound => ("its host is not known".to_owned(), true),
        ureq::Error::ConnectionFailed => ("no connection".to_owned(), true),
        ureq::Error::Io(e) => (format!("the connection failed ({})", e.kind()), true),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            ("no secure connection could be made".to_owned(), false)
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            ("its URL or a header is malformed".to_owned(), false)
        }
        ureq::Error::Protocol(_) => ("it does not speak HTTP as it should".to_owned(), true),
        _ => ("the request failed".to_owned(), true),
    };
    Refusal { why, again }
}

/// A client for one request: connections are not kept between a migration's rare moments.
fn agent(post: &Post) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(post.limit))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false);
    if post.url.starts_with("https://") {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(trusted().clone())
            .build();
        config = config.tls_config(tls);
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
