//! Reads a world by offset range. An offset is the number of an event: of a range each source gives the rows of its kind.

use std::sync::Arc;

use arrow::array::RecordBatch;
use xxhash_rust::xxh3::xxh3_128;

use super::{Nexmark, NexmarkEvents, NexmarkOptions};
use crate::clock::Clock;
use crate::error::{Error, Explain, Fault};
use crate::source::generator::pace::{Due, Pace};
use crate::source::intake::shown_bytes;
use crate::source::{BatchLimit, OffsetRange, PlannedRead, RangeReader, Replayable, SourceCounters, SourceError};

/// A range is not cut shorter than this: less is not worth a task.
const RANGE_EVENTS_MIN: u64 = 4_096;

/// Plans batches of so many events each, or of those that are due.
pub(in crate::source::generator) struct NexmarkPlanner {
    events: NexmarkEvents,
    /// The first event that no batch has.
    next_event: u64,
    /// How many events the world has.
    n_events: u64,
    events_per_batch: u64,
    /// Rows of this source a second; `None`: as many as a batch takes.
    pace: Option<Pace>,
    clock: Arc<dyn Clock>,
    reader: Arc<NexmarkReader>,
}

impl NexmarkPlanner {
    /// Plans batches from the first event on; options are right.
    pub(in crate::source::generator) fn new(
        options: &NexmarkOptions,
        rows_per_second: f64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let counters = Arc::new(SourceCounters::default());
        let reader = NexmarkReader { identity: identity(options), nexmark: Nexmark::new(options), counters };
        Self {
            events: options.events,
            next_event: 0,
            n_events: options.n_events.unwrap_or(u64::MAX),
            events_per_batch: options.events_per_batch,
            pace: (rows_per_second > 0.0).then(|| Pace::new(rows_per_second, clock.monotonic())),
            clock,
            reader: Arc::new(reader),
        }
    }

    /// Where the next batch ends; where it starts, if nothing is due.
    fn end_of_batch(&mut self) -> u64 {
        let end = self.next_event.saturating_add(self.events_per_batch).min(self.n_events);
        let Some(pace) = &mut self.pace else { return end };
        let Due::Rows(n_due) = pace.due(self.clock.monotonic()) else { return self.next_event };
        let n_before = self.events.rows_before(self.next_event);
        let end = end.min(self.events.event_of_row(n_before.saturating_add(n_due) - 1).saturating_add(1));
        pace.made(self.events.rows_before(end) - n_before);
        end
    }

    /// A range; none, if there are no rows in it.
    fn range(&self, start: u64, end: u64) -> Option<OffsetRange> {
        (self.events.rows_before(end) > self.events.rows_before(start)).then(|| OffsetRange {
            object: self.events.name().to_owned(),
            start,
            end,
            identity: Some(self.reader.identity),
        })
    }
}

/// The options are not those of the run that the job goes on from.
#[derive(Debug, thiserror::Error)]
#[error("the generator has other options than in the run before, so its events are others")]
struct OtherWorld;

impl Explain for OtherWorld {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        Some("Undo the change, or start anew with another `checkpoint`. Only `events` and the pace may change.".into())
    }
}

impl Replayable for NexmarkPlanner {
    fn plan_batch(&mut self, limit: BatchLimit) -> Result<PlannedRead, Error> {
        let start = self.next_event;
        let end = self.end_of_batch();
        let n_ranges = u64::from(limit.partitions.max(1)).min((end - start).div_ceil(RANGE_EVENTS_MIN));
        let cut = |index: u64| start + scaled(end - start, index, n_ranges);
        let ranges = (0..n_ranges).filter_map(|index| self.range(cut(index), cut(index + 1))).collect();
        // What remains may hold no row of this kind.
        self.next_event = if self.range(end, self.n_events).is_none() { self.n_events } else { end };
        Ok(PlannedRead { ranges, drained: self.has_ended() })
    }

    fn resume(&mut self, read: Vec<OffsetRange>) -> Result<(), Error> {
        for range in read {
            if range.identity != Some(self.reader.identity) {
                return Err(OtherWorld.into());
            }
            self.next_event = self.next_event.max(range.end);
        }
        if self.range(self.next_event, self.n_events).is_none() {
            self.next_event = self.n_events;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn RangeReader> {
        Arc::clone(&self.reader) as Arc<dyn RangeReader>
    }

    fn counters(&self) -> Option<Arc<SourceCounters>> {
        Some(Arc::clone(&self.reader.counters))
    }

    fn has_ended(&self) -> bool {
        self.next_event >= self.n_events
    }
}

/// `n * part / parts`, without overflow.
fn scaled(n: u64, part: u64, parts: u64) -> u64 {
    (u128::from(n) * u128::from(part) / u128::from(parts)) as u64
}

/// What tells the rows of these options from those of others: not how many there are, and how they are cut.
fn identity(options: &NexmarkOptions) -> u128 {
    let NexmarkOptions { events, n_events: _, seed, first_event_us, events_per_second, disorder, .. } = options;
    let NexmarkOptions { hot_auctions, hot_bidders, hot_sellers, auctions_in_flight, active_persons, .. } = options;
    let text = format!(
        "{} {seed} {first_event_us} {events_per_second} {} {hot_auctions} {hot_bidders} {hot_sellers} {auctions_in_flight} \
         {active_persons}",
        events.name(),
        disorder.as_micros(),
    );
    xxh3_128(text.as_bytes())
}

/// Reads ranges of a world.
struct NexmarkReader {
    identity: u128,
    nexmark: Nexmark,
    counters: Arc<SourceCounters>,
}

impl RangeReader for NexmarkReader {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let object = range.object.clone();
        if range.identity != Some(self.identity) {
            return Err(SourceError::OtherOptions { object }.into());
        }
        if range.start > range.end {
            return Err(SourceError::Range { object, start: range.start, end: range.end }.into());
        }
        for rows in self.nexmark.rows(range.start..range.end) {
            let rows = rows?;
            self.counters.add_rows(rows.num_rows() as u64, shown_bytes(&rows));
            emit(rows)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::compute::concat_batches;

    use super::*;
    use crate::clock::ManualClock;

    fn planner(options: &NexmarkOptions, rows_per_second: f64) -> (NexmarkPlanner, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Duration::from_secs(100)));
        (NexmarkPlanner::new(options, rows_per_second, clock.clone()), clock)
    }

    fn read(planner: &NexmarkPlanner, ranges: &[OffsetRange]) -> Vec<RecordBatch> {
        let mut batches = Vec::new();
        for range in ranges {
            let mut keep = |rows| {
                batches.push(rows);
                Ok(())
            };
            planner.reader().read_range(range, &mut keep).expect("a range of this source");
        }
        batches
    }

    fn drain(options: &NexmarkOptions, partitions: u32) -> RecordBatch {
        let (mut planner, _) = planner(options, 0.0);
        let mut batches = Vec::new();
        loop {
            let planned = planner.plan_batch(BatchLimit { partitions }).expect("it can always be planned");
            batches.extend(read(&planner, &planned.ranges));
            if planned.drained {
                assert!(planner.has_ended());
                return concat_batches(&planner.reader.nexmark.schema(), &batches).expect("one schema");
            }
        }
    }

    #[test]
    fn rows_are_the_same_however_batches_and_ranges_are_cut() {
        for events in [NexmarkEvents::Persons, NexmarkEvents::Auctions, NexmarkEvents::Bids] {
            let options = |events_per_batch| NexmarkOptions {
                n_events: Some(30_011),
                events_per_batch,
                disorder: Duration::from_secs(1),
                ..NexmarkOptions::of(events)
            };
            let whole = drain(&options(u64::MAX), 1);
            assert_eq!(whole.num_rows() as u64, events.rows_before(30_011));
            for (events_per_batch, partitions) in [(u64::MAX, 7), (9_999, 2), (50, 1), (20_000, 4)] {
                assert_eq!(drain(&options(events_per_batch), partitions), whole, "{events:?} {events_per_batch}");
            }
        }
    }

    #[test]
    fn batches_hold_as_many_events_as_asked_for_in_ranges_that_touch() {
        let options = NexmarkOptions {
            n_events: Some(25_000),
            events_per_batch: 10_000,
            ..NexmarkOptions::of(NexmarkEvents::Bids)
        };
        let (mut planner, _) = planner(&options, 0.0);
        let mut plan = || {
            let planned = planner.plan_batch(BatchLimit { partitions: 4 }).expect("it can always be planned");
            (planned.ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), planned.drained)
        };
        assert_eq!(plan(), (vec![(0, 3_333), (3_333, 6_666), (6_666, 10_000)], false));
        assert_eq!(plan(), (vec![(10_000, 13_333), (13_333, 16_666), (16_666, 20_000)], false));
        assert_eq!(plan(), (vec![(20_000, 22_500), (22_500, 25_000)], true));
        assert_eq!(plan(), (vec![], true));
    }

    #[test]
    fn a_source_ends_with_its_last_row() {
        let plan = |n_events| {
            let (mut planner, _) = planner(
                &NexmarkOptions { n_events: Some(n_events), ..NexmarkOptions::of(NexmarkEvents::Auctions) },
                0.0,
            );
            let planned = planner.plan_batch(BatchLimit { partitions: 1 }).expect("it can always be planned");
            (planned.ranges.len(), planned.drained)
        };
        // The first event is a person.
        assert_eq!([0, 1, 2, 50].map(plan), [(0, true), (0, true), (1, true), (1, true)]);
    }

    #[test]
    fn rows_come_at_their_rate() {
        let options = NexmarkOptions { n_events: Some(1_000), ..NexmarkOptions::of(NexmarkEvents::Auctions) };
        let (mut planner, clock) = planner(&options, 10.0);
        let mut plan = || {
            let planned = planner.plan_batch(BatchLimit { partitions: 4 }).expect("it can always be planned");
            let n_rows: usize = read(&planner, &planned.ranges).iter().map(RecordBatch::num_rows).sum();
            (n_rows, planned.drained)
        };
        assert_eq!(plan(), (1, false));
        assert_eq!(plan(), (0, false));
        clock.advance(Duration::from_millis(500));
        assert_eq!(plan(), (5, false));
        let mut n_rows = 6;
        while n_rows < 60 {
            clock.advance(Duration::from_millis(700));
            let (n_more, drained) = plan();
            n_rows += n_more;
            assert_eq!((n_more <= 8, drained), (true, n_rows == 60));
        }
    }

    #[test]
    fn a_range_of_other_options_is_refused() {
        let options = NexmarkOptions::of(NexmarkEvents::Bids);
        let (mut other, _) = planner(&NexmarkOptions { seed: 7, ..options.clone() }, 0.0);
        let planned = other.plan_batch(BatchLimit { partitions: 1 }).expect("it can always be planned");
        let (longer, _) = planner(&NexmarkOptions { seed: 7, n_events: Some(1_000_000), ..options.clone() }, 0.0);
        assert_eq!(read(&longer, &planned.ranges), read(&other, &planned.ranges));
        let (mine, _) = planner(&options, 0.0);
        let error = mine.reader().read_range(&planned.ranges[0], &mut |_| Ok(())).expect_err("another seed");
        assert_eq!(error.in_one_line(), "`nexmark bids` was planned with other options than the generator has now");
        let reversed = OffsetRange { start: 2, end: 1, ..mine.range(0, 9).expect("there are rows") };
        let error = mine.reader().read_range(&reversed, &mut |_| Ok(())).expect_err("it ends before it starts");
        assert_eq!(error.in_one_line(), "`nexmark bids` has no range from 2 to 1");
    }
}
