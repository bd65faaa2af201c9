//! The only place that prints or asks.

use crate::args::{Color, Global};
use crate::exit::Exit;
use crate::failure::{Failure, Snippet, page};
use crate::paint::{Paint, fold, harmless};
use miette::{Diagnostic, LabeledSpan, NamedSource};
use std::fmt;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::OnceLock;

/// How this process talks: results to stdout, progress and errors to stderr.
#[derive(Debug)]
pub struct Screen {
    pub json: bool,
    pub quiet: bool,
    pub show_values: bool,
    pub out: Paint,
    pub err: Paint,
    /// Whether stderr is a terminal on which a bar can move.
    pub bar: bool,
    /// Columns to write in.
    pub width: usize,
    /// The project's folder with a slash behind it: paths in it are shown from there.
    pub home: OnceLock<String>,
    yes: bool,
    can_ask: bool,
}

impl Screen {
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let paint = |terminal: bool| {
            Paint(match global.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => {
                    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
                    let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
                    terminal && !no_color && !dumb
                }
            })
        };
        let (stdout, stderr) = (
            std::io::stdout().is_terminal(),
            std::io::stderr().is_terminal(),
        );
        Self {
            json: global.json,
            quiet: global.quiet,
            show_values: global.show_values,
            out: paint(stdout),
            err: paint(stderr),
            bar: stderr && !global.json && !global.quiet,
            width: width(),
            home: OnceLock::new(),
            yes: global.yes,
            can_ask: std::io::stdin().is_terminal() && stderr && !global.json,
        }
    }

    /// A text of a ledger or a file, so that it cannot drive the terminal, its paths as short as they can be
    /// said.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let text = harmless(text);
        match self.home.get() {
            Some(home) => text.replace(home, ""),
            None => text,
        }
    }

    /// One line of the result.
    pub fn line(&self, text: impl fmt::Display) {
        if !self.json {
            write_out(&format!("{text}\n"));
        }
    }

    /// A line of the result behind a label: `done     upgrade app/users to v3`. An empty label goes on with
    /// the one above.
    pub fn labelled(&self, label: &str, paint: fn(Paint, &str) -> String, text: impl fmt::Display) {
        let gap = " ".repeat(LABEL.saturating_sub(label.chars().count()));
        self.line(format!("{}{gap}{text}", paint(self.out, label)));
    }

    /// What to type next, and why.
    pub fn next(&self, label: &str, command: &str, why: &str) {
        if !self.quiet {
            let why = if why.is_empty() {
                String::new()
            } else {
                format!("   {why}")
            };
            self.labelled(
                label,
                Paint::bold,
                format!("{}{why}", self.out.name(command)),
            );
        }
    }

    /// A line that a quiet user does without.
    pub fn note(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// What is going on, on stderr.
    pub fn progress(&self, text: impl fmt::Display) {
        if !self.json && !self.quiet {
            write_err(&format!("{text}\n"));
        }
    }

    /// One line of JSON, for machines.
    pub fn object(&self, value: &impl serde::Serialize) {
        if self.json {
            print_json(value);
        }
    }

    /// Asks before something is written. `what` is a whole sentence.
    ///
    /// # Errors
    /// The answer is no, or nobody is there to be asked.
    pub fn confirm(&self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !self.can_ask {
            let place = if self.json {
                "with --json"
            } else {
                "without a terminal"
            };
            return Err(
                Failure::usage(format!("nobody can be asked {place}\n{what}"))
                    .not_done("nothing was begun and nothing was written")
                    .next("add --yes to go ahead, or --dry-run to see what would happen"),
            );
        }
        let what = fold(what, self.width.saturating_sub(1)).join("\n");
        write_err(&format!("{what}\n{} ", self.err.bold("Go ahead? [y/N]")));
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|e| Failure::io("reading the answer", &e))?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure {
                exit: Exit::Failed,
                ..Failure::usage("the answer was no")
            }
            .not_done("nothing was begun and nothing was written"))
        }
    }

    /// Prints a failure: for people on stderr, for machines as the last line of stdout.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.object(&failure.to_json());
            return;
        }
        let paint = self.err;
        let head = match failure.code {
            Some(code) => format!("error[{}]: {}", code.id(), code.title()),
            None => "error:".to_owned(),
        };
        let mut text = paint.bad(&head);
        text.push_str(if failure.code.is_some() { "\n  " } else { " " });
        text.push_str(&failure.message.replace('\n', "\n  "));
        text.push('\n');
        for snippet in &failure.snippets {
            text.push_str(&self.snippet(snippet));
        }
        if let Some(what) = &failure.not_done {
            text.push_str(&format!("  {} {what}\n", paint.bold("not done:")));
        }
        for (i, step) in failure.next.iter().enumerate() {
            let label = if i == 0 {
                paint.bold("next:")
            } else {
                "     ".to_owned()
            };
            text.push_str(&format!("  {label}     {step}\n"));
        }
        if let Some(code) = failure.code {
            text.push_str(&format!(
                "  {} {}\n",
                paint.bold("more:    "),
                paint.name(&page(code))
            ));
        }
        write_err(&text);
    }

    fn snippet(&self, snippet: &Snippet) -> String {
        let handler = miette::MietteHandlerOpts::new()
            .color(self.err.0)
            .unicode(self.bar || self.err.0)
            .force_graphical(true)
            .terminal_links(false)
            .context_lines(1)
            .width(self.width)
            .build();
        let place = Place(snippet);
        let shown = Shown(&handler, &place).to_string();
        format!("{}\n", shown.trim_end_matches('\n'))
    }
}

/// Columns of a label.
pub const LABEL: usize = 9;

struct Place<'a>(&'a Snippet);

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Failure::place(self.0), self.0.label)
    }
}

impl std::error::Error for Place<'_> {}

/// A snippet with its source, as miette wants them together.
struct Sourced<'a> {
    place: &'a Place<'a>,
    source: NamedSource<String>,
}

impl fmt::Debug for Sourced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.place, f)
    }
}

impl fmt::Display for Sourced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.place, f)
    }
}

impl std::error::Error for Sourced<'_> {}

impl Diagnostic for Sourced<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.place.0.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.place.0.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::underline(span))))
    }
}

struct Shown<'a>(&'a miette::MietteHandler, &'a Place<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use miette::ReportHandler;
        let Snippet { file, source, .. } = self.1.0;
        let sourced = Sourced {
            place: self.1,
            source: NamedSource::new(file, source.to_string()),
        };
        self.0.debug(&sourced, f)
    }
}

/// Columns of the terminal, or as many as `COLUMNS` says.
#[must_use]
pub fn width() -> usize {
    let given = std::env::var("COLUMNS")
        .ok()
        .and_then(|c| c.parse::<u16>().ok());
    let table = comfy_table::Table::new();
    let found = given.or_else(|| table.width()).unwrap_or(100);
    usize::from(found.clamp(40, 160))
}

pub fn print_json(value: &impl serde::Serialize) {
    // Everything that is printed here is made of maps with text keys: it serializes.
    let text = serde_json::to_string(value).unwrap_or_default();
    write_out(&format!("{text}\n"));
}

/// A reader that went away (`| head`) is no reason to fail.
fn write_out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn write_err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
