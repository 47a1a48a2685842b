//! Rows of Nexmark: the columns of each kind of event, made one by one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::NexmarkOptions;
use super::random::{Numbers, Pool, scale};
use super::world::{NexmarkEvents, World};
use crate::source::schema::UTC;

const FIRST_NAMES: [&str; 16] = [
    "Ada", "Alan", "Barbara", "Claude", "Donald", "Edgar", "Edsger", "Frances", "Grace", "Jim", "John", "Leslie",
    "Michael", "Niklaus", "Radia", "Shafi",
];

const LAST_NAMES: [&str; 16] = [
    "Allen",
    "Codd",
    "Dijkstra",
    "Goldwasser",
    "Gray",
    "Hopper",
    "Knuth",
    "Lamport",
    "Liskov",
    "Lovelace",
    "McCarthy",
    "Perlman",
    "Shannon",
    "Stonebraker",
    "Turing",
    "Wirth",
];

/// Cities with their states: the six states of the benchmark's queries, two cities each.
const CITIES: [(&str, &str); 12] = [
    ("Phoenix", "AZ"),
    ("Tucson", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Nampa", "ID"),
    ("Bend", "OR"),
    ("Portland", "OR"),
    ("Seattle", "WA"),
    ("Spokane", "WA"),
    ("Casper", "WY"),
    ("Cheyenne", "WY"),
];

/// The channels that half of the bids come through.
const HOT_CHANNELS: [&str; 4] = ["Apple", "Baidu", "Facebook", "Google"];

/// The channels of the other half.
const CHANNELS: u64 = 10_000;

/// The columns of a kind of event.
pub(in crate::source::generator) fn schema(events: NexmarkEvents) -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let number = |name| Field::new(name, DataType::Int64, false);
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false);
    Arc::new(Schema::new(match events {
        NexmarkEvents::Persons => vec![
            number("id"),
            text("name"),
            text("email_address"),
            text("credit_card"),
            text("city"),
            text("state"),
            time("date_time"),
            text("extra"),
        ],
        NexmarkEvents::Auctions => vec![
            number("id"),
            text("item_name"),
            text("description"),
            number("initial_bid"),
            number("reserve"),
            time("date_time"),
            time("expires"),
            number("seller"),
            number("category"),
            text("extra"),
        ],
        NexmarkEvents::Bids => vec![
            number("auction"),
            number("bidder"),
            number("price"),
            text("channel"),
            text("url"),
            time("date_time"),
            text("extra"),
        ],
    }))
}

/// Makes columns.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    world: World,
    letters: Pool,
    words: Pool,
    extra: Numbers,
    /// The name of a person, of an item; the channel of a bid.
    name: Numbers,
    /// The address of a person, the description of an item.
    detail: Numbers,
    card: Numbers,
    city: Numbers,
    /// By channel, not by event: bids of a channel have one address.
    url: Numbers,
}

impl Columns {
    /// Of the world of some options, which are right.
    pub(super) fn new(options: &NexmarkOptions) -> Self {
        let numbers = |purpose| Numbers::new(options.seed, purpose);
        Self {
            world: World::new(options),
            letters: Pool::letters(numbers(100)),
            words: Pool::words(numbers(101)),
            extra: numbers(102),
            name: numbers(103),
            detail: numbers(104),
            card: numbers(105),
            city: numbers(106),
            url: numbers(107),
        }
    }

    /// The columns of events, all of one kind.
    pub(super) fn make(&self, kind: NexmarkEvents, events: &[u64]) -> Result<Vec<ArrayRef>, ArrowError> {
        match kind {
            NexmarkEvents::Persons => self.persons(events),
            NexmarkEvents::Auctions => self.auctions(events),
            NexmarkEvents::Bids => self.bids(events),
        }
    }

    fn persons(&self, events: &[u64]) -> Result<Vec<ArrayRef>, ArrowError> {
        let city = |event| CITIES[self.city.below(event, CITIES.len() as u64) as usize];
        Ok(vec![
            integers(events, World::person_id),
            texts(events, 20, |event, text| {
                let random = self.name.at(event);
                text.extend_from_slice(one_of(&FIRST_NAMES, random).as_bytes());
                text.push(b' ');
                text.extend_from_slice(one_of(&LAST_NAMES, random << 32).as_bytes());
            })?,
            texts(events, 24, |event, text| {
                let random = self.detail.at(event);
                text.extend_from_slice(self.letters.piece(random, 4, 9));
                text.push(b'@');
                text.extend_from_slice(self.letters.piece(random.rotate_left(16), 4, 9));
                text.extend_from_slice(b".com");
            })?,
            texts(events, 20, |event, text| {
                let random = self.card.at(event);
                for group in 0..4 {
                    if group > 0 {
                        text.push(b' ');
                    }
                    let digits = scale((random >> (16 * group)) << 48, 10_000);
                    text.extend([1_000, 100, 10, 1].map(|unit| b'0' + (digits / unit % 10) as u8));
                }
            })?,
            texts(events, 12, |event, text| text.extend_from_slice(city(event).0.as_bytes()))?,
            texts(events, 2, |event, text| text.extend_from_slice(city(event).1.as_bytes()))?,
            times(events, |event| self.world.time_us(event)),
            self.extra(events, 100, 150)?,
        ])
    }

    fn auctions(&self, events: &[u64]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            integers(events, World::auction_id),
            texts(events, 20, |event, text| text.extend_from_slice(self.words.piece(self.name.at(event), 3, 20)))?,
            texts(events, 60, |event, text| text.extend_from_slice(self.words.piece(self.detail.at(event), 3, 100)))?,
            integers(events, |event| self.world.price(event)),
            integers(events, |event| self.world.reserve(event)),
            times(events, |event| self.world.time_us(event)),
            times(events, |event| self.world.expires_us(event)),
            integers(events, |event| self.world.seller(event)),
            integers(events, |event| self.world.category(event)),
            self.extra(events, 300, 460)?,
        ])
    }

    fn bids(&self, events: &[u64]) -> Result<Vec<ArrayRef>, ArrowError> {
        Ok(vec![
            integers(events, |event| self.world.auction(event)),
            integers(events, |event| self.world.bidder(event)),
            integers(events, |event| self.world.price(event)),
            texts(events, 14, |event, text| match self.channel(event) {
                Channel::Hot(name) => text.extend_from_slice(name.as_bytes()),
                Channel::Other(number) => {
                    text.extend_from_slice(b"channel-");
                    push_number(text, number);
                }
            })?,
            texts(events, 80, |event, text| {
                let channel = self.channel(event);
                let random = self.url.at(match channel {
                    Channel::Hot(name) => u64::from(name.as_bytes()[0]) << 32,
                    Channel::Other(number) => number,
                });
                text.extend_from_slice(b"https://www.nexmark.com");
                for part in 0..3 {
                    text.push(b'/');
                    text.extend_from_slice(self.letters.piece(random.rotate_left(16 * part), 5, 5));
                }
                text.extend_from_slice(b"/item.htm?query=1");
                if let Channel::Other(number) = channel {
                    text.extend_from_slice(b"&channel_id=");
                    push_number(text, number);
                }
            })?,
            times(events, |event| self.world.time_us(event)),
            self.extra(events, 54, 82)?,
        ])
    }

    /// What the bid of an event comes through.
    fn channel(&self, event: u64) -> Channel {
        let random = self.name.at(event);
        match random & 1 {
            0 => Channel::Hot(one_of(&HOT_CHANNELS, random)),
            _ => Channel::Other(scale(random, CHANNELS)),
        }
    }

    /// Letters that make rows as long as the benchmark's: some 500 bytes for an auction, 200 for a person, 100 for a bid
    /// without its channel and address.
    fn extra(&self, events: &[u64], len_min: usize, len_max: usize) -> Result<ArrayRef, ArrowError> {
        texts(events, len_max, |event, text| {
            text.extend_from_slice(self.letters.piece(self.extra.at(event), len_min, len_max));
        })
    }
}

/// What a bid comes through.
enum Channel {
    /// One of the few.
    Hot(&'static str),
    /// One of the many, by its number.
    Other(u64),
}

/// One of some texts, by the upper bits of a random number.
fn one_of<const N: usize>(texts: &[&'static str; N], random: u64) -> &'static str {
    texts[scale(random, N as u64) as usize]
}

fn push_number(text: &mut Vec<u8>, number: u64) {
    // No number has more than 20 digits.
    let (mut digits, mut at, mut left) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

fn integers(events: &[u64], value: impl Fn(u64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(events.iter().map(|event| value(*event))))
}

fn times(events: &[u64], time_us: impl Fn(u64) -> i64) -> ArrayRef {
    let times = TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| time_us(*event)));
    Arc::new(times.with_timezone(UTC))
}

/// A column of text: each row is what `write` appends, some `bytes_each` long.
fn texts(events: &[u64], bytes_each: usize, write: impl Fn(u64, &mut Vec<u8>)) -> Result<ArrayRef, ArrowError> {
    let mut values = Vec::with_capacity(events.len() * bytes_each);
    let mut offsets = Vec::with_capacity(events.len() + 1);
    offsets.push(0_i32);
    for event in events {
        write(*event, &mut values);
        // Some thousand rows of less than a kilobyte: below 2 GiB.
        offsets.push(values.len() as i32);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(values), None)?))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use arrow::array::{AsArray, RecordBatch};

    use super::*;
    use crate::source::intake::shown_bytes;

    fn make(kind: NexmarkEvents, n_rows: u64) -> RecordBatch {
        let columns = Columns::new(&NexmarkOptions::of(kind));
        let columns = columns.make(kind, &kind.of_rows(0..n_rows)).expect("columns");
        RecordBatch::try_new(schema(kind), columns).expect("the columns are those of the schema")
    }

    #[track_caller]
    fn check_texts(rows: &RecordBatch, column: &str, is_right: impl Fn(&str) -> bool) {
        let column = rows.column_by_name(column).expect("a column of this name").as_string::<i32>();
        for text in column.iter().flatten() {
            assert!(is_right(text), "{text}");
        }
    }

    #[test]
    fn persons_have_names_addresses_cards_and_homes() {
        let rows = make(NexmarkEvents::Persons, 5_000);
        check_texts(&rows, "name", |name| {
            let (first, last) = name.split_once(' ').expect("two names");
            FIRST_NAMES.contains(&first) && LAST_NAMES.contains(&last)
        });
        check_texts(&rows, "email_address", |address| {
            let (name, place) = address.split_once('@').expect("an address");
            (4..=9).contains(&name.len()) && place.ends_with(".com")
        });
        check_texts(&rows, "credit_card", |card| {
            card.split(' ').all(|group| group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_digit()))
                && card.len() == 19
        });
        let cards: HashSet<_> = rows.column(3).as_string::<i32>().iter().collect();
        assert!(cards.len() > 4_990);
        let homes = rows.column(4).as_string::<i32>().iter().zip(rows.column(5).as_string::<i32>());
        let homes: HashSet<_> = homes.map(|(city, state)| (city.expect("a city"), state.expect("a state"))).collect();
        assert_eq!(homes, HashSet::from(CITIES));
    }

    #[test]
    fn bids_of_a_channel_have_one_address() {
        let rows = make(NexmarkEvents::Bids, 50_000);
        let (channels, urls) = (rows.column(3).as_string::<i32>(), rows.column(4).as_string::<i32>());
        let mut url_of = HashMap::new();
        let mut n_hot = 0;
        for (channel, url) in channels.iter().flatten().zip(urls.iter().flatten()) {
            assert_eq!(*url_of.entry(channel).or_insert(url), url);
            n_hot += u32::from(HOT_CHANNELS.contains(&channel));
            if let Some(number) = channel.strip_prefix("channel-") {
                assert!(url.ends_with(&format!("/item.htm?query=1&channel_id={number}")), "{url}");
            }
        }
        assert!((24_000..26_000).contains(&n_hot), "{n_hot}");
        assert!(url_of.len() > 9_000, "{}", url_of.len());
        assert_eq!(url_of.values().collect::<HashSet<_>>().len(), url_of.len());
    }

    #[test]
    fn rows_are_as_long_as_the_benchmark_says() {
        for (kind, low, high) in
            [(NexmarkEvents::Persons, 185, 235), (NexmarkEvents::Auctions, 470, 550), (NexmarkEvents::Bids, 170, 200)]
        {
            let rows = make(kind, 8_000);
            let mean = shown_bytes(&rows) / rows.num_rows() as u64;
            assert!((low..high).contains(&mean), "{kind:?}: {mean}");
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, 10, 9_999, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
        }
    }
}
