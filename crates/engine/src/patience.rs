//! Waiting for a store that says that the same call may succeed later.

use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use whimbrel_model::{StoreError, StoreErrorKind};

use crate::error::EngineError;

/// Calls again, with growing jittered pauses, while the store says that the same call may succeed later.
pub(crate) async fn retry_store<T, F>(
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + patience;
    let mut pauses = pauses();
    loop {
        match call().await {
            Err(e) if e.kind == StoreErrorKind::Transient && Instant::now() < deadline => {
                tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(5))).await;
            }
            other => return other,
        }
    }
}

pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    backon::ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .build()
}

/// The same for what may fail in other ways too.
pub(crate) async fn patiently<T, F>(
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    retry_store(patience, || {
        let call = call();
        async {
            match call.await {
                Err(EngineError::Store(error)) => Err(error),
                other => Ok(other),
            }
        }
    })
    .await?
}
