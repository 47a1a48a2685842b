//! Waiting in the host for a guest, no longer than its call may go on.
//!
//! While a guest waits in the host no epoch interrupts it: whoever waits looks at the call's time itself, once an epoch. What
//! is waited for goes on, on threads of its own, and is dropped when the wait is over.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use wasmtime::Trap;

use crate::plugin::call_time::CallTime;
use crate::plugin::engine::EPOCH_TICK;

/// Waits for `future`, on this thread; no runtime blocks it, because it may be a thread of another one. What the future begins
/// elsewhere, it begins on [`Guest::threads`](crate::plugin::guest::Guest::threads), which the call is made within.
///
/// # Errors
///
/// A trap when the call is over: [`CallTime::over`] says why.
pub(crate) fn wait<T>(time: &mut CallTime, future: impl Future<Output = T>) -> wasmtime::Result<T> {
    let mut future = pin!(future);
    // Most is ready at once: a closed guest waits for nothing.
    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(value);
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ok(value);
        }
        if !time.may_go_on() {
            return Err(Trap::Interrupt.into());
        }
        thread::park_timeout(EPOCH_TICK);
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
