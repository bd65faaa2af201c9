//! A difference counts only if it stays: somebody may be writing to both ends meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_model::finding::Difference;

use super::ends::{Ends, Look};
use super::found::{Found, Sight, Sights};
use super::work::keeping_what_is_known;
use crate::error::EngineError;

/// Both ends must have stayed as they are for so long while they differ.
const STILL: Duration = Duration::from_millis(400);
/// What is written so often that it never stays is given up after these.
const PAUSES_MS: [u64; 5] = [0, 150, 300, 500, 900];

/// Looks at open differences until each is gone or has stayed. Returns those that stay, and counts all.
pub(super) async fn settle(
    ends: &Arc<Ends>,
    found: &mut Found,
    mut sights: Sights,
    patience: Duration,
) -> Result<Vec<Difference>, EngineError> {
    let mut stay = std::mem::take(&mut found.certain);
    let mut open = std::mem::take(&mut found.open);
    for pause in PAUSES_MS {
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let looks = super::patiently(patience, || ends.look(&open)).await?;
        let mut left = Vec::new();
        for (old, look) in open.into_iter().zip(looks) {
            match look {
                Look::Same => found.settled += 1,
                Look::Moving => left.push(old),
                Look::Differs(new, revisions) => {
                    let new = keeping_what_is_known(new, old);
                    let spot = (new.collection.clone(), new.key.clone());
                    let still = sights
                        .get(&spot)
                        .filter(|s| s.revisions == revisions)
                        .is_some_and(|s| s.since.elapsed() >= STILL);
                    if still {
                        found.count(new.what);
                        stay.push(new);
                        continue;
                    }
                    let fresh = Sight {
                        revisions,
                        since: Instant::now(),
                    };
                    match sights.get_mut(&spot) {
                        Some(known) if known.revisions == fresh.revisions => {}
                        Some(known) => *known = fresh,
                        None => drop(sights.insert(spot, fresh)),
                    }
                    left.push(new);
                }
            }
        }
        open = left;
    }
    // Written again and again: nobody can say that such a document differs.
    found.settled += open.len() as u64;
    Ok(stay)
}
