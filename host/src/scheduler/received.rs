//! Rows of receivers that are in the write-ahead log: those from before a crash, and the numbers of those that come.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::block_store::BlockMeta;
use crate::checkpoint::{LogPlace, Offsets, Progress, Resumed};
use crate::error::Error;
use crate::ids::BlockId;
use crate::job::Durability;
use crate::plan::Plan;
use crate::scheduler::batch::{SourceInput, deal_out};
use crate::scheduler::recover::read_before;
use crate::source::{OffsetRange, RangeReader};
use crate::write_ahead_log::{
    LogError, LogOptions, LogReader, LogSource, RECEIVED, ReceivedLog, Unread, WriteAheadLog,
};

/// Opens the log of a job's receivers; `None`: the job keeps no received rows, and there are none from before. `receivers` says which of its
/// sources are some.
///
/// # Errors
///
/// When it cannot be read, is damaged, or lacks rows that a batch was begun with.
pub(crate) fn open_received(
    plan: &Plan,
    resumed: &Resumed,
    progress: &Progress,
    receivers: &[bool],
) -> Result<Option<Arc<WriteAheadLog>>, Error> {
    let Some(directory) = log_directory(plan) else { return Ok(None) };
    let keeps = plan.sources.iter().zip(receivers).any(|(source, &is)| is && source.durability != Durability::None);
    let pending_rows = || resumed.pending.iter().flat_map(|offsets| &offsets.sources).any(|of| of.received().is_some());
    let mut kept = Vec::new();
    for batch in resumed.checkpoint.batches("offsets")? {
        // One that cannot be read is of no batch that is run again: that was seen before.
        kept.extend(resumed.checkpoint.offsets(batch).ok().flatten());
    }
    let places = |source: &str| {
        let sources = kept.iter().flat_map(|offsets| &offsets.sources).filter(|of| of.source == *source);
        sources.filter_map(|of| of.log_place()).collect::<Vec<_>>()
    };
    let waits = |source: &str| {
        let places = places(source);
        let on_disk = places.iter().map(|place| place.on_disk).max();
        on_disk > places.iter().map(|place| place.taken).max()
    };
    let rows_wait = || plan.sources.iter().any(|source| waits(&source.name));
    if !keeps && !pending_rows() && !rows_wait() && !WriteAheadLog::is_there(&directory)? {
        return Ok(None);
    }
    let sources = plan.sources.iter().zip(receivers).map(|(source, &is_receiver)| {
        let read = read_before(&source.name, progress, &resumed.pending);
        let place = read.iter().filter(|range| is_received(range)).map(|range| range.end).max().unwrap_or(0);
        let first_of = |batches: &[Offsets]| {
            let sources = batches.iter().flat_map(|offsets| &offsets.sources).filter(|of| of.source == source.name);
            sources.filter_map(|of| of.received()).map(|(start, _)| start).min().unwrap_or(place)
        };
        LogSource {
            name: source.name.clone(),
            schema: source.physical_schema(),
            is_receiver,
            place,
            reads_from: first_of(&resumed.pending),
            begun: begun_rows(resumed, &source.name).filter(|_| is_receiver).collect(),
            kept_from: first_of(&kept),
            known_end: known_end(&places(&source.name), place, is_receiver && source.durability != Durability::None),
        }
    });
    let options = options(plan, directory, &resumed.log);
    let log = WriteAheadLog::open(&options, sources.collect())?;
    for of in resumed.pending.iter().flat_map(|offsets| &offsets.sources) {
        let index = plan.sources.iter().position(|source| source.name == of.source);
        if of.received().is_some() && index.is_none_or(|index| !receivers[index]) {
            return Err(LogError::NoReceiver { directory: options.directory, name: of.source.clone() }.into());
        }
    }
    Ok(Some(log))
}

/// The rows of a source that batches were begun with which are not done, each range that a task reads.
fn begun_rows(resumed: &Resumed, source: &str) -> impl Iterator<Item = (u64, u64)> {
    let sources = resumed.pending.iter().flat_map(|offsets| &offsets.sources).filter(move |of| of.source == *source);
    let ranges = sources.flat_map(|of| of.partitions.iter().flatten());
    ranges.filter(|range| range.object == RECEIVED && range.identity.is_none()).map(|range| (range.start, range.end))
}

fn options(plan: &Plan, directory: PathBuf, log: &str) -> LogOptions {
    let (segment_bytes, lost_rows) = (plan.settings.wal_segment_bytes, plan.settings.lost_rows);
    LogOptions { directory, log: log.to_owned(), segment_bytes, lost_rows }
}

/// The number behind the last row of a source that is known to have been in the log, by what batches noted when they began. Where no row
/// waited and none are kept any more, the log may be gone. Pure.
fn known_end(noted: &[LogPlace], place: u64, keeps: bool) -> u64 {
    let on_disk = noted.iter().map(|noted| noted.on_disk).max().unwrap_or(0);
    if keeps {
        on_disk.max(place)
    } else if on_disk > place {
        on_disk
    } else {
        0
    }
}

/// Where the log of a job's receivers is; `None`: nowhere.
fn log_directory(plan: &Plan) -> Option<PathBuf> {
    let in_checkpoint = || Some(plan.settings.checkpoint.as_ref()?.directory()?.join("wal"));
    plan.settings.wal_directory.clone().or_else(in_checkpoint)
}

/// What reads the rows that receivers had in an old batch, source by source; `None`: it had none of it. The log is that of this identity.
///
/// # Errors
///
/// When it cannot be read, or has not kept them.
pub(crate) fn read_received(
    plan: &Plan,
    log: &str,
    offsets: &Offsets,
) -> Result<Vec<Option<Arc<dyn RangeReader>>>, Error> {
    let received: Vec<Option<(u64, u64)>> = plan
        .sources
        .iter()
        .map(|source| offsets.sources.iter().find(|of| of.source == source.name).and_then(|of| of.received()))
        .collect();
    let Some(directory) = log_directory(plan).filter(|_| received.iter().any(Option::is_some)) else {
        return Ok(vec![None; plan.sources.len()]);
    };
    let sources = plan.sources.iter().zip(&received).map(|(source, rows)| {
        let reads_from = rows.map_or(u64::MAX, |(start, _)| start);
        LogSource {
            name: source.name.clone(),
            schema: source.physical_schema(),
            is_receiver: source.definition.is_pushed_to(),
            place: 0,
            reads_from,
            begun: Vec::new(),
            kept_from: reads_from,
            known_end: 0,
        }
    });
    let options = options(plan, directory, log);
    let log = WriteAheadLog::open_to_read(&options, sources.collect())?;
    let reader = |(index, rows): (usize, &Option<(u64, u64)>)| match rows {
        Some((start, end)) => {
            log.check(index, *start, *end)?;
            Ok(Some(Arc::new(LogReader::new(log.clone(), index)) as Arc<dyn RangeReader>))
        }
        None => Ok(None),
    };
    received.iter().enumerate().map(reader).collect()
}

fn is_received(range: &OffsetRange) -> bool {
    range.object == RECEIVED && range.identity.is_none()
}

/// What was read of a source, but for what it received when it was a receiver.
pub(crate) fn without_received(read: Vec<OffsetRange>) -> Vec<OffsetRange> {
    read.into_iter().filter(|range| !is_received(range)).collect()
}

/// What the batch generator knows of a receiver's rows.
pub(crate) struct ReceivedRows {
    log: Option<Arc<WriteAheadLog>>,
    /// Its index in the job, and in the log.
    source: usize,
    durability: Durability,
    /// Rows from before a crash that no batch has had, in order.
    unread: VecDeque<Unread>,
    /// The number of the first row that waits in the block store, or will.
    next_row: u64,
}

impl ReceivedRows {
    pub(crate) fn new(log: Option<&Arc<WriteAheadLog>>, source: usize, durability: Durability) -> Self {
        Self {
            log: log.cloned(),
            source,
            durability,
            unread: log.map(|log| log.unread(source).iter().copied().collect()).unwrap_or_default(),
            next_row: log.map_or(0, |log| log.next_row(source)),
        }
    }

    /// Where the receiver's rows go besides the block store; `None`: nowhere.
    pub(crate) fn way_in(&self) -> Option<Arc<ReceivedLog>> {
        let log = self.log.as_ref().filter(|_| self.durability != Durability::None)?;
        Some(Arc::new(ReceivedLog::new(log.clone(), self.source, self.durability)))
    }

    /// How far the log has come, with the rows that were taken from here.
    pub(crate) fn log_place(&self) -> Option<LogPlace> {
        let on_disk = self.log.as_ref()?.synced_row(self.source);
        let taken = self.unread.front().map_or(self.next_row, |unread| unread.first_row);
        Some(LogPlace { taken, on_disk })
    }

    /// The log, if the receiver's rows go there.
    pub(crate) fn log(&self) -> Option<&WriteAheadLog> {
        self.log.as_deref().filter(|_| self.durability != Durability::None)
    }

    /// What reads rows from before the crash again.
    pub(crate) fn reader(&self) -> Option<Arc<dyn RangeReader>> {
        let log = self.log.as_ref()?;
        Some(Arc::new(LogReader::new(log.clone(), self.source)))
    }

    /// Numbers rows that were taken from the block store: gives the number of the first. `None`: they are in memory alone.
    pub(crate) fn number(&mut self, n_rows: u64) -> Option<u64> {
        self.log()?;
        let first_row = self.next_row;
        self.next_row += n_rows;
        Some(first_row)
    }

    /// Takes rows from before the crash that no batch has had, of as many bytes as are allowed; `None`: there are none any more.
    pub(crate) fn take_unread(&mut self, bytes_max: u64, partitions_max: u32) -> Option<SourceInput> {
        let reader = self.reader()?;
        let mut taken = Vec::new();
        let mut n_bytes = 0;
        while let Some(unread) =
            self.unread.pop_front_if(|unread| taken.is_empty() || n_bytes + unread.n_bytes <= bytes_max)
        {
            n_bytes += unread.n_bytes;
            taken.push(unread);
        }
        // Dealt out as blocks are: each is known by its place among them.
        let block = |(id, unread): (u64, &Unread)| BlockMeta {
            id: BlockId(id),
            n_rows: unread.n_rows,
            n_bytes: unread.n_bytes.max(unread.n_rows),
        };
        let blocks: Vec<BlockMeta> = (0..).zip(&taken).map(block).collect();
        let partitions = deal_out(&blocks, partitions_max).into_iter().map(|slices| {
            let range = |slice: crate::scheduler::batch::BlockSlice| {
                let start = taken[slice.block.0 as usize].first_row + slice.start;
                OffsetRange { object: RECEIVED.into(), start, end: start + slice.n_rows, identity: None }
            };
            slices.into_iter().map(range).collect()
        });
        (!taken.is_empty()).then(|| SourceInput::Ranges { reader, partitions: partitions.collect() })
    }
}
