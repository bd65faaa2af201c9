//! The lines of a migration while it works: one a step, and the abort rules' last values.

use crate::paint::{Paint, clip, duration, fold, harmless};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use whimbrel_model::{Event, Moment};

pub struct Steps {
    paint: Paint,
    width: usize,
    home: Option<String>,
    /// `copy split`
    names: Vec<String>,
    /// The step at work, from 1, and since when.
    running: Option<(u32, Instant)>,
    /// `0.0 % (limit 1.0 %)`, by rule.
    rules: BTreeMap<String, String>,
    /// The failing documents that were shown.
    seen: BTreeSet<String>,
}

/// As many failing documents as are remembered; more than are shown.
const SEEN: usize = 100;

impl Steps {
    #[must_use]
    pub fn new(paint: Paint, width: usize, home: Option<String>, names: Vec<String>) -> Self {
        Self {
            paint,
            width,
            home,
            names,
            running: None,
            rules: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Whether a failing document is met for the first time.
    pub fn first_seen(&mut self, what: &str) -> bool {
        if self.seen.contains(what) {
            return false;
        }
        if self.seen.len() < SEEN {
            self.seen.insert(what.to_owned());
        }
        true
    }

    /// `2/6 copy split`, while a step is at work.
    #[must_use]
    pub fn running(&self) -> Option<String> {
        self.running.map(|(number, _)| self.title(number))
    }

    fn title(&self, number: u32) -> String {
        let name = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.names.get(i));
        format!(
            "{number}/{} {}",
            self.names.len(),
            name.map_or("", String::as_str)
        )
    }

    /// `failed_documents 0.0 % (limit 1.0 %) · latency 1.3 times (limit 3 times)`, on one line.
    #[must_use]
    pub fn rules(&self) -> Option<String> {
        if self.rules.is_empty() || self.running.is_none() {
            return None;
        }
        let all: Vec<_> = self
            .rules
            .iter()
            .map(|(rule, text)| format!("{rule} {text}"))
            .collect();
        let line = clip(&all.join(" · "), self.width.saturating_sub(4));
        Some(self.paint.dim(&line))
    }

    pub fn rule(&mut self, event: &Event) {
        if let Event::Rule {
            rule,
            value,
            threshold,
            ..
        } = event
        {
            // The first words of a look are the figure; the rest is for the history.
            let value = value.split([':', '(']).next().unwrap_or(value).trim();
            let value = value.trim_end_matches(" free");
            let limit = threshold.split([',', '(']).next().unwrap_or(threshold);
            let limit = limit
                .trim_start_matches("more than ")
                .trim_start_matches("less than ")
                .trim_end_matches(" free");
            self.rules
                .insert(rule.clone(), format!("{value} (limit {limit})"));
        }
    }

    /// Takes a moment in and returns the lines that it leaves.
    pub fn moment(&mut self, event: &Event) -> Vec<String> {
        let Event::Migration {
            migration,
            moment,
            step,
            message,
            code,
        } = event
        else {
            return Vec::new();
        };
        let number = step.as_ref().map(|(number, _)| *number);
        let took = self.running.map(|(_, begun)| begun.elapsed());
        self.running = None;
        let code = code.map(|c| format!("{c} ")).unwrap_or_default();
        let mut text = harmless(message);
        if let Some(home) = &self.home {
            text = text.replace(home, "");
        }
        let paint = self.paint;
        match moment {
            Moment::Started => {
                let mut lines = vec![paint.bold(migration)];
                lines.extend(
                    fold(&text, self.width - 2)
                        .into_iter()
                        .map(|l| format!("  {l}")),
                );
                lines
            }
            Moment::Resumed => vec![format!("{} goes on", paint.bold(migration))],
            Moment::StepStarted => {
                self.running = number.map(|n| (n, Instant::now()));
                Vec::new()
            }
            Moment::StepDone => {
                let took = took.and_then(|t| u64::try_from(t.as_millis()).ok());
                let took = took
                    .map(|ms| format!("  {}", paint.dim(&duration(ms))))
                    .unwrap_or_default();
                self.line(paint.good("✓"), number, &took, &text)
            }
            Moment::StepRetried => self.line(paint.warn("…"), number, "", &format!("{code}{text}")),
            Moment::StepFailed => self.line(paint.bad("✗"), number, "", &format!("{code}{text}")),
            Moment::Undoing => vec![paint.warn(&text)],
            Moment::StepUndone => self.line(paint.name("↩"), number, "", &text),
            Moment::StepUndoFailed => {
                self.line(paint.bad("✗"), number, "", &format!("{code}{text}"))
            }
            Moment::StepKept => self.line(paint.warn("!"), number, "", &text),
            Moment::Rested => self.line(paint.warn("⏸"), number, "", &text),
            // The command's own last words say these.
            Moment::Completed | Moment::RolledBack | Moment::RollBackFailed => Vec::new(),
        }
    }

    /// `  ✓ 2/6 copy split  12.4 s` and what it did, beside it or below.
    fn line(&self, mark: String, number: Option<u32>, took: &str, text: &str) -> Vec<String> {
        let title = number.map(|n| self.title(n)).unwrap_or_default();
        if title.is_empty() {
            return vec![format!("  {mark} {text}")];
        }
        let head = format!("  {mark} {title}{took}");
        let width = 4 + title.chars().count() + 12 + text.chars().count();
        if text.is_empty() {
            vec![head]
        } else if width <= self.width {
            vec![format!("{head}  {text}")]
        } else {
            let more = fold(text, self.width.saturating_sub(8));
            std::iter::once(head)
                .chain(more.into_iter().map(|l| format!("      {l}")))
                .collect()
        }
    }
}
