//! `wasi:io`: streams that are always ready, and a poll that moves the clock instead of waiting.

use bytes::Bytes;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult, subscribe};

use crate::plugin::guest::Guest;

/// How much the `blocking-write…-and-flush` functions take at once, as WASI says.
const BLOCKING_WRITE_BYTES_MAX: u64 = 4096;

impl Guest {
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
        self.clock.advance_to(*earliest);
        let now = self.clock.now_ns();
        // The list came from a guest with a 32-bit memory: its indices fit.
        Ok((0_u32..).zip(&times).filter(|(_, time)| **time <= now).map(|(index, _)| index).collect())
    }
}

impl poll::HostPollable for Guest {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Ok(self.ready_at(&pollable)? <= self.clock.now_ns())
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let time = self.ready_at(&pollable)?;
        self.clock.advance_to(time);
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
        self.read(stream, len)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Ok(self.table.get_mut(&stream)?.skip(size(len))? as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        self.skip(stream, len)
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
        self.write(stream, contents)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.table.get_mut(&stream)?.flush()
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.flush(stream)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        // Refuses more than `check-write` allows before it makes them.
        self.table.get_mut(&stream)?.write_zeroes(size(len))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        if len > BLOCKING_WRITE_BYTES_MAX {
            return Err(StreamError::trap("it gave more than 4096 bytes to `blocking-write-zeroes-and-flush`"));
        }
        self.write_zeroes(stream, len)
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
        self.table.get_mut(&stream)?.write(contents)?;
        Ok(n_bytes)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice(stream, source, len)
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
