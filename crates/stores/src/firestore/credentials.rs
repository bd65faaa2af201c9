//! Who calls: Application Default Credentials, looked for where Google's own clients look.

use super::address::{Address, Server};
use super::token::{self, Request, Token};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use tokio::time::Instant;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// What a service account's own token is for.
const AUDIENCE: &str = "https://firestore.googleapis.com/";
const TOKENS: &str = "https://oauth2.googleapis.com/token";
/// How long a token that we sign is good for.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// A token is renewed so long before its end, or for the last quarter of a short life.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// From the beginning of a renewal to that of the next, while the former token is good.
const RENEWAL_PAUSE: Duration = Duration::from_secs(15);

/// Gives tokens, and keeps the last one until it is near its end.
pub(super) struct Credentials {
    store: String,
    source: Source,
    /// The project that is charged, where the credentials name one.
    pub quota_project: Option<String>,
    kept: Mutex<Option<Kept>>,
}

impl fmt::Debug for Credentials {
    /// Nothing of it is for others' eyes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

struct Kept {
    token: String,
    renew_at: Instant,
    ends_at: Instant,
}

enum Source {
    /// Whom emulators take for the administrator.
    Owner,
    ServiceAccount {
        email: String,
        key_id: Option<String>,
        key: Box<RsaKeyPair>,
    },
    /// A person, through `gcloud auth application-default login`.
    Refresh(Request),
    /// The machine's own account.
    Metadata(Request),
}

/// A credentials file, of the kinds that are understood.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum File {
    ServiceAccount {
        client_email: String,
        private_key: String,
        private_key_id: Option<String>,
        quota_project_id: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: String,
        refresh_token: String,
        token_uri: Option<String>,
        quota_project_id: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// Where credentials are looked for.
#[derive(Default)]
pub(super) struct Environment {
    /// `GOOGLE_APPLICATION_CREDENTIALS`.
    pub file: Option<PathBuf>,
    /// What `gcloud auth application-default login` wrote.
    pub gcloud: Option<PathBuf>,
    /// `GCE_METADATA_HOST`.
    pub metadata: Option<String>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || Some(PathBuf::from(set("HOME")?).join(".config/gcloud"));
        let folder = set("CLOUDSDK_CONFIG").map(PathBuf::from).or_else(home);
        Self {
            file: set("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
            gcloud: folder.map(|folder| folder.join("application_default_credentials.json")),
            metadata: set("GCE_METADATA_HOST").and_then(|host| host.into_string().ok()),
        }
    }
}

impl Credentials {
    /// # Errors
    /// A file that is named cannot be used. Whether a token can be had shows at the first call.
    pub(super) fn find(address: &Address, around: Environment) -> Result<Self, StoreError> {
        let store = address.name.clone();
        if matches!(address.server, Server::Emulator(_)) {
            return Ok(Self::of(store, Source::Owner, None));
        }
        let named = address.credentials.clone().or(around.file);
        let file = named.or_else(|| around.gcloud.filter(|path| path.is_file()));
        match file {
            Some(path) => read(&store, &path),
            None => {
                let host = around
                    .metadata
                    .unwrap_or_else(|| "metadata.google.internal".to_owned());
                Ok(Self::of(store, Source::Metadata(machine(&host)), None))
            }
        }
    }

    fn of(store: String, source: Source, quota_project: Option<String>) -> Self {
        Self {
            store,
            source,
            quota_project,
            kept: Mutex::new(None),
        }
    }

    /// A token that is good for some minutes at least. One caller renews it; the others take the former one while it is
    /// good, and else wait.
    ///
    /// # Errors
    /// Transient where Google does not answer; otherwise the credentials are not good.
    pub(super) async fn token(&self) -> Result<String, StoreError> {
        if matches!(self.source, Source::Owner) {
            return Ok("owner".to_owned());
        }
        let mut kept = self.kept.lock().await;
        let now = Instant::now();
        let Some(former) = kept.as_mut().filter(|kept| now < kept.ends_at) else {
            let (token, renewed) = self.renewed().await?;
            *kept = Some(renewed);
            return Ok(token);
        };
        let token = former.token.clone();
        if now < former.renew_at {
            return Ok(token);
        }
        former.renew_at = now + RENEWAL_PAUSE;
        let ends_at = former.ends_at;
        drop(kept);
        match self.renewed().await {
            Ok((token, renewed)) => {
                *self.kept.lock().await = Some(renewed);
                Ok(token)
            }
            // What is still good tides over a moment's trouble.
            Err(_) if Instant::now() < ends_at => Ok(token),
            Err(error) => Err(error),
        }
    }

    async fn renewed(&self) -> Result<(String, Kept), StoreError> {
        // Its life began when it was asked for, at the earliest.
        let now = Instant::now();
        let token = self.fetch().await?;
        let early = RENEWED_BEFORE.min(token.good_for / 4);
        let kept = Kept {
            token: token.value.clone(),
            renew_at: now + (token.good_for - early),
            ends_at: now + token.good_for,
        };
        Ok((token.value, kept))
    }

    /// The server refused this token: the next one is a new one.
    pub(super) async fn forget(&self, refused: &[u8]) {
        let mut kept = self.kept.lock().await;
        if kept
            .as_ref()
            .is_some_and(|kept| kept.token.as_bytes() == refused)
        {
            *kept = None;
        }
    }

    async fn fetch(&self) -> Result<Token, StoreError> {
        match &self.source {
            Source::Owner => Ok(Token {
                value: "owner".to_owned(),
                good_for: SIGNED_FOR,
            }),
            Source::ServiceAccount { email, key_id, key } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_or(0, |since| since.as_secs());
                let signed = sign(email, key_id.as_deref(), key, now).ok_or_else(|| {
                    denied(
                        &self.store,
                        "the service account's key does not sign".to_owned(),
                    )
                })?;
                Ok(Token {
                    value: signed,
                    good_for: SIGNED_FOR,
                })
            }
            Source::Refresh(request) => token::fetch(request.clone()).await.map_err(|trouble| {
                let hint = "run `gcloud auth application-default login` again";
                self.failed(&trouble, "the token for the signed-in user", hint)
            }),
            Source::Metadata(request) => token::fetch(request.clone()).await.map_err(|trouble| {
                let hint = "no credentials file was found either: set GOOGLE_APPLICATION_CREDENTIALS, or run \
                            `gcloud auth application-default login`, or set FIRESTORE_EMULATOR_HOST for an emulator";
                self.failed(&trouble, "this machine's token", hint)
            }),
        }
    }

    fn failed(&self, trouble: &token::Trouble, what: &str, hint: &str) -> StoreError {
        let message = format!("{what} could not be had: {}; {hint}", trouble.why);
        if trouble.passing {
            let kind = StoreErrorKind::Transient;
            return StoreError::new(kind, Code::StoreUnavailable, &self.store, message);
        }
        denied(&self.store, message)
    }
}

fn denied(store: &str, message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Terminal, Code::StoreDenied, store, message)
}

fn read(store: &str, path: &Path) -> Result<Credentials, StoreError> {
    let shown = path.display();
    let unusable = |why: String| denied(store, format!("the credentials file {shown} {why}"));
    let text = std::fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    // The parser's own words might quote a secret.
    let file: File = serde_json::from_slice(&text)
        .map_err(|_| unusable("is not what Google writes".to_owned()))?;
    let (source, quota_project) = match file {
        File::ServiceAccount {
            client_email,
            private_key,
            private_key_id,
            quota_project_id,
        } => {
            let key = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes())
                .ok()
                .and_then(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok())
                .ok_or_else(|| unusable("holds no usable private key".to_owned()))?;
            let account = Source::ServiceAccount {
                email: client_email,
                key_id: private_key_id,
                key: Box::new(key),
            };
            (account, quota_project_id)
        }
        File::AuthorizedUser {
            client_id,
            client_secret,
            refresh_token,
            token_uri,
            quota_project_id,
        } => {
            let url = token_uri.unwrap_or_else(|| TOKENS.to_owned());
            if !super::address::is_safe(&url) {
                return Err(unusable("names a token_uri that is not https".to_owned()));
            }
            let form = vec![
                ("grant_type", "refresh_token".to_owned()),
                ("client_id", client_id),
                ("client_secret", client_secret),
                ("refresh_token", refresh_token),
            ];
            (
                Source::Refresh(Request::Form { url, form }),
                quota_project_id,
            )
        }
        File::Other => {
            return Err(unusable(
                "is of another kind than service_account and authorized_user, which are understood"
                    .to_owned(),
            ));
        }
    };
    Ok(Credentials::of(store.to_owned(), source, quota_project))
}

fn machine(host: &str) -> Request {
    Request::Metadata {
        url: format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token"),
    }
}

/// A token that the account signs itself (RFC 7523): no other server is asked.
fn sign(email: &str, key_id: Option<&str>, key: &RsaKeyPair, now: u64) -> Option<String> {
    let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
    let claims = serde_json::json!({
        "iss": email, "sub": email, "aud": AUDIENCE,
        "iat": now, "exp": now + SIGNED_FOR.as_secs(),
    });
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        signed.as_bytes(),
        &mut signature,
    )
    .ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature)))
}

#[cfg(test)]
mod tests;
