//! The `whimbrel` command. Parses the command line, runs one command, prints what went wrong, and ends
//! with a documented exit code.

mod app;
mod archives;
mod args;
mod chapters;
mod clock_words;
mod commands;
mod demo_data;
mod diff;
mod exit;
mod failure;
mod hooks;
mod migration_backup;
mod migration_choice;
mod migration_job;
mod migration_plan;
mod migration_screen;
mod migration_words;
mod migrations;
mod operator;
mod paint;
mod place;
mod progress;
mod progress_steps;
mod project;
mod project_file;
mod project_hooks;
mod report;
mod schemas;
mod screen;
mod summary;
mod table;
mod values;
mod verify_job;

use app::App;
use args::{Cli, Command};
use clap::Parser;
use exit::Exit;
use failure::{Failure, Outcome};
use std::process::ExitCode;

/// Workers and the threads of the stores pass buffers to each other all the time: the system's allocator
/// keeps an arena a thread and gives little of it back, so memory would grow with the length of a run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    log(cli.global.verbose);
    let app = App::new(cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Scripts call each other on these stacks, and a debug build's frames are large.
        .thread_stack_size(8 << 20)
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&app, &cli.command)),
        Err(error) => Err(Failure::io("starting", &error)),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            app.screen.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn run(app: &App, command: &Command) -> Outcome {
    match command {
        Command::Demo(args) => commands::demo::run(app, args).await,
        Command::Init(args) => commands::init::run(app, args).await,
        Command::New(args) => commands::new::run(app, args).await,
        Command::Inspect(args) => commands::inspect::run(app, args).await,
        Command::Upgrade(args) => commands::upgrade::run(app, args).await,
        Command::Copy(args) => commands::copy::run(app, args).await,
        Command::Verify(args) => commands::verify::run(app, args).await,
        Command::Backup(args) => commands::backup::run(app, args).await,
        Command::Restore(args) => commands::restore::run(app, args).await,
        Command::Up(args) => commands::up::run(app, args).await,
        Command::Down(args) => commands::down::run(app, args).await,
        Command::Pause(args) => commands::pause::pause(app, args).await,
        Command::Resume(args) => commands::pause::resume(app, args).await,
        Command::Abort(args) => commands::pause::abort(app, args).await,
        Command::Approve(args) => commands::approve::approve(app, args).await,
        Command::Settle(args) => commands::approve::settle(app, args).await,
        #[cfg(feature = "firestore")]
        Command::Serve(args) => commands::serve::run(app, args).await,
        Command::Show(args) => commands::show::run(app, args).await,
        Command::Schema(args) => commands::schema::run(app, args).await,
        Command::Quarantine(args) => commands::quarantine::run(app, args).await,
        Command::Status(args) => commands::status::run(app, args).await,
        Command::History(args) => commands::history::run(app, args).await,
        Command::Lock(args) => commands::lock::run(app, args).await,
    }
}

/// Help and versions are printed; what is wrong is said in JSON where JSON was asked for.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done.into();
    }
    if std::env::args().any(|a| a == "--json") {
        let text = error.render().to_string();
        let message = text
            .trim()
            .strip_prefix("error: ")
            .unwrap_or(text.trim())
            .to_owned();
        screen::print_json(&Failure::usage(message).to_json());
    } else {
        let _ = error.print();
    }
    Exit::Usage.into()
}

/// Tracing goes to stderr, only where it was asked for (`-v`, `WHIMBREL_LOG`), and holds no values.
fn log(verbose: u8) {
    let level = match verbose {
        0 => None,
        1 => Some("info"),
        _ => Some("debug"),
    };
    // Of this project's crates only: others' log lines may hold values.
    let level = level.map(|level| {
        ["", "_engine", "_gateway", "_stores", "_transform"]
            .map(|part| format!("whimbrel{part}={level}"))
            .join(",")
    });
    let wanted = std::env::var("WHIMBREL_LOG").ok().or(level);
    let Some(wanted) = wanted else { return };
    let filter = tracing_subscriber::EnvFilter::new(wanted);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
