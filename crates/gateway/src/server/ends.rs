//! How streams that have no end of their own end when the server stops.

use super::{Body, Counted};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::Status;

/// Is over when the server begins to stop, or is gone.
type Ending = BoxFuture<'static, ()>;

fn ending(mut watched: watch::Receiver<bool>) -> Ending {
    async move {
        let _ = watched.wait_for(|ending| *ending).await;
    }
    .boxed()
}

/// What a listener hears: at the end of the server UNAVAILABLE, upon which clients come back and go on from where
/// they were.
pub(super) struct Listening {
    /// `None` when it is over.
    body: Option<Body>,
    ending: Ending,
    counted: Option<Counted>,
}

impl Listening {
    pub(super) fn new(body: Body, watched: watch::Receiver<bool>, counted: Counted) -> Self {
        Self {
            body: Some(body),
            ending: ending(watched),
            counted: Some(counted),
        }
    }
}

impl HttpBody for Listening {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // First, because the end of the server makes the service end the stream, too, as if all were well.
        if this.ending.as_mut().poll(context).is_pending() {
            let polled = Pin::new(body).poll_frame(context);
            if let Poll::Ready(None) = polled {
                this.body = None;
                this.counted = None;
            }
            return polled;
        }
        this.body = None;
        this.counted = None;
        let mut trailers = HeaderMap::new();
        let status = Status::unavailable("the server stops; listen again");
        let told = status.add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

/// What a stream's client sends: nothing more once the server stops, so that the writes taken in are finished and
/// acknowledged, and the stream then ends.
pub(super) struct Sending<B> {
    body: Option<B>,
    ending: Ending,
}

impl<B> Sending<B> {
    pub(super) fn new(body: B, watched: watch::Receiver<bool>) -> Self {
        Self {
            body: Some(body),
            ending: ending(watched),
        }
    }
}

impl<B: HttpBody + Unpin> HttpBody for Sending<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.ending.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.body = None;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

/// A body, counted for as long as it flows.
pub(super) struct Kept {
    body: Body,
    _counted: Counted,
}

impl Kept {
    pub(super) fn new(body: Body, counted: Counted) -> Self {
        Self {
            body,
            _counted: counted,
        }
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
