//! The way to a Firestore: its connections, and what every call must carry.

use super::address::{Address, EMULATOR_VARIABLE, Server};
use super::credentials::{Credentials, Environment};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use whimbrel_firestore::DatabaseName;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Google lets a connection carry a hundred calls at once.
const CONNECTIONS: usize = 4;
const CONNECTING: Duration = Duration::from_secs(10);
/// Documents reach a megabyte: with HTTP/2's own small windows a page of them would crawl.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Where calls for a Firestore go, with the credentials they need.
#[derive(Clone, Debug)]
pub struct Upstream {
    address: Arc<Address>,
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    credentials: Arc<Credentials>,
}

/// Finds the way to the Firestore that a URL names. Nothing is sent yet.
///
/// # Errors
/// The URL or the credentials' file is not valid.
pub async fn upstream(url: &str) -> Result<Upstream, StoreError> {
    Upstream::to(Address::parse(url, std::env::var(EMULATOR_VARIABLE).ok())?)
}

impl Upstream {
    /// Must be called inside a runtime: connections are made in its background.
    pub(super) fn to(address: Address) -> Result<Self, StoreError> {
        let credentials = Credentials::find(&address, Environment::of_process())?;
        let channels: Vec<Channel> = (0..CONNECTIONS)
            .map(|_| endpoint(&address).map(|endpoint| endpoint.connect_lazy()))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                let message = format!("the server's address is not valid: {error}");
                let kind = StoreErrorKind::Terminal;
                StoreError::new(kind, Code::StoreUrl, &address.name, message)
            })?;
        Ok(Self {
            address: Arc::new(address),
            channels: channels.into(),
            next: Arc::default(),
            credentials: Arc::new(credentials),
        })
    }

    /// The store's URL, without any secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.address.name
    }

    #[must_use]
    pub fn database(&self) -> &DatabaseName {
        &self.address.database
    }

    /// `host:port` of the emulator that stands in for Google, if any.
    #[must_use]
    pub fn emulator(&self) -> Option<&str> {
        match &self.address.server {
            Server::Emulator(host) => Some(host),
            Server::Google(_) => None,
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// One of a few connections, in turn. It connects when it is used, and again when it was lost.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        self.channels[turn].clone()
    }

    /// What every call carries: `authorization`, where the call is to be routed, and who pays.
    ///
    /// # Errors
    /// There are no usable credentials (terminal), or Google does not give a token now (transient).
    pub async fn headers(&self) -> Result<HeaderMap, StoreError> {
        Ok(self.metadata().await?.into_headers())
    }

    /// The server refused a call (UNAUTHENTICATED) with this `authorization`: the next headers have another. A token that
    /// was renewed meanwhile stays.
    pub async fn refused(&self, authorization: &[u8]) {
        let token = authorization.strip_prefix(b"Bearer ");
        self.credentials.forget(token.unwrap_or_default()).await;
    }

    pub(super) async fn metadata(&self) -> Result<MetadataMap, StoreError> {
        let token = self.credentials.token().await?;
        let mut bearer = self.value(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        let DatabaseName { project, database } = self.database();
        let routing = format!(
            "project_id={}&database_id={}",
            escaped(project),
            escaped(database)
        );
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", bearer);
        let prefix = self.database().to_string();
        metadata.insert("google-cloud-resource-prefix", self.value(&prefix)?);
        metadata.insert("x-goog-request-params", self.value(&routing)?);
        if let Some(payer) = &self.credentials.quota_project {
            metadata.insert("x-goog-user-project", self.value(payer)?);
        }
        Ok(metadata)
    }

    fn value(&self, text: &str) -> Result<MetadataValue<Ascii>, StoreError> {
        text.parse().map_err(|_| {
            let why = "the credentials hold characters that no request can carry";
            StoreError::new(
                StoreErrorKind::Terminal,
                Code::StoreDenied,
                self.name(),
                why,
            )
        })
    }
}

fn endpoint(address: &Address) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = match &address.server {
        Server::Emulator(host) => Endpoint::from_shared(format!("http://{host}"))?,
        Server::Google(url) => {
            let endpoint = Endpoint::from_shared(url.clone())?;
            if url.starts_with("https://") {
                endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?
            } else {
                endpoint
            }
        }
    };
    Ok(endpoint
        .user_agent(concat!("whimbrel/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(CONNECTING)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        // A connection that died without a word is found out by asking.
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

/// As in a URL's query.
fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
