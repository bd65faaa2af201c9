//! One port for both ways to speak the protocol: gRPC (HTTP/2 without TLS) and JSON over HTTP.

pub mod access;
mod eager;
mod ends;

use crate::rest;
use access::Access;
use bytes::Bytes;
use eager::Eager;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Status;
use whimbrel_firestore::v1::firestore_server::{Firestore, FirestoreServer};

pub type Body = tonic::body::Body;
pub type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// What answers gRPC calls: a served store, or another Firestore.
pub trait Calls: Send + Sync + 'static {
    fn call(&self, request: Request<Body>) -> Answer;
}

impl<T: Firestore> Calls for FirestoreServer<T> {
    fn call(&self, request: Request<Body>) -> Answer {
        tonic::codegen::Service::call(&mut self.clone(), request)
    }
}

/// A request of the greatest size that the protocol allows (10 MiB) must reach the service, which says in the
/// protocol's words that a greater one is too great.
const REQUEST_BYTES: usize = 12 << 20;

/// Answers calls with a service of this process.
pub fn local(service: impl Firestore) -> Arc<dyn Calls> {
    Arc::new(FirestoreServer::new(service).max_decoding_message_size(REQUEST_BYTES))
}

/// Methods that take microseconds where they need not wait. All others give the connection back before they begin, so
/// that it goes on with its other requests meanwhile.
const QUICK: [&str; 3] = ["GetDocument", "BatchGetDocuments", "Commit"];

/// The paths of the protocol's methods.
pub(crate) const GRPC: &str = "/google.firestore.v1.Firestore/";

/// What a server has done. Counted without order: for people to look at.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests begun.
    pub requests: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Listen and Write streams open now.
    pub streams: AtomicU64,
}

/// One more, for as long as it is kept.
struct Counted {
    figures: Arc<Figures>,
    of: fn(&Figures) -> &AtomicU64,
}

impl Counted {
    fn new(figures: &Arc<Figures>, of: fn(&Figures) -> &AtomicU64) -> Self {
        of(figures).fetch_add(1, Ordering::Relaxed);
        Self {
            figures: Arc::clone(figures),
            of,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.figures).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a server did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("listening on {address}: {error}")]
    Io { address: String, error: io::Error },
    #[error(
        "{0} can be reached from other machines, and whoever reaches it could read and write every document"
    )]
    Exposed(SocketAddr),
}

/// A port that is open. Connections wait until [`Server::run`].
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
    figures: Arc<Figures>,
}

struct Shared {
    calls: Arc<dyn Calls>,
    access: Access,
    figures: Arc<Figures>,
    /// Turns true when the server begins to stop.
    ending: watch::Sender<bool>,
}

/// Whether everything that was accepted was also answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Whole,
    /// The time to end in was over, and what was still at work was cut off.
    Cut,
}

impl Server {
    /// Opens the port; `address` is `host:port`, port 0 any that is free.
    ///
    /// # Errors
    /// The address cannot be listened on, or it can be reached from other machines and `access` is
    /// [`Access::ThisMachine`].
    pub async fn bind(address: &str, access: Access) -> Result<Self, BindError> {
        let failed = |error| BindError::Io {
            address: address.to_owned(),
            error,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let only_here = bound.ip().to_canonical().is_loopback();
        let access = match access {
            Access::ThisMachine if !only_here => return Err(BindError::Exposed(bound)),
            // Nobody but this machine reaches it: all that "everybody" would add are web pages of others.
            Access::Everybody if only_here => Access::ThisMachine,
            access => access,
        };
        Ok(Self {
            listener,
            address: bound,
            access,
            figures: Arc::default(),
        })
    }

    /// With the port that was given where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Answers until `stop` is over. Then nothing more is accepted, listeners are told to go elsewhere, and what is
    /// at work is finished, for at most `grace`.
    pub async fn run(
        self,
        calls: Arc<dyn Calls>,
        stop: impl Future<Output = ()>,
        grace: Duration,
    ) -> Ended {
        let listener = self.listener;
        let shared = Arc::new(Shared {
            calls,
            access: self.access,
            figures: self.figures,
            ending: watch::Sender::new(false),
        });
        let graceful = GracefulShutdown::new();
        let cut = watch::Sender::new(false);
        let http = Arc::new(http());
        let mut stop = pin!(stop);
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        pause_after(&error).await;
                        continue;
                    }
                },
                () = &mut stop => break,
            };
            serve(stream, &http, &shared, &graceful, cut.subscribe());
        }
        drop(listener);
        shared.ending.send_replace(true);
        if tokio::time::timeout(grace, graceful.shutdown())
            .await
            .is_ok()
        {
            return Ended::Whole;
        }
        cut.send_replace(true);
        Ended::Cut
    }
}

/// Errors of one connection concern nobody else. Where the process has no descriptor left, trying again at once
/// would only burn time.
async fn pause_after(error: &io::Error) {
    let of_one = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !of_one {
        tracing::warn!(%error, "accepting a connection failed; trying again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Windows so large that neither a request of 10 MiB nor thousands of small ones wait for window updates;
/// headers so large that a name of 6 KiB fits percent-encoded.
fn http() -> auto::Builder<Eager> {
    let mut http = auto::Builder::new(Eager);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(4096)
        .max_header_list_size(64 << 10)
        // A listener's client that vanished without a word is noticed.
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(60));
    http
}

fn serve(
    stream: TcpStream,
    http: &Arc<auto::Builder<Eager>>,
    shared: &Arc<Shared>,
    graceful: &GracefulShutdown,
    mut cut: watch::Receiver<bool>,
) {
    // Answers are small and each is waited for.
    let _ = stream.set_nodelay(true);
    let counted = Counted::new(&shared.figures, |f| &f.connections);
    let answering = Arc::clone(shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let _counted = counted;
        tokio::select! {
            // A connection that breaks is its client's affair.
            _ = connection => {}
            _ = cut.wait_for(|cut| *cut) => {}
        }
    });
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.figures.requests.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let grpc = is_grpc(&request);
        let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| method_name(&request, grpc));
        let response = if grpc {
            self.grpc(request).await
        } else {
            // Rare beside the other, whose state would have to make room for this one's.
            Box::pin(self.web(request)).await
        };
        if let Some(method) = logged {
            // Never a path or a message: names of documents are their owners'.
            let status = response.status().as_u16();
            let grpc = response.headers().get("grpc-status");
            let grpc = grpc.and_then(|s| s.to_str().ok()).unwrap_or("-");
            let us = begun.elapsed().as_micros();
            tracing::debug!(method, status, grpc, us, "answered");
        }
        response
    }

    async fn grpc(&self, request: Request<Incoming>) -> Response<Body> {
        // Browsers do not speak HTTP/2 without TLS: this keeps web pages away from gRPC.
        if request.version() != Version::HTTP_2 {
            let text = "gRPC needs HTTP/2 (with prior knowledge, without TLS)\n";
            return plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text);
        }
        if let Err(status) = self.access.admits_call(request.headers()) {
            return status.into_http();
        }
        let (stream, listens, quick) = match request.uri().path().strip_prefix(GRPC) {
            Some("Listen") => (true, true, false),
            Some("Write") => (true, false, false),
            Some(method) => (false, false, QUICK.contains(&method)),
            None => {
                let text = format!("{} is not served here", method_name(&request, true));
                return Status::unimplemented(text).into_http();
            }
        };
        if !quick {
            tokio::task::yield_now().await;
        }
        if !stream {
            return self.call(request.map(Body::new)).await;
        }
        let counted = Counted::new(&self.figures, |f| &f.streams);
        let ending = self.ending.subscribe();
        let sending = |body| Body::new(ends::Sending::new(body, self.ending.subscribe()));
        let response = self.call(request.map(sending)).await;
        response.map(|body| match listens {
            true => Body::new(ends::Listening::new(body, ending, counted)),
            false => Body::new(ends::Kept::new(body, counted)),
        })
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.calls.call(request).await;
        response
    }

    /// All but gRPC: JSON, and what browsers and health checks ask.
    async fn web(&self, request: Request<Incoming>) -> Response<Body> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        if let Err(status) = self.access.admits_page(&request) {
            return rest::refuse(&status);
        }
        let mut response = if request.method() == Method::OPTIONS {
            access::preflight(request.headers())
        } else if request.uri().path() == "/" {
            match *request.method() {
                Method::GET | Method::HEAD => plain(StatusCode::OK, "Ok\n"),
                _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
            }
        } else if let Err(status) = self.access.admits_call(request.headers()) {
            rest::refuse(&status)
        } else {
            rest::answer(&*self.calls, request).await
        };
        if let Some(origin) = origin {
            access::allow(response.headers_mut(), origin);
        }
        response
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| {
        kind.as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
    })
}

/// The method alone: what is safe to log.
fn method_name<B>(request: &Request<B>, grpc: bool) -> String {
    let path = request.uri().path();
    let name = if grpc {
        path.rsplit('/').next().unwrap_or_default()
    } else {
        rest::method_name(request.method(), path)
    };
    // Whatever else a client sends in place of a name is not shown.
    let known = name.len() <= 40 && name.chars().all(|c| c.is_ascii_alphabetic());
    if known && !name.is_empty() {
        name.to_owned()
    } else {
        "this method".to_owned()
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
