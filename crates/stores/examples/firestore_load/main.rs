//! Load for `cargo xtask bench firestore`: clients that each do one thing after the other, and what each took.
//!
//! ```text
//! firestore_load commit ADDRESS CLIENTS OPERATIONS     single-document commits
//! firestore_load get ADDRESS CLIENTS OPERATIONS        GetDocument, of what `commit` wrote
//! firestore_load batch-get ADDRESS CLIENTS OPERATIONS  BatchGetDocuments of one, as Google's clients read
//! firestore_load floor FILE CLIENTS OPERATIONS         the same documents, grouped into commits of plain SQLite
//! ```
//!
//! Prints one line of JSON: `{"operations":…,"seconds":…,"p50_ms":…,"p99_ms":…}`.

mod floor;
mod remote;

use std::error::Error;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many, of what size: the same for every lane.
#[derive(Clone, Copy)]
struct Load {
    clients: u32,
    /// Of each client.
    operations: u32,
}

/// What came of it.
struct Taken {
    seconds: f64,
    /// Of every operation.
    latencies: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, to, clients, operations] = arguments.as_slice() else {
        return Err("give WHAT ADDRESS|FILE CLIENTS OPERATIONS".into());
    };
    let clients: u32 = clients.parse()?;
    let load = Load {
        clients,
        operations: operations.parse::<u32>()? / clients.max(1),
    };
    let taken = match what.as_str() {
        "commit" => remote::run(to, load, remote::commit).await?,
        "get" => remote::run(to, load, remote::get).await?,
        "batch-get" => remote::run(to, load, remote::batch_get).await?,
        "floor" => floor::run(to, load).await?,
        other => return Err(format!("no such load: {other}").into()),
    };
    println!("{}", describe(taken));
    Ok(())
}

fn describe(mut taken: Taken) -> serde_json::Value {
    taken.latencies.sort_unstable();
    let at = |percent: usize| {
        let index = taken.latencies.len().saturating_sub(1) * percent / 100;
        taken
            .latencies
            .get(index)
            .map_or(0.0, |at| at.as_secs_f64() * 1000.0)
    };
    serde_json::json!({
        "operations": taken.latencies.len(),
        "seconds": taken.seconds,
        "p50_ms": at(50),
        "p99_ms": at(99),
    })
}

/// A document's id: every client writes its own, over the whole width of the key space.
fn id(client: u32, number: u32) -> String {
    format!(
        "{:08x}",
        (number.wrapping_mul(64).wrapping_add(client)).wrapping_mul(0x9e37_79b1)
    )
}

const TITLE: &str = "What does the weather do tomorrow in the mountains?";
const MODEL: &str = "a-model-of-2026";
