//! Bodies that end when they are too long, or take too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

/// The body of a request, whose bytes are counted.
pub(super) struct Counted {
    body: WasiBody,
    limit: u64,
    left: u64,
}

impl Counted {
    /// A body of no more than `limit` bytes.
    pub(super) fn new(body: WasiBody, limit: u64) -> Self {
        Self { body, limit, left: limit }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && !take(&mut self.left, frame)
        {
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.limit)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, whose bytes and whose time are counted.
pub(super) struct Limited {
    body: reqwest::Body,
    limit: u64,
    left: u64,
    /// When the whole response must be there.
    deadline: Pin<Box<Sleep>>,
    /// When the next part must be there.
    next: Pin<Box<Sleep>>,
    between_bytes: Duration,
    /// Those that tell the time: a body may be read on any thread.
    threads: Handle,
    /// Its place among the requests at once.
    _held: OwnedSemaphorePermit,
}

impl Limited {
    /// A body of no more than `limit` bytes, that is there before the deadline, and with no longer pause than `between_bytes`.
    /// Called on the threads that its requests run on.
    pub(super) fn new(
        body: reqwest::Body,
        limit: u64,
        deadline: Pin<Box<Sleep>>,
        between_bytes: Duration,
        held: OwnedSemaphorePermit,
    ) -> Self {
        let next = Box::pin(tokio::time::sleep(between_bytes));
        Self { body, limit, left: limit, deadline, next, between_bytes, threads: Handle::current(), _held: held }
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        // Looked at first: a server that goes on answering never lets the guest wait.
        if this.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Error::HttpResponseTimeout)));
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if !take(&mut this.left, &frame) {
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(this.limit)))));
                }
                let _within = this.threads.enter();
                this.next.set(tokio::time::sleep(this.between_bytes));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) if error.is_timeout() => Poll::Ready(Some(Err(Error::HttpResponseTimeout))),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if this.next.as_mut().poll(context).is_ready() => {
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Takes the bytes of a frame from what is left; whether there were as many.
fn take(left: &mut u64, frame: &Frame<Bytes>) -> bool {
    let n_bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
    match left.checked_sub(n_bytes) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
