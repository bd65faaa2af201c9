//! Peak memory must not grow with the number of documents.

use super::copy::keep_filled;
use super::data::Data;
use super::measure::{Measured, measure};
use super::project::Project;
use super::report::{Claim, Report};
use super::upgrade::{SCHEMA, fresh_copy, upgraded_in_file};
use super::{Bench, Memory, note, whimbrel};
use crate::Outcome;
use std::fs;

const PEAK_MB_MAX: f64 = 200.0;
const GROWTH_MAX: f64 = 1.3;
const FILLED: &str = "filled";

type Job = (&'static str, fn(&Bench, &Data) -> Outcome<Measured>);

const JOBS: &[Job] = &[
    ("copy SQLite to PostgreSQL", copy),
    ("upgrade on SQLite", upgrade_sqlite),
    ("upgrade on PostgreSQL", upgrade_postgres),
];

pub fn run(memory: &Memory) -> Outcome<Report> {
    let bench = Bench::start(Some(whimbrel(memory.whimbrel.as_ref())?))?;
    let mut report = bench.report("memory")?;
    let few = peaks(&bench, memory.few)?;
    let many = peaks(&bench, memory.many)?;
    for (((job, _), few), many) in JOBS.iter().zip(few).zip(many) {
        report.claim(Claim {
            what: format!("{job}: peak memory at {} documents", memory.many),
            figure: many,
            unit: " MB",
            at_most: PEAK_MB_MAX,
        });
        report.claim(Claim {
            what: format!(
                "{job}: that is, of the peak at {} documents ({few:.0} MB)",
                memory.few
            ),
            figure: many / few,
            unit: " times",
            at_most: GROWTH_MAX,
        });
    }
    Ok(report)
}

fn peaks(bench: &Bench, documents: u64) -> Outcome<Vec<f64>> {
    let data = Data::make(&bench.folder("data")?, documents)?;
    let mut peaks = Vec::new();
    for (name, job) in JOBS {
        let measured = job(bench, &data).map_err(|error| format!("{name}: {error}"))?;
        note(&format!(
            "{name}, {documents} documents: {:.0} MB",
            measured.peak_mb
        ));
        peaks.push(measured.peak_mb);
    }
    Ok(peaks)
}

fn copy(bench: &Bench, data: &Data) -> Outcome<Measured> {
    bench.postgres.fresh_database(None)?;
    let project = Project::make(bench, "copy", &data.sqlite, "app", &[])?;
    let command = project.command(&["copy", "app/conversations", "pg/conversations"]);
    let measured = measure(vec![command])?;
    all_there(
        bench.postgres.query("SELECT count(*) FROM conversations")?,
        data,
        measured,
    )
}

fn upgrade_sqlite(bench: &Bench, data: &Data) -> Outcome<Measured> {
    let database = fresh_copy(bench, &data.sqlite)?;
    let project = Project::make(bench, "upgrade-app", &database, "app", SCHEMA)?;
    let measured = measure(vec![project.command(&["upgrade", "conversations"])])?;
    let measured = all_there(upgraded_in_file(&database)?, data, measured);
    // Two million documents are some gigabytes, which the next job may need.
    fs::remove_file(&database).map_err(|error| error.to_string())?;
    measured
}

fn upgrade_postgres(bench: &Bench, data: &Data) -> Outcome<Measured> {
    keep_filled(bench, data, FILLED)?;
    bench.postgres.fresh_database(Some(FILLED))?;
    let project = Project::make(bench, "upgrade-pg", &data.sqlite, "pg", SCHEMA)?;
    let measured = measure(vec![project.command(&["upgrade", "conversations"])])?;
    let sql = "SELECT count(*) FROM conversations WHERE data->>'_schemaVersion' = '3'";
    all_there(bench.postgres.query(sql)?, data, measured)
}

fn all_there(have: String, data: &Data, measured: Measured) -> Outcome<Measured> {
    if have == data.documents.to_string() {
        return Ok(measured);
    }
    Err(format!("{have} of {} documents are there", data.documents))
}
