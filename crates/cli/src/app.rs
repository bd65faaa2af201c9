//! What every command works with: the screen, the project, and through them stores, ledger and engine.

use crate::args::{Global, RunArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project::{Project, resolve_url};
use crate::screen::Screen;
use std::sync::Arc;
use std::time::Duration;
use whimbrel_engine::{Engine, EngineError, JobOptions, Ledger, SystemClock, Threshold};
use whimbrel_model::{JournalError, StoreErrorKind};

pub struct App {
    pub screen: Screen,
    pub global: Global,
}

impl App {
    #[must_use]
    pub fn new(global: Global) -> Self {
        Self {
            screen: Screen::new(&global),
            global,
        }
    }

    /// # Errors
    /// The project file cannot be used.
    pub fn project(&self) -> Result<Project, Failure> {
        let mut project = Project::load(self.global.project.as_deref())?;
        if let Some(url) = &self.global.ledger {
            let here =
                std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
            project.ledger = resolve_url(url, &here);
        }
        // Set once: a command has one project.
        let _ = self.screen.home.set(format!("{}/", project.dir.display()));
        Ok(project)
    }

    /// The ledger to write to, made where it is missing.
    ///
    /// # Errors
    /// The ledger cannot be used.
    pub async fn ledger(&self, project: &Project) -> Result<Arc<Ledger>, Failure> {
        if let Some(path) = project.ledger.strip_prefix("sqlite:") {
            let path = std::path::Path::new(path.split('?').next().unwrap_or(path));
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|e| Failure::io(format!("making {}", folder.display()), &e))?;
            }
        }
        let journal = whimbrel_stores::open_journal(&project.ledger).await?;
        Ok(Arc::new(
            Ledger::open(journal, Arc::new(SystemClock)).await?,
        ))
    }

    /// The ledger to read from; `None` where there is none yet. Never creates anything.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn ledger_to_read(&self, project: &Project) -> Result<Option<Arc<Ledger>>, Failure> {
        match whimbrel_stores::journal::open_existing(&project.ledger).await? {
            Some(journal) => Ok(Some(Arc::new(
                Ledger::open(journal, Arc::new(SystemClock)).await?,
            ))),
            None => Ok(None),
        }
    }

    /// An engine to write with. The lease of a process of this machine that was killed is taken from it:
    /// nobody would ever give it back.
    ///
    /// # Errors
    /// The ledger cannot be used.
    pub async fn engine(&self, project: &Project) -> Result<Engine, Failure> {
        let ledger = self.ledger(project).await?;
        let lease = ledger.journal().lease().await?;
        if let Some(dead) = lease.filter(|l| !l.expired && is_gone(&l.holder)) {
            ledger.break_lease(&holder()).await?;
            self.screen.progress(format!(
                "the process that held the ledger is gone ({}); its lease was taken over",
                dead.holder
            ));
        }
        Ok(Engine::new(ledger, Arc::new(SystemClock)))
    }

    /// An engine that writes nothing anywhere, not even a lock.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn engine_to_read(&self, project: &Project) -> Result<Engine, Failure> {
        Ok(match self.ledger_to_read(project).await? {
            Some(ledger) => Engine::new(ledger, Arc::new(SystemClock)),
            None => Engine::without_ledger(Arc::new(SystemClock)),
        })
    }

    /// Flags, then the environment (which the flags' parser reads), then the project file.
    ///
    /// # Errors
    /// The threshold is neither a count nor a share.
    pub fn job_options(&self, args: &RunArgs, project: &Project) -> Result<JobOptions, Failure> {
        let defaults = JobOptions::default();
        let max_failed = match args.max_failed.as_ref().or(project.run.max_failed.as_ref()) {
            Some(text) => text
                .parse::<Threshold>()
                .map_err(|e| Failure::usage(format!("--max-failed: {e}")))?,
            None => defaults.max_failed,
        };
        Ok(JobOptions {
            parallel: args.parallel.or(project.run.parallel),
            batch: args.batch.or(project.run.batch),
            max_failed,
            max_latency: args
                .max_latency
                .or(project.run.max_latency_ms)
                .map_or(defaults.max_latency, Duration::from_millis),
            abandon: args.abandon,
            holder: holder(),
            ..defaults
        })
    }
}

/// `ada@host pid 4711`
#[must_use]
pub fn holder() -> String {
    format!("{} pid {}", person(), std::process::id())
}

/// `ada@host`: who acts, as the history tells.
#[must_use]
pub fn person() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME"));
    let user = user.unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "this machine".to_owned());
    format!("{user}@{}", host.trim())
}

/// Whether a lease's holder was a process of this machine that runs no more. Where that cannot be known,
/// `false`.
#[must_use]
pub fn is_gone(holder: &str) -> bool {
    let ours = self::holder();
    let Some((place, _)) = ours.rsplit_once(" pid ") else {
        return false;
    };
    let pid = holder
        .strip_prefix(place)
        .and_then(|rest| rest.strip_prefix(" pid "));
    let pid: Option<u32> = pid.and_then(|rest| rest.split(':').next()?.trim().parse().ok());
    let processes = std::path::Path::new("/proc");
    processes.join("self").exists()
        && pid.is_some_and(|pid| !processes.join(pid.to_string()).exists())
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        let failure = match error {
            EngineError::Store(e) => {
                let unknown = e.kind == StoreErrorKind::Unknown;
                let mut failure = Failure::from(e);
                if !unknown {
                    failure =
                        failure.not_done("what is written is recorded; the rest was not begun");
                }
                failure
            }
            EngineError::Journal(JournalError::Held(lease)) => {
                return Failure::from(JournalError::Held(lease));
            }
            EngineError::Journal(e) => Failure::from(e),
            EngineError::Interrupted => Failure::new(
                error.code(),
                "stopped on request; every finished chunk is recorded",
            ),
            EngineError::Pending(ref run) => {
                let what = format!("run {} was not touched, and no new one was begun", run.run);
                Failure::new(error.code(), error.to_string()).not_done(what)
            }
            EngineError::Threshold { .. } => Failure::new(error.code(), error.to_string())
                .not_done("the run was given up; what it wrote stays, recorded, and can be undone"),
            EngineError::NoDocument { .. } => Failure {
                exit: Exit::Failed,
                ..Failure::usage(error.to_string())
            },
            EngineError::NoCollection { .. }
            | EngineError::Document { .. }
            | EngineError::Schema(_)
            | EngineError::Job { .. } => {
                Failure::new(error.code(), error.to_string()).not_done("nothing was written")
            }
            EngineError::Counts(_) => Failure::new(error.code(), error.to_string())
                .not_done("the run is not called done; nothing is lost, but please report this"),
        };
        let mut failure = failure;
        if failure.next.is_empty() {
            failure.next.extend(hint);
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dead_holder_is_told_from_a_live_one() {
        let ours = holder();
        let (place, _) = ours.rsplit_once(" pid ").unwrap();
        for (holder, gone) in [
            (format!("{ours}: upgrade app/users to v2"), false),
            (
                format!("{place} pid 4194399: upgrade app/users to v2"),
                true,
            ),
            (
                "ada@elsewhere pid 4194399: upgrade app/users to v2".to_owned(),
                false,
            ),
            ("nonsense".to_owned(), false),
        ] {
            assert_eq!(is_gone(&holder), gone, "{holder}");
        }
    }
}
