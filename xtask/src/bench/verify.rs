//! Whether two collections are the same: PostgreSQL beside PostgreSQL, equal and with twenty differences, and
//! SQLite beside PostgreSQL.

use super::data::{Data, sqlite_command};
use super::lanes::{Group, Lane, Limit, take_turns};
use super::measure::{Measured, measure};
use super::project::Project;
use super::report::{Claim, Report};
use super::{Bench, Measuring, copy, note, peers};
use crate::Outcome;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

const HASHES: &str = "both sides hashed in SQL, side by side";
const READS: &str = "both sides read in key order, side by side";
const PEER: &str = "reladiff 0.6.0";
const OURS: &str = "whimbrel verify";

const EQUAL: &str = "equal";
const SPOILT: &str = "spoilt";
/// Documents of each kind that the spoilt database has; extra ones besides.
const MISSING: u64 = 7;
const DIFFERING: u64 = 7;
const EXTRA: u64 = 6;

const PEAK_MB_MAX: f64 = 150.0;

pub fn run(measuring: &Measuring) -> Outcome<Report> {
    let bench = Bench::start(measuring.binary()?)?;
    let mut report = bench.report("verify")?;
    let ends = Ends::prepare(&bench, measuring.documents)?;
    let python = match peers::reladiff() {
        Ok(program) => Some(program),
        Err(why) => {
            report.absent(format!("reladiff: {why}"));
            None
        }
    };
    let peer = python.as_deref();
    let documents = measuring.documents;
    let title = |what: &str, reference: &str| {
        format!("{documents} documents, {what}; time of `{reference}` = 1")
    };
    let groups = [
        take_turns(
            title("PostgreSQL and PostgreSQL, equal", HASHES),
            measuring.runs,
            ends.in_postgres(EQUAL, &Expected::default(), peer, 0.5),
        ),
        take_turns(
            title("PostgreSQL and PostgreSQL, 20 differences", HASHES),
            measuring.runs,
            ends.in_postgres(SPOILT, &ends.spoilt(), peer, 0.4),
        ),
        take_turns(
            title("SQLite and PostgreSQL, equal", READS),
            measuring.runs,
            ends.sqlite_beside(),
        ),
    ];
    if bench.whimbrel.is_some() {
        let peaks = groups.iter().map(peak).collect::<Outcome<Vec<f64>>>()?;
        report.claim(Claim {
            what: format!("{OURS}: peak memory"),
            figure: peaks.into_iter().fold(0.0, f64::max),
            unit: " MB",
            at_most: PEAK_MB_MAX,
        });
    }
    groups.into_iter().for_each(|group| report.group(group));
    Ok(report)
}

fn peak(group: &Group) -> Outcome<f64> {
    let lane = group.lanes.iter().find(|lane| lane.name == OURS);
    let measured = lane.iter().flat_map(|lane| &lane.measured);
    let peak = measured.map(|m| m.peak_mb).fold(0.0, f64::max);
    // What failed has no peak, and must not pass for frugal.
    match peak > 0.0 {
        true => Ok(peak),
        false => Err(format!("{OURS} was not measured")),
    }
}

/// What a comparison must say.
#[derive(Clone, Debug, Default)]
struct Expected {
    missing: u64,
    extra: u64,
    differing: u64,
}

impl Expected {
    fn all(&self) -> u64 {
        self.missing + self.extra + self.differing
    }
}

struct Ends<'b> {
    bench: &'b Bench,
    data: Data,
}

impl<'b> Ends<'b> {
    /// Two tables in one database, `conversations` and `copies`; once equal and once not.
    fn prepare(bench: &'b Bench, documents: u64) -> Outcome<Self> {
        let data = Data::make(&bench.folder("data")?, documents)?;
        note("filling both sides");
        let postgres = &bench.postgres;
        copy::keep_filled(bench, &data, "one")?;
        postgres.fresh_database(Some("one"))?;
        // The second table has its rows in another order, as another history would leave them.
        postgres.query(
            "CREATE TABLE copies (LIKE conversations INCLUDING ALL);
             INSERT INTO copies SELECT * FROM conversations ORDER BY hashtext(id)",
        )?;
        postgres.query("VACUUM ANALYZE copies")?;
        postgres.keep_as(EQUAL)?;
        postgres.fresh_database(Some(EQUAL))?;
        let ends = Self { bench, data };
        ends.spoil()?;
        postgres.keep_as(SPOILT)?;
        Ok(ends)
    }

    fn spoilt(&self) -> Expected {
        Expected {
            missing: MISSING,
            extra: EXTRA,
            differing: DIFFERING,
        }
    }

    fn spoil(&self) -> Outcome<()> {
        let some = |rest: u32, most: u64| {
            format!(
                "SELECT id FROM copies WHERE abs(hashtextextended(id, 7) % 3) = {rest} \
                 ORDER BY hashtext(id || 'x') LIMIT {most}"
            )
        };
        self.bench.postgres.query(&format!(
            "DELETE FROM copies WHERE id IN ({});
             UPDATE copies SET data = jsonb_set(data, '{{widgetState,scroll}}', '-1') WHERE id IN ({});
             INSERT INTO copies SELECT id || 'x', data FROM copies WHERE id IN ({})",
            some(0, MISSING),
            some(1, DIFFERING),
            some(2, EXTRA)
        ))?;
        self.bench.postgres.query("VACUUM ANALYZE copies").map(drop)
    }

    fn in_postgres<'s>(
        &'s self,
        database: &'static str,
        expected: &Expected,
        peer: Option<&'s Path>,
        share_of_peer: f64,
    ) -> Vec<Lane<'s>> {
        let mut lanes = vec![Lane::new(HASHES, move || {
            self.there(database)?;
            measure(vec![self.hash("conversations"), self.hash("copies")])
        })];
        if let Some(program) = peer {
            let expected = expected.clone();
            lanes.push(
                Lane::new(PEER, move || {
                    self.there(database)?;
                    self.reladiff(program, &expected)
                })
                .peer(),
            );
        }
        if self.bench.whimbrel.is_some() {
            let expected = expected.clone();
            let equal = expected.all() == 0;
            let mut ours = Lane::new(OURS, move || {
                self.there(database)?;
                self.whimbrel("pg/conversations", &expected)
            });
            if equal {
                ours = ours.bar(HASHES, Limit::TimeAtMost(1.5));
            }
            if peer.is_some() {
                ours = ours.bar(PEER, Limit::TimeAtMost(share_of_peer));
            }
            lanes.push(ours);
        }
        lanes
    }

    fn sqlite_beside(&self) -> Vec<Lane<'_>> {
        let mut lanes = vec![Lane::new(READS, move || {
            self.there(EQUAL)?;
            measure(vec![self.read_sqlite()?, self.read_postgres()])
        })];
        if self.bench.whimbrel.is_some() {
            let ours = Lane::new(OURS, move || {
                self.there(EQUAL)?;
                self.whimbrel("app/conversations", &Expected::default())
            });
            lanes.push(ours.bar(READS, Limit::TimeAtMost(1.5)));
        }
        lanes
    }

    /// Nobody who only reads changes a database, so it is made only once; whoever comes first would otherwise
    /// read what the others find in memory.
    fn there(&self, database: &str) -> Outcome<()> {
        self.bench.postgres.fresh_database(Some(database))?;
        for table in ["conversations", "copies"] {
            let warm = format!("SELECT count(data), count(id) FROM {table}");
            self.bench.postgres.query(&warm)?;
        }
        Ok(())
    }

    fn hash(&self, table: &str) -> Command {
        let sql =
            format!("SELECT count(*), sum(hashtextextended(id || data::text, 0)) FROM {table}");
        copy::psql(self.bench, &[&sql])
    }

    fn read_sqlite(&self) -> Outcome<Command> {
        sqlite_command(
            &self.data.sqlite,
            "SELECT id, data FROM conversations ORDER BY id",
        )
    }

    fn read_postgres(&self) -> Command {
        let sql = "COPY (SELECT id, data FROM copies ORDER BY id) TO STDOUT";
        copy::psql(self.bench, &[sql])
    }

    fn whimbrel(&self, source: &str, expected: &Expected) -> Outcome<Measured> {
        let project = Project::make(self.bench, "verify", &self.data.sqlite, "pg", &[])?;
        let words = ["verify", source, "pg/copies", "--json"];
        let said = self.bench.path("verified.json");
        let code = if expected.all() == 0 { 0 } else { 4 };
        let measured = measure(vec![ending_with(&project.command(&words), &said, code)])?;
        let text =
            fs::read_to_string(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        self.check(&text, expected)?;
        Ok(measured)
    }

    fn check(&self, said: &str, expected: &Expected) -> Outcome<()> {
        let values = serde_json::Deserializer::from_str(said).into_iter::<Value>();
        let found = values
            .filter_map(Result::ok)
            .find_map(|value| comparison(&value).cloned())
            .ok_or_else(|| format!("no comparison in what it said: {}", head(said)))?;
        let count = |name: &str| found[name].as_u64().unwrap_or(u64::MAX);
        let counted = [
            ("missing", expected.missing),
            ("extra", expected.extra),
            ("differing", expected.differing),
            ("unreadable", 0),
            ("source_documents", self.data.documents),
            (
                "equal",
                self.data.documents - expected.missing - expected.differing,
            ),
        ];
        let listed = found["differences"].as_array().map_or(0, Vec::len) as u64;
        match counted.iter().find(|(name, want)| count(name) != *want) {
            Some((name, want)) => Err(format!("it says {} {name}, not {want}", count(name))),
            None if listed != expected.all() => Err(format!("it names {listed} differences")),
            None => Ok(()),
        }
    }

    fn reladiff(&self, program: &Path, expected: &Expected) -> Outcome<Measured> {
        let url = self.bench.postgres.url();
        let url = url.replacen("postgres://", "postgresql://", 1);
        let mut command = Command::new(program);
        command.args([&url, "conversations", &url, "copies"]);
        command.args([
            "-k",
            "id",
            "-c",
            "data",
            "--algorithm",
            "hashdiff",
            "--json",
        ]);
        let said = self.bench.path("reladiff.json");
        let measured = measure(vec![ending_with(&command, &said, 0)])?;
        let text =
            fs::read_to_string(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        // A document that differs is two lines.
        let lines = text
            .lines()
            .filter(|line| line.starts_with("[\"+\"") || line.starts_with("[\"-\""))
            .count() as u64;
        let want = expected.all() + expected.differing;
        if lines == want {
            Ok(measured)
        } else {
            Err(format!(
                "it names {lines} rows, not {want}: {}",
                head(&text)
            ))
        }
    }
}

fn head(text: &str) -> String {
    text.chars().take(400).collect()
}

/// The first object that looks like a comparison, wherever it stands.
fn comparison(value: &Value) -> Option<&Value> {
    match value {
        Value::Object(map) if map.contains_key("by_digest") => Some(value),
        Value::Object(map) => map.values().find_map(comparison),
        Value::Array(items) => items.iter().find_map(comparison),
        _ => None,
    }
}

/// The command with its standard output in a file, succeeding where it ends with `code`.
fn ending_with(command: &Command, said: &Path, code: i32) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("said=$1; shift; \"$@\" > \"$said\"; test $? -eq {code}");
    shell.arg("-c").arg(script).arg("sh").arg(said);
    shell.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    let set = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
    shell.envs(command.get_envs().filter_map(set));
    shell
}
