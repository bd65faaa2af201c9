//! Hands calls on to another Firestore, with that one's credentials.
//!
//! Neither requests nor answers are parsed: HTTP/2 bodies, headers and trailers flow through as they are, so
//! nothing that a newer protocol adds is lost, and deadlines, routing and statuses are the two ends' own.

use crate::server::{Answer, Body, Calls};
use async_trait::async_trait;
use futures::FutureExt;
pub use http::HeaderMap;
use http::header::{self, HeaderName};
use http::{Request, Response};
use std::error::Error;
use std::sync::Arc;
pub use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};
use whimbrel_model::{StoreError, StoreErrorKind};

/// Where calls go.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// A connection to it, new or shared.
    fn channel(&self) -> Channel;

    /// Credentials, which every call needs. They take the place of what the client sent under these names.
    ///
    /// # Errors
    /// There are none, or none now (transient); nothing is called.
    async fn credentials(&self) -> Result<HeaderMap, StoreError>;

    /// A call with these credentials was refused: others are wanted for the next one. Somebody may have renewed them
    /// meanwhile.
    async fn refused(&self, credentials: &HeaderMap);
}

/// Answers every call with what an [`Upstream`] answers.
pub struct Forward {
    upstream: Arc<dyn Upstream>,
}

impl Forward {
    #[must_use]
    pub fn new(upstream: Arc<dyn Upstream>) -> Self {
        Self { upstream }
    }
}

impl Calls for Forward {
    fn call(&self, request: Request<Body>) -> Answer {
        let upstream = Arc::clone(&self.upstream);
        async move {
            let answered = forward(&*upstream, request).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        }
        .boxed()
    }
}

async fn forward(
    upstream: &dyn Upstream,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let credentials = upstream.credentials().await.map_err(unauthorized)?;
    let headers = request.headers_mut();
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    for name in credentials.keys() {
        headers.remove(name);
    }
    headers.extend(credentials.clone());
    // Only the path goes along: the channel knows whom it calls.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(Default::default, Into::into);
    let mut channel = upstream.channel();
    std::future::poll_fn(|context| tonic::codegen::Service::poll_ready(&mut channel, context))
        .await
        .map_err(|error| unreachable(&error))?;
    let response = tonic::codegen::Service::call(&mut channel, request)
        .await
        .map_err(|error| unreachable(&error))?;
    let status = Status::from_header_map(response.headers());
    if status.is_some_and(|status| status.code() == Code::Unauthenticated) {
        upstream.refused(&credentials).await;
    }
    Ok(response)
}

fn unauthorized(error: StoreError) -> Status {
    let code = match error.kind {
        StoreErrorKind::Transient => Code::Unavailable,
        StoreErrorKind::Terminal | StoreErrorKind::Unknown => Code::Unauthenticated,
    };
    Status::new(code, error.to_string())
}

/// What is between a client and this server only, or says who the client is *here*.
const NOT_FORWARDED: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::CONNECTION,
    header::COOKIE,
    header::HOST,
    header::ORIGIN,
    header::PROXY_AUTHORIZATION,
    header::REFERER,
];

/// UNAVAILABLE, upon which clients send a commit again, only where nothing was sent.
fn unreachable(error: &(dyn Error + 'static)) -> Status {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return Status::unavailable(
                "the Firestore that calls are forwarded to cannot be reached; nothing was sent",
            );
        }
        if let Some(expired) = error.downcast_ref::<tonic::TimeoutExpired>() {
            return Status::deadline_exceeded(expired.to_string());
        }
        cause = error.source();
    }
    Status::data_loss(
        "the connection to the Firestore that calls are forwarded to broke; whether it did what was asked is unknown",
    )
}
