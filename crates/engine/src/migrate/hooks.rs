//! Hooks: commands and webhooks that hear of a migration's moments, so that a team's chat and alerting do.
//! They never slow a migration down and never make it fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use whimbrel_model::{Code, Event, Moment};

use super::process::{Ended, Program, Trouble};
use super::secrets::{Secrets, Wanted};
use super::webhook::{self, Post};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::{EventStream, Events};

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Calls of one hook that may wait; a hook that falls behind further misses some.
const QUEUE: usize = 1000;
/// A line in a chat, not a report.
const LONGEST_TEXT: usize = 1000;

/// Something to call when a migration reaches one of these moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub on: Vec<Moment>,
    pub action: HookAction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// Gets the [`Message`] as JSON on its standard input.
    Command {
        /// The program and its arguments; no shell.
        command: Vec<String>,
        /// Relative to the project.
        folder: Option<String>,
        /// May name secrets.
        env: BTreeMap<String, String>,
    },
    /// Gets the [`Message`] as the JSON body of a POST.
    Webhook {
        /// `$NAME`, `@file`, or an https URL without credentials.
        url: String,
        /// Values may name secrets.
        headers: BTreeMap<String, String>,
    },
}

/// What a hook is told. Holds no secret and no document's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub project: String,
    pub migration: String,
    pub moment: Moment,
    pub step: Option<MessageStep>,
    /// What happened, in a sentence.
    pub message: String,
    pub code: Option<Code>,
    /// When, as in the ledger.
    pub at: String,
    /// All of it in one line, as chats show it.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageStep {
    /// From 1.
    pub number: u32,
    pub name: String,
}

impl Hook {
    /// The texts that may name secrets. `at` says where the hook stands.
    #[must_use]
    pub fn wanted(&self, at: &str) -> Vec<Wanted> {
        let texts: Vec<&String> = match &self.action {
            HookAction::Command { env, .. } => env.values().collect(),
            HookAction::Webhook { url, headers } => {
                std::iter::once(url).chain(headers.values()).collect()
            }
        };
        let wanted = |text: &String| Wanted {
            at: at.to_owned(),
            text: text.clone(),
        };
        texts.into_iter().map(wanted).collect()
    }
}

/// Why a URL in a file cannot be a webhook's; `None` where it can.
#[must_use]
pub fn webhook_problem(url: &str) -> Option<&'static str> {
    if url.starts_with(['$', '@']) || url.contains("${") {
        // What it stands for is looked at once it is known.
        return None;
    }
    let Some(rest) = url.strip_prefix("https://") else {
        return Some("a webhook is an https:// URL, $NAME or @file");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Some("the URL names no host");
    }
    host.contains('@')
        .then_some("a URL with a password belongs into the environment ($NAME) or a file (@file)")
}

/// The hooks of a project at work. They hear of everything from their start on.
pub struct Hooks {
    ending: oneshot::Sender<()>,
    task: JoinHandle<()>,
    waiting: Arc<AtomicUsize>,
    events: Arc<Events>,
}

impl Hooks {
    /// Begins to listen. Must be called on a runtime.
    #[must_use]
    pub fn start(
        engine: &Engine,
        hooks: Vec<Hook>,
        project: &Path,
        secrets: &Arc<Secrets>,
    ) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let (ending, ended) = oneshot::channel();
        let ring = Ring {
            project: name_of(project),
            folder: project.to_path_buf(),
            secrets: Arc::clone(secrets),
            clock: Arc::clone(&engine.clock),
            events: Arc::clone(&engine.events),
            waiting: Arc::clone(&waiting),
        };
        let events = Arc::clone(&engine.events);
        let stream = engine.subscribe();
        let task = tokio::spawn(Arc::new(ring).listen(hooks, stream, ended));
        Self {
            ending,
            task,
            waiting,
            events,
        }
    }

    /// Waits for the calls that are under way, as long as `timeout`; then gives them up.
    pub async fn finish(mut self, timeout: Duration) {
        let _ = self.ending.send(());
        if tokio::time::timeout(timeout, &mut self.task).await.is_err() {
            self.task.abort();
            let given_up = match self.waiting.load(Ordering::SeqCst) {
                1 => "1 call of a hook was given up: it".to_owned(),
                many => format!("{many} calls of hooks were given up: they"),
            };
            self.events.send(&Event::Notice {
                run: String::new(),
                message: format!("{given_up} had not ended after {timeout:?}"),
            });
        }
    }
}

/// What all hooks share.
struct Ring {
    project: String,
    folder: PathBuf,
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    waiting: Arc<AtomicUsize>,
}

type Queue = mpsc::Sender<Arc<Message>>;

impl Ring {
    async fn listen(
        self: Arc<Self>,
        hooks: Vec<Hook>,
        mut stream: EventStream,
        mut ended: oneshot::Receiver<()>,
    ) {
        // Let go with this task, so that nothing is called any more once it was given up.
        let mut workers = JoinSet::new();
        let mut queues: Vec<(Vec<Moment>, String, Queue)> = Vec::new();
        for (number, hook) in (1..).zip(hooks) {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let title = hook.title(number);
            queues.push((hook.on.clone(), title.clone(), sender));
            workers.spawn(Arc::clone(&self).work(hook, title, receiver));
        }
        loop {
            let event = tokio::select! {
                biased;
                event = stream.recv() => event,
                // Those that were sent before are still heard.
                _ = &mut ended, if !stream.is_closed() => {
                    stream.close();
                    continue;
                }
            };
            let Some(event) = event else { break };
            let Some(message) = self.message(&event) else {
                continue;
            };
            for (on, title, queue) in &queues {
                if on.contains(&message.moment) {
                    self.enqueue(title, queue, &message);
                }
            }
        }
        drop(queues);
        while workers.join_next().await.is_some() {}
    }

    fn enqueue(&self, title: &str, queue: &Queue, message: &Arc<Message>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if queue.try_send(Arc::clone(message)).is_err() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.notice(
                message,
                format!("{title} was not called: {QUEUE} calls of it wait"),
            );
        }
    }

    /// Calls one hook, message after message.
    async fn work(
        self: Arc<Self>,
        hook: Hook,
        title: String,
        mut queue: mpsc::Receiver<Arc<Message>>,
    ) {
        while let Some(message) = queue.recv().await {
            if let Err(why) = self.call(&hook, &message).await {
                let moment = word(message.moment);
                self.notice(
                    &message,
                    format!("{title} was not told of \"{moment}\": {why}"),
                );
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    async fn call(&self, hook: &Hook, message: &Message) -> Result<(), String> {
        let body = serde_json::to_vec(message).map_err(|e| e.to_string())?;
        match &hook.action {
            HookAction::Webhook { url, headers } => {
                let headers = headers.iter();
                let post = Post {
                    url: self.fill(url)?,
                    headers: headers
                        .map(|(name, text)| Ok((name.clone(), self.fill(text)?)))
                        .collect::<Result<_, String>>()?,
                    body,
                    limit: LIMIT,
                };
                webhook::send(post).await
            }
            HookAction::Command {
                command,
                folder,
                env,
            } => {
                let mut variables = vec![
                    ("WHIMBREL_MIGRATION".to_owned(), message.migration.clone()),
                    ("WHIMBREL_MOMENT".to_owned(), word(message.moment)),
                ];
                if let Some(step) = &message.step {
                    variables.push(("WHIMBREL_STEP".to_owned(), step.name.clone()));
                }
                for (name, text) in env {
                    variables.push((name.clone(), self.fill(text)?));
                }
                let folder = folder.as_ref();
                let program = Program {
                    command: command.clone(),
                    folder: folder.map_or(self.folder.clone(), |f| self.folder.join(f)),
                    env: variables,
                    stdin: Some(body),
                    keep: 0,
                };
                tell(&program).await
            }
        }
    }

    fn fill(&self, text: &str) -> Result<String, String> {
        let value = self.secrets.get(text).map(str::to_owned);
        value.ok_or_else(|| "its secrets were not looked up before the start".to_owned())
    }

    fn message(&self, event: &Event) -> Option<Arc<Message>> {
        let Event::Migration {
            migration,
            moment,
            step,
            message,
            code,
        } = event
        else {
            return None;
        };
        let redactor = self.secrets.redactor();
        let message = redactor.redact(message);
        let text = format!(
            "Whimbrel, {}: migration {migration}: {message}",
            self.project
        );
        Some(Arc::new(Message {
            project: self.project.clone(),
            migration: migration.clone(),
            moment: *moment,
            step: step
                .clone()
                .map(|(number, name)| MessageStep { number, name }),
            text: one_line(&redactor.redact(&text)),
            message,
            code: *code,
            at: self.clock.now().to_string(),
        }))
    }

    fn notice(&self, about: &Message, message: String) {
        self.events.send(&Event::Notice {
            run: about.migration.clone(),
            message: self.secrets.redactor().redact(&message),
        });
    }
}

impl Hook {
    /// How messages call it. A webhook's URL may be a secret, so it has a number.
    fn title(&self, number: usize) -> String {
        match &self.action {
            HookAction::Command { command, .. } => {
                let name = command.first().map_or("", String::as_str);
                format!("hook {number} (command {name})")
            }
            HookAction::Webhook { .. } => format!("hook {number} (webhook)"),
        }
    }
}

async fn tell(program: &Program) -> Result<(), String> {
    let finished = program.run(tokio::time::sleep(LIMIT)).await;
    match finished.map(|f| f.ended) {
        Ok(Ended::Exit(0)) => Ok(()),
        Ok(Ended::Exit(code)) => Err(format!("it exited with {code}")),
        Ok(Ended::Signal(signal)) => Err(format!("it was killed by signal {signal}")),
        Ok(Ended::Stopped) => Err(format!("it had not ended after {LIMIT:?}")),
        Err(Trouble::Start(why)) => Err(format!("it could not be started ({why})")),
        Err(Trouble::Wait(e)) => Err(format!("it was lost sight of ({})", e.kind())),
    }
}

/// As files write it: `rolled_back`.
fn word(moment: Moment) -> String {
    match serde_json::to_value(moment) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{moment:?}"),
    }
}

fn name_of(project: &Path) -> String {
    // `.` has no name of its own.
    let whole = project.canonicalize();
    let whole = whole.as_deref().unwrap_or(project);
    whole.file_name().map_or_else(
        || "a project".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
