//! `wasi:io`: a poll that moves the clock instead of waiting, for closed guests; for others, waits no longer than the call may go on.

use bytes::Bytes;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::io::poll as waiting_poll;
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult, subscribe};

use crate::plugin::guest::Guest;
use crate::plugin::wasi::wait::wait;

/// How much the `blocking-write…-and-flush` functions take at once, as WASI says.
const BLOCKING_WRITE_BYTES_MAX: u64 = 4096;

impl Guest {
    /// Whether a pollable is to be waited for: all of them where time is real, and else what is not about time.
    fn is_waited_for(&self, pollable: &Resource<DynPollable>) -> bool {
        self.threads.is_some() && (self.clock.waits || !self.timers.contains_key(&pollable.rep()))
    }

    /// The real time has come for which a pollable waited: a clock that shows the batch's time goes on to it.
    fn has_come(&mut self, handle: u32) {
        if let Some(when) = self.timers.get(&handle) {
            self.clock.advance_to(*when);
        }
    }

    /// Waits for something that a stream does.
    fn with_input<T>(
        &mut self,
        stream: &Resource<DynInputStream>,
        work: impl AsyncFnOnce(&mut DynInputStream) -> StreamResult<T>,
    ) -> StreamResult<T> {
        let Guest { table, time, .. } = self;
        wait(time, work(table.get_mut(stream)?)).map_err(StreamError::Trap)?
    }

    /// The same for output.
    fn with_output<T>(
        &mut self,
        stream: &Resource<DynOutputStream>,
        work: impl AsyncFnOnce(&mut DynOutputStream) -> StreamResult<T>,
    ) -> StreamResult<T> {
        let Guest { table, time, .. } = self;
        wait(time, work(table.get_mut(stream)?)).map_err(StreamError::Trap)?
    }

    /// Counts what is about to be written, if that is to a file.
    fn charge_file(&mut self, stream: &Resource<DynOutputStream>, n_bytes: u64) -> StreamResult<()> {
        if self.file_streams.contains(&stream.rep()) {
            self.deeds.write_file(n_bytes).map_err(|stopped| StreamError::Trap(stopped.into()))?;
        }
        Ok(())
    }

    /// When a pollable is ready: a stream's at once, a timer's at its time.
    fn ready_at(&self, pollable: &Resource<DynPollable>) -> wasmtime::Result<u64> {
        self.table.get(pollable)?;
        Ok(self.timers.get(&pollable.rep()).copied().unwrap_or(0))
    }
}

impl poll::Host for Guest {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let times = pollables.iter().map(|pollable| self.ready_at(pollable)).collect::<wasmtime::Result<Vec<_>>>()?;
        let Some(earliest) = times.iter().min() else {
            wasmtime::bail!("it polled an empty list, for which it would wait for ever");
        };
        if pollables.iter().all(|pollable| self.is_waited_for(pollable)) {
            let handles: Vec<u32> = pollables.iter().map(Resource::rep).collect();
            let Guest { table, time, .. } = self;
            let ready = wait(time, waiting_poll::Host::poll(table, pollables))??;
            ready.iter().for_each(|index| self.has_come(handles[*index as usize]));
            return Ok(ready);
        }
        self.clock.advance_to(*earliest);
        let now = self.clock.now_ns();
        // The list came from a guest with a 32-bit memory: its indices fit.
        Ok((0_u32..).zip(&times).filter(|(_, time)| **time <= now).map(|(index, _)| index).collect())
    }
}

impl poll::HostPollable for Guest {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        if self.is_waited_for(&pollable) {
            let handle = pollable.rep();
            let Guest { table, time, .. } = self;
            let is_ready = wait(time, waiting_poll::HostPollable::ready(table, pollable))??;
            if is_ready {
                self.has_come(handle);
            }
            return Ok(is_ready);
        }
        Ok(self.ready_at(&pollable)? <= self.clock.now_ns())
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let when = self.ready_at(&pollable)?;
        if self.is_waited_for(&pollable) {
            let handle = pollable.rep();
            let Guest { table, time, .. } = self;
            wait(time, waiting_poll::HostPollable::block(table, pollable))??;
            self.has_come(handle);
            return Ok(());
        }
        self.clock.advance_to(when);
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.timers.remove(&pollable.rep());
        <ResourceTable as poll::HostPollable>::drop(&mut self.table, pollable)
    }
}

impl streams::Host for Guest {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(&mut self.table, error)
    }
}

impl streams::HostInputStream for Guest {
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        Ok(self.table.get_mut(&stream)?.read(size(len))?.into())
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        Ok(self.with_input(&stream, async |stream| stream.blocking_read(size(len)).await)?.into())
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.skip(size(len))? as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.with_input(&stream, async |stream| stream.blocking_skip(size(len)).await)? as u64)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl streams::HostOutputStream for Guest {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.check_write()? as u64)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, contents: Vec<u8>) -> StreamResult<()> {
        self.charge_file(&stream, contents.len() as u64)?;
        let stream = self.table.get_mut(&stream)?;
        if contents.len() > stream.check_write()? {
            return Err(StreamError::trap("it wrote more to a stream than `check-write` allowed"));
        }
        stream.write(contents.into())
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, contents: Vec<u8>) -> StreamResult<()> {
        if contents.len() as u64 > BLOCKING_WRITE_BYTES_MAX {
            return Err(StreamError::trap("it gave more than 4096 bytes to `blocking-write-and-flush`"));
        }
        self.charge_file(&stream, contents.len() as u64)?;
        self.with_output(&stream, async |stream| stream.blocking_write_and_flush(contents.into()).await)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.table.get_mut(&stream)?.flush()
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.with_output(&stream, async |stream| {
            stream.flush()?;
            stream.write_ready().await?;
            Ok(())
        })
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        self.charge_file(&stream, len)?;
        // Refuses more than `check-write` allows before it makes them.
        self.table.get_mut(&stream)?.write_zeroes(size(len))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        if len > BLOCKING_WRITE_BYTES_MAX {
            return Err(StreamError::trap("it gave more than 4096 bytes to `blocking-write-zeroes-and-flush`"));
        }
        self.charge_file(&stream, len)?;
        let zeroes = Bytes::from(vec![0; size(len)]);
        self.with_output(&stream, async |stream| stream.blocking_write_and_flush(zeroes).await)
    }

    fn splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let allowed = self.table.get_mut(&stream)?.check_write()?;
        let contents: Bytes = self.table.get_mut(&source)?.read(size(len).min(allowed))?;
        let n_bytes = contents.len() as u64;
        self.charge_file(&stream, n_bytes)?;
        self.table.get_mut(&stream)?.write(contents)?;
        Ok(n_bytes)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let allowed = self.with_output(&stream, async |stream| stream.write_ready().await)?;
        let len = size(len).min(allowed);
        let contents = self.with_input(&source, async |source| source.blocking_read(len).await)?;
        let n_bytes = contents.len() as u64;
        self.charge_file(&stream, n_bytes)?;
        self.table.get_mut(&stream)?.write(contents)?;
        Ok(n_bytes)
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.file_streams.remove(&stream.rep());
        self.table.delete(stream)?;
        Ok(())
    }
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
