//! A table of PostgreSQL into an archive and back, beside `pg_dump -Fc` and `pg_restore` of the same.

use super::copy::{digest, keep_filled};
use super::data::Data;
use super::lanes::{Group, Lane, Limit, take_turns};
use super::measure::{Measured, measure};
use super::project::Project;
use super::report::{Claim, Report};
use super::{Bench, Saving, note, whimbrel};
use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};

const DUMP: &str = "pg_dump -Fc";
const RESTORE: &str = "pg_restore";
const OURS: &str = "whimbrel backup --no-proof";
const OURS_BACK: &str = "whimbrel restore";

const PEAK_MB_MAX: f64 = 200.0;
const FILLED: &str = "filled";
/// Where `whimbrel` puts the archive that the restores read.
const ARCHIVE: &str = "archive";

pub fn run(saving: &Saving) -> Outcome<Report> {
    let bench = Bench::start(Some(whimbrel(saving.whimbrel.as_ref())?))?;
    let mut report = bench.report("backup")?;
    let table = Table::prepare(&bench, saving.documents)?;
    let title = |what: &str, reference: &str| {
        let documents = saving.documents;
        format!("{documents} documents, {what}; time of `{reference}` = 1")
    };
    let saved = take_turns(
        title("PostgreSQL to an archive", DUMP),
        saving.runs,
        vec![
            Lane::new(DUMP, || table.dump()),
            Lane::new(OURS, || table.backup(&["--no-proof"])).bar(DUMP, Limit::RateAtLeast(1.0)),
            Lane::new("whimbrel backup, read back and proved", || {
                table.backup(&[])
            }),
        ],
    );
    let back = take_turns(
        title("an archive to PostgreSQL", RESTORE),
        saving.runs,
        vec![
            Lane::new(RESTORE, || table.pg_restore()),
            Lane::new(OURS_BACK, || table.restore()).bar(RESTORE, Limit::RateAtLeast(1.0)),
        ],
    );
    for (group, lane) in [(&saved, OURS), (&back, OURS_BACK)] {
        say_rates(group, saving.documents);
        report.claim(Claim {
            what: format!("{lane}: peak memory"),
            figure: peak(group, lane)?,
            unit: " MB",
            at_most: PEAK_MB_MAX,
        });
    }
    report.claim(Claim {
        what: format!(
            "size of the archive ({} MB), of the dump's ({} MB)",
            megabytes(size(&table.archive())?),
            megabytes(size(&table.file())?)
        ),
        figure: ratio(size(&table.archive())?, size(&table.file())?),
        unit: " times",
        // No bar of its own: far more than the dump would be a mistake.
        at_most: 1.5,
    });
    report.group(saved);
    report.group(back);
    Ok(report)
}

fn say_rates(group: &Group, documents: u64) {
    for lane in &group.lanes {
        let fastest = lane
            .measured
            .iter()
            .map(|m| m.seconds)
            .fold(f64::MAX, f64::min);
        let rate = float(documents) / fastest;
        note(&format!("{}: {rate:.0} documents/s at best", lane.name));
    }
}

fn peak(group: &Group, name: &str) -> Outcome<f64> {
    let lane = group.lanes.iter().find(|lane| lane.name == name);
    let peaks = lane.iter().flat_map(|lane| &lane.measured);
    let peak = peaks.map(|measured| measured.peak_mb).fold(0.0, f64::max);
    // What failed has no peak, and must not pass for frugal.
    match peak > 0.0 {
        true => Ok(peak),
        false => Err(format!("{name} was not measured")),
    }
}

/// Exact up to 2^53, which no bench comes near.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

fn ratio(of: u64, to: u64) -> f64 {
    float(of) / float(to.max(1))
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// The bytes of a file, or of everything in a folder.
fn size(path: &Path) -> Outcome<u64> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path).map_err(failed)? {
        sum += size(&entry.map_err(failed)?.path())?;
    }
    Ok(sum)
}

struct Table<'b> {
    bench: &'b Bench,
    data: Data,
    /// What the table holds.
    digest: String,
}

impl<'b> Table<'b> {
    fn prepare(bench: &'b Bench, documents: u64) -> Outcome<Self> {
        let data = Data::make(&bench.folder("data")?, documents)?;
        keep_filled(bench, &data, FILLED)?;
        bench.postgres.fresh_database(Some(FILLED))?;
        Ok(Self {
            bench,
            data,
            digest: digest(bench)?,
        })
    }

    fn file(&self) -> PathBuf {
        self.bench.path("conversations.dump")
    }

    fn archive(&self) -> PathBuf {
        self.bench.path(ARCHIVE).join("one")
    }

    /// The filled table again: a database that others have just written would be another one.
    fn filled(&self) -> Outcome<()> {
        self.bench.postgres.fresh_database(Some(FILLED))
    }

    fn dump(&self) -> Outcome<Measured> {
        self.filled()?;
        let mut command = self.bench.postgres.tool("pg_dump");
        command
            .args(["-Fc", "-t", "conversations", "-f"])
            .arg(self.file());
        measure(vec![command])
    }

    fn project(&self, name: &str) -> Outcome<Project> {
        Project::make(self.bench, name, &self.data.sqlite, "pg", &[])
    }

    fn backup(&self, flags: &[&str]) -> Outcome<Measured> {
        self.filled()?;
        let folder = self.bench.folder(ARCHIVE)?;
        let folder = folder.to_str().ok_or("the folder's path is no text")?;
        let words = [
            "backup",
            "pg/conversations",
            "--name",
            "one",
            "--to",
            folder,
        ];
        let project = self.project("backup")?;
        measure(vec![project.command(&[&words[..], flags].concat())])
    }

    fn pg_restore(&self) -> Outcome<Measured> {
        self.bench.postgres.fresh_database(None)?;
        let mut command = self.bench.postgres.tool("pg_restore");
        command
            .args(["--exit-on-error", "-d", &self.bench.postgres.url()])
            .arg(self.file());
        self.arrived(measure(vec![command])?)
    }

    fn restore(&self) -> Outcome<Measured> {
        self.bench.postgres.fresh_database(None)?;
        let archive = self.archive();
        let archive = archive.to_str().ok_or("the folder's path is no text")?;
        let project = self.project("restore")?;
        self.arrived(measure(vec![project.command(&["restore", archive])])?)
    }

    /// Every document is back, byte for byte as far as `jsonb` keeps bytes.
    fn arrived(&self, measured: Measured) -> Outcome<Measured> {
        let (have, want) = (digest(self.bench)?, &self.digest);
        if have == *want {
            return Ok(measured);
        }
        Err(format!(
            "the table is not what was saved: {have} instead of {want}"
        ))
    }
}
