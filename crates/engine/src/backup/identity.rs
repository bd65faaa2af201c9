//! Which archive a backup writes: a new one, or one that an earlier attempt began.

use serde_json::Value;
use whimbrel_model::ledger::{JobKind, RunState, RunStatus, State};
use whimbrel_model::{Code, Timestamp};

use super::BackupJob;
use crate::error::EngineError;

/// One archive, through all attempts to write it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub name: String,
    /// Tells it from another one of the same name that was given up.
    pub begun: String,
    /// Whether its manifest is there: an attempt ended right after it.
    pub finished: bool,
}

impl BackupJob {
    /// Finds the archive that an earlier attempt of the same job began, or names a new one.
    pub(super) async fn identify(
        &self,
        state: &State,
        now: Timestamp,
    ) -> Result<Identity, EngineError> {
        if !self.fresh
            && let Some(mut known) = self.begun_before(state)
        {
            known.finished = self.unfinished(&known.name)?.is_finished().await?;
            // A migration's step that ended without being told of it; elsewhere, a new backup is meant.
            if !known.finished || (self.options.step.is_some() && self.name.is_some()) {
                return Ok(known);
            }
        }
        let name = match &self.name {
            Some(name) => self.given(name).await?,
            None => self.new_name(now).await?,
        };
        Ok(Identity {
            name,
            begun: now.to_string(),
            finished: false,
        })
    }

    fn begun_before(&self, state: &State) -> Option<Identity> {
        let meant = self.parameters();
        let mut runs = state.order.iter().rev().filter_map(|id| state.runs.get(id));
        runs.find_map(|run| {
            let known = identity_of(run, &meant)?;
            let same = self.name.as_ref().is_none_or(|name| *name == known.name);
            (same && run.step == self.options.step).then_some((run, known))
        })
        .filter(|(run, _)| run.status != RunStatus::Aborted)
        .map(|(_, known)| known)
    }

    /// A name that the user chose.
    async fn given(&self, name: &str) -> Result<String, EngineError> {
        let unfinished = self.unfinished(name)?;
        let refused = |what: &str| EngineError::Job {
            code: Code::VaultFailed,
            message: format!("{} {what}", self.vault.shown(name)),
        };
        if unfinished.is_finished().await? {
            return Err(refused(
                "exists already; nothing in it was touched; choose another name",
            ));
        }
        if self.fresh {
            unfinished.clear().await?;
        } else if unfinished.has_chunks().await? {
            return Err(refused(
                "holds chunks of another unfinished backup; nothing in it was touched; choose another name, \
                 or begin it anew with --fresh",
            ));
        }
        Ok(name.to_owned())
    }

    /// `20261122-190455`, or that with a number behind.
    async fn new_name(&self, now: Timestamp) -> Result<String, EngineError> {
        let text = now.to_string();
        let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
        let (day, time) = digits.split_at(digits.len().min(8));
        let plain = format!("{day}-{time}");
        let mut name = plain.clone();
        for n in 2_u32.. {
            let unfinished = self.unfinished(&name)?;
            if !unfinished.is_finished().await? && !unfinished.has_chunks().await? {
                break;
            }
            name = format!("{plain}-{n}");
        }
        Ok(name)
    }
}

/// The archive that a run wrote, if it is a run of the same job.
fn identity_of(run: &RunState, meant: &Value) -> Option<Identity> {
    if run.job.kind != JobKind::Backup {
        return None;
    }
    let mut parameters = run.job.parameters.clone();
    let fields = parameters.as_object_mut()?;
    let name = fields.remove("archive")?.as_str()?.to_owned();
    let begun = fields.remove("begun")?.as_str()?.to_owned();
    fields.remove("part");
    (parameters == *meant).then_some(Identity {
        name,
        begun,
        finished: false,
    })
}
