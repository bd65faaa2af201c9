//! Checks that measure: counts, aggregates, distributions, latencies.

use super::kinds::bounds;
use crate::migrations::units;
use crate::table::Table;
use std::time::Duration;
use toml::de::DeValue;
use whimbrel_model::check::{
    AggregateCheck, Bounds, CountCheck, DistributionCheck, Function, LatencyCheck, Like, Measure,
    Must, Tolerance, TopCheck,
};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Decimal, Value};

const READS: u32 = 200;
const MOST_READS: u32 = 100_000;

pub(super) fn need_path(table: &Table<'_, '_>, key: &'static str) -> Option<FieldPath> {
    table.need_text(key)?;
    table.path(key)
}

pub(super) fn count(table: &Table<'_, '_>) -> Option<CountCheck> {
    let (must, tolerance) = (must(table), tolerance(table));
    table.finish();
    Some(CountCheck {
        must: must?,
        tolerance,
    })
}

/// `same_as`, or `equals`, or `at_least` and `at_most`.
fn must(table: &Table<'_, '_>) -> Option<Must> {
    let same_as = table.text("same_as").map(str::to_owned);
    let (equals, least, most) = (
        table.value("equals"),
        table.value("at_least"),
        table.value("at_most"),
    );
    for (key, value) in [
        ("equals", &equals),
        ("at_least", &least),
        ("at_most", &most),
    ] {
        let number = match value {
            Some(Value::Double(x)) => x.is_finite(),
            Some(value) => matches!(value, Value::Int(_)),
            None => true,
        };
        if !number {
            table.error(key, format!("{key:?} must be a number"));
        }
    }
    let limited = least.is_some() || most.is_some();
    let asked = [same_as.is_some(), equals.is_some(), limited];
    if asked.iter().filter(|asked| **asked).count() != 1 {
        let known = ["same_as", "equals", "at_least", "at_most"];
        let place = known.into_iter().rfind(|key| table.has(key)).unwrap_or("");
        table.error(
            place,
            "exactly one is needed of \"same_as\", \"equals\", and \"at_least\" with or without \"at_most\"",
        );
        return None;
    }
    if let Some(other) = same_as {
        return Some(Must::SameAs(other));
    }
    let exact = equals.is_some();
    let limits = match equals {
        Some(value) => Bounds {
            min: Some(value.clone()),
            max: Some(value),
        },
        None => Bounds {
            min: least,
            max: most,
        },
    };
    if let (Some(_), Some(max)) = (&limits.min, &limits.max)
        && limits.judge(max).is_err()
    {
        table.error("at_most", "no number is within these limits");
    }
    Some(Must::Be {
        limits,
        equals: exact,
    })
}

/// `"1%"` of what is expected, or a number.
fn tolerance(table: &Table<'_, '_>) -> Option<Tolerance> {
    let raw = table.raw("tolerance")?;
    let found = match raw.get_ref() {
        DeValue::String(text) => text
            .trim()
            .strip_suffix('%')
            .map(str::trim)
            .filter(|_| units::parse_share(text).is_some())
            .and_then(Decimal::new)
            .map(|number| Tolerance::Percent(Value::Decimal(number))),
        DeValue::Integer(_) | DeValue::Float(_) => match table.source.value(raw)? {
            Value::Int(n) if n >= 0 => Some(Tolerance::By(Value::Int(n))),
            Value::Double(x) if x.is_finite() && x >= 0.0 => Some(Tolerance::By(Value::Double(x))),
            _ => None,
        },
        _ => None,
    };
    if found.is_none() {
        let message = "\"tolerance\" must be a share (\"1%\") or a number from 0 on";
        table.error("tolerance", message);
    }
    found
}

pub(super) fn aggregate(table: &Table<'_, '_>) -> Option<AggregateCheck> {
    let of = table.need_text("of").map(|text| measure(table, "of", text));
    let by = table.path("by");
    let must = must(table);
    let of_other = table
        .text("of_other")
        .map(|text| measure(table, "of_other", text));
    let by_other = table.path("by_other");
    let tolerance = tolerance(table);
    table.finish();
    if let Some(Must::Be { .. }) = must {
        for key in ["of_other", "by_other"] {
            if table.has(key) {
                table.error(key, format!("{key:?} goes with \"same_as\""));
            }
        }
    }
    if by.is_none() && by_other.is_some() {
        table.error("by_other", "\"by_other\" goes with \"by\"");
    }
    let of = of??;
    let of_other = match of_other {
        Some(measure) => measure?,
        None => of.clone(),
    };
    let ordered = |m: &Measure| matches!(m.function, Function::Min | Function::Max);
    if ordered(&of) != ordered(&of_other) {
        let message = "a least or a greatest value can be compared with such a one only";
        table.error("of_other", message);
    }
    Some(AggregateCheck {
        by_other: by_other.or_else(|| by.clone()),
        of,
        by,
        must: must?,
        of_other,
        tolerance,
    })
}

/// `sum(total)`, `count()`
fn measure(table: &Table<'_, '_>, key: &'static str, text: &str) -> Option<Measure> {
    let parsed = text
        .trim()
        .strip_suffix(')')
        .and_then(|text| text.split_once('('))
        .and_then(|(word, field)| Some((Function::from_word(word.trim())?, field.trim())));
    let field = |field| table.source.path(table.span_of(key), field);
    match parsed {
        Some((Function::Count, "")) => Some(Measure {
            function: Function::Count,
            field: None,
        }),
        Some((function, name)) if !name.is_empty() => Some(Measure {
            function,
            field: Some(field(name)?),
        }),
        _ => {
            let message = format!(
                "{key:?} must be sum(field), avg(field), min(field), max(field), count(field) or count()"
            );
            table.error(key, message);
            None
        }
    }
}

const QUANTILES: [(&str, u8); 9] = [
    ("p1", 1),
    ("p5", 5),
    ("p10", 10),
    ("p25", 25),
    ("p50", 50),
    ("p75", 75),
    ("p90", 90),
    ("p95", 95),
    ("p99", 99),
];

pub(super) fn distribution(table: &Table<'_, '_>) -> Option<DistributionCheck> {
    let field = need_path(table, "field");
    let null_share = share(table, "null_share");
    let limits = |table: Table<'_, '_>| {
        let found = bounds(&table);
        table.finish();
        found
    };
    let distinct = table.table("distinct").and_then(limits);
    let mut quantiles = Vec::new();
    for (key, per_cent) in QUANTILES {
        if let Some(found) = table.table(key).and_then(limits) {
            quantiles.push((per_cent, found));
        }
    }
    let top = table.table("top").map(|table| top(&table));
    let like = table.text("like").map(|text| match text {
        "baseline" => Like::Baseline,
        other => Like::Collection(other.to_owned()),
    });
    let drift = share(table, "drift");
    table.finish();
    match (&like, drift, table.has("drift")) {
        (Some(_), None, false) => {
            table.error(
                "like",
                "\"like\" needs \"drift\": how far it may have moved, like \"10%\"",
            );
        }
        (None, _, true) => table.error("drift", "\"drift\" needs \"like\": moved from what?"),
        _ => {}
    }
    let nothing = ["null_share", "distinct", "top", "like"]
        .into_iter()
        .chain(QUANTILES.into_iter().map(|(key, _)| key))
        .all(|key| !table.has(key));
    if nothing {
        table.error(
            "",
            "the distribution has no limit: add null_share, distinct, p50, top or like",
        );
    }
    Some(DistributionCheck {
        field: field?,
        null_share,
        distinct,
        quantiles,
        top: match top {
            Some(top) => Some(top?),
            None => None,
        },
        like,
        drift,
    })
}

fn share(table: &Table<'_, '_>, key: &'static str) -> Option<f64> {
    let found = units::parse_share(table.text(key)?);
    if found.is_none() {
        table.error(
            key,
            format!("{key:?} must be a share from \"0%\" to \"100%\""),
        );
    }
    found
}

fn top(table: &Table<'_, '_>) -> Option<TopCheck> {
    let one_of = match table.value("one_of") {
        Some(Value::Array(values)) if !values.is_empty() => values,
        Some(_) => {
            table.error("one_of", "\"one_of\" must be a list of values");
            Vec::new()
        }
        None => Vec::new(),
    };
    let (at_least, at_most) = (share(table, "at_least"), share(table, "at_most"));
    table.finish();
    if !["one_of", "at_least", "at_most"]
        .iter()
        .any(|key| table.has(key))
    {
        table.error("", "\"top\" needs one_of, at_least or at_most");
        return None;
    }
    Some(TopCheck {
        one_of,
        at_least,
        at_most,
    })
}

pub(super) fn latency(table: &Table<'_, '_>) -> Option<LatencyCheck> {
    let reads = table.number("reads").unwrap_or(READS);
    if !(1..=MOST_READS).contains(&reads) {
        table.error("reads", format!("\"reads\" is from 1 to {MOST_READS}"));
    }
    let mut limits: Vec<(u8, Duration)> = Vec::new();
    for (key, per_cent) in [("p50", 50), ("p95", 95), ("p99", 99)] {
        if let Some(limit) = units::duration(table, key) {
            limits.push((per_cent, limit));
        }
    }
    let mut times_baseline = Vec::new();
    for (key, per_cent) in [
        ("p50_times_baseline", 50),
        ("p95_times_baseline", 95),
        ("p99_times_baseline", 99),
    ] {
        match table.value(key) {
            Some(Value::Double(times)) if times.is_finite() && times > 0.0 => {
                times_baseline.push((per_cent, times));
            }
            #[allow(clippy::cast_precision_loss)]
            Some(Value::Int(times)) if times > 0 => times_baseline.push((per_cent, times as f64)),
            Some(_) => table.error(key, format!("{key:?} must be a number above 0, like 2.0")),
            None => {}
        }
    }
    table.finish();
    if limits.is_empty() && times_baseline.is_empty() {
        let message = "the latency has no limit: add p50, p95 or p99, or p95_times_baseline";
        table.error("", message);
    }
    Some(LatencyCheck {
        reads,
        limits,
        times_baseline,
    })
}
