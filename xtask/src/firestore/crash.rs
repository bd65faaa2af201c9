//! kill -9 under load: what was acknowledged is there, and of no batch only a part.

use super::server::Place;
use super::{Ground, Store, clients};
use crate::daemon::Daemon;
use crate::{Outcome, postgres};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn run(ground: &Ground, store: Store, kills: u32) -> Outcome<String> {
    let name = format!("crash_{}", store.name().to_lowercase());
    let place = Place {
        whimbrel: ground.whimbrel.clone(),
        url: ground.store(store, &name)?,
        dir: ground.scratch.path().to_owned(),
        // The same after each start: clients find it again by themselves.
        listen: format!("127.0.0.1:{}", postgres::free_port()?),
    };
    let log = ground.scratch.path().join(format!("{name}.log"));
    let mut random = seed();
    println!("seed {random}");
    let mut said = String::new();
    for round in 1..=kills {
        let server = place.start()?;
        let mut writer = ground.clients.node("crash.mjs", server.address());
        writer.arg("write").arg(&log).arg(round.to_string());
        let writer = Daemon::start(&writer, &ground.scratch.path().join("writer.log"))?;
        // A kill before the first acknowledgement would prove little.
        let first = format!("{round} ");
        writer.wait_for(|_| {
            let acknowledged = fs::read_to_string(&log).unwrap_or_default();
            acknowledged
                .lines()
                .any(|line| line.starts_with(&first))
                .then_some(())
        })?;
        random = next(random);
        sleep(Duration::from_millis(200 + random % 1300));
        // Without load there is nothing to lose.
        if !writer.lives() {
            return Err(format!(
                "before kill {round} the writer ended by itself; it said:\n{}",
                writer.said().trim()
            ));
        }
        server.kill()?;
        // What it got to know of acknowledgements it has written by now.
        sleep(Duration::from_millis(50));
        writer.kill()?;

        let server = place.start()?;
        let mut check = ground.clients.node("crash.mjs", server.address());
        said = clients::show(check.arg("check").arg(&log))
            .map_err(|error| format!("after kill {round}: {error}{}", server.last_words()))?;
        if round == kills {
            break;
        }
        // Half of the rounds begin after an end that was asked for, half after another kill.
        if random.is_multiple_of(2) {
            server.kill()?;
        }
    }
    Ok(format!("{kills} kills: {}", said.trim()))
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) | 1)
}

/// xorshift, by Marsaglia.
fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}
