//! A verification on a terminal: the verdict, then what failed with where, then what passed, then what to
//! type next.

use super::{
    Mended, Told, bad, failed, failed_words, measured_words, other_sources, sample_words,
    seen_words, small_words, verdict, wrong_words,
};
use crate::paint::{Paint, clip, duration, fold, harmless, plural, thousands};
use crate::screen::{LABEL, Screen};
use crate::summary::{Deed, equation};
use whimbrel_model::finding::{CheckResult, Comparison, Difference, Mismatch, Severity};

/// Keys shown of each kind of difference.
const SHOWN: usize = 5;
/// Wider lines are hard to read, however wide the terminal.
const WIDEST: usize = 120;

type Colour = fn(Paint, &str) -> String;

pub fn print(screen: &Screen, told: &Told<'_>) {
    if screen.json {
        return;
    }
    say_verdict(screen, told);
    for (i, comparison) in told.found.comparisons.iter().enumerate() {
        let mended = told.mended.get(i).and_then(Option::as_ref);
        say_comparison(screen, told, comparison, mended);
    }
    for check in failed(told.found) {
        say_failed(screen, check);
    }
    if !screen.quiet {
        say_passed(screen, told);
        say_small(screen, told);
    }
    say_next(screen, told);
}

fn say_verdict(screen: &Screen, told: &Told<'_>) {
    let verdict = verdict(told.found);
    let parts = [verdict.comparisons, verdict.checks];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let fine = parts.iter().all(|(good, _)| *good);
    let words: Vec<_> = parts.into_iter().map(|(_, words)| words).collect();
    let one = words.join(" · ");
    let lines = match one.chars().count() < screen.width {
        true => vec![one],
        false => words,
    };
    for line in lines.iter().flat_map(|line| fold(line, screen.width - 1)) {
        let warned = told.found.worst().is_some();
        screen.line(match (fine, warned) {
            (true, false) => screen.out.good(&line),
            (true, true) => screen.out.warn(&line),
            (false, _) => screen.out.bad(&line),
        });
    }
}

fn room(screen: &Screen, indent: usize) -> usize {
    screen.width.min(WIDEST).saturating_sub(LABEL + indent)
}

/// A text behind a label, its further lines below it.
fn folded(screen: &Screen, label: &str, colour: Colour, indent: usize, text: &str) {
    let blanks = " ".repeat(indent);
    for (i, line) in fold(&screen.text(text), room(screen, indent))
        .iter()
        .enumerate()
    {
        let label = if i == 0 { label } else { "" };
        screen.labelled(label, colour, format!("{blanks}{line}"));
    }
}

fn say_comparison(
    screen: &Screen,
    told: &Told<'_>,
    comparison: &Comparison,
    mended: Option<&Mended>,
) {
    let (label, colour): (_, Colour) = match comparison.equal() {
        true => ("equal", Paint::good),
        false => ("differ", Paint::bad),
    };
    let title = comparison.title.trim_start_matches("verify ");
    folded(screen, label, colour, 0, title);
    if let Some(mended) = mended {
        say_mended(screen, mended);
    }
    if !comparison.equal() {
        let wrong = wrong_words(comparison).join(", ");
        let equal = format!("{wrong}; {} equal", thousands(comparison.equal));
        folded(screen, "", colour, 0, &equal);
        say_differences(screen, told, comparison);
    }
    for words in small_words(comparison) {
        if !screen.quiet {
            folded(screen, "", colour, 0, &words);
        }
    }
    if let Some(sample) = &comparison.sample {
        folded(screen, "", colour, 0, &sample_words(sample));
    }
}

fn say_mended(screen: &Screen, mended: &Mended) {
    let mut words = Vec::new();
    if let Some(counts) = &mended.synced {
        words.push(format!(
            "copied again: {}",
            equation(counts, Deed::Retry, false)
        ));
    }
    if mended.deleted > 0 {
        words.push(format!(
            "{} that no source yields deleted",
            plural(mended.deleted, "document")
        ));
    }
    words.push(match mended.left {
        0 => format!("all {} are as they should be now", thousands(mended.before)),
        left => format!(
            "{} of {} are still not as they should be",
            thousands(left),
            thousands(mended.before)
        ),
    });
    for (i, words) in words.iter().enumerate() {
        let label = if i == 0 { "repaired" } else { "" };
        folded(screen, label, Paint::name, 0, words);
    }
}

fn say_differences(screen: &Screen, told: &Told<'_>, comparison: &Comparison) {
    // A dry run of a repair is there to list them all.
    let most = match told.args.repair && told.args.dry_run {
        true => usize::MAX,
        false => SHOWN,
    };
    let mut named = 0;
    for what in [
        Mismatch::Missing,
        Mismatch::Differing,
        Mismatch::Extra,
        Mismatch::Unreadable,
    ] {
        let all = comparison.differences.iter().filter(|d| d.what == what);
        let shown: Vec<&Difference> = all.take(most).collect();
        if shown.is_empty() {
            continue;
        }
        named += shown.len();
        screen.labelled(
            "",
            Paint::bold,
            format!("  {}", screen.out.bold(what.word())),
        );
        for difference in shown {
            let line = clip(&told_difference(comparison, difference), room(screen, 4));
            screen.labelled("", Paint::bold, format!("    {line}"));
        }
    }
    let more = bad(comparison).saturating_sub(named as u64);
    if more > 0 {
        let where_ = match told.args.report {
            Some(_) => "the report lists up to 10,000",
            None => "--report FILE.html lists up to 10,000",
        };
        let text = format!("  … and {} more ({where_})", thousands(more));
        screen.labelled("", Paint::bold, screen.out.dim(&text));
    }
}

/// `msg_1  content, metadata.total  (from conv_7)`
fn told_difference(comparison: &Comparison, difference: &Difference) -> String {
    let mut line = harmless(&difference.key.to_string());
    // One comparison may be of several collections of the target.
    if !comparison
        .target
        .ends_with(&format!("/{}", difference.collection))
    {
        line = format!("{}/{line}", harmless(&difference.collection));
    }
    if !difference.paths.is_empty() {
        line.push_str(&format!("  {}", harmless(&difference.paths.join(", "))));
    }
    let sources = other_sources(difference);
    if !sources.is_empty() {
        line.push_str(&format!("  (from {})", harmless(&sources.join(", "))));
    }
    if let Some((code, message)) = &difference.error {
        line.push_str(&format!("  {code} {}", harmless(message)));
    }
    line
}

fn say_failed(screen: &Screen, check: &CheckResult) {
    let severity = check.gravity();
    let colour: Colour = match severity {
        Severity::Critical => Paint::bad,
        Severity::Warning => Paint::warn,
        Severity::Info => Paint::name,
    };
    let head = format!(
        "{}  {}",
        screen.out.bold(&harmless(&check.name)),
        screen.out.dim(&harmless(&kind_words(check)))
    );
    screen.labelled(severity.word(), colour, head);
    if !check.description.is_empty() {
        folded(screen, "", colour, 0, &check.description);
    }
    folded(screen, "", colour, 0, &failed_words(check));
    for example in &check.examples {
        // A key that fills lines helps nobody; all of it is in the other reports.
        let key = example.key.as_deref().map(harmless);
        let key = key.map(|key| clip(&key, room(screen, 4).min(60)));
        let message = match &example.path {
            Some(path) => format!("{}: {}", harmless(path), harmless(&example.message)),
            None => harmless(&example.message),
        };
        let line = key.into_iter().chain([message]);
        folded_hanging(screen, &line.collect::<Vec<_>>().join(" · "));
    }
    let more = check.failed.saturating_sub(check.examples.len() as u64);
    if more > 0 && check.error.is_none() && !check.examples.is_empty() {
        let text = format!("  … and {} more", thousands(more));
        screen.labelled("", colour, screen.out.dim(&text));
    }
    if !check.measured.is_empty() {
        let measured = format!("measured: {}", measured_words(&check.measured));
        folded(screen, "", colour, 0, &measured);
    }
}

/// An example, its further lines further in.
fn folded_hanging(screen: &Screen, text: &str) {
    for (i, line) in fold(text, room(screen, 4)).iter().enumerate() {
        let blanks = if i == 0 { "  " } else { "    " };
        screen.labelled("", Paint::bold, format!("{blanks}{line}"));
    }
}

fn kind_words(check: &CheckResult) -> String {
    match check.scope.as_str() {
        "" => check.kind.clone(),
        scope => format!("{} of {scope}", check.kind),
    }
}

/// One line each: what, of what, how much of it, and the numbers that there is room for.
fn say_passed(screen: &Screen, told: &Told<'_>) {
    let passed: Vec<&CheckResult> = told.found.checks.iter().filter(|c| c.passed).collect();
    let length = |check: &&CheckResult| check.name.chars().count();
    let widest = passed
        .iter()
        .map(length)
        .max()
        .unwrap_or(0)
        .min(screen.width / 2 - LABEL);
    for (i, check) in passed.iter().enumerate() {
        let name = clip(&harmless(&check.name), widest);
        let gap = " ".repeat(widest.saturating_sub(name.chars().count()) + 2);
        let mut rest = format!("{}, {}", check.scope, seen_words(check));
        if !check.measured.is_empty() {
            rest = format!("{rest}: {}", measured_words(&check.measured));
        }
        let rest = clip(&harmless(&rest), room(screen, widest + 2));
        let label = if i == 0 { "passed" } else { "" };
        let line = format!("{name}{gap}{}", screen.out.dim(&rest));
        screen.labelled(label, Paint::good, line);
    }
}

fn say_small(screen: &Screen, told: &Told<'_>) {
    let elapsed =
        crate::clock_words::between(&told.found.started_at, &told.found.ended_at).unwrap_or(0);
    let mut small = vec![duration(elapsed)];
    small.extend(told.found.run.as_ref().map(|run| format!("run {run}")));
    if told.args.dry_run {
        small.push("dry run: nothing was written".to_owned());
    }
    let written = [&told.args.report, &told.args.junit].into_iter().flatten();
    small.extend(written.map(|file| file.display().to_string()));
    screen.labelled("", Paint::bold, screen.out.dim(&small.join(", ")));
}

fn say_next(screen: &Screen, told: &Told<'_>) {
    let mut next: Vec<(String, &str)> = Vec::new();
    let all = &told.found.comparisons;
    let sum = |of: fn(&Comparison) -> u64| all.iter().map(of).sum::<u64>();
    let unsynced = sum(|c| c.missing + c.differing);
    let again = &told.again;
    let repaired = told.mended.iter().any(Option::is_some);
    if unsynced > 0 && !repaired {
        match told.args.dry_run && told.args.repair {
            true => next.push((format!("{again} --repair"), "copies these again")),
            false => next.push((
                format!("{again} --repair --dry-run"),
                "lists what it would copy again",
            )),
        }
    }
    if sum(|c| c.extra) > 0 && !told.args.delete_extra {
        next.push((
            format!("{again} --repair --delete-extra"),
            "deletes what is only in the target",
        ));
    }
    if repaired && unsynced > 0 {
        next.push((again.clone(), "looks at all of it again"));
    }
    let failed = failed(told.found);
    let first = failed.iter().find(|check| !check.examples.is_empty());
    if let Some(check) = first.filter(|_| !screen.show_values) {
        let name = harmless(&check.name);
        next.push((
            format!("whimbrel verify --check '{name}' --show-values"),
            "shows values",
        ));
    }
    for (i, (command, why)) in next.iter().enumerate() {
        // Where both do not fit beside each other, the command says enough by itself.
        let room = room(screen, 3).saturating_sub(command.chars().count());
        let why = if why.len() <= room { why } else { "" };
        screen.next(if i == 0 { "next" } else { "" }, command, why);
    }
}
