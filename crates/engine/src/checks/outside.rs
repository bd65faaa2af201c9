//! Checks that others do: a statement in a store, a program.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use whimbrel_model::Store;

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Measured, Runner, Side};
use crate::error::EngineError;
use crate::migrate::process::{Ended, Program, Trouble};
use crate::patience::retry_store;

/// How much of a program's output is shown, where values may be shown.
const SHOWN_BYTES: usize = 2 * 1024;
const LOOK_FOR_STOP: Duration = Duration::from_millis(50);

pub(super) struct Sql {
    pub store: Arc<dyn Store>,
    pub statement: String,
    pub patience: Duration,
}

#[async_trait]
impl Runner for Sql {
    fn sides(&self) -> &[Side] {
        &[]
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        let did = retry_store(self.patience, || self.store.statement(&self.statement)).await?;
        findings.looked_at = 1;
        if did.changed > 0 {
            return Err(Impossible::new(format!(
                "the statement changed {} rows: a check may only read",
                did.changed
            )));
        }
        if did.rows > 0 {
            let s = if did.rows == 1 { "row" } else { "rows" };
            findings.whole(Wrong {
                message: format!("the statement gave back {} {s} instead of none", did.rows),
                ..Wrong::default()
            });
            findings.failed = did.rows;
        }
        Ok(Measured::from([("rows".to_owned(), did.rows.to_string())]))
    }
}

pub(super) struct Command {
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Where it runs.
    pub folder: PathBuf,
    pub stop: Arc<AtomicBool>,
}

#[async_trait]
impl Runner for Command {
    fn sides(&self) -> &[Side] {
        &[]
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        findings.looked_at = 1;
        let name = self.command.first().cloned().unwrap_or_default();
        let program = Program {
            command: self.command.clone(),
            folder: self.folder.clone(),
            env: Vec::new(),
            stdin: None,
            keep: SHOWN_BYTES,
        };
        let deadline = Instant::now() + self.timeout;
        let stop = async {
            while Instant::now() < deadline && !self.stop.load(Ordering::SeqCst) {
                tokio::time::sleep(LOOK_FOR_STOP).await;
            }
        };
        let finished = program.run(stop).await.map_err(|trouble| {
            Impossible::new(match trouble {
                Trouble::Start(why) => format!("{name} could not be started: {why}"),
                Trouble::Wait(error) => format!("{name} could not be waited for: {}", error.kind()),
            })
        })?;
        let why = match finished.ended {
            Ended::Exit(0) => return Ok(Measured::from([("exit".to_owned(), "0".to_owned())])),
            Ended::Stopped if self.stop.load(Ordering::SeqCst) => {
                return Err(EngineError::Interrupted.into());
            }
            Ended::Stopped => {
                let seconds = self.timeout.as_secs_f64();
                return Err(Impossible::new(format!(
                    "{name} took longer than {seconds} s and was stopped"
                )));
            }
            Ended::Exit(code) => format!("{name} exited with {code} instead of 0"),
            Ended::Signal(signal) => format!("{name} was killed by signal {signal}"),
        };
        // What it wrote may hold values.
        let output = String::from_utf8_lossy(&finished.output.tail)
            .trim()
            .to_owned();
        findings.whole(Wrong {
            message: why,
            detail: Some(output).filter(|text| !text.is_empty()),
            ..Wrong::default()
        });
        Ok(Measured::new())
    }
}
