//! Which migrations a command is about, and what is in their way.

use crate::failure::Failure;
use crate::migrations;
use clap::ValueEnum;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, State};
use whimbrel_model::migration::{Change, Migration, Standing, StandingKind, difference, standing};

/// What becomes of a pending migration whose number is below one that is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Late {
    /// Nothing is begun
    #[default]
    Refuse,
    /// It is applied, before those that are not late
    Apply,
    /// It is left out for good
    Skip,
}

/// What `up` is to do, in this order.
#[derive(Debug)]
pub struct Choice<'a> {
    pub skip: Vec<&'a Migration>,
    pub apply: Vec<&'a Migration>,
    /// The first of `apply` was on its way back, and goes on with that.
    pub going_back: bool,
    /// Applied, and without a file.
    pub missing: Vec<String>,
}

impl<'a> Choice<'a> {
    /// # Errors
    /// An edited file, a late arrival, or a migration that was not taken back whole is in the way.
    pub fn up(
        all: &'a [Migration],
        state: &State,
        to: Option<&str>,
        late: Late,
        allow_drift: bool,
    ) -> Result<Self, Failure> {
        let standings = standing(state, all);
        let last = match to {
            Some(text) => {
                let ids: Vec<_> = all.iter().map(|m| m.id.as_str()).collect();
                let id = migrations::pick(&ids, text)?;
                all.iter().position(|m| m.id == id).unwrap_or(all.len())
            }
            None => all.len(),
        };
        if !allow_drift {
            refuse_drift(&drifted(&standings, state, all))?;
        }
        let mut choice = Self {
            skip: Vec::new(),
            apply: Vec::new(),
            going_back: false,
            missing: missing(&standings, state),
        };
        if let Some(open) = state.migrations.values().find(|m| m.open()) {
            choice.open(all, open)?;
            if choice.going_back {
                return Ok(choice);
            }
        }
        let find = |s: &Standing| all.iter().position(|m| m.id == s.id);
        let mut late_ones = Vec::new();
        for (s, at) in standings.iter().filter_map(|s| Some((s, find(s)?))) {
            match s.kind {
                _ if at > last => {}
                StandingKind::Pending => choice.apply.push(&all[at]),
                StandingKind::Late => late_ones.push(&all[at]),
                _ => {}
            }
        }
        match late {
            Late::Refuse if !late_ones.is_empty() => return Err(refuse_late(&late_ones, state)),
            Late::Refuse => {}
            Late::Apply => {
                // The standings come by number, so late ones lie in front of those that are not.
                let at = choice.apply.iter().take_while(|m| open(state, m)).count();
                choice.apply.splice(at..at, late_ones);
            }
            Late::Skip => choice.skip = late_ones,
        }
        Ok(choice)
    }

    /// Only the one that is on its way.
    ///
    /// # Errors
    /// It was edited, its file is gone, or it was not taken back whole.
    pub fn resume(
        all: &'a [Migration],
        state: &State,
        open: &MigrationState,
        allow_drift: bool,
    ) -> Result<Self, Failure> {
        let standings = standing(state, all);
        if !allow_drift {
            let mut drifted = drifted(&standings, state, all);
            drifted.retain(|(id, _)| *id == open.id);
            refuse_drift(&drifted)?;
        }
        let mut choice = Self {
            skip: Vec::new(),
            apply: Vec::new(),
            going_back: false,
            missing: Vec::new(),
        };
        choice.open(all, open)?;
        Ok(choice)
    }

    /// Puts the migration first that is on its way.
    fn open(&mut self, all: &'a [Migration], open: &MigrationState) -> Result<(), Failure> {
        let id = &open.id;
        if open.status == MigrationStatus::UndoFailed {
            let failure = Failure::new(
                Code::UndoFailed,
                format!("{id} could not be taken back whole, so nothing else may begin"),
            );
            return Err(failure
                .not_done("nothing was begun and nothing was written")
                .next("whimbrel status   (what is left, and why)")
                .next("whimbrel down     (tries it again)"));
        }
        let file = all.iter().find(|m| m.id == *id);
        let Some(file) = file else {
            return Err(gone(id));
        };
        self.going_back = matches!(
            open.status,
            MigrationStatus::Undoing | MigrationStatus::UndoResting(_)
        );
        self.apply.push(file);
        Ok(())
    }
}

fn open(state: &State, migration: &Migration) -> bool {
    state
        .migrations
        .get(&migration.id)
        .is_some_and(MigrationState::open)
}

/// A migration that must be moved, and whose file is not there.
#[must_use]
pub fn gone(id: &str) -> Failure {
    Failure::new(
        Code::MigrationInvalid,
        format!("the file of migration {id} is gone, so nobody knows its steps"),
    )
    .not_done("nothing was begun and nothing was written")
    .next(format!(
        "put {id}.toml back into the folder of migrations, as it was when it was begun"
    ))
}

fn missing(standings: &[Standing], state: &State) -> Vec<String> {
    standings
        .iter()
        .filter(|s| s.kind == StandingKind::Missing && state.applied.contains(&s.id))
        .map(|s| s.id.clone())
        .collect()
}

/// Applied or open migrations whose file says something else now, and what.
#[must_use]
pub fn drifted(
    standings: &[Standing],
    state: &State,
    all: &[Migration],
) -> Vec<(String, Vec<Change>)> {
    let mut found = Vec::new();
    for s in standings {
        match &s.kind {
            StandingKind::Drifted(changes) => found.push((s.id.clone(), changes.clone())),
            StandingKind::Open => {
                let file = all.iter().find(|m| m.id == s.id);
                if let (Some(file), Some(known)) = (file, state.migrations.get(&s.id))
                    && file.checksum != known.checksum
                {
                    found.push((s.id.clone(), difference(&known.meaning, &file.meaning)));
                }
            }
            _ => {}
        }
    }
    found
}

/// # Errors
/// There are any.
pub fn refuse_drift(drifted: &[(String, Vec<Change>)]) -> Result<(), Failure> {
    let Some((first, _)) = drifted.first() else {
        return Ok(());
    };
    let mut message = match drifted.len() {
        1 => format!("the file of {first} is no longer what was applied:"),
        n => format!("the files of {n} migrations are no longer what was applied:"),
    };
    for (id, changes) in drifted {
        for change in changes {
            message.push_str(&format!("\n  {id}: {change}"));
        }
    }
    Err(Failure::new(Code::MigrationDrift, message)
        .not_done("nothing was begun and nothing was written")
        .next("put the files back as they were, and write the change as a new migration")
        .next("--allow-drift goes on all the same; what was applied stays as it is"))
}

fn refuse_late(late: &[&Migration], state: &State) -> Failure {
    let ids: Vec<_> = late.iter().map(|m| m.id.as_str()).collect();
    let newest = state.applied.iter().max().map_or("", String::as_str);
    let (are, they) = if ids.len() == 1 {
        ("is", "it")
    } else {
        ("are", "they")
    };
    Failure::new(
        Code::MigrationLate,
        format!(
            "{} {are} pending, but {newest} is applied already",
            ids.join(", ")
        ),
    )
    .not_done("nothing was begun and nothing was written")
    .next(format!(
        "whimbrel up --late apply   ({they} {are} applied now)"
    ))
    .next(format!(
        "whimbrel up --late skip    ({they} {are} left out for good)"
    ))
}
