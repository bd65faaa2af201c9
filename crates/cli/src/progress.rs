//! Shows a run while it works: a bar on a terminal, plain lines elsewhere, JSON lines for machines.

use crate::exit::Exit;
use crate::paint::{clip, duration, harmless, plural, rate, thousands};
use crate::progress_steps::Steps;
use crate::screen::Screen;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};
use whimbrel_engine::{Engine, EngineError, Event};
use whimbrel_model::Counts;

/// Failing documents shown while a run is at work; all of them wait in quarantine.
const ERRORS_SHOWN: u64 = 5;
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Runs a job and shows its events. The first Ctrl-C lets it write its checkpoint, the second leaves at
/// once.
///
/// # Errors
/// The job's own.
pub async fn drive<T>(
    screen: &Screen,
    engine: &Engine,
    job: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    drive_with(View::new(screen), engine, job).await
}

/// [`drive`] for a migration: the running job's bar stands below the steps that are done. `steps` are what
/// its steps are called: `copy split`.
///
/// # Errors
/// The migration's own.
pub async fn drive_steps<T>(
    screen: &Screen,
    engine: &Engine,
    steps: Vec<String>,
    job: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let mut view = View::new(screen);
    let home = screen.home.get().cloned();
    view.steps = Some(Steps::new(screen.err, screen.width, home, steps));
    drive_with(view, engine, job).await
}

/// [`drive`] for something that looks and changes nothing: its findings are told in its report. `title` is
/// what a spinner says where no run begins.
///
/// # Errors
/// The job's own.
pub async fn drive_verify<T>(
    screen: &Screen,
    engine: &Engine,
    title: Option<String>,
    job: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let mut view = View::new(screen);
    view.looks = true;
    if let Some(title) = title {
        view.spin(&title);
    }
    drive_with(view, engine, job).await
}

async fn drive_with<T>(
    mut view: View<'_>,
    engine: &Engine,
    job: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let screen = view.screen;
    let mut events = engine.subscribe();
    let mut job = pin!(job);
    let mut stopping = false;
    let result = loop {
        tokio::select! {
            result = &mut job => break result,
            Some(event) = events.recv() => view.event(&event),
            () = interrupted() => {
                if stopping {
                    view.close();
                    screen.progress("left at once: the same command finds out what was written and goes on");
                    std::process::exit(i32::from(Exit::Unknown as u8));
                }
                stopping = true;
                engine.stop();
                view.say(match view.steps {
                    None => "stopping: the chunks at work are finished and recorded (Ctrl-C again leaves at once)",
                    Some(_) => "stopping: what is at work is recorded, then it rests (Ctrl-C again: at once)",
                });
            }
        }
    };
    while let Ok(event) = events.try_recv() {
        view.event(&event);
    }
    view.close();
    result
}

/// Ctrl-C, or the polite request to end that service managers send.
pub async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler there is nothing to wait for.
        std::future::pending::<()>().await;
    }
}

struct View<'a> {
    screen: &'a Screen,
    bar: Option<ProgressBar>,
    begun: Instant,
    line_at: Instant,
    /// What an earlier attempt had handled.
    before: Counts,
    expected: Option<u64>,
    errors: u64,
    dry_run: bool,
    /// It looks for differences: what it finds is no failure of its own.
    looks: bool,
    /// Of a migration.
    steps: Option<Steps>,
    /// What the bar says without the abort rules.
    words: String,
}

impl<'a> View<'a> {
    fn new(screen: &'a Screen) -> Self {
        let now = Instant::now();
        Self {
            screen,
            bar: None,
            begun: now,
            line_at: now,
            before: Counts::default(),
            expected: None,
            errors: 0,
            dry_run: false,
            looks: false,
            steps: None,
            words: String::new(),
        }
    }

    fn event(&mut self, event: &Event) {
        self.screen.object(event);
        if self.screen.json {
            return;
        }
        match event {
            Event::Start {
                title,
                resumed,
                done,
                expected,
                dry_run,
                ..
            } => {
                self.start(title, *resumed, done, *expected, *dry_run);
            }
            Event::BatchComplete { totals, .. } => self.batch(totals),
            Event::DocumentError {
                key,
                code,
                message,
                path,
                stage,
                ..
            } => {
                let stage = stage
                    .as_deref()
                    .map(|s| format!("{s}: "))
                    .unwrap_or_default();
                let path = path
                    .as_deref()
                    .map(|p| format!(" (at {p})"))
                    .unwrap_or_default();
                let what = format!("{key}  {stage}{message}{path}");
                self.failed(code.id(), &harmless(&what));
            }
            Event::Notice { message, .. } => {
                let lines: Vec<_> = message.lines().map(harmless).collect();
                let note = self.screen.err.warn("note:");
                self.say(&format!("{note} {}", lines.join("\n      ")));
            }
            Event::Complete { .. } | Event::Error { .. } => self.close(),
            Event::Migration { .. } => self.moment(event),
            Event::Rule { .. } => {
                if let Some(steps) = &mut self.steps {
                    steps.rule(event);
                }
                self.refresh();
            }
        }
    }

    /// A migration moved on: its lines stay, its running step has a spinner until a job has a bar.
    fn moment(&mut self, event: &Event) {
        let Some(steps) = &mut self.steps else { return };
        let lines = steps.moment(event);
        let running = steps.running();
        self.close();
        self.errors = 0;
        for line in lines {
            self.screen.progress(line);
        }
        if let Some(title) = running {
            self.spin(&format!("  {title}"));
        }
    }

    fn spin(&mut self, title: &str) {
        if self.screen.bar {
            let spinner = bar(None, self.screen.err.0);
            spinner.set_prefix(title.to_owned());
            self.bar = Some(spinner);
            self.words.clear();
            self.refresh();
        } else {
            self.screen.progress(title);
        }
    }

    /// Writes the words behind the bar, and the abort rules below them.
    fn refresh(&self) {
        let Some(bar) = &self.bar else { return };
        let rules = self.steps.as_ref().and_then(Steps::rules);
        bar.set_message(match rules {
            Some(rules) => format!("{}\n  {rules}", self.words),
            None => self.words.clone(),
        });
    }

    fn start(
        &mut self,
        title: &str,
        resumed: bool,
        done: &Counts,
        expected: Option<u64>,
        dry: bool,
    ) {
        self.close();
        self.begun = Instant::now();
        self.line_at = self.begun;
        self.before = *done;
        self.expected = expected;
        if self.steps.is_none() {
            self.errors = 0;
        }
        self.dry_run = dry;
        let how = match (dry, resumed) {
            // A step's validation.
            (true, _) if self.steps.is_some() => " (only looks)".to_owned(),
            (true, _) => " (dry run: nothing is written)".to_owned(),
            (false, true) => {
                format!(
                    " (goes on; {} were handled before)",
                    thousands(done.enumerated)
                )
            }
            (false, false) => String::new(),
        };
        let about = match expected {
            Some(n) if !self.screen.bar => format!(", about {}", plural(n, "document")),
            _ => String::new(),
        };
        let title = &self.screen.text(title);
        let title = match self.steps.as_ref().map(Steps::running) {
            Some(Some(step)) if self.screen.bar => format!("  {step}: {title}"),
            Some(_) => format!("  {title}"),
            None => self.screen.err.bold(title),
        };
        if self.screen.bar {
            // The title goes with the bar; the summary says it again.
            let bar = bar(expected, self.screen.err.0);
            bar.set_prefix(clip_painted(&format!("{title}{how}"), self.screen));
            self.bar = Some(bar);
            self.words.clear();
            self.refresh();
        } else {
            self.screen.progress(format!("{title}{how}{about}"));
        }
    }

    fn batch(&mut self, totals: &Counts) {
        if let Some(bar) = &self.bar {
            if bar.length().is_some_and(|n| totals.enumerated > n) {
                bar.set_length(totals.enumerated);
            }
            bar.set_position(totals.enumerated);
            self.words = self.words(totals);
            self.refresh();
        } else if self.line_at.elapsed() >= LINE_EVERY {
            self.line_at = Instant::now();
            let rules = self.steps.as_ref().and_then(Steps::rules);
            let rules = rules.map(|r| format!(" · {r}")).unwrap_or_default();
            self.screen
                .progress(format!("  {}{rules}", self.words(totals)));
        }
    }

    /// `12,000 of 2,000,000 · 41,000/s · 48 s left · 3 quarantined`
    fn words(&self, totals: &Counts) -> String {
        let elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fresh = totals.enumerated.saturating_sub(self.before.enumerated);
        let a_second = rate(fresh, elapsed_ms);
        let mut parts = vec![match self.expected {
            Some(n) => format!(
                "{} of {}",
                thousands(totals.enumerated),
                thousands(n.max(totals.enumerated))
            ),
            None => plural(totals.enumerated, "document"),
        }];
        parts.push(format!("{}/s", thousands(a_second)));
        if let Some(left) = self.expected.map(|n| n.saturating_sub(totals.enumerated))
            && left > 0
            && a_second > 0
        {
            parts.push(format!(
                "{} left",
                duration((left * 1000 / a_second).max(1000) / 1000 * 1000)
            ));
        }
        if totals.quarantined > 0 {
            let what = match (self.looks, self.dry_run) {
                (true, _) => "to look at again",
                (false, true) => "would fail",
                (false, false) => "quarantined",
            };
            parts.push(
                self.screen
                    .err
                    .warn(&format!("{} {what}", thousands(totals.quarantined))),
            );
        }
        parts.join(" · ")
    }

    /// A dry run is there to list every failing document in full; a run shows the first few.
    fn failed(&mut self, code: &str, what: &str) {
        if self.looks {
            return;
        }
        if let Some(steps) = &mut self.steps {
            // A step goes through its documents several times, and its validation finds them once more.
            if self.dry_run || !steps.first_seen(what) {
                return;
            }
        }
        self.errors += 1;
        if self.dry_run {
            let line = format!(
                "{}  {what}",
                self.screen.out.warn(&format!("would fail {code}"))
            );
            match &self.bar {
                Some(bar) => bar.suspend(|| self.screen.line(&line)),
                None => self.screen.line(&line),
            }
        } else if self.errors <= ERRORS_SHOWN {
            let label = format!("quarantined {code}");
            // A wrapped line would break the bar's block; the whole of it is in `quarantine list`.
            let what = match self.screen.bar {
                true => clip(what, self.screen.width.saturating_sub(label.len() + 4)),
                false => what.to_owned(),
            };
            self.say(&format!("  {}  {what}", self.screen.err.warn(&label)));
        } else if self.errors == ERRORS_SHOWN + 1 {
            self.say("  … and more, all listed by: whimbrel quarantine list");
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.screen.progress(text)),
            None => self.screen.progress(text),
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A wrapped title would break the bar's block.
fn clip_painted(title: &str, screen: &Screen) -> String {
    // Escape sequences have no width; cut only where there are none.
    match screen.err.0 && title.contains('\x1b') {
        true => title.to_owned(),
        false => clip(title, screen.width.saturating_sub(1)),
    }
}

/// A bar on stderr.
#[must_use]
pub fn bar(expected: Option<u64>, colours: bool) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let cells = if crate::screen::width() < 100 { 16 } else { 28 };
    let (bar, template) = match (expected, colours) {
        (Some(n), true) => (
            ProgressBar::with_draw_target(Some(n), target),
            format!("{{prefix}}\n  {{bar:{cells}.cyan/dim}} {{percent:>3}} %  {{msg}}"),
        ),
        (Some(n), false) => (
            ProgressBar::with_draw_target(Some(n), target),
            format!("{{prefix}}\n  {{bar:{cells}}} {{percent:>3}} %  {{msg}}"),
        ),
        (None, _) => (
            ProgressBar::with_draw_target(None, target),
            "{prefix}\n  {spinner} {msg}".to_owned(),
        ),
    };
    // The templates are constants; should one be wrong, the default style shows as much.
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("━━─"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
