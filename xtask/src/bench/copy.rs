//! SQLite to PostgreSQL (jsonb, primary key).

use super::data::Data;
use super::lanes::{Lane, Limit, take_turns};
use super::measure::{Measured, measure};
use super::project::Project;
use super::report::Report;
use super::{Bench, Measuring, note, peers};
use crate::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

const REFERENCE: &str = "psql \\copy from CSV";
/// Lanes that await every document run on this many, scaled up to all.
pub const DOCUMENTS_OF_SLOW_LANES: u64 = 20_000;

const TABLE: &str = "CREATE TABLE conversations (id text PRIMARY KEY, data jsonb NOT NULL)";

const TOML_RULES: &str = include_str!("copy_rules.toml");
const SCRIPT_RULES: &str = include_str!("copy_rules_script.toml");
const SCRIPT: &str = include_str!("copy_rules_script.ts");

pub fn run(measuring: &Measuring) -> Outcome<Report> {
    let bench = Bench::start(measuring.binary()?)?;
    let mut report = bench.report("copy")?;
    let copying = Copying::prepare(&bench, measuring.documents)?;
    let mut lanes = copying.lanes();
    if bench.whimbrel.is_some() {
        lanes.extend(copying.whimbrel_lanes()?);
    }
    if measuring.peers {
        copying.peer_lanes(&mut lanes, &mut report);
    }
    let title = format!(
        "{} documents, SQLite to PostgreSQL; time of `{REFERENCE}` = 1",
        measuring.documents
    );
    report.group(take_turns(title, measuring.runs, lanes));
    Ok(report)
}

struct Copying<'b> {
    bench: &'b Bench,
    data: Data,
    /// What the target holds when every document has arrived unchanged.
    digest: String,
    /// The rows in PostgreSQL's binary form, in key order: all, and in two halves.
    whole: PathBuf,
    halves: [PathBuf; 2],
}

impl<'b> Copying<'b> {
    fn prepare(bench: &'b Bench, documents: u64) -> Outcome<Self> {
        let data = Data::make(&bench.folder("data")?, documents)?;
        note("preparing the reference and the floor");
        let mut copying = Self {
            bench,
            digest: String::new(),
            whole: bench.path("whole.bin"),
            halves: [bench.path("first.bin"), bench.path("second.bin")],
            data,
        };
        copying.new_table()?;
        measure(vec![copying.copy_csv()])?;
        copying.digest = copying.target_digest()?;
        let half = documents / 2;
        let slices = [
            (&copying.whole, String::new()),
            (&copying.halves[0], format!("LIMIT {half}")),
            (&copying.halves[1], format!("OFFSET {half}")),
        ];
        for (file, slice) in slices {
            let select = format!("SELECT id, data FROM conversations ORDER BY id {slice}");
            let copy = format!("\\copy ({select}) TO '{}' (FORMAT binary)", file.display());
            measure(vec![psql(bench, &[&copy])])?;
        }
        Ok(copying)
    }

    fn new_table(&self) -> Outcome<()> {
        self.bench.postgres.fresh_database(None)?;
        self.bench.postgres.query(TABLE).map(drop)
    }

    fn copy_csv(&self) -> Command {
        let copy = format!(
            "\\copy conversations FROM '{}' (FORMAT csv)",
            self.data.csv.display()
        );
        psql(self.bench, &[&copy])
    }

    fn copy_binary(&self, file: &Path) -> Command {
        let copy = format!(
            "\\copy conversations FROM '{}' (FORMAT binary)",
            file.display()
        );
        psql(self.bench, &[&copy])
    }

    fn target_digest(&self) -> Outcome<String> {
        digest(self.bench)
    }

    /// Every document has arrived, byte for byte as far as `jsonb` keeps bytes.
    fn arrived(&self, measured: Measured) -> Outcome<Measured> {
        let (have, want) = (self.target_digest()?, &self.digest);
        if have == *want {
            return Ok(measured);
        }
        Err(format!(
            "the target is not the source: {have} instead of {want}"
        ))
    }

    fn counted(&self, measured: Measured, condition: &str, expect: u64) -> Outcome<Measured> {
        let sql = format!("SELECT count(*) FROM conversations WHERE {condition}");
        let have = self.bench.postgres.query(&sql)?;
        if have == expect.to_string() {
            return Ok(measured);
        }
        Err(format!(
            "the target has {have} documents of {expect} with {condition}"
        ))
    }

    fn lanes<'s>(&'s self) -> Vec<Lane<'s>> {
        let into_new_table = |commands: &dyn Fn() -> Vec<Command>| -> Outcome<Measured> {
            self.new_table()?;
            self.arrived(measure(commands())?)
        };
        vec![
            Lane::new(REFERENCE, move || into_new_table(&|| vec![self.copy_csv()])),
            Lane::new("floor: two binary COPYs in key order", move || {
                into_new_table(&|| {
                    self.halves
                        .iter()
                        .map(|half| self.copy_binary(half))
                        .collect()
                })
            }),
            Lane::new("binary COPY in key order", move || {
                into_new_table(&|| vec![self.copy_binary(&self.whole)])
            }),
        ]
    }

    fn whimbrel_lanes<'s>(&'s self) -> Outcome<Vec<Lane<'s>>> {
        let copy = ["copy", "app/conversations", "pg/conversations"];
        let plain = move || -> Outcome<Measured> {
            self.bench.postgres.fresh_database(None)?;
            let project = self.project("plain", &[])?;
            self.arrived(measure(vec![project.command(&copy)])?)
        };
        // In its own folder and ledger of the lane before, whose target it finds filled.
        let again = move || -> Outcome<Measured> {
            self.make_stale()?;
            let project = Project::at(self.bench, &self.bench.path("plain"))?;
            self.arrived(measure(vec![project.command(&copy)])?)
        };
        let with_rules = move |name: &'static str, rules: &'static str| {
            let command = [&copy[..], &["--rules", "rules.toml"]].concat();
            move || -> Outcome<Measured> {
                self.bench.postgres.fresh_database(None)?;
                let project = self.project(name, &[("rules.toml", rules), ("rules.ts", SCRIPT)])?;
                let measured = measure(vec![project.command(&command)])?;
                let changed = "data ? 'metadata' AND data ? 'name' AND NOT data ? 'title'";
                self.counted(measured, changed, self.data.documents)
            }
        };
        Ok(vec![
            Lane::new("whimbrel copy", plain).bar(REFERENCE, Limit::TimeAtMost(0.65)),
            Lane::new("whimbrel copy, again (1 % missing, 1 % stale)", again)
                .bar(REFERENCE, Limit::TimeAtMost(1.2)),
            Lane::new("stage table + upsert, again (the same)", move || {
                self.stage_and_upsert()
            }),
            Lane::new(
                "whimbrel copy, TOML transform",
                with_rules("toml", TOML_RULES),
            )
            .bar(REFERENCE, Limit::TimeAtMost(0.85)),
            Lane::new(
                "whimbrel copy, TypeScript transform",
                with_rules("script", SCRIPT_RULES),
            )
            .bar(REFERENCE, Limit::TimeAtMost(1.4)),
        ])
    }

    fn project(&self, name: &str, files: &[(&str, &str)]) -> Outcome<Project> {
        Project::make(self.bench, name, &self.data.sqlite, "app", files)
    }

    /// Of a filled target: one document of a hundred goes, another one is changed.
    fn make_stale(&self) -> Outcome<()> {
        let slice = |rest: u32| format!("abs(hashtextextended(id, 0) % 100) = {rest}");
        self.bench.postgres.query(&format!(
            "DELETE FROM conversations WHERE {};
             UPDATE conversations SET data = data || '{{\"title\": \"stale\"}}' WHERE {}",
            slice(0),
            slice(1)
        ))?;
        self.bench.postgres.query("CHECKPOINT").map(drop)
    }

    /// What a careful person does by hand for a second run.
    fn stage_and_upsert(&self) -> Outcome<Measured> {
        self.make_stale()?;
        let load = format!(
            "\\copy stage FROM '{}' (FORMAT binary)",
            self.whole.display()
        );
        let upsert = "INSERT INTO conversations SELECT id, data FROM stage ON CONFLICT (id) DO UPDATE \
                      SET data = excluded.data WHERE conversations.data IS DISTINCT FROM excluded.data";
        let stage = "CREATE TEMP TABLE stage (id text, data jsonb)";
        self.arrived(measure(vec![psql(self.bench, &[stage, &load, upsert])])?)
    }

    fn peer_lanes<'s>(&'s self, lanes: &mut Vec<Lane<'s>>, report: &mut Report) {
        match peers::duckdb() {
            Ok(python) => {
                lanes.push(Lane::new("DuckDB 1.5.5", move || self.duckdb(&python)).peer())
            }
            Err(why) => report.absent(format!("DuckDB: {why}")),
        }
        match peers::sling() {
            Ok(sling) => lanes.push(
                Lane::new("sling 1.4.11 (makes no primary key)", move || {
                    self.sling(&sling)
                })
                .peer(),
            ),
            Err(why) => report.absent(format!("sling: {why}")),
        }
        match peers::node() {
            Ok(dir) => {
                let batches = dir.clone();
                lanes.push(
                    Lane::new("Node, upserts of 500", move || {
                        self.node(&batches, self.data.documents, 500)
                    })
                    .peer(),
                );
                let few = self.data.documents.min(DOCUMENTS_OF_SLOW_LANES);
                lanes.push(
                    Lane::new("Node, one awaited upsert each (scaled)", move || {
                        self.node(&dir, few, 1)
                    })
                    .peer(),
                );
            }
            Err(why) => report.absent(format!("Node: {why}")),
        }
    }

    fn duckdb(&self, python: &Path) -> Outcome<Measured> {
        self.new_table()?;
        let script = self.bench.path("duckdb_copy.py");
        std::fs::write(&script, peers::DUCKDB_COPY).map_err(|error| error.to_string())?;
        let mut command = Command::new(python);
        command
            .arg(script)
            .arg(&self.data.sqlite)
            .arg(self.bench.postgres.url());
        self.arrived(measure(vec![command])?)
    }

    fn sling(&self, sling: &Path) -> Outcome<Measured> {
        self.bench.postgres.fresh_database(None)?;
        let mut command = Command::new(sling);
        command
            .args([
                "run",
                "--src-stream",
                "main.conversations",
                "--tgt-object",
                "public.conversations",
            ])
            .args([
                "--mode",
                "full-refresh",
                "--src-conn",
                "APP",
                "--tgt-conn",
                "PG",
            ])
            .env("APP", format!("sqlite://{}", self.data.sqlite.display()))
            .env(
                "PG",
                format!("{}?sslmode=disable", self.bench.postgres.url()),
            )
            .env("SLING_DISABLE_TELEMETRY", "TRUE")
            .env("SLING_HOME_DIR", self.bench.path("sling"));
        self.counted(measure(vec![command])?, "true", self.data.documents)
    }

    fn node(&self, dir: &Path, documents: u64, batch: u32) -> Outcome<Measured> {
        self.new_table()?;
        let mut command = self.bench.postgres.tool_elsewhere("node");
        command
            .current_dir(dir)
            .arg("copy.mjs")
            .arg(&self.data.csv)
            .args([documents.to_string(), batch.to_string()]);
        let measured = self.counted(measure(vec![command])?, "true", documents)?;
        Ok(measured.times(ratio(self.data.documents, documents)))
    }
}

/// Exact up to 2^32 documents.
pub fn ratio(all: u64, some: u64) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(all) / float(some)
}

/// How many conversations there are, and a hash of them all.
pub fn digest(bench: &Bench) -> Outcome<String> {
    bench.postgres.query(
        "SELECT count(*) || ' documents, hash ' || sum(hashtextextended(id || data::text, 0)) FROM conversations",
    )
}

pub fn psql(bench: &Bench, commands: &[&str]) -> Command {
    let mut psql = bench.postgres.tool("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
    for command in commands {
        psql.args(["-c", command]);
    }
    psql
}

/// A target table with all conversations in it, kept as a template.
pub fn keep_filled(bench: &Bench, data: &Data, template: &str) -> Outcome<()> {
    bench.postgres.fresh_database(None)?;
    let copy = format!(
        "\\copy conversations FROM '{}' (FORMAT csv)",
        data.csv.display()
    );
    measure(vec![psql(
        bench,
        &[TABLE, &copy, "VACUUM ANALYZE conversations"],
    )])?;
    bench.postgres.keep_as(template)
}
