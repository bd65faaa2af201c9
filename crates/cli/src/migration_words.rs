//! A migration's state in sentences: what happened, what state the data is in, what to type next.

use crate::clock_words::{at, between, when};
use crate::paint::{Paint, duration, plural};
use whimbrel_model::ledger::{MigrationState, MigrationStatus, Rest, StepState, StepStatus};
use whimbrel_model::{Code, Timestamp};

/// How good the news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    Plain,
    Warn,
    Bad,
}

impl Mood {
    #[must_use]
    pub fn paint(self) -> fn(Paint, &str) -> String {
        match self {
            Self::Good => Paint::good,
            Self::Plain => Paint::name,
            Self::Warn => Paint::warn,
            Self::Bad => Paint::bad,
        }
    }
}

/// What is known of a migration, and whether a process is at work on it now.
pub struct Story<'a> {
    pub state: &'a MigrationState,
    pub at_work: bool,
    pub now: Timestamp,
}

/// A command and why to type it.
pub type Advice = (String, String);

impl Story<'_> {
    fn killed(&self) -> bool {
        self.state.at_work() && !self.at_work
    }

    /// One word for a label.
    #[must_use]
    pub fn label(&self) -> (&'static str, Mood) {
        use MigrationStatus as S;
        match self.state.status {
            _ if self.killed() => ("killed", Mood::Warn),
            S::Running => ("at work", Mood::Plain),
            S::Undoing => ("at work", Mood::Warn),
            S::Resting(Rest::Unknown) | S::UndoResting(Rest::Unknown) => ("unknown", Mood::Bad),
            S::Resting(_) | S::UndoResting(_) => ("rests", Mood::Warn),
            S::Applied => ("applied", Mood::Good),
            S::Undone if self.failure().is_some() => ("failed", Mood::Bad),
            S::Undone => ("undone", Mood::Plain),
            S::UndoFailed => ("failed", Mood::Bad),
            S::Skipped => ("skipped", Mood::Plain),
        }
    }

    /// What happened, in a sentence.
    // tidy: long because it has one short arm for each status.
    #[must_use]
    pub fn headline(&self) -> String {
        use MigrationStatus as S;
        let m = self.state;
        let id = &m.id;
        let since = when(&m.updated_at, self.now);
        match m.status {
            S::Running if self.at_work => {
                let by = &m.by;
                let begun = at(&m.started_at, self.now);
                format!("{id} is at work: {}, begun by {by} at {begun}", self.here())
            }
            S::Undoing if self.at_work => {
                format!(
                    "{id} is being taken back{}: {}",
                    self.because(),
                    self.going_back()
                )
            }
            S::Running => format!(
                "{id} was killed in {}; its last sign of life was at {since}",
                self.here()
            ),
            S::Undoing => format!(
                "{id} was killed while it took itself back, {}; its last sign of life was at {since}. It goes \
                 back{}",
                self.going_back(),
                match self.because() {
                    why if why.is_empty() => " on request".to_owned(),
                    why => why,
                }
            ),
            S::Resting(rest) => {
                format!(
                    "{id} rests since {since} at {}: {}",
                    self.here(),
                    self.rest(rest)
                )
            }
            S::UndoResting(rest) => {
                let why = match rest {
                    Rest::Paused => "paused".to_owned(),
                    other => self.rest(other),
                };
                format!("{id} rests since {since} on its way back: {why}")
            }
            S::Applied => {
                let n = m.steps.len();
                let all = if n == 1 {
                    "its step is".to_owned()
                } else {
                    format!("all {n} steps are")
                };
                format!("{id} is applied since {since}: {all} done and validated")
            }
            S::Undone => {
                let by = match (&m.undone_by, self.failure()) {
                    (Some(by), None) => format!(" by {by}"),
                    _ => String::new(),
                };
                format!("{id} was taken back{by} at {since}{}", self.because())
            }
            S::UndoFailed => format!(
                "{id} could not be taken back whole at {since}; it was taken back{}",
                match self.because() {
                    why if why.is_empty() => " on request".to_owned(),
                    why => why,
                }
            ),
            S::Skipped => format!("{id} was left out by {} at {since}", m.by),
        }
    }

    /// In what state the data is, in sentences.
    #[must_use]
    pub fn data(&self) -> String {
        use MigrationStatus as S;
        let kept = self.names(|s| s.status == StepStatus::Kept);
        let but = match kept.as_slice() {
            [] => String::new(),
            kept => format!(
                ", but for {}, which had no way back and stay{} done",
                kept.join(" and "),
                if kept.len() == 1 { "s" } else { "" }
            ),
        };
        match self.state.status {
            S::Applied => "The data is in its new shape.".to_owned(),
            S::Undone => format!(
                "The data is as it was before it began{but}; what was written since is kept."
            ),
            S::UndoFailed => {
                let left = self.names(|s| {
                    matches!(s.status, StepStatus::UndoFailed | StepStatus::UndoUnknown)
                });
                format!(
                    "What {} did is still in the data, at least in part; every other step is taken back{but}. \
                     Nothing is lost.",
                    left.join(" and ")
                )
            }
            S::Running | S::Resting(_) | S::Undoing | S::UndoResting(_) => self.midway(),
            S::Skipped => "It wrote nothing.".to_owned(),
        }
    }

    fn midway(&self) -> String {
        let (mut done, mut begun, mut back, mut ahead) = (0, Vec::new(), 0, 0);
        for (i, step) in self.state.steps.iter().enumerate() {
            match step.status {
                StepStatus::Done => done += 1,
                StepStatus::Pending => ahead += 1,
                StepStatus::Undone => back += 1,
                // It waits for a word, and words change nothing.
                _ if step.kind == "approve" => ahead += 1,
                _ => begun.push(i),
            }
        }
        let mut parts = Vec::new();
        let s = |n: u64| plural(n, "step");
        if done > 0 {
            parts.push(format!("{} done", s(done)));
        }
        for i in begun {
            let word = match self.state.steps[i].status {
                StepStatus::Failed => "failed",
                StepStatus::Unknown | StepStatus::UndoUnknown => "unknown",
                StepStatus::UndoFailed => "not taken back",
                StepStatus::Kept => "without a way back",
                _ => "in the middle",
            };
            parts.push(format!("step {} {word}", i + 1));
        }
        if back > 0 {
            parts.push(format!("{} taken back", s(back)));
        }
        if ahead > 0 {
            parts.push(format!("{ahead} not begun"));
        }
        let lost = if self.at_work {
            ""
        } else {
            " Nothing is lost: what was finished is recorded, and it goes on from there."
        };
        format!("{}.{lost}", capital(&parts.join(", ")))
    }

    fn names(&self, which: impl Fn(&StepState) -> bool) -> Vec<String> {
        let steps = self.state.steps.iter().enumerate();
        steps
            .filter(|(_, s)| which(s))
            .map(|(i, s)| format!("step {} ({} {})", i + 1, s.kind, s.name))
            .collect()
    }

    /// `step 3 of 6 (copy split)`
    fn here(&self) -> String {
        let m = self.state;
        match m.next_step() {
            Some(i) => format!(
                "step {} of {} ({} {})",
                i + 1,
                m.steps.len(),
                m.steps[i].kind,
                m.steps[i].name
            ),
            None => "its final validation".to_owned(),
        }
    }

    fn going_back(&self) -> String {
        let left = self.state.steps.iter().rposition(|s| {
            matches!(
                s.status,
                StepStatus::Undoing
                    | StepStatus::Done
                    | StepStatus::Running
                    | StepStatus::Failed
                    | StepStatus::Unknown
            )
        });
        match left {
            Some(i) => format!(
                "at step {} ({} {})",
                i + 1,
                self.state.steps[i].kind,
                self.state.steps[i].name
            ),
            None => "at its end".to_owned(),
        }
    }

    fn rest(&self, rest: Rest) -> String {
        let cause = self.state.cause.as_ref();
        let message = cause.map_or("", |(_, message)| message.as_str());
        match rest {
            Rest::Waiting => format!("waiting for {} go-ahead", self.whose()),
            Rest::Paused if message.starts_with("paused") => message.to_owned(),
            Rest::Paused => "paused".to_owned(),
            Rest::Stopped => match cause {
                None => "stopped".to_owned(),
                Some((Code::RunInterrupted, _)) => "stopped on request".to_owned(),
                Some((code, message)) => format!("{code} {message}"),
            },
            Rest::Unknown => match message {
                "" => "what became of a step is unknown; somebody must look".to_owned(),
                message => message.to_owned(),
            },
        }
    }

    /// `ada's`, as the file says who may give it.
    fn whose(&self) -> String {
        let step = self.state.next_step().map(|i| &self.state.steps[i]);
        let by = step.and_then(|step| self.said(step, "by"));
        let names: Vec<_> = by
            .and_then(|by| by.as_array())
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str())
            .map(|name| format!("{name}'s"))
            .collect();
        match names.as_slice() {
            [] => "somebody's".to_owned(),
            names => names.join(" or "),
        }
    }

    /// What the file says of a step.
    fn said(&self, step: &StepState, key: &str) -> Option<&serde_json::Value> {
        let at = self.state.steps.iter().position(|s| s.name == step.name)?;
        let steps = self.state.meaning.get("step")?.as_array()?;
        steps.get(at)?.get(key)
    }

    /// Why it was taken back, where that was not simply asked for.
    fn failure(&self) -> Option<&(Code, String)> {
        let cause = self.state.cause.as_ref()?;
        let rested = matches!(
            cause.0,
            Code::ApprovalNeeded | Code::MigrationPaused | Code::RunInterrupted
        );
        (!rested).then_some(cause)
    }

    /// ` because step 4 (copy split) failed: WB-… message`
    fn because(&self) -> String {
        let Some((code, message)) = self.failure() else {
            return String::new();
        };
        let steps = self.state.steps.iter().enumerate();
        // The message begins with the step's name.
        let named = steps
            .filter_map(|(i, s)| {
                let name = format!("step {}: ", s.name);
                let rest = message.strip_prefix(&name)?;
                // What a command's step says begins with its name once more.
                Some((i, s, rest.strip_prefix(&name).unwrap_or(rest)))
            })
            .next();
        match named {
            Some((i, step, rest)) => format!(
                " because step {} ({} {}) failed: {code} {rest}",
                i + 1,
                step.kind,
                step.name
            ),
            None => format!(": {code} {message}"),
        }
    }

    /// What to type, most likely first.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        use MigrationStatus as S;
        let id = &self.state.id;
        let up = || ("whimbrel up".to_owned(), "goes on from there".to_owned());
        let down = || ("whimbrel down".to_owned(), "takes it back".to_owned());
        let mut unknown = self.settling();
        match self.state.status {
            _ if !unknown.is_empty() && !self.at_work => {
                unknown.push(match self.state.status {
                    S::UndoFailed => (
                        "whimbrel down".to_owned(),
                        "then tries the rest again".to_owned(),
                    ),
                    _ => ("whimbrel up".to_owned(), "then goes on".to_owned()),
                });
                unknown
            }
            S::Running if self.at_work => vec![
                (
                    format!("whimbrel pause {id}"),
                    "rests; nothing is taken back".to_owned(),
                ),
                (format!("whimbrel abort {id}"), "takes it back".to_owned()),
            ],
            S::Undoing if self.at_work => Vec::new(),
            S::Resting(Rest::Waiting) => {
                let step = self.state.next_step().map(|i| &self.state.steps[i]);
                let step = step.map_or("STEP", |s| s.name.as_str());
                vec![
                    (
                        format!("whimbrel approve {id} {step}"),
                        "gives the go-ahead; then".to_owned(),
                    ),
                    up(),
                    down(),
                ]
            }
            S::Running | S::Resting(_) => vec![up(), down()],
            S::Undoing | S::UndoResting(_) => vec![(
                "whimbrel down".to_owned(),
                "goes on taking it back".to_owned(),
            )],
            S::UndoFailed => {
                let mut all = vec![(
                    "whimbrel down".to_owned(),
                    "tries again what is left, once its cause is mended".to_owned(),
                )];
                let left = self.state.steps.iter();
                let left = left.filter(|s| s.status == StepStatus::UndoFailed);
                all.extend(left.map(|s| {
                    (
                        format!("whimbrel settle {id} {} --done", s.name),
                        "if you take it back by hand".to_owned(),
                    )
                }));
                all
            }
            S::Undone if self.failure().is_some() => vec![(
                "whimbrel up".to_owned(),
                "applies it again, once its cause is mended".to_owned(),
            )],
            S::Applied | S::Undone | S::Skipped => Vec::new(),
        }
    }

    fn settling(&self) -> Vec<Advice> {
        let unknown = self
            .state
            .steps
            .iter()
            .filter(|s| matches!(s.status, StepStatus::Unknown | StepStatus::UndoUnknown));
        unknown
            .flat_map(|s| {
                let (done, not) = match s.status {
                    StepStatus::UndoUnknown => ("it was taken back", "it was not taken back"),
                    _ => ("it did happen", "it did not happen"),
                };
                let command = format!("whimbrel settle {} {}", self.state.id, s.name);
                [
                    (
                        format!("{command} --done"),
                        format!("you looked, and {done}"),
                    ),
                    (
                        format!("{command} --not-done"),
                        format!("you looked, and {not}"),
                    ),
                ]
            })
            .collect()
    }

    /// The mark of one step.
    #[must_use]
    pub fn mark(&self, step: &StepState) -> (&'static str, Mood) {
        let resting = matches!(
            self.state.status,
            MigrationStatus::Resting(_) | MigrationStatus::UndoResting(_)
        );
        match step.status {
            StepStatus::Pending => ("·", Mood::Plain),
            StepStatus::Running | StepStatus::Undoing if self.at_work => ("▸", Mood::Plain),
            StepStatus::Running | StepStatus::Undoing if resting => ("⏸", Mood::Warn),
            StepStatus::Running | StepStatus::Undoing => ("…", Mood::Warn),
            StepStatus::Done => ("✓", Mood::Good),
            StepStatus::Failed => ("✗", Mood::Bad),
            StepStatus::Unknown | StepStatus::UndoUnknown => ("?", Mood::Bad),
            // It failed, and what it did is taken back.
            StepStatus::Undone if step.error.is_some() => ("✗", Mood::Bad),
            StepStatus::Undone => ("↩", Mood::Plain),
            StepStatus::UndoFailed => ("✗", Mood::Bad),
            StepStatus::Kept => ("!", Mood::Warn),
        }
    }

    /// What is to be said of one step, each on a line of its own: what it did, its errors, its undo.
    #[must_use]
    pub fn step(&self, step: &StepState) -> Vec<(Mood, String)> {
        let mut lines = Vec::new();
        if let Some(report) = &step.report {
            lines.push((Mood::Plain, report.summary.clone()));
        }
        if let Some(by) = &step.approved_by
            && step.report.is_none()
        {
            lines.push((Mood::Plain, format!("{by} gave the go-ahead")));
        }
        if step.kind == "approve"
            && step.report.is_none()
            && step.status != StepStatus::Pending
            && let Some(question) = self.said(step, "question")
        {
            let question = question.as_str().unwrap_or_default();
            lines.push((Mood::Plain, format!("asks: {question}")));
        }
        if let Some((code, message)) = &step.error {
            let mood = match step.status {
                StepStatus::Done => Mood::Plain,
                _ => Mood::Bad,
            };
            lines.push((mood, format!("{code} {}", own(step, message))));
        }
        match step.status {
            StepStatus::Running if self.killed() => lines.push((
                Mood::Warn,
                "its process ended in the middle of it".to_owned(),
            )),
            StepStatus::Undone => {
                let what = step.undo_report.as_ref().map_or("", |r| r.summary.as_str());
                if !matches!(what, "" | "it changed nothing") {
                    lines.push((Mood::Plain, format!("taken back: {what}")));
                }
            }
            StepStatus::Undoing => lines.push((Mood::Plain, "being taken back".to_owned())),
            StepStatus::Kept => {
                lines.push((Mood::Warn, "it has no way back and stays".to_owned()));
            }
            _ => {}
        }
        if let Some((code, message)) = &step.undo_error {
            lines.push((
                Mood::Bad,
                format!("could not be taken back: {code} {}", own(step, message)),
            ));
        }
        lines
    }

    /// How long the step took, where it came to its end.
    #[must_use]
    pub fn took(&self, step: &StepState) -> String {
        let ms = match (&step.report, step.status) {
            (Some(report), _) => Some(report.elapsed_ms),
            (None, StepStatus::Undone) => step.undo_report.as_ref().map(|r| r.elapsed_ms),
            _ => None,
        };
        ms.map(duration).unwrap_or_default()
    }

    /// `finished in 12 min 04 s, begun by ada@host at 02:14 UTC, 2 attempts`
    #[must_use]
    pub fn small(&self) -> String {
        let m = self.state;
        let mut parts = vec![format!(
            "begun by {} at {}",
            m.by,
            at(&m.started_at, self.now)
        )];
        if let Some(ms) = m
            .ended_at
            .as_ref()
            .and_then(|end| between(&m.started_at, end))
        {
            parts.push(format!("ended {} later", duration(ms)));
        }
        if m.attempts > 1 {
            parts.push(format!("in {} attempts", m.attempts));
        }
        if m.application > 1 {
            parts.push(format!("applied for the {} time", nth(m.application)));
        }
        parts.join(", ")
    }
}

/// Without the step's own name, which stands beside it.
fn own<'m>(step: &StepState, message: &'m str) -> &'m str {
    let name = format!("step {}: ", step.name);
    message.strip_prefix(&name).unwrap_or(message)
}

fn nth(n: u32) -> String {
    let ending = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
