//! `whimbrel lock`: who may write the ledger now.

use crate::app::{App, holder};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::paint::instant;
use clap::Subcommand;
use whimbrel_model::ledger::Lease;

#[derive(Debug, Subcommand)]
pub enum Lock {
    /// Who holds the lease, and until when
    Show,
    /// Take the lease from its holder, which can then write nothing more
    Break {
        /// Say what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// # Errors
/// The ledger cannot be read or written.
pub async fn run(app: &App, args: &Lock) -> Outcome {
    let project = app.project()?;
    let screen = &app.screen;
    let lease = match app.ledger_to_read(&project).await? {
        Some(ledger) => ledger.journal().lease().await?,
        None => None,
    };
    match args {
        Lock::Show => {
            screen.object(&serde_json::json!({ "lease": lease }));
            screen.line(describe(lease.as_ref()));
            Ok(Exit::Done)
        }
        Lock::Break { dry_run } => {
            let Some(lease) = lease else {
                screen.object(&serde_json::json!({ "broken": null }));
                screen.line("nobody holds the lease; there is nothing to break");
                return Ok(Exit::Done);
            };
            if *dry_run {
                screen.object(&serde_json::json!({ "would_break": lease }));
                screen.line(format!("would break: {}", describe(Some(&lease))));
                return Ok(Exit::Done);
            }
            break_it(app, &project, &lease).await
        }
    }
}

async fn break_it(app: &App, project: &crate::project::Project, lease: &Lease) -> Outcome {
    app.screen.confirm(&format!(
        "{}. Break it: that process can write nothing more, and what it recorded can be resumed.",
        describe(Some(lease))
    ))?;
    let ledger = app.ledger(project).await?;
    ledger.break_lease(&holder()).await?;
    app.screen.object(&serde_json::json!({ "broken": lease }));
    app.screen
        .line(format!("the lease of {} is broken", lease.holder));
    Ok(Exit::Done)
}

fn describe(lease: Option<&Lease>) -> String {
    match lease {
        None => "nobody holds the lease".to_owned(),
        Some(lease) if lease.expired => {
            format!(
                "{} held the lease until {}; it is free",
                lease.holder,
                instant(&lease.expires_at)
            )
        }
        Some(lease) => format!(
            "{} holds the lease since {} (renewed until {})",
            lease.holder,
            instant(&lease.acquired_at),
            instant(&lease.expires_at)
        ),
    }
}
