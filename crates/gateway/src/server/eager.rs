//! Requests begin where they came in.

use futures::FutureExt;
use hyper::rt::Executor;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Waker};

/// Begins each request's work at once, in the task of its connection, and only what must wait (or gives way) gets a task of
/// its own. Most requests are answered without waiting; a task for each, and waking the connection when it is done, would
/// cost more than the answer.
#[derive(Clone, Copy, Debug)]
pub struct Eager;

impl<F> Executor<F> for Eager
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        // A panic ends the request, as it would in a task of its own, and not its connection.
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        // Nobody is to be woken: what is not over is looked at again at once, by its task.
        let mut nobody = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut nobody).is_pending() {
            tokio::spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_need_not_wait_is_over_at_once() {
        let (done, mut over) = oneshot::channel();
        Eager.execute(async move {
            let _ = done.send(1);
        });
        assert_eq!(over.try_recv(), Ok(1));
    }

    #[tokio::test]
    async fn what_must_wait_goes_on_by_itself() {
        let (go, may) = oneshot::channel();
        let (done, over) = oneshot::channel();
        Eager.execute(async move {
            let said: u32 = may.await.unwrap_or(0);
            tokio::task::yield_now().await;
            let _ = done.send(said);
        });
        go.send(7).unwrap();
        assert_eq!(over.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_request() {
        let (done, over) = oneshot::channel::<()>();
        Eager.execute(async move {
            let _done = done;
            panic!("as a handler might");
        });
        assert!(over.await.is_err());
    }
}
