//! The project's hooks, while a command moves migrations.

use crate::failure::Failure;
use crate::project::Project;
use crate::screen::Screen;
use std::sync::Arc;
use std::time::Duration;
use whimbrel_engine::Engine;
use whimbrel_engine::migrate::{Hook, Hooks, Secrets, check_secrets};
use whimbrel_model::Code;

/// How long the last calls may take once the work is over.
const LAST_CALLS: Duration = Duration::from_secs(15);

/// Hooks with their secrets looked up.
pub struct Checked<'p> {
    project: &'p Project,
    hooks: Vec<Hook>,
    secrets: Arc<Secrets>,
}

/// Looks up what the hooks need, before anything begins.
///
/// # Errors
/// Secrets that they name are missing: all of them.
pub fn check<'p>(screen: &Screen, project: &'p Project) -> Result<Checked<'p>, Failure> {
    let numbered = (1..).zip(&project.hooks);
    let wanted: Vec<_> = numbered
        .flat_map(|(n, hook): (u32, _)| hook.wanted(&format!("hook {n} of whimbrel.toml")))
        .collect();
    let variables = |name: &str| std::env::var(name).ok();
    let secrets = check_secrets(&project.dir, &wanted, &variables).map_err(|errors| {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Code::ProjectInvalid, all.join("\n"))
            .not_done("nothing was begun and nothing was written")
    })?;
    for warning in secrets.warnings() {
        screen.progress(format!("{} {warning}", screen.err.warn("note:")));
    }
    Ok(Checked {
        project,
        hooks: project.hooks.clone(),
        secrets: Arc::new(secrets),
    })
}

impl Checked<'_> {
    /// Begins to listen to what the engine tells.
    #[must_use]
    pub fn start(self, engine: &Engine) -> Option<Hooks> {
        (!self.hooks.is_empty())
            .then(|| Hooks::start(engine, self.hooks, &self.project.dir, &self.secrets))
    }
}

/// Waits for the calls that are under way.
pub async fn finish(hooks: Option<Hooks>) {
    if let Some(hooks) = hooks {
        hooks.finish(LAST_CALLS).await;
    }
}
