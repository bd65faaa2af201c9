//! `whimbrel serve`: Firestore's protocol over any store, on one port, for apps that change one address.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{Paint, harmless, plural, rate, thousands};
use crate::place::{self, Named};
use crate::progress::interrupted;
use crate::project::Project;
use crate::screen::Screen;
use async_trait::async_trait;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::{Future, pending};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use whimbrel_gateway::Gateway;
use whimbrel_gateway::forward::{self, Forward};
use whimbrel_gateway::server::access::{Access, Token};
use whimbrel_gateway::server::{self, BindError, Calls, Ended, Figures, Server};
use whimbrel_gateway::service::Service;
use whimbrel_model::{Code, StoreError};

#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C or SIGTERM stops it: what is at work is finished first.\n\
                  Exit codes: 0 stopped on request · 1 failed · 2 usage, or the address would be open to everybody · \
                  6 left at once, because asked twice"
)]
pub struct Serve {
    /// What to serve: a store of the project or a URL [default: the project's gateway.store, its only
    /// store, or sqlite:firestore.db]
    #[arg(long, value_name = "STORE|URL")]
    pub store: Option<String>,

    /// Where to listen; port 0 is any that is free [default: 127.0.0.1:8080]
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WHIMBREL_LISTEN",
        hide_env = true
    )]
    pub listen: Option<String>,

    /// Answer only who sends `authorization: Bearer` with the token in this file (or in WHIMBREL_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Listen without a token although other machines can reach the address
    #[arg(long, conflicts_with = "token_file")]
    pub insecure: bool,
}

const LISTEN: &str = "127.0.0.1:8080";
const STORE: &str = "sqlite:firestore.db";
/// How long what is at work may take when the server stops. Service managers often kill after 10 s.
const GRACE: Duration = Duration::from_secs(8);

/// # Errors
/// The store cannot be served, or the address cannot be listened on or would be open to everybody.
pub async fn run(app: &App, args: &Serve) -> Outcome {
    let screen = &app.screen;
    let project = app.project()?;
    let named = chosen(&project, args.store.as_deref())?;
    let access = access(args, &project)?;
    let listen = args.listen.as_deref().or(project.gateway.listen.as_deref());
    // The port first: where that fails, no database has been made.
    let server = Server::bind(listen.unwrap_or(LISTEN), access)
        .await
        .map_err(not_bound)?;
    let serving = serving(&named, server.address()).await?;
    announce(screen, &named, server.address());
    let figures = server.figures();
    let ended = until_stopped(screen, server, serving).await?;
    say_stopped(screen, &figures, ended);
    Ok(Exit::Done)
}

fn say_stopped(screen: &Screen, figures: &Figures, ended: Ended) {
    let requests = figures.requests.load(Ordering::Relaxed);
    if ended == Ended::Cut {
        let what = "cut off what was still at work; what was acknowledged is stored";
        screen.labelled("stopped", Paint::warn, what);
    } else {
        screen.labelled("stopped", Paint::good, plural(requests, "request"));
    }
    screen.object(&serde_json::json!({
        "event": "stopped",
        "requests": requests,
        "whole": ended == Ended::Whole,
    }));
}

/// The store that was named, or the one that is meant where none was.
fn chosen(project: &Project, store: Option<&str>) -> Result<Named, Failure> {
    let store = store.or(project.gateway.store.as_deref());
    let store = match store {
        Some(store) => store,
        None => match project.stores.len() {
            0 => STORE,
            1 => project.stores.keys().next().map_or(STORE, String::as_str),
            _ => {
                return Err(Failure::usage("the project has several stores")
                    .not_done("nothing is served")
                    .next("whimbrel serve --store STORE")
                    .next("or say it in whimbrel.toml: [gateway] store = \"…\""));
            }
        },
    };
    let named = place::parse(store, project)?;
    if let Some(collection) = &named.collection {
        return Err(Failure::usage(format!(
            "a whole store is served, not one collection of it ({collection})"
        ))
        .next(format!("whimbrel serve --store {}", named.store)));
    }
    if named.options.read_only {
        return Err(Failure::usage(format!(
            "store {} is read_only in whimbrel.toml, and what is served can be written",
            named.store
        ))
        .not_done("nothing is served"));
    }
    Ok(named)
}

/// Who may call: flag, then environment, then the project's file.
fn access(args: &Serve, project: &Project) -> Result<Access, Failure> {
    if args.insecure {
        return Ok(Access::Everybody);
    }
    let (text, place) = match (&args.token_file, std::env::var("WHIMBREL_TOKEN")) {
        (Some(file), _) => (secret(file)?, file.display().to_string()),
        (None, Ok(token)) => (token, "WHIMBREL_TOKEN".to_owned()),
        (None, Err(_)) => match &project.gateway.token_file {
            Some(file) => (secret(file)?, file.display().to_string()),
            None => return Ok(Access::ThisMachine),
        },
    };
    Token::new(&text).map(Access::Token).map_err(|why| {
        Failure::usage(format!("the token in {place} cannot be used: {why}"))
            .not_done("nothing is served")
    })
}

fn secret(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|e| Failure::io(format!("reading the token in {}", file.display()), &e))
}

fn not_bound(error: BindError) -> Failure {
    match &error {
        BindError::Exposed(address) => Failure::usage(error.to_string())
            .not_done("nothing is served")
            .next(format!(
                "whimbrel serve --listen {address} --token-file FILE   (callers then need the token)"
            ))
            .next("whimbrel serve   (for programs of this machine only)")
            .next(format!(
                "whimbrel serve --listen {address} --insecure   (inside a closed network)"
            )),
        BindError::Io { error: io, .. } => {
            let taken = io.kind() == std::io::ErrorKind::AddrInUse;
            let failure = Failure {
                exit: Exit::Failed,
                ..Failure::usage(error.to_string())
            }
            .not_done("nothing is served");
            match taken {
                true => failure.next("whimbrel serve --listen 127.0.0.1:0   (any free port)"),
                false => failure,
            }
        }
    }
}

/// What answers.
struct Serving {
    calls: Arc<dyn Calls>,
    /// Over when it cannot go on.
    failed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

async fn serving(named: &Named, own: SocketAddr) -> Result<Serving, Failure> {
    if named.url.starts_with("firestore:") {
        let upstream = whimbrel_stores::firestore::upstream(&named.url).await?;
        if upstream.emulator().is_some_and(|host| leads_to(host, own)) {
            return Err(Failure::usage(format!(
                "{} leads to {own} again, because FIRESTORE_EMULATOR_HOST says so",
                named.store
            ))
            .not_done("nothing is served")
            .next("unset FIRESTORE_EMULATOR_HOST   (for Firestore itself)")
            .next("or choose another address with --listen"));
        }
        return Ok(Serving {
            calls: Arc::new(Forward::new(Arc::new(Upstream(upstream)))),
            failed: Box::pin(pending()),
        });
    }
    let backend = whimbrel_stores::serve::open(&named.url, &named.options).await?;
    let gateway = Gateway::open(backend).await.map_err(|status| {
        Failure::new(Code::StoreFailed, status.message()).not_done("nothing is served")
    })?;
    Ok(Serving {
        failed: Box::pin(gateway.failed()),
        calls: server::local(Service::new(gateway)),
    })
}

/// A mistake of this program ended work that must go on.
fn broken() -> Failure {
    Failure::new(
        Code::ServerBroken,
        "the server stopped because of a mistake of its own, which is told above",
    )
    .not_done("what was at work was cut off: what was acknowledged is stored, what was not may be")
    .next("whimbrel serve   (it goes on from what is stored)")
}

/// The driver's way to Firestore, for calls of others.
struct Upstream(whimbrel_stores::firestore::Upstream);

#[async_trait]
impl forward::Upstream for Upstream {
    fn channel(&self) -> forward::Channel {
        self.0.channel()
    }

    async fn credentials(&self) -> Result<forward::HeaderMap, StoreError> {
        let all = self.0.headers().await?;
        // Where a call is routed is said by its client, who knows what it calls.
        let ours = ["authorization", "x-goog-user-project"].into_iter();
        let ours = ours.filter_map(|name| {
            let (name, value) = (name.parse().ok()?, all.get(name)?.clone());
            Some((name, value))
        });
        Ok(ours.collect())
    }

    async fn refused(&self, credentials: &forward::HeaderMap) {
        if let Some(authorization) = credentials.get("authorization") {
            self.0.refused(authorization.as_bytes()).await;
        }
    }
}

/// Whether `host:port` is this very server.
fn leads_to(host: &str, own: SocketAddr) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else {
        return false;
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let here = match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified() || ip == own.ip(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    here && port.parse() == Ok(own.port())
}

fn announce(screen: &Screen, named: &Named, address: SocketAddr) {
    let store = harmless(&named.store);
    let forwards = named.url.starts_with("firestore:");
    let how = if forwards {
        ", to which calls are forwarded"
    } else {
        ""
    };
    screen.labelled("serving", Paint::good, format!("{store} at {address}{how}"));
    if named.url == "memory:" {
        let what = "everything is gone when this process ends";
        screen.labelled("note", Paint::warn, what);
    }
    let hint = format!("export FIRESTORE_EMULATOR_HOST={}", reachable(address));
    screen.next("next", &hint, "(then start the app; Ctrl-C stops this)");
    screen.object(&serde_json::json!({
        "event": "listening",
        "address": address.to_string(),
        "host": address.ip().to_string(),
        "port": address.port(),
        "store": named.store,
        "forwards": forwards,
    }));
}

/// What a program of this machine says to get there.
fn reachable(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("127.0.0.1:{}", address.port()),
        false => address.to_string(),
    }
}

/// Serves, shows that it does, and heeds the wish to stop; a second wish is heeded at once.
///
/// # Errors
/// What answers cannot go on.
async fn until_stopped(
    screen: &Screen,
    server: Server,
    serving: Serving,
) -> Result<Ended, Failure> {
    let Serving { calls, mut failed } = serving;
    let figures = server.figures();
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let wish = async {
        let _ = stopped.await;
    };
    let mut serving = pin!(server.run(calls, wish, GRACE));
    let mut interrupt = Box::pin(interrupted());
    let mut status = Status::new(screen, Arc::clone(&figures));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = &mut serving => {
                status.close();
                return Ok(ended);
            }
            () = &mut failed => {
                status.close();
                return Err(broken());
            }
            _ = tick.tick() => status.show(),
            () = &mut interrupt => {
                interrupt = Box::pin(interrupted());
                let Some(stop) = stop.take() else {
                    status.close();
                    say_stopped(screen, &figures, Ended::Cut);
                    std::process::exit(i32::from(Exit::Unknown as u8));
                };
                status.close();
                screen.progress("stopping: what is at work is finished (Ctrl-C again leaves at once)");
                let _ = stop.send(());
            }
        }
    }
}

/// One line on a terminal that says what is going on.
struct Status {
    bar: Option<ProgressBar>,
    figures: Arc<Figures>,
    requests: u64,
    at: Instant,
}

/// One line that moves only when it has something to say.
fn line() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is a constant; should it be wrong, the default style shows as much.
    let style = ProgressStyle::with_template("         {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

impl Status {
    fn new(screen: &Screen, figures: Arc<Figures>) -> Self {
        Self {
            bar: screen.bar.then(line),
            figures,
            requests: 0,
            at: Instant::now(),
        }
    }

    fn show(&mut self) {
        let Some(bar) = &self.bar else { return };
        let requests = self.figures.requests.load(Ordering::Relaxed);
        let connections = self.figures.connections.load(Ordering::Relaxed);
        let streams = self.figures.streams.load(Ordering::Relaxed);
        let ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let a_second = rate(requests - self.requests, ms);
        bar.set_message(format!(
            "{} · {}/s · {} · {}",
            plural(requests, "request"),
            thousands(a_second),
            plural(connections, "connection"),
            plural(streams, "stream"),
        ));
        self.requests = requests;
        self.at = Instant::now();
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser as _;

    #[tokio::test]
    async fn a_server_that_cannot_go_on_stops_with_its_code() {
        let cli = Cli::try_parse_from(["whimbrel", "--quiet", "serve"]).unwrap();
        let screen = Screen::new(&cli.global);
        let options = Default::default();
        let backend = whimbrel_stores::serve::open("memory:", &options).await;
        let gateway = Gateway::open(backend.unwrap()).await.unwrap();
        let server = Server::bind("127.0.0.1:0", Access::ThisMachine).await;
        let serving = Serving {
            calls: server::local(Service::new(gateway)),
            failed: Box::pin(tokio::time::sleep(Duration::from_millis(20))),
        };
        let ended = until_stopped(&screen, server.unwrap(), serving).await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.code, Some(Code::ServerBroken));
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.not_done.is_some() && !failure.next.is_empty());
    }

    #[test]
    fn a_server_that_would_forward_to_itself_is_told_from_others() {
        let own: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for (host, itself) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", true),
            ("127.0.0.1:8081", false),
            ("10.0.0.7:8080", false),
            ("firestore.example:8080", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(leads_to(host, own), itself, "{host}");
        }
    }

    #[test]
    fn programs_of_this_machine_are_told_an_address_that_leads_here() {
        for (address, expect) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            assert_eq!(reachable(address.parse().unwrap()), expect);
        }
    }
}
