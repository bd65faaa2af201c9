//! Documents in place, from version 1 to version 3.

use super::copy::{DOCUMENTS_OF_SLOW_LANES, digest, keep_filled, psql, ratio};
use super::data::{Data, sqlite_command, sqlite_query};
use super::lanes::{Lane, Limit, take_turns};
use super::measure::{Measured, measure};
use super::project::Project;
use super::report::Report;
use super::{Bench, Measuring, note, peers};
use crate::{Outcome, process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const UPDATE: &str = "one hand-written UPDATE";
const JSON_SET: &str = "one UPDATE with json_set";
const NODE: &str = "Node, one awaited update each (scaled)";
const FILLED: &str = "filled";

/// Version 2 adds `metadata`; version 3 renames `title` and adds `archived`.
pub const SCHEMA: &[(&str, &str)] = &[
    (
        "schemas/conversations/0001_initial.toml",
        include_str!("schema_1.toml"),
    ),
    (
        "schemas/conversations/0002_metadata.toml",
        include_str!("schema_2.toml"),
    ),
    (
        "schemas/conversations/0003_name.toml",
        include_str!("schema_3.toml"),
    ),
];

/// The same change, by hand.
const UPDATE_SQL: &str = "UPDATE conversations SET data = (data - 'title') || jsonb_build_object(
    'metadata', jsonb_build_object('totalTokens', 0, 'toolCallCount', 0),
    'name', data->'title', 'archived', false, '_schemaVersion', 3)";
const JSON_SET_SQL: &str = "UPDATE conversations SET data = json_set(json_remove(data, '$.title'),
    '$.metadata', json('{\"totalTokens\":0,\"toolCallCount\":0}'),
    '$.name', json_extract(data, '$.title'), '$.archived', json('false'), '$._schemaVersion', 3)";

pub fn run(measuring: &Measuring) -> Outcome<Report> {
    let bench = Bench::start(measuring.binary()?)?;
    let mut report = bench.report("upgrade")?;
    let data = Data::make(&bench.folder("data")?, measuring.documents)?;
    note("preparing the table");
    keep_filled(&bench, &data, FILLED)?;
    let upgrading = Upgrading {
        expected: expected(&bench)?,
        bench: &bench,
        data,
    };
    let node = node(measuring, &mut report);
    let title = format!(
        "{} documents in place on PostgreSQL; `{UPDATE}` = 1",
        measuring.documents
    );
    report.group(take_turns(
        title,
        measuring.runs,
        upgrading.postgres_lanes(node),
    ));
    let title = format!(
        "{} documents in place on SQLite; `{JSON_SET}` = 1",
        measuring.documents
    );
    report.group(take_turns(title, measuring.runs, upgrading.sqlite_lanes()));
    Ok(report)
}

fn node(measuring: &Measuring, report: &mut Report) -> Option<PathBuf> {
    if !measuring.peers && process::find("node").is_none() {
        report.absent(format!(
            "{NODE}: Node is not installed (--peers installs it)"
        ));
        return None;
    }
    peers::node()
        .map_err(|why| report.absent(format!("{NODE}: {why}")))
        .ok()
}

/// What the table holds after the upgrade.
fn expected(bench: &Bench) -> Outcome<String> {
    bench.postgres.fresh_database(Some(FILLED))?;
    bench.postgres.query(UPDATE_SQL)?;
    digest(bench)
}

struct Upgrading<'b> {
    bench: &'b Bench,
    data: Data,
    expected: String,
}

impl Upgrading<'_> {
    fn postgres_lanes<'s>(&'s self, node: Option<PathBuf>) -> Vec<Lane<'s>> {
        let by_hand = || -> Outcome<Measured> {
            self.bench.postgres.fresh_database(Some(FILLED))?;
            self.upgraded(measure(vec![psql(self.bench, &[UPDATE_SQL])])?)
        };
        let whimbrel = || -> Outcome<Measured> {
            self.bench.postgres.fresh_database(Some(FILLED))?;
            let project = Project::make(self.bench, "upgrade-pg", &self.data.sqlite, "pg", SCHEMA)?;
            self.upgraded(measure(vec![
                project.command(&["upgrade", "conversations"]),
            ])?)
        };
        let mut lanes = vec![Lane::new(UPDATE, by_hand)];
        let with_node = node.is_some();
        if let Some(dir) = node {
            lanes.push(Lane::new(NODE, move || self.node(&dir)).peer());
        }
        if self.bench.whimbrel.is_some() {
            let lane =
                Lane::new("whimbrel upgrade", whimbrel).bar(UPDATE, Limit::RateAtLeast(0.35));
            lanes.push(if with_node {
                lane.bar(NODE, Limit::RateAtLeast(10.0))
            } else {
                lane
            });
        }
        lanes
    }

    fn upgraded(&self, measured: Measured) -> Outcome<Measured> {
        let (have, want) = (digest(self.bench)?, &self.expected);
        if have == *want {
            return Ok(measured);
        }
        Err(format!(
            "the upgrade's result is not that of the UPDATE: {have} instead of {want}"
        ))
    }

    fn node(&self, dir: &Path) -> Outcome<Measured> {
        self.bench.postgres.fresh_database(Some(FILLED))?;
        let documents = self.data.documents.min(DOCUMENTS_OF_SLOW_LANES);
        let mut command = self.bench.postgres.tool_elsewhere("node");
        command
            .current_dir(dir)
            .arg("upgrade.mjs")
            .arg(documents.to_string());
        let measured = measure(vec![command])?;
        let sql = "SELECT count(*) FROM conversations WHERE data->>'_schemaVersion' = '3'";
        let have = self.bench.postgres.query(sql)?;
        if have != documents.to_string() {
            return Err(format!("Node upgraded {have} of {documents} documents"));
        }
        Ok(measured.times(ratio(self.data.documents, documents)))
    }

    fn sqlite_lanes<'s>(&'s self) -> Vec<Lane<'s>> {
        let by_hand = || -> Outcome<Measured> {
            let database = self.fresh_file()?;
            let measured = measure(vec![sqlite_command(&database, JSON_SET_SQL)?])?;
            self.upgraded_file(&database, measured)
        };
        let whimbrel = || -> Outcome<Measured> {
            let database = self.fresh_file()?;
            let project = Project::make(self.bench, "upgrade-app", &database, "app", SCHEMA)?;
            let measured = measure(vec![project.command(&["upgrade", "conversations"])])?;
            self.upgraded_file(&database, measured)
        };
        let mut lanes = vec![Lane::new(JSON_SET, by_hand)];
        if self.bench.whimbrel.is_some() {
            lanes.push(
                Lane::new("whimbrel upgrade", whimbrel).bar(JSON_SET, Limit::RateAtLeast(0.3)),
            );
        }
        lanes
    }

    fn fresh_file(&self) -> Outcome<PathBuf> {
        fresh_copy(self.bench, &self.data.sqlite)
    }

    fn upgraded_file(&self, database: &Path, measured: Measured) -> Outcome<Measured> {
        let have = upgraded_in_file(database)?;
        if have == self.data.documents.to_string() {
            return Ok(measured);
        }
        Err(format!(
            "{have} of {} documents are at version 3",
            self.data.documents
        ))
    }
}

/// The database as the app left it, on disk before anything is timed.
pub fn fresh_copy(bench: &Bench, source: &Path) -> Outcome<PathBuf> {
    let folder = bench.folder("app")?;
    let database = folder.join("app.db");
    fs::copy(source, &database)
        .and_then(|_| File::open(&database)?.sync_all())
        .map_err(|error| format!("{}: {error}", database.display()))?;
    Ok(database)
}

/// How many documents have version 3's shape.
pub fn upgraded_in_file(database: &Path) -> Outcome<String> {
    sqlite_query(
        database,
        "SELECT count(*) FROM conversations
         WHERE json_extract(data, '$._schemaVersion') = 3 AND json_extract(data, '$.archived') = 0
           AND json_extract(data, '$.metadata.totalTokens') = 0
           AND json_type(data, '$.name') = 'text' AND json_type(data, '$.title') IS NULL",
    )
}
