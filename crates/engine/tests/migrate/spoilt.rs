//! A step that does its work, and something of the test's own before or after it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use whimbrel_engine::EngineError;
use whimbrel_engine::migrate::{Again, Estimate, StepAction, StepContext, StepError};
use whimbrel_model::ledger::StepReport;
use whimbrel_model::migration::Inverse;
use whimbrel_testkit::crashing::Moment;

use crate::world::Part;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Forward,
    Validate,
    Backward,
}

type Hook = dyn Fn(Work, Moment) -> BoxFuture<'static, Result<(), StepError>> + Send + Sync;

struct Spoilt {
    inner: Arc<dyn StepAction>,
    hook: Box<Hook>,
}

/// An error of the hook before the work keeps it from being done; after it, it is what the orchestrator
/// hears of work that was done.
pub fn spoilt(
    part: &Part,
    hook: impl Fn(Work, Moment) -> BoxFuture<'static, Result<(), StepError>> + Send + Sync + 'static,
) -> Part {
    let action = Spoilt {
        inner: Arc::clone(&part.action),
        hook: Box::new(hook),
    };
    Part {
        action: Arc::new(action),
        ..part.clone()
    }
}

#[async_trait]
impl StepAction for Spoilt {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        self.inner.estimate().await
    }

    fn inverse(&self) -> Option<Inverse> {
        self.inner.inverse()
    }

    fn again(&self) -> Again {
        self.inner.again()
    }

    fn writes(&self) -> bool {
        self.inner.writes()
    }

    fn judges(&self) -> bool {
        self.inner.judges()
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        (self.hook)(Work::Forward, Moment::Before).await?;
        let report = self.inner.forward(cx).await?;
        (self.hook)(Work::Forward, Moment::After).await?;
        Ok(report)
    }

    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        (self.hook)(Work::Validate, Moment::Before).await?;
        self.inner.validate(cx).await?;
        (self.hook)(Work::Validate, Moment::After).await
    }

    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        (self.hook)(Work::Backward, Moment::Before).await?;
        let report = self.inner.backward(cx).await?;
        (self.hook)(Work::Backward, Moment::After).await?;
        Ok(report)
    }
}
