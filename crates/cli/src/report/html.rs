//! A verification as one page for browsers: it needs no other file and no network, has no script, and reads
//! well in the dark and on paper.

use super::charts::{Part, spark, stacked};
use super::markup::escaped;
use super::{
    Mended, Told, bad, failed, failed_words, measured_words, other_sources, sample_words,
    small_words, verdict, wrong_words,
};
use crate::clock_words::between;
use crate::paint::{duration, instant, plural, thousands};
use std::fmt::Write;
use whimbrel_model::finding::{
    CheckResult, Comparison, Difference, MOST_DIFFERENCES, Mismatch, Severity,
};

const STYLE: &str = include_str!("page.css");

/// The whole page.
#[must_use]
pub fn page(told: &Told<'_>) -> String {
    let mut out = String::with_capacity(64 << 10);
    let title = escaped(&told.found.title);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} – {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        match told.found.worst() {
            Some(Severity::Critical) => "FAILED",
            Some(_) => "passed with warnings",
            None => "passed",
        }
    );
    head(&mut out, told);
    out.push_str("<main>\n");
    overview(&mut out, told);
    findings(&mut out, told);
    comparisons(&mut out, told);
    all_checks(&mut out, told);
    out.push_str("</main>\n");
    foot(&mut out);
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, told: &Told<'_>) {
    let found = told.found;
    let (class, word) = match found.worst() {
        Some(Severity::Critical) => ("bad", "Not as it should be"),
        Some(_) => ("warn", "As it should be, with warnings"),
        None => ("good", "As it should be"),
    };
    let verdict = verdict(found);
    let words = [verdict.comparisons, verdict.checks].into_iter().flatten();
    let words: Vec<_> = words.map(|(_, words)| escaped(&words)).collect();
    let _ = write!(
        out,
        "<header class=\"{class}\">\n<p class=\"what\">Verification of {}</p>\n<h1>{word}</h1>\n\
         <p class=\"verdict\">{}</p>\n<dl>\n",
        escaped(&found.title),
        words.join("<br>\n")
    );
    let mut facts = vec![("Begun", instant(&found.started_at))];
    if let Some(ms) = between(&found.started_at, &found.ended_at) {
        facts.push(("Took", duration(ms)));
    }
    facts.extend(found.run.iter().map(|run| ("Run", run.clone())));
    for (name, value) in facts {
        let _ = writeln!(
            out,
            "<div><dt>{name}</dt><dd>{}</dd></div>",
            escaped(&value)
        );
    }
    out.push_str("</dl>\n</header>\n");
}

fn overview(out: &mut String, told: &Told<'_>) {
    let found = told.found;
    out.push_str("<section aria-labelledby=\"overview\">\n<h2 id=\"overview\">Overview</h2>\n<div class=\"charts\">\n");
    if !found.comparisons.is_empty() {
        let sum = |of: fn(&Comparison) -> u64| found.comparisons.iter().map(of).sum::<u64>();
        let parts = document_parts([
            sum(|c| c.equal),
            sum(|c| c.missing),
            sum(|c| c.extra),
            sum(|c| c.differing),
            sum(|c| c.unreadable),
        ]);
        chart(out, "Documents", &parts);
    }
    if !found.checks.is_empty() {
        let _ = write!(
            out,
            "<figure>\n<figcaption>Checks by severity</figcaption>\n"
        );
        for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
            let of = |passed: bool| {
                let checks = found.checks.iter();
                checks
                    .filter(|c| c.gravity() == severity && c.passed == passed)
                    .count() as u64
            };
            let parts = [
                Part {
                    class: failed_class(severity),
                    n: of(false),
                    what: "failed",
                },
                Part {
                    class: "good",
                    n: of(true),
                    what: "passed",
                },
            ];
            if parts.iter().any(|p| p.n > 0) {
                let words = parts.iter().filter(|p| p.n > 0);
                let words: Vec<_> = words.map(|p| format!("{} {}", p.n, p.what)).collect();
                let _ = writeln!(
                    out,
                    "<div class=\"row\"><span class=\"name\">{}</span>{}<span class=\"n\">{}</span></div>",
                    severity.word(),
                    stacked(severity.word(), &parts),
                    words.join(", ")
                );
            }
        }
        out.push_str("</figure>\n");
    }
    out.push_str("</div>\n</section>\n");
}

fn failed_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "bad",
        Severity::Warning => "warn",
        Severity::Info => "info",
    }
}

fn document_parts([equal, missing, extra, differing, unreadable]: [u64; 5]) -> [Part; 5] {
    let part = |class, n, what| Part { class, n, what };
    [
        part("good", equal, "equal"),
        part("missing", missing, "missing in the target"),
        part("differing", differing, "different"),
        part("extra", extra, "only in the target"),
        part("unreadable", unreadable, "unreadable"),
    ]
}

/// A bar with its legend.
fn chart(out: &mut String, title: &str, parts: &[Part]) {
    let _ = write!(
        out,
        "<figure>\n<figcaption>{}</figcaption>\n{}\n<ul class=\"legend\">\n",
        escaped(title),
        stacked(title, parts)
    );
    for part in parts.iter().filter(|p| p.n > 0 || p.class == "good") {
        let _ = writeln!(
            out,
            "<li><span class=\"key {}\"></span><b>{}</b> {}</li>",
            part.class,
            thousands(part.n),
            part.what
        );
    }
    out.push_str("</ul>\n</figure>\n");
}

/// Failed checks, by severity.
fn findings(out: &mut String, told: &Told<'_>) {
    let failed = failed(told.found);
    if failed.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"failed\">\n<h2 id=\"failed\">Failed checks</h2>\n");
    for check in failed {
        let severity = check.gravity();
        let _ = write!(
            out,
            "<article class=\"{}\">\n<h3><span class=\"badge\">{}</span> {}</h3>\n<p class=\"small\">{}</p>\n",
            failed_class(severity),
            severity.word(),
            escaped(&check.name),
            escaped(&kind_words(check))
        );
        if !check.description.is_empty() {
            let _ = writeln!(out, "<p>{}</p>", escaped(&check.description));
        }
        let _ = writeln!(out, "<p><b>{}</b></p>", escaped(&failed_words(check)));
        examples(out, check);
        if !check.measured.is_empty() {
            let _ = writeln!(
                out,
                "<p class=\"small\">Measured: {}</p>",
                escaped(&measured_words(&check.measured))
            );
        }
        out.push_str("</article>\n");
    }
    out.push_str("</section>\n");
}

fn kind_words(check: &CheckResult) -> String {
    match check.scope.as_str() {
        "" => check.kind.clone(),
        scope => format!("{} of {scope}", check.kind),
    }
}

fn examples(out: &mut String, check: &CheckResult) {
    if check.examples.is_empty() {
        return;
    }
    let caption = format!("Where {} failed", check.name);
    open_table(out, &caption, &["Document", "Field", "What is wrong"]);
    for example in &check.examples {
        let _ = writeln!(
            out,
            "<tr><td class=\"code\">{}</td><td class=\"code\">{}</td><td>{}</td></tr>",
            example.key.as_deref().map_or("–".to_owned(), escaped),
            example.path.as_deref().map_or("–".to_owned(), escaped),
            escaped(&example.message)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    let more = check.failed.saturating_sub(check.examples.len() as u64);
    if more > 0 {
        let _ = writeln!(
            out,
            "<p class=\"small\">… and {} more.</p>",
            thousands(more)
        );
    }
}

/// A table that scrolls where it is large.
fn open_table(out: &mut String, caption: &str, heads: &[&str]) {
    let caption = escaped(caption);
    let _ = write!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>\n\
         <caption>{caption}</caption>\n<thead><tr>"
    );
    for head in heads {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
}

fn comparisons(out: &mut String, told: &Told<'_>) {
    if told.found.comparisons.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"comparisons\">\n<h2 id=\"comparisons\">Comparisons</h2>\n",
    );
    for (i, comparison) in told.found.comparisons.iter().enumerate() {
        let mended = told.mended.get(i).and_then(Option::as_ref);
        // One alone stands in the overview already.
        let chart = told.found.comparisons.len() > 1;
        one_comparison(out, comparison, mended, chart);
    }
    out.push_str("</section>\n");
}

fn one_comparison(out: &mut String, c: &Comparison, mended: Option<&Mended>, charted: bool) {
    let (class, word) = match c.equal() {
        true => ("good", "equal"),
        false => ("bad", "not equal"),
    };
    let _ = write!(
        out,
        "<article class=\"{class}\">\n<h3><span class=\"badge\">{word}</span> {}</h3>\n",
        escaped(c.title.trim_start_matches("verify "))
    );
    if charted {
        let parts = document_parts([c.equal, c.missing, c.extra, c.differing, c.unreadable]);
        chart(out, "Documents", &parts);
    }
    if let Some(mended) = mended {
        let _ = writeln!(out, "<p>{}</p>", escaped(&mended_words(mended)));
    }
    if let Some(sample) = &c.sample {
        let _ = writeln!(
            out,
            "<p>A sample was looked at: {}.</p>",
            escaped(&sample_words(sample))
        );
    }
    let mut small = small_words(c);
    small.push(format!("it took {}", duration(c.elapsed_ms)));
    let _ = writeln!(
        out,
        "<p class=\"small\">{}.</p>",
        escaped(&small.join("; "))
    );
    differences(out, c);
    out.push_str("</article>\n");
}

fn mended_words(mended: &Mended) -> String {
    let copied = mended.synced.map_or(0, |counts| counts.written);
    format!(
        "Repaired: {} were not as they should be; {} copied again, {} deleted, and {} still are not.",
        plural(mended.before, "document"),
        thousands(copied),
        thousands(mended.deleted),
        thousands(mended.left)
    )
}

fn differences(out: &mut String, c: &Comparison) {
    if c.differences.is_empty() {
        return;
    }
    let caption = format!("Documents of {} that are not equal", c.target);
    let shown = c.differences.iter().take(MOST_DIFFERENCES);
    let sourced = shown.clone().any(|d| !other_sources(d).is_empty());
    let heads = ["Key", "What", "Where it differs", "From"];
    open_table(out, &caption, &heads[..if sourced { 4 } else { 3 }]);
    for difference in shown {
        row(out, c, difference, sourced);
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    let more = bad(c).saturating_sub(c.differences.len() as u64);
    if more > 0 {
        let _ = writeln!(
            out,
            "<p class=\"small\">… and {} more ({}).</p>",
            thousands(more),
            escaped(&wrong_words(c).join(", "))
        );
    }
}

fn row(out: &mut String, c: &Comparison, d: &Difference, sourced: bool) {
    let key = d.key.to_string();
    let key = match c.target.ends_with(&format!("/{}", d.collection)) {
        true => key,
        false => format!("{}/{key}", d.collection),
    };
    let place = match &d.error {
        Some((code, message)) => format!("{code} {message}"),
        None => d.paths.join(", "),
    };
    let class = match d.what {
        Mismatch::Missing => "missing",
        Mismatch::Extra => "extra",
        Mismatch::Differing => "differing",
        Mismatch::Unreadable => "unreadable",
    };
    let from = match sourced {
        true => format!(
            "<td class=\"code\">{}</td>",
            escaped(&other_sources(d).join(", "))
        ),
        false => String::new(),
    };
    let _ = writeln!(
        out,
        "<tr><td class=\"code\">{}</td><td class=\"kind\"><span class=\"key {class}\"></span>{}</td>\
         <td class=\"code\">{}</td>{from}</tr>",
        escaped(&key),
        d.what.word(),
        escaped(&place)
    );
}

/// Every check with its numbers and its time.
fn all_checks(out: &mut String, told: &Told<'_>) {
    let checks = &told.found.checks;
    if checks.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"checks\">\n<h2 id=\"checks\">All checks</h2>\n");
    let heads = ["Outcome", "Check", "Looked at", "Failed", "Time"];
    open_table(
        out,
        "Every check, what it looked at and how long it took",
        &heads,
    );
    let most = checks.iter().map(|c| c.elapsed_ms).max().unwrap_or(0);
    for check in checks {
        let (class, sign, word) = match (check.passed, check.gravity()) {
            (true, _) => ("good", "✓", "passed"),
            (false, Severity::Critical) => ("bad", "✗", "critical"),
            (false, Severity::Warning) => ("warn", "!", "warning"),
            (false, Severity::Info) => ("info", "i", "info"),
        };
        let measured = match check.measured.is_empty() {
            true => String::new(),
            false => format!(
                "<br><span class=\"small\">{}</span>",
                escaped(&measured_words(&check.measured))
            ),
        };
        let _ = writeln!(
            out,
            "<tr><td class=\"nowrap outcome {class}\"><span aria-hidden=\"true\">{sign}</span> {word}</td>\
             <td class=\"check\">{}<br><span class=\"small\">{}</span>{measured}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"took\">{}<span class=\"small\">{}</span></td></tr>",
            escaped(&check.name),
            escaped(&kind_words(check)),
            thousands(check.looked_at),
            thousands(check.failed),
            spark(check.elapsed_ms, most),
            duration(check.elapsed_ms)
        );
    }
    out.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

fn foot(out: &mut String) {
    let _ = writeln!(
        out,
        "<footer><p>Written by whimbrel {}. Examples are keys and paths of fields; values of documents stand \
         here only where <code>--show-values</code> asked for them.</p></footer>",
        env!("CARGO_PKG_VERSION")
    );
}
