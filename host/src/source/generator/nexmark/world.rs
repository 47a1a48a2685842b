//! What happens in a world of Nexmark: which event is what, when it is, and whom it refers to.
//!
//! ```text
//!  event   0       1  2  3   4 … 49   50      51 52 53  54 … 99   100 …
//!          person  auctions  46 bids  person  auctions  46 bids
//! ```
//!
//! Everything about an event is a function of the options and its number: any part of the world can be made without the
//! rest, and the three streams fit together however they are read.

use std::ops::Range;

use super::NexmarkOptions;
use super::random::{Numbers, scale};

/// Events until the pattern starts again.
const PERIOD: u64 = 50;

/// Auctions of a period, and where the first stands in it.
const AUCTIONS: u64 = 3;
const FIRST_AUCTION: u64 = 1;

/// Bids of a period, and where the first stands in it.
const BIDS: u64 = 46;
const FIRST_BID: u64 = 4;

/// The number in the `id` of the first person, the first auction, and the first category.
const ID_FIRST: u64 = 1_000;
const CATEGORY_FIRST: u64 = 10;

/// Categories of auctions.
const CATEGORIES: u64 = 5;

/// Of so many persons or auctions in a row one is the hot one, until the next so many have begun.
const HOT_EVERY: u64 = 100;

/// The lowest price, and how often the price range doubles: prices are from 1 to a million times as much.
const PRICE_MIN: u64 = 100;
const PRICE_DOUBLINGS: u64 = 20;

/// Which events of a world a source gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NexmarkEvents {
    /// Who sells and bids: one event of 50.
    Persons,
    /// What is sold: three events of 50.
    Auctions,
    /// What is offered for it: 46 events of 50.
    Bids,
}

impl NexmarkEvents {
    /// The place of the first in a period, and how many there are.
    fn places(self) -> (u64, u64) {
        match self {
            Self::Persons => (0, 1),
            Self::Auctions => (FIRST_AUCTION, AUCTIONS),
            Self::Bids => (FIRST_BID, BIDS),
        }
    }

    /// How many of the first `n_events` of a world are of this kind.
    #[must_use]
    pub fn rows_before(self, n_events: u64) -> u64 {
        let (first, share) = self.places();
        n_events / PERIOD * share + (n_events % PERIOD).saturating_sub(first).min(share)
    }

    /// The number of the event that is row `row` of this kind.
    #[must_use]
    pub fn event_of_row(self, row: u64) -> u64 {
        let (first, share) = self.places();
        row / share * PERIOD + first + row % share
    }

    /// The numbers of the events that are these rows of this kind.
    pub(super) fn of_rows(self, rows: Range<u64>) -> Vec<u64> {
        let (first, share) = self.places();
        let (mut period, mut place) = (rows.start / share * PERIOD + first, rows.start % share);
        let mut next = || {
            let event = period + place;
            place += 1;
            if place == share {
                (period, place) = (period + PERIOD, 0);
            }
            event
        };
        rows.map(|_| next()).collect()
    }
}

/// A world: the options, and what was worked out from them.
#[derive(Debug, Clone)]
pub(super) struct World {
    first_event_us: i64,
    events_per_second: u64,
    /// The most that an event is late, in microseconds; 0 if none is.
    disorder_us: u64,
    hot_auctions: u64,
    hot_bidders: u64,
    hot_sellers: u64,
    auctions_in_flight: u64,
    active_persons: u64,
    /// How long the auctions that are open at once take to be opened, in microseconds: what an auction lasts on average.
    lifetime_us: u64,
    lateness: Numbers,
    is_hot: Numbers,
    partner: Numbers,
    bidder_is_hot: Numbers,
    bidder: Numbers,
    price: Numbers,
    reserve: Numbers,
    category: Numbers,
    lifetime: Numbers,
}

impl World {
    /// The world of some options, which are right.
    pub(super) fn new(options: &NexmarkOptions) -> Self {
        let numbers = |purpose| Numbers::new(options.seed, purpose);
        let in_flight = u64::from(options.auctions_in_flight);
        let mut world = Self {
            first_event_us: options.first_event_us,
            events_per_second: options.events_per_second,
            disorder_us: options.disorder.as_micros() as u64,
            hot_auctions: options.hot_auctions.into(),
            hot_bidders: options.hot_bidders.into(),
            hot_sellers: options.hot_sellers.into(),
            auctions_in_flight: in_flight,
            active_persons: options.active_persons.into(),
            lifetime_us: 0,
            lateness: numbers(1),
            is_hot: numbers(2),
            partner: numbers(3),
            bidder_is_hot: numbers(4),
            bidder: numbers(5),
            price: numbers(6),
            reserve: numbers(7),
            category: numbers(8),
            lifetime: numbers(9),
        };
        world.lifetime_us = world.after_us(in_flight.saturating_mul(PERIOD).div_ceil(AUCTIONS));
        world
    }

    /// How long after the first event an event is due, in microseconds.
    fn after_us(&self, event: u64) -> u64 {
        let (seconds, rest) = (event / self.events_per_second, event % self.events_per_second);
        // Rates are at most a billion, so that the rest is far below 2^64 / 1,000,000.
        seconds.saturating_mul(1_000_000).saturating_add(rest * 1_000_000 / self.events_per_second)
    }

    /// The time of an event: when it is due, or up to the disorder later.
    pub(super) fn time_us(&self, event: u64) -> i64 {
        let due = self.first_event_us.saturating_add_unsigned(self.after_us(event));
        if self.disorder_us == 0 {
            return due;
        }
        due.saturating_add_unsigned(self.lateness.below(event, self.disorder_us + 1))
    }

    /// The person that an event brings.
    pub(super) fn person_id(event: u64) -> i64 {
        (ID_FIRST + event / PERIOD) as i64
    }

    /// The auction that an event opens.
    pub(super) fn auction_id(event: u64) -> i64 {
        (ID_FIRST + event / PERIOD * AUCTIONS + event % PERIOD - FIRST_AUCTION) as i64
    }

    /// The person who opens the auction of an event: the hot one, or one of the latest.
    pub(super) fn seller(&self, event: u64) -> i64 {
        let last = event / PERIOD;
        let seller = if is_hot(self.is_hot.at(event), self.hot_sellers) {
            last - last % HOT_EVERY
        } else {
            last - self.partner.below(event, self.active_persons.min(last + 1))
        };
        (ID_FIRST + seller) as i64
    }

    /// The auction that the bid of an event is for: the hot one, or one of the latest.
    pub(super) fn auction(&self, event: u64) -> i64 {
        let last = event / PERIOD * AUCTIONS + AUCTIONS - 1;
        let auction = if is_hot(self.is_hot.at(event), self.hot_auctions) {
            last - last % HOT_EVERY
        } else {
            last - self.partner.below(event, self.auctions_in_flight.min(last + 1))
        };
        (ID_FIRST + auction) as i64
    }

    /// The person who makes the bid of an event: the hot one, who is not the hot seller, or one of the latest.
    pub(super) fn bidder(&self, event: u64) -> i64 {
        let last = event / PERIOD;
        let bidder = if is_hot(self.bidder_is_hot.at(event), self.hot_bidders) {
            (last - last % HOT_EVERY + 1).min(last)
        } else {
            last - self.bidder.below(event, self.active_persons.min(last + 1))
        };
        (ID_FIRST + bidder) as i64
    }

    /// What a bid offers, or what an auction starts at, in cents: as often from 1 to 2 dollars as from 2 to 4.
    pub(super) fn price(&self, event: u64) -> i64 {
        spread_price(self.price.at(event))
    }

    /// What an auction must reach: what it starts at, and a price.
    pub(super) fn reserve(&self, event: u64) -> i64 {
        self.price(event) + spread_price(self.reserve.at(event))
    }

    /// The category of an auction.
    pub(super) fn category(&self, event: u64) -> i64 {
        (CATEGORY_FIRST + self.category.below(event, CATEGORIES)) as i64
    }

    /// When an auction ends: at least a microsecond after it opens, and at most twice the average later.
    pub(super) fn expires_us(&self, event: u64) -> i64 {
        let lasts = 1 + self.lifetime.below(event, self.lifetime_us.saturating_mul(2).max(1));
        self.time_us(event).saturating_add_unsigned(lasts)
    }
}

/// Whether it is the hot one's turn: all of `one_of` times but one.
fn is_hot(random: u64, one_of: u64) -> bool {
    scale(random, one_of) > 0
}

/// A price whose logarithm is about evenly spread, made without logarithms: those differ from machine to machine.
fn spread_price(random: u64) -> i64 {
    let least = PRICE_MIN << (((random & 0xFFFF_FFFF) * PRICE_DOUBLINGS) >> 32);
    (least + (((random >> 32) * least) >> 32)) as i64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const KINDS: [NexmarkEvents; 3] = [NexmarkEvents::Persons, NexmarkEvents::Auctions, NexmarkEvents::Bids];

    fn world(change: impl FnOnce(&mut NexmarkOptions)) -> World {
        let mut options = NexmarkOptions::of(NexmarkEvents::Bids);
        change(&mut options);
        World::new(&options)
    }

    #[test]
    fn of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_bids() {
        assert_eq!(KINDS.map(|kind| kind.rows_before(50)), [1, 3, 46]);
        assert_eq!(KINDS.map(|kind| kind.rows_before(52)), [2, 4, 46]);
        assert_eq!(KINDS.map(|kind| kind.event_of_row(0)), [0, 1, 4]);
        assert_eq!(NexmarkEvents::Bids.of_rows(45..48), [49, 54, 55]);
        assert_eq!(NexmarkEvents::Persons.of_rows(1..3), [50, 100]);
    }

    proptest! {
        /// Every event is a row of exactly one kind, and rows and events count alike.
        #[test]
        fn every_event_is_one_row(event in 0_u64..1 << 50) {
            let before: u64 = KINDS.iter().map(|kind| kind.rows_before(event)).sum();
            prop_assert_eq!(before, event);
            let owners = KINDS.iter().filter(|kind| kind.event_of_row(kind.rows_before(event)) == event);
            prop_assert_eq!(owners.count(), 1);
            for kind in KINDS {
                let row = kind.rows_before(event);
                let numbers: Vec<u64> = (row..row + 60).map(|row| kind.event_of_row(row)).collect();
                prop_assert_eq!(kind.of_rows(row..row + 60), numbers);
            }
        }

        /// What an event refers to has an event of its own, before it.
        #[test]
        fn nobody_refers_to_what_is_not_there_yet(
            seed: u64, period in 0_u64..1 << 40, place in 0_u64..BIDS, in_flight in 1_u32..5_000, active in 1_u32..5_000,
        ) {
            let world = world(|options| {
                (options.seed, options.auctions_in_flight, options.active_persons) = (seed, in_flight, active);
            });
            let bid = period * PERIOD + FIRST_BID + place;
            let auction = world.auction(bid) as u64 - ID_FIRST;
            prop_assert!(NexmarkEvents::Auctions.event_of_row(auction) < bid);
            prop_assert!(NexmarkEvents::Persons.event_of_row(world.bidder(bid) as u64 - ID_FIRST) < bid);
            let auction = period * PERIOD + FIRST_AUCTION + place % AUCTIONS;
            prop_assert!(NexmarkEvents::Persons.event_of_row(world.seller(auction) as u64 - ID_FIRST) < auction);
        }

        /// An event is never more than the disorder behind the latest one before it.
        #[test]
        fn events_are_late_by_the_disorder_at_most(seed: u64, first in 0_u64..1 << 40, disorder_us in 0_u64..5_000_000) {
            let world = world(|options| {
                (options.seed, options.disorder) = (seed, Duration::from_micros(disorder_us));
            });
            let mut latest = i64::MIN;
            for event in first..first + 200 {
                let time = world.time_us(event);
                prop_assert!(time.saturating_add_unsigned(disorder_us) >= latest);
                latest = latest.max(time);
            }
        }
    }

    #[test]
    fn event_times_hold_their_rate_to_the_end_of_time() {
        let world = world(|options| (options.first_event_us, options.events_per_second) = (5, 3));
        assert_eq!([0, 1, 2, 3, 4].map(|event| world.time_us(event)), [5, 333_338, 666_671, 1_000_005, 1_333_338]);
        assert_eq!(world.time_us(u64::MAX), i64::MAX);
    }

    #[test]
    fn auctions_last_as_long_as_those_in_flight_take_to_open() {
        let world = world(|options| (options.events_per_second, options.auctions_in_flight) = (1_000, 300));
        let auctions = NexmarkEvents::Auctions.of_rows(0..20_000);
        let lasts = auctions.iter().map(|event| world.expires_us(*event) - world.time_us(*event));
        let lasts: Vec<i64> = lasts.collect();
        assert!(lasts.iter().all(|us| (1..=10_000_000).contains(us)));
        // 300 auctions are 5,000 events, five seconds.
        let mean = lasts.iter().sum::<i64>() / lasts.len() as i64;
        assert!((4_900_000..5_100_000).contains(&mean), "{mean}");
    }

    #[test]
    fn prices_are_spread_over_six_orders_of_magnitude() {
        let world = world(|_| {});
        let mut counts = [0_u32; 20];
        for event in 0..100_000 {
            let price = world.price(event) as u64;
            counts[(price / PRICE_MIN).ilog2() as usize] += 1;
            assert!(world.reserve(event) as u64 >= price + PRICE_MIN);
        }
        // Five standard deviations of 69.
        assert!(counts.iter().all(|n| n.abs_diff(5_000) < 345), "{counts:?}");
        assert_eq!((spread_price(0), spread_price(u64::MAX)), (100, 104_857_599));
    }

    #[test]
    fn the_hot_ones_get_their_share() {
        let world = world(|_| {});
        let bids = NexmarkEvents::Bids.of_rows(1_000_000..1_100_000);
        let hot = |found: fn(&World, u64) -> i64, hot: fn(u64) -> u64| {
            let is_hot = |event: &&u64| found(&world, **event) as u64 == ID_FIRST + hot(**event);
            bids.iter().filter(is_hot).count() as f64 / bids.len() as f64
        };
        // Half of the bids, and of the other half those of 100 auctions that are for the hot one too, if it is still open.
        let auctions = hot(World::auction, |event| (event / 50 * 3 + 2) / 100 * 100);
        assert!((0.50..0.52).contains(&auctions), "{auctions}");
        let bidders = hot(World::bidder, |event| event / 50 / 100 * 100 + 1);
        // Of a hundred persons the first is not followed by the hot bidder yet.
        assert!((0.735..0.755).contains(&bidders), "{bidders}");
        let auctions = NexmarkEvents::Auctions.of_rows(100_000..150_000);
        let is_hot = |event: &&u64| world.seller(**event) as u64 == ID_FIRST + **event / 50 / 100 * 100;
        let sellers = auctions.iter().filter(is_hot).count() as f64 / auctions.len() as f64;
        assert!((0.74..0.76).contains(&sellers), "{sellers}");
    }
}
