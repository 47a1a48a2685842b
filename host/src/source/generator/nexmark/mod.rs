//! The events of Nexmark, a benchmark of stream processors: persons, the auctions they open, and bids for those.
//!
//! ```text
//!  options ─▶ world: what event n is, when it is, whom it refers to ─▶ rows: columns, one by one
//!                                       replay: ranges of n ───────────┘
//! ```
//!
//! A world is fixed by its options. A source gives one kind of its events; sources with the same options give the three
//! streams of one world, in which sellers, bidders and auctions that are referred to have been there before.
//!
//! # Source
//!
//! P. Tucker, K. Tufte, V. Papadimos, D. Maier, "NEXMark: a benchmark for queries over data streams", 2002, for the schema
//! and the queries; the documentation of Apache Beam's Nexmark suite for the proportions, the hot persons and auctions, and
//! how event times follow from event numbers. Unlike there nobody refers to what is still to come.

use std::ops::Range;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, SecondsFormat};

use crate::error::{Error, Internal};
use crate::job::table::Table;

pub use world::NexmarkEvents;

pub(super) use replay::NexmarkPlanner;
pub(super) use rows::schema;

use rows::Columns;

mod random;
mod replay;
mod rows;
mod world;

/// Rows of a batch that is made, at most: a megabyte and a half of bids, four of auctions.
const ROWS_MAX: u64 = 8_192;

/// The most events a second of event time: a thousand a microsecond.
const EVENTS_PER_SECOND_MAX: u64 = 1_000_000_000;

/// The latest that an event may be: beyond a year nothing is disorder.
const DISORDER_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The first event's time: 2026-01-01T00:00:00Z, in microseconds.
const FIRST_EVENT_US: i64 = 1_767_225_600_000_000;

/// What world, and which of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexmarkOptions {
    /// Which events.
    pub events: NexmarkEvents,
    /// Events of the whole world, of all kinds. `None`: it does not end.
    pub n_events: Option<u64>,
    /// Another seed, another world.
    pub seed: u64,
    /// When the first event is, in microseconds since 1970-01-01 UTC.
    pub first_event_us: i64,
    /// Events of the whole world in a second of event time; at least 1.
    pub events_per_second: u64,
    /// An event is up to so much later than it is due, and so up to so much behind events before it.
    pub disorder: Duration,
    /// Of so many bids all but one are for the hot auction; at least 1, which is: none.
    pub hot_auctions: u32,
    /// Of so many bids all but one are by the hot bidder; at least 1.
    pub hot_bidders: u32,
    /// Of so many auctions all but one are opened by the hot seller; at least 1.
    pub hot_sellers: u32,
    /// The latest auctions that the other bids are for, and what decides how long auctions last; at least 1.
    pub auctions_in_flight: u32,
    /// The latest persons who make the other bids and open the other auctions; at least 1.
    pub active_persons: u32,
    /// Events of the whole world that a batch takes; at least 1.
    pub events_per_batch: u64,
}

impl NexmarkEvents {
    /// What logs and offset ranges call it.
    fn name(self) -> &'static str {
        match self {
            Self::Persons => "nexmark persons",
            Self::Auctions => "nexmark auctions",
            Self::Bids => "nexmark bids",
        }
    }
}

impl NexmarkOptions {
    /// A world with the benchmark's usual options, without end.
    #[must_use]
    pub fn of(events: NexmarkEvents) -> Self {
        Self {
            events,
            n_events: None,
            seed: 42,
            first_event_us: FIRST_EVENT_US,
            events_per_second: 10_000,
            disorder: Duration::ZERO,
            hot_auctions: 2,
            hot_bidders: 4,
            hot_sellers: 4,
            auctions_in_flight: 100,
            active_persons: 1_000,
            events_per_batch: 200_000,
        }
    }

    /// How many rows there are in all.
    #[must_use]
    pub fn n_rows(&self) -> Option<u64> {
        self.n_events.map(|n_events| self.events.rows_before(n_events))
    }

    /// Reads all options; what is left out is as usual.
    pub(super) fn parse(table: &mut Table<'_>) -> Self {
        let kinds =
            [("bids", NexmarkEvents::Bids), ("auctions", NexmarkEvents::Auctions), ("persons", NexmarkEvents::Persons)];
        let usual = Self::of(table.choice("events", &kinds).unwrap_or(NexmarkEvents::Bids));
        let mut at_least_one =
            |key, usual: u32| table.integer(key, 1..=u64::from(u32::MAX)).map_or(usual, |number| number as u32);
        Self {
            hot_auctions: at_least_one("hot-auctions", usual.hot_auctions),
            hot_bidders: at_least_one("hot-bidders", usual.hot_bidders),
            hot_sellers: at_least_one("hot-sellers", usual.hot_sellers),
            auctions_in_flight: at_least_one("auctions-in-flight", usual.auctions_in_flight),
            active_persons: at_least_one("active-persons", usual.active_persons),
            n_events: table.integer("n-events", 0..=i64::MAX as u64),
            seed: table.integer("seed", 0..=u64::MAX).unwrap_or(usual.seed),
            first_event_us: parse_first_event(table).unwrap_or(usual.first_event_us),
            events_per_second: table
                .integer("events-per-second", 1..=EVENTS_PER_SECOND_MAX)
                .unwrap_or(usual.events_per_second),
            disorder: table.duration("disorder").unwrap_or(usual.disorder),
            events_per_batch: table.integer("events-per-batch", 1..=i64::MAX as u64).unwrap_or(usual.events_per_batch),
            events: usual.events,
        }
    }

    /// The first option that is wrong.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let at_least_one = [
            ("hot-auctions", u64::from(self.hot_auctions)),
            ("hot-bidders", self.hot_bidders.into()),
            ("hot-sellers", self.hot_sellers.into()),
            ("auctions-in-flight", self.auctions_in_flight.into()),
            ("active-persons", self.active_persons.into()),
            ("events-per-batch", self.events_per_batch),
        ];
        if let Some((option, _)) = at_least_one.iter().find(|(_, number)| *number == 0) {
            return Err((option, format!("`{option}` must be at least 1")));
        }
        if !(1..=EVENTS_PER_SECOND_MAX).contains(&self.events_per_second) {
            return Err(("events-per-second", "`events-per-second` must be from 1 to 1000000000".into()));
        }
        if self.disorder > DISORDER_MAX {
            return Err(("disorder", "`disorder` must be at most a year".into()));
        }
        Ok(())
    }

    /// One line for people, without the rate.
    pub(super) fn describe(&self) -> String {
        let first = DateTime::from_timestamp_micros(self.first_event_us);
        let first = first.map_or_else(
            || format!("{} us", self.first_event_us),
            |first| first.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        );
        format!("{}, seed {}, {} events a second from {first}", self.events.name(), self.seed, self.events_per_second)
    }
}

/// Reads `first-event`, an instant as in `2026-01-01T00:00:00Z`.
fn parse_first_event(table: &mut Table<'_>) -> Option<i64> {
    let text = table.text("first-event")?;
    match DateTime::parse_from_rfc3339(&text) {
        Ok(instant) => Some(instant.timestamp_micros()),
        Err(_) => {
            let hint = "Write it with its time zone, as in `first-event = \"2026-01-01T00:00:00Z\"`.";
            table.problem("first-event", format!("`{text}` is no instant"), Some(hint.into()));
            None
        }
    }
}

/// One kind of events of a world, any part of which can be made.
///
/// # Examples
///
/// ```
/// use tidemill::source::generator::{Nexmark, NexmarkEvents, NexmarkOptions};
///
/// let auctions = Nexmark::new(&NexmarkOptions::of(NexmarkEvents::Auctions));
/// // The auctions among the first thousand events.
/// let n_rows: usize = auctions.rows(0..1_000).map(|rows| rows.map_or(0, |rows| rows.num_rows())).sum();
/// assert_eq!(n_rows, 60);
/// ```
///
/// # Cost
///
/// A tenth of a microsecond or two a row; nothing depends on where the part begins.
#[derive(Debug, Clone)]
pub struct Nexmark {
    events: NexmarkEvents,
    columns: Columns,
    schema: SchemaRef,
}

impl Nexmark {
    /// The rows of these options, of which `n_events` and `events_per_batch` do not matter here.
    ///
    /// # Panics
    ///
    /// When `events_per_second` is 0.
    #[must_use]
    pub fn new(options: &NexmarkOptions) -> Self {
        assert!(options.events_per_second > 0, "a world in which nothing ever happens");
        Self { events: options.events, columns: Columns::new(options), schema: schema(options.events) }
    }

    /// The columns, with those that other systems' Nexmark has.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The rows among these events of the world, in order, some thousands at a time.
    ///
    /// # Errors
    ///
    /// An iterator's item is an error only if there is a mistake in this module.
    pub fn rows(&self, events: Range<u64>) -> impl Iterator<Item = Result<RecordBatch, Error>> + '_ {
        let mut next = self.events.rows_before(events.start);
        let end = self.events.rows_before(events.end);
        std::iter::from_fn(move || {
            let rows = next..end.min(next.saturating_add(ROWS_MAX));
            next = rows.end;
            (!rows.is_empty()).then(|| self.make(rows))
        })
    }

    fn make(&self, rows: Range<u64>) -> Result<RecordBatch, Error> {
        let columns = self.columns.make(self.events, &self.events.of_rows(rows));
        columns
            .and_then(|columns| RecordBatch::try_new(self.schema(), columns))
            .map_err(|source| Internal { doing: "making events of Nexmark".into(), source }.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::job::table::read_options;

    #[test]
    fn options_are_read() {
        let read = |text: &str| read_options(text, Path::new("."), NexmarkOptions::parse);
        assert_eq!(read(""), Ok(NexmarkOptions::of(NexmarkEvents::Bids)));
        let all = "events = 'auctions'\nn-events = 1000\nseed = 7\nfirst-event = '2026-01-01T01:00:00.5+01:00'\n\
                   events-per-second = 100\ndisorder = '2s'\nhot-auctions = 1\nhot-bidders = 2\nhot-sellers = 3\n\
                   auctions-in-flight = 4\nactive-persons = 5\nevents-per-batch = 6";
        let expected = NexmarkOptions {
            events: NexmarkEvents::Auctions,
            n_events: Some(1_000),
            seed: 7,
            first_event_us: FIRST_EVENT_US + 500_000,
            events_per_second: 100,
            disorder: Duration::from_secs(2),
            hot_auctions: 1,
            hot_bidders: 2,
            hot_sellers: 3,
            auctions_in_flight: 4,
            active_persons: 5,
            events_per_batch: 6,
        };
        assert_eq!(read(all), Ok(expected));
        let problems = read("events = 'bid'\nfirst-event = 'noon'\nhot-sellers = 0").expect_err("three mistakes");
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        let expected =
            ["`events` cannot be `bid`", "`noon` is no instant", "`hot-sellers` must be between 1 and 4294967295"];
        assert_eq!(messages, expected);
    }

    #[track_caller]
    fn check_wrong(change: impl FnOnce(&mut NexmarkOptions), expected: &str) {
        let mut options = NexmarkOptions::of(NexmarkEvents::Bids);
        change(&mut options);
        assert_eq!(options.check().map_err(|(_, message)| message), Err(expected.into()));
    }

    #[test]
    fn wrong_options_are_refused() {
        assert_eq!(NexmarkOptions::of(NexmarkEvents::Bids).check(), Ok(()));
        check_wrong(|options| options.active_persons = 0, "`active-persons` must be at least 1");
        check_wrong(|options| options.events_per_second = 0, "`events-per-second` must be from 1 to 1000000000");
        check_wrong(|options| options.disorder = Duration::MAX, "`disorder` must be at most a year");
    }

    #[test]
    fn a_world_is_described_by_what_it_is_known_by() {
        let options = NexmarkOptions::of(NexmarkEvents::Persons);
        assert_eq!(options.describe(), "nexmark persons, seed 42, 10000 events a second from 2026-01-01T00:00:00Z");
    }
}
