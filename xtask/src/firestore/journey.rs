//! Values that travel: from Node through the server, Python, SQLite, PostgreSQL and another Firestore back to Node.

use super::{Ground, Store, clients, programs};
use crate::Outcome;
use crate::hidane::Hidane;
use std::process::Command;

pub fn run(ground: &Ground) -> Outcome<String> {
    let app = ground.store(Store::Sqlite, "journey")?;
    let postgres = ground.store(Store::Postgres, "journey")?;
    let said = node_to_python(ground, &app)?;
    copy(ground, &app, &postgres, None)?;
    // The documents that were copied are served as they were before.
    let server = ground.serve(&postgres)?;
    check(ground, server.address(), "there", None)?;
    check(ground, server.address(), "kept", Some("bson"))?;
    drop(server);

    let hidane = Hidane::start()?;
    for collection in ["there", "there/below", "there/below/further below"] {
        let source = format!("{postgres}#{collection}");
        copy(
            ground,
            &source,
            "firestore://demo-test/(default)",
            Some(hidane.address()),
        )?;
    }
    check(ground, hidane.address(), "there", None)?;
    Ok(said)
}

/// Node writes, Python reads and writes; what lies in SQLite then is what Node wrote.
fn node_to_python(ground: &Ground, app: &str) -> Outcome<String> {
    let server = ground.serve(app)?;
    let address = server.address();
    let walk = programs().join("python/journey.py");
    let mut said = String::new();
    for (from, to, kind) in [("here", "there", None), ("keep", "kept", Some("bson"))] {
        clients::show(
            ground
                .clients
                .node("journey.mjs", address)
                .args(["write", from])
                .args(kind),
        )?;
        check(ground, address, from, kind)?;
        clients::show(ground.clients.python(&walk, address).args([from, to]))?;
        said = check(ground, address, to, kind)?;
    }
    Ok(said.trim().to_owned())
}

fn check(ground: &Ground, address: &str, collection: &str, kind: Option<&str>) -> Outcome<String> {
    let mut node = ground.clients.node("journey.mjs", address);
    clients::show(node.args(["check", collection]).args(kind))
        .map_err(|error| format!("{collection} at {address}: {error}"))
}

/// The ordinary command, as an operator types it.
fn copy(ground: &Ground, source: &str, target: &str, emulator: Option<&str>) -> Outcome<()> {
    let mut command = Command::new(&ground.whimbrel);
    command
        .current_dir(ground.scratch.path())
        .args(["copy", source, target, "--yes"]);
    if let Some(address) = emulator {
        command.env("FIRESTORE_EMULATOR_HOST", address);
    }
    // Its arguments hold a password.
    clients::show(&mut command)
        .map(drop)
        .map_err(|error| format!("whimbrel copy: {error}"))
}
