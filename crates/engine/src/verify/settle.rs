//! A difference counts only if it stays: somebody may be writing to both ends meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_model::finding::{Difference, Mismatch};
use whimbrel_model::{Key, Store};

use super::ends::{Ends, Look};
use super::found::{Found, Revisions, Sight, Sights};
use super::notes::SourceWalk;
use super::work::keeping_what_is_known;
use crate::derive::Derived;
use crate::error::EngineError;
use crate::patience::patiently;
use crate::provenance::Spot;

/// Both ends must have stayed as they are for so long while they differ.
const STILL: Duration = Duration::from_millis(400);
/// What is written so often that it never stays is given up after these.
const PAUSES_MS: [u64; 5] = [0, 150, 300, 500, 900];

/// Looks at open differences until each is gone or has stayed. Returns those that stay, and counts all.
/// `sights` says how long each stayed before, and then how each was last seen.
pub(super) async fn settle(
    ends: &Arc<Ends>,
    found: &mut Found,
    sights: &mut Sights,
    patience: Duration,
) -> Result<Vec<Difference>, EngineError> {
    let mut stay = std::mem::take(&mut found.certain);
    let mut open = std::mem::take(&mut found.open);
    for pause in PAUSES_MS {
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let looks = patiently(patience, || ends.look(&open)).await?;
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

/// What each end has was noted at different times, so a document that was taken away and made again in
/// between seems left over, or a group that grew seems to differ. So the source is gone through once more for
/// what would be counted: whatever a source yields by now is judged by that source.
pub(super) async fn settle_notes(
    ends: &Arc<Ends>,
    scratch: &Arc<dyn Store>,
    found: &mut Found,
    stay: Vec<Difference>,
    mut sights: Sights,
    patience: Duration,
) -> Result<Vec<Difference>, EngineError> {
    let grouped = ends.deriver.rule.group.is_some();
    let unsure = |d: &Difference| d.what == Mismatch::Extra || grouped;
    let (unsure, mut sure): (Vec<_>, Vec<_>) = stay.into_iter().partition(|d| {
        // What was certain before has no sight.
        unsure(d) && sights.contains_key(&(d.collection.clone(), d.key.clone()))
    });
    if unsure.is_empty() {
        return Ok(sure);
    }
    let spots = unsure.iter().map(|d| (d.collection.clone(), d.key.clone()));
    let mut sources: HashMap<Spot, Vec<Key>> = spots.map(|spot| (spot, Vec::new())).collect();
    let mut walk = SourceWalk::begin(Arc::clone(ends), Arc::clone(scratch)).await?;
    while let Some(derived) = walk.next().await? {
        for (_, one) in derived {
            let Derived::Unit(unit) = one else { continue };
            for output in unit.outputs {
                let collection = output
                    .collection
                    .unwrap_or_else(|| ends.target.collection.clone());
                if let Some(known) = sources.get_mut(&(collection, output.key)) {
                    known.clone_from(&unit.sources);
                }
            }
        }
    }
    // The app may be about to take the target's document away, too.
    tokio::time::sleep(STILL).await;
    let mut before = Sights::new();
    for mut difference in unsure {
        let spot = (difference.collection.clone(), difference.key.clone());
        difference.sources = sources.remove(&spot).unwrap_or_default();
        if difference.sources.is_empty()
            && let Some(sight) = sights.remove(&spot)
        {
            before.insert(spot, sight);
        }
        found.uncount(difference.what);
        found.open.push(difference);
    }
    let seen: HashMap<Spot, Revisions> = before
        .iter()
        .map(|(spot, sight)| (spot.clone(), sight.revisions.clone()))
        .collect();
    for difference in settle(ends, found, &mut before, patience).await? {
        let spot = (difference.collection.clone(), difference.key.clone());
        let now = before.get(&spot).map(|sight| &sight.revisions);
        // Written while the source was gone through: it may have come from what was passed already.
        if seen.get(&spot).is_some_and(|then| now != Some(then)) {
            found.uncount(difference.what);
            found.settled += 1;
        } else {
            sure.push(difference);
        }
    }
    Ok(sure)
}
