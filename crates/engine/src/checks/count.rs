//! How many documents there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use whimbrel_model::check::CountCheck;
use whimbrel_model::{Document, KeyRange, Timestamp};

use super::findings::{Findings, Impossible, Wrong};
use super::measure::{Number, judge};
use super::runner::{Chosen, Measured, Runner, Side};
use crate::options::Place;
use crate::patience::retry_store;

pub(super) struct Count {
    pub check: CountCheck,
    pub own: Place,
    pub other: Option<Place>,
    /// Those whose documents are chosen by a condition, and so must be looked at.
    pub sides: Vec<Side>,
    pub counted: [AtomicU64; 2],
    pub patience: Duration,
}

#[async_trait]
impl Runner for Count {
    fn sides(&self) -> &[Side] {
        &self.sides
    }

    fn look(
        &self,
        side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        _findings: &mut Findings,
    ) {
        self.counted[side as usize].fetch_add(docs.len() as u64, Ordering::SeqCst);
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        let own = self.count(Side::Own, &self.own).await?;
        let mut measured = Measured::from([("documents".to_owned(), own.to_string())]);
        findings.looked_at = own;
        let other = match &self.other {
            Some(place) => {
                let count = self.count(Side::Other, place).await?;
                measured.insert(format!("documents of {place}"), count.to_string());
                Some((count, place))
            }
            None => None,
        };
        let expected = other.map(|(count, _)| Number::from(count));
        if let Err(why) = judge(
            &Number::from(own),
            &self.check.must,
            expected.as_ref(),
            self.check.tolerance.as_ref(),
        ) {
            let than = other.map(|(count, place)| format!(", where {place} has {count}"));
            findings.whole(Wrong {
                message: format!(
                    "there are {own} documents{}: {why}",
                    than.unwrap_or_default()
                ),
                ..Wrong::default()
            });
        }
        Ok(measured)
    }
}

impl Count {
    async fn count(&self, side: Side, place: &Place) -> Result<u64, Impossible> {
        if self.sides.contains(&side) {
            return Ok(self.counted[side as usize].load(Ordering::SeqCst));
        }
        place.must_exist(self.patience).await?;
        let all = KeyRange::all();
        let count = retry_store(self.patience, || place.store.count(&place.collection, &all));
        Ok(count.await?)
    }
}
