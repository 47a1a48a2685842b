//! Station 2: rows that were received and not yet processed: in memory within a budget, beyond it on disk within a quota.
//!
//! ```text
//!  Intake ── push ──▶ waiting blocks of a source ── allocate ──▶ blocks of a batch ── get, in its tasks ──▶ rows
//!            │ spills the newest that wait, or waits, while the       │
//!            │ budget is spent                                        │
//!            └──────────────────◀── release, when the batch has ended ┘
//! ```
//!
//! The laws: nothing that was pushed is lost, rows of one source stay in order, and what is held never exceeds the
//! budget, but for one block that is larger than the budget itself, which is let in when nothing else is held.
//!
//! **What is charged** is the memory that rows keep alive, not the bytes one sees of them: a slice of a large buffer is
//! charged with the whole buffer. A slice that keeps alive much more than it shows is copied before it is stored, so
//! that a receiver may push slices of what it read without paying for all of it each time. Each byte is charged once,
//! from `push` to `release`.
//!
//! **Small pushes** of one source are gathered in one open block and become one batch of rows when a task first asks for
//! them, so that ten thousand pushes a second of one line each cost neither ten thousand blocks nor a copy under the
//! lock.
//!
//! **On disk** go the newest blocks that wait, which are needed last, when there is no room for a push: written by whoever
//! pushes, first in line, outside of the lock. A block on disk is charged nothing, and is read each time it is asked for; what is
//! read is the task's. When the disk has no room either the push waits, and says so. So that small pushes do not each go to
//! disk by themselves, what belongs to batches leaves a quarter of the budget to what waits.

mod spilling;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

use crate::error::{Error, Explain, Fault, Internal};
use crate::ids::BlockId;
use crate::spill::{Spill, Spilled};
use spilling::{BlocksOnDisk, Spilling};

#[cfg(test)]
mod tests;

/// A push of at most this many bytes is gathered with its neighbours instead of becoming a block of its own.
///
/// What a socket gives in one read when it is busy, so that only sources that trickle are gathered.
pub const SMALL_PUSH_BYTES_MAX: u64 = 64 << 10;

/// Bytes at which an open block of gathered pushes is closed.
///
/// Four of the largest small pushes, or some 500 single lines, each of which costs half a kilobyte until it is merged.
pub const OPEN_BLOCK_BYTES_MAX: u64 = 256 << 10;

/// What is charged for a push beside its columns: the list entry, the shared pointers, the allocator's rounding.
const PUSH_OVERHEAD_BYTES: u64 = 128;

/// Of so many of the newest blocks one that is worth a write is looked for.
const NEWEST_MAX: usize = 16;

/// A slice is copied when it keeps alive more than this many times the bytes it shows.
const SLICE_WASTE_FACTOR: u64 = 2;

/// How often a push that waits for room asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Rows that were received and not yet processed.
///
/// Shared by all receivers, the batch generator and the tasks of a job.
#[derive(Debug)]
pub struct BlockStore {
    /// Bytes that may be held.
    budget_bytes: u64,
    /// One mutex for everything: it is held for some list operations, never while rows are copied or measured, and a
    /// push takes it once. Finer locks would have to agree on one budget all the same.
    state: Mutex<State>,
    /// Signalled, to all, when bytes were released or the head of `State::line` has changed. All of them wake because
    /// only the first in line may go, and a condition variable cannot choose.
    room: Condvar,
    /// Signalled when rows came or somebody called `wake`. The flag it goes with is kept in `State` until a waiter
    /// has seen it, so that a wake before the wait is not lost.
    rows: Condvar,
    /// Where blocks go that there is no room for; `None`: pushes wait.
    on_disk: Option<BlocksOnDisk>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes held in memory by waiting and allocated blocks.
    charged_bytes: u64,
    /// Those of allocated blocks.
    allocated_bytes: u64,
    /// The most that was ever charged.
    peak_bytes: u64,
    /// The next block's number.
    next_block: u64,
    /// The next ticket of `line`.
    next_ticket: u64,
    /// Tickets of pushes that wait for room, first come first served: a large push is not overtaken for ever by
    /// small ones.
    line: VecDeque<u64>,
    /// What waits to be allocated, by source.
    sources: Vec<Queue>,
    /// Rows that wait to be allocated, of all sources.
    waiting_rows: u64,
    /// The waiting blocks that are in memory, with their sources: the newest goes to disk first.
    in_memory: BTreeSet<(BlockId, usize)>,
    /// What is known of the disk.
    spilling: Spilling,
    /// Whether `wake` was called since a waiter last looked.
    woken: bool,
    /// What belongs to batches.
    allocated: HashMap<BlockId, Allocated>,
}

/// The waiting blocks of one source, oldest first; only the last may be open.
#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<WaitingBlock>,
    n_rows: u64,
    n_bytes: u64,
}

#[derive(Debug)]
struct WaitingBlock {
    id: BlockId,
    contents: Contents,
    n_rows: u64,
    n_bytes: u64,
    /// Whether small pushes may still join it.
    open: bool,
}

#[derive(Debug)]
struct Allocated {
    /// What is given back by `release`; nothing for what is on disk.
    charged_bytes: u64,
    /// Locked by tasks that want the rows, for as long as merging takes; the store's lock is not held meanwhile.
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug)]
enum Contents {
    /// As it was pushed.
    Pieces(Vec<RecordBatch>),
    /// As it is read.
    Merged(RecordBatch),
    /// On disk; shared with a task that reads it while it is released.
    Spilled(Arc<Spilled>),
}

/// A block that belongs to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its number.
    pub id: BlockId,
    /// Its rows, at least one.
    pub n_rows: u64,
    /// The bytes it is charged with, or was before it went to disk.
    pub n_bytes: u64,
}

/// What of a source waits to be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Blocks.
    pub blocks: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes they are charged with, or were before they went to disk.
    pub bytes: u64,
}

/// What the store holds of all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Bytes that may be held.
    pub budget_bytes: u64,
    /// Bytes that are held in memory, waiting or allocated.
    pub bytes: u64,
    /// The most bytes that were ever held.
    pub peak_bytes: u64,
    /// Rows that wait to be allocated.
    pub waiting_rows: u64,
}

/// The store takes no more rows of this source: whoever pushes stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source is being stopped")]
pub struct Stopped;

impl Explain for Stopped {
    fn fault(&self) -> Fault {
        Fault::User
    }
}

/// A block was asked for that is not there.
#[derive(Debug, thiserror::Error)]
#[error("block {id} is not in the block store: it was released, or never allocated")]
pub struct UnknownBlock {
    /// Its number.
    pub id: BlockId,
}

impl Explain for UnknownBlock {
    fn fault(&self) -> Fault {
        Fault::Host
    }
}

impl BlockStore {
    /// A store that holds up to `budget_bytes`; who pushes more waits.
    #[must_use]
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, state: Mutex::default(), room: Condvar::new(), rows: Condvar::new(), on_disk: None }
    }

    /// A store that holds up to `budget_bytes` in memory, and more on disk; who pushes what neither has room for waits.
    #[must_use]
    pub fn spilling(budget_bytes: u64, spill: &Arc<Spill>) -> Self {
        Self { on_disk: Some(BlocksOnDisk::new(spill)), ..Self::new(budget_bytes) }
    }

    /// Adds rows of a source, after those it has already; while there is no room, moves others to disk, or waits.
    ///
    /// Pushes that wait are let in in the order they came. `stop` is asked every few milliseconds while waiting; when
    /// there is room at once it is not asked.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when `stop` said so while there was no room. The rows were not taken.
    pub fn push(&self, source: usize, rows: RecordBatch, stop: &dyn Fn() -> bool) -> Result<(), Stopped> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = copy_if_wasteful(rows);
        let n_bytes = memory_bytes(&rows) + PUSH_OVERHEAD_BYTES;
        let mut state = self.lock();
        let mut record = None;
        if !state.line.is_empty() || !state.fits(n_bytes, self.budget_bytes) {
            (state, record) = self.wait_for_room(state, &rows, n_bytes, stop)?;
        }
        let was_empty = state.waiting_rows == 0;
        match record {
            Some(record) => state.add_spilled(source, record, n_bytes),
            None => state.add(source, rows, n_bytes),
        }
        drop(state);
        if was_empty {
            self.rows.notify_all();
        }
        Ok(())
    }

    /// Waits until there is room for rows, and makes room on disk. Gives the rows as they are on disk when they went there
    /// themselves, because all that is in memory belongs to batches.
    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        rows: &RecordBatch,
        n_bytes: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<(MutexGuard<'a, State>, Option<Spilled>), Stopped> {
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.line.push_back(ticket);
        let mut record = None;
        loop {
            if state.line.front() == Some(&ticket) {
                if record.is_some() || state.fits(n_bytes, self.budget_bytes) {
                    state.line.pop_front();
                    // The next in line may fit as well.
                    self.room.notify_all();
                    return Ok((state, record));
                }
                if let Some(on_disk) = &self.on_disk
                    && state.spilling.may_try()
                {
                    let newest = state.newest_in_memory();
                    drop(state);
                    let written = match &newest {
                        Some((.., pieces)) => on_disk.write(pieces),
                        None => on_disk.write(std::slice::from_ref(rows)),
                    };
                    state = self.lock();
                    match (written, newest) {
                        (Ok(written), Some((id, source, _))) => {
                            state.spilling.went_well();
                            state.move_to_disk(id, source, written);
                        }
                        (Ok(written), None) => {
                            state.spilling.went_well();
                            record = Some(written);
                        }
                        (Err(error), _) => state.spilling.failed(&error),
                    }
                    continue;
                }
            }
            if stop() {
                state.line.retain(|other| *other != ticket);
                self.room.notify_all();
                return Err(Stopped);
            }
            state = self.room.wait_timeout(state, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the oldest waiting blocks of a source to a batch: as many as `max_bytes` allows, and at least one if any
    /// waits. They stay charged until they are released. With a disk, batches that have not been released have no more than three quarters of the
    /// memory together, but for that one.
    #[must_use]
    pub fn allocate(&self, source: usize, max_bytes: u64) -> Vec<BlockMeta> {
        let mut state = self.lock();
        let mut metas = Vec::new();
        let mut total_bytes = 0_u64;
        // With a disk, something is always left to what waits: to be gathered, and to go there.
        let memory_max = if self.on_disk.is_some() { self.budget_bytes / 4 * 3 } else { u64::MAX };
        while let Some(block) =
            state.take_oldest(source, max_bytes.saturating_sub(total_bytes), memory_max, metas.is_empty())
        {
            total_bytes += block.n_bytes;
            metas.push(BlockMeta { id: block.id, n_rows: block.n_rows, n_bytes: block.n_bytes });
            let charged_bytes = if block.is_in_memory() { block.n_bytes } else { 0 };
            state.allocated_bytes += charged_bytes;
            let contents = Arc::new(Mutex::new(block.contents));
            state.allocated.insert(block.id, Allocated { charged_bytes, contents });
        }
        metas
    }

    /// The rows of an allocated block. Costs a copy the first time, if the block was gathered from small pushes; and is read
    /// each time, if it is on disk.
    ///
    /// # Errors
    ///
    /// [`UnknownBlock`] when it was released; [`SpillError`](crate::spill::SpillError) when it cannot be read back.
    pub fn get(&self, id: BlockId) -> Result<RecordBatch, Error> {
        let contents = match self.lock().allocated.get(&id) {
            Some(block) => Arc::clone(&block.contents),
            None => return Err(UnknownBlock { id }.into()),
        };
        let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = match &*contents {
            Contents::Merged(rows) => return Ok(rows.clone()),
            Contents::Pieces(pieces) => merge(pieces)?,
            Contents::Spilled(record) => {
                let record = Arc::clone(record);
                // Tasks that read slices of it do not wait for each other.
                drop(contents);
                return spilling::read(&record);
            }
        };
        let n_bytes = memory_bytes(&merged) + PUSH_OVERHEAD_BYTES;
        // The pieces are freed here, before their charge is given back.
        *contents = Contents::Merged(merged.clone());
        drop(contents);
        self.lower_charge(id, n_bytes);
        Ok(merged)
    }

    /// Frees blocks: the batch they belong to has ended. Unknown ones are passed over, so that releasing twice is
    /// releasing once.
    pub fn release(&self, ids: &[BlockId]) {
        let mut state = self.lock();
        let freed: Vec<Allocated> = ids.iter().filter_map(|id| state.allocated.remove(id)).collect();
        let n_bytes = freed.iter().map(|block| block.charged_bytes).sum::<u64>();
        state.charged_bytes -= n_bytes;
        state.allocated_bytes -= n_bytes;
        drop(state);
        // Freed outside the lock: it may be hundreds of megabytes, or files.
        drop(freed);
        if let Some(on_disk) = &self.on_disk {
            on_disk.tidy();
        }
        self.room.notify_all();
    }

    /// Waits until rows of any source wait to be allocated, [`wake`](Self::wake) is called, or the time is over.
    /// Returns whether rows wait. A wake that came before the call counts.
    pub fn wait_for_rows(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let (mut state, _) = self
            .rows
            .wait_timeout_while(state, timeout, |state| state.waiting_rows == 0 && !state.woken)
            .unwrap_or_else(PoisonError::into_inner);
        state.woken = false;
        state.waiting_rows > 0
    }

    /// Ends the present or the next [`wait_for_rows`](Self::wait_for_rows): something else is to be looked at.
    pub fn wake(&self) {
        self.lock().woken = true;
        self.rows.notify_all();
    }

    /// What of a source waits to be allocated.
    #[must_use]
    pub fn waiting(&self, source: usize) -> Waiting {
        let state = self.lock();
        state.sources.get(source).map_or_else(Waiting::default, |queue| Waiting {
            blocks: queue.blocks.len() as u64,
            rows: queue.n_rows,
            bytes: queue.n_bytes,
        })
    }

    /// What is held of all sources.
    #[must_use]
    pub fn held(&self) -> Held {
        let state = self.lock();
        Held {
            budget_bytes: self.budget_bytes,
            bytes: state.charged_bytes,
            peak_bytes: state.peak_bytes,
            waiting_rows: state.waiting_rows,
        }
    }

    fn lower_charge(&self, id: BlockId, n_bytes: u64) {
        let mut state = self.lock();
        // Released meanwhile: nothing is charged any more. Never raised: the merged rows take no more than their pieces
        // did, but for a bit a row where only some pieces had nulls, and room for it was not asked for.
        let Some(block) = state.allocated.get_mut(&id) else { return };
        let saved_bytes = block.charged_bytes.saturating_sub(n_bytes);
        block.charged_bytes -= saved_bytes;
        state.charged_bytes -= saved_bytes;
        state.allocated_bytes -= saved_bytes;
        drop(state);
        if saved_bytes > 0 {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock while the state is between two truths.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, n_bytes: u64, budget_bytes: u64) -> bool {
        self.charged_bytes == 0 || self.charged_bytes.saturating_add(n_bytes) <= budget_bytes
    }

    fn add(&mut self, source: usize, rows: RecordBatch, n_bytes: u64) {
        let n_rows = rows.num_rows() as u64;
        self.charged_bytes += n_bytes;
        self.peak_bytes = self.peak_bytes.max(self.charged_bytes);
        self.waiting_rows += n_rows;
        if self.sources.len() <= source {
            self.sources.resize_with(source + 1, Queue::default);
        }
        let queue = &mut self.sources[source];
        queue.n_rows += n_rows;
        queue.n_bytes += n_bytes;
        let small = n_bytes <= SMALL_PUSH_BYTES_MAX;
        if small
            && let Some(open) = queue.blocks.back_mut()
            && open.open
            && open.n_bytes + n_bytes <= OPEN_BLOCK_BYTES_MAX
            && let Contents::Pieces(pieces) = &mut open.contents
            // A change of schema metadata would be lost in a merge: such rows are not gathered.
            && pieces[0].schema_ref() == rows.schema_ref()
        {
            pieces.push(rows);
            open.n_rows += n_rows;
            open.n_bytes += n_bytes;
            return;
        }
        let id = BlockId(self.next_block);
        self.next_block += 1;
        self.in_memory.insert((id, source));
        let contents = Contents::Pieces(vec![rows]);
        queue.blocks.push_back(WaitingBlock { id, contents, n_rows, n_bytes, open: small });
    }

    /// Adds rows that are on disk already, and would be charged with `n_bytes` in memory.
    fn add_spilled(&mut self, source: usize, record: Spilled, n_bytes: u64) {
        let n_rows = record.n_rows();
        self.waiting_rows += n_rows;
        if self.sources.len() <= source {
            self.sources.resize_with(source + 1, Queue::default);
        }
        let queue = &mut self.sources[source];
        queue.n_rows += n_rows;
        queue.n_bytes += n_bytes;
        let id = BlockId(self.next_block);
        self.next_block += 1;
        let contents = Contents::Spilled(Arc::new(record));
        queue.blocks.push_back(WaitingBlock { id, contents, n_rows, n_bytes, open: false });
    }

    /// The newest waiting block that is worth a write, or the newest at all: its number, source and rows. It takes no more
    /// rows.
    fn newest_in_memory(&mut self) -> Option<(BlockId, usize, Vec<RecordBatch>)> {
        let Self { in_memory, sources, .. } = self;
        let find = |id: BlockId, source: usize| {
            let index = sources[source].blocks.binary_search_by_key(&id, |block| block.id).ok()?;
            Some((source, index))
        };
        let newest = in_memory.iter().rev().take(NEWEST_MAX).filter_map(|&(id, source)| find(id, source));
        let newest: Vec<(usize, usize)> = newest.collect();
        let is_worth =
            |&&(source, index): &&(usize, usize)| sources[source].blocks[index].n_bytes >= SMALL_PUSH_BYTES_MAX;
        let &(source, index) = newest.iter().find(is_worth).or(newest.first())?;
        let block = &mut sources[source].blocks[index];
        block.open = false;
        match &block.contents {
            Contents::Pieces(pieces) => Some((block.id, source, pieces.clone())),
            Contents::Merged(_) | Contents::Spilled(_) => None,
        }
    }

    /// Puts what was written in the place of a block's rows, unless it belongs to a batch by now.
    fn move_to_disk(&mut self, id: BlockId, source: usize, record: Spilled) {
        let queue = &mut self.sources[source];
        if let Ok(index) = queue.blocks.binary_search_by_key(&id, |block| block.id) {
            let block = &mut queue.blocks[index];
            block.contents = Contents::Spilled(Arc::new(record));
            self.charged_bytes -= block.n_bytes;
            self.in_memory.remove(&(id, source));
        }
    }

    /// The oldest block of a source, if it has no more than `max_bytes` and all of batches no more than `memory_max` in memory;
    /// or `any_size`.
    fn take_oldest(&mut self, source: usize, max_bytes: u64, memory_max: u64, any_size: bool) -> Option<WaitingBlock> {
        let room = memory_max.saturating_sub(self.allocated_bytes);
        let queue = self.sources.get_mut(source)?;
        let block = queue.blocks.pop_front_if(|block| {
            any_size || block.n_bytes <= max_bytes && (!block.is_in_memory() || block.n_bytes <= room)
        })?;
        queue.n_rows -= block.n_rows;
        queue.n_bytes -= block.n_bytes;
        self.waiting_rows -= block.n_rows;
        self.in_memory.remove(&(block.id, source));
        Some(block)
    }
}

impl WaitingBlock {
    fn is_in_memory(&self) -> bool {
        !matches!(self.contents, Contents::Spilled(_))
    }
}

/// Makes one batch of the pieces of a block, which has at least one.
fn merge(pieces: &[RecordBatch]) -> Result<RecordBatch, Error> {
    if let [only] = pieces {
        return Ok(only.clone());
    }
    let schema = pieces[0].schema();
    concat_batches(&schema, pieces.iter())
        .map_err(|source| Internal { doing: "merging the rows of a block".into(), source }.into())
}

/// Bytes of memory that rows keep alive.
fn memory_bytes(rows: &RecordBatch) -> u64 {
    rows.get_array_memory_size() as u64
}

/// Copies rows that are a small part of what they keep alive.
fn copy_if_wasteful(rows: RecordBatch) -> RecordBatch {
    let alive_bytes = memory_bytes(&rows);
    // Small things are cheap to keep and dear to look at twice.
    if alive_bytes <= 4 * PUSH_OVERHEAD_BYTES {
        return rows;
    }
    let data: Vec<_> = rows.columns().iter().map(|column| column.to_data()).collect();
    // What cannot be measured is stored, and charged, as it is.
    let shown_bytes: Option<u64> = data.iter().map(|data| data.get_slice_memory_size().ok().map(|n| n as u64)).sum();
    if shown_bytes.is_none_or(|shown| alive_bytes <= shown * SLICE_WASTE_FACTOR + 8 * PUSH_OVERHEAD_BYTES) {
        return rows;
    }
    let columns = data
        .iter()
        .map(|data| {
            let mut copy = MutableArrayData::new(vec![data], false, data.len());
            copy.try_extend(0, 0, data.len())?;
            Ok(make_array(copy.freeze()))
        })
        .collect::<Result<_, ArrowError>>();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    // The copy has the types and the lengths of the original; should arrow ever disagree, the original is still right.
    columns.and_then(|columns| RecordBatch::try_new_with_options(rows.schema(), columns, &options)).unwrap_or(rows)
}
