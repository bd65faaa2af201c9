//! Checks written in Rust.

use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_model::check::{CustomCheck, Found};
use whimbrel_model::{Draft, Key};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Measured, Runner, Side};

pub(super) struct Custom {
    pub check: Arc<dyn CustomCheck>,
}

#[async_trait]
impl Runner for Custom {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    async fn take(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        findings: &mut Findings,
    ) -> Result<(), Impossible> {
        // Copies (of little more than the bytes' addresses): what it does to them must not reach other checks.
        let mut page: Vec<(Key, Draft)> = (0..docs.len())
            .filter_map(|nth| {
                docs.get(nth)
                    .map(|doc| (doc.key.clone(), doc.draft.clone()))
            })
            .collect();
        if !page.is_empty() {
            let found = self.check.page(&mut page).await?;
            note(findings, found);
        }
        Ok(())
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        let found = self.check.finish().await?;
        note(findings, found);
        Ok(Measured::new())
    }
}

fn note(findings: &mut Findings, found: Vec<Found>) {
    for found in found {
        let wrong = Wrong {
            path: found.path,
            message: found.message,
            detail: found.detail,
        };
        match found.key {
            Some(key) => findings.document(Some(&key), None, vec![wrong]),
            None => findings.whole(wrong),
        }
    }
}
