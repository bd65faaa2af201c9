//! The least that durable commits of these documents cost: SQLite itself, without a protocol, without a network
//! and in the submitters' own process. One thread writes; what waits when it begins goes into one transaction.

use super::{Load, MODEL, Outcome, TITLE, Taken, id};
use rusqlite::Connection;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

struct Row {
    id: String,
    data: String,
    done: oneshot::Sender<()>,
}

pub async fn run(file: &str, load: Load) -> Outcome<Taken> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // As durable as an acknowledged commit must be: each is on the disk before it is answered.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE conversations (id TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID",
    )?;
    let (submit, waiting) = mpsc::channel();
    let writer = thread::spawn(move || write(connection, &waiting));
    let start = Instant::now();
    let tasks: Vec<_> = (0..load.clients)
        .map(|me| {
            let submit = submit.clone();
            tokio::spawn(async move {
                let mut latencies: Vec<Duration> = Vec::new();
                for number in 0..load.operations {
                    let start = Instant::now();
                    let (done, written) = oneshot::channel();
                    let row = Row {
                        id: id(me, number),
                        data: data(me, number),
                        done,
                    };
                    submit.send(row).map_err(|_| "the writer has ended")?;
                    written.await?;
                    latencies.push(start.elapsed());
                }
                Outcome::Ok(latencies)
            })
        })
        .collect();
    drop(submit);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    writer.join().map_err(|_| "the writer panicked")??;
    Ok(Taken { seconds, latencies })
}

fn write(mut connection: Connection, waiting: &mpsc::Receiver<Row>) -> rusqlite::Result<()> {
    while let Ok(first) = waiting.recv() {
        let group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO conversations VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET data = excluded.data",
            )?;
            for row in &group {
                insert.execute((&row.id, &row.data))?;
            }
        }
        transaction.commit()?;
        for row in group {
            // Nobody waits any more only where the load was broken off.
            let _ = row.done.send(());
        }
    }
    Ok(())
}

fn data(me: u32, number: u32) -> String {
    let done = number.is_multiple_of(2);
    format!(
        r#"{{"userId":"user-{me}","title":"{TITLE}","model":"{MODEL}","turn":{number},"done":{done}}}"#
    )
}
