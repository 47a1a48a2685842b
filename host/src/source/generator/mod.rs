//! Rows made up at a given rate: for tests, demonstrations and measurements.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::error::SourceError;
use super::lines::text_schema;
use super::schema::UTC;
use super::{Intake, OpenSource, Receiver, SourceDefinition};
use crate::clock::SystemClock;
use crate::error::{Error, Internal};
use crate::job::table::Table;

pub use nexmark::{Nexmark, NexmarkEvents, NexmarkOptions};

use nexmark::NexmarkPlanner;
use pace::{Due, Pace};
use text::{ZipfOptions, ZipfText};

mod nexmark;
mod pace;
pub mod text;

/// Rows of a batch that is pushed, at most: half a megabyte of text.
const ROWS_MAX: u64 = 8_192;

/// The highest rate that can be kept: a row a nanosecond.
const RATE_MAX: f64 = 1e9;

/// Rows made up at a given rate.
///
/// # Examples
///
/// ```
/// use tidemill::source::{GeneratorSource, SourceDefinition};
///
/// let source = GeneratorSource { rows_per_second: 1_000.0, rows: Some(5_000), ..GeneratorSource::sequence() };
/// assert_eq!(source.describe(), "sequence, 1000 rows/s, 5000 rows");
/// assert!(source.ends());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorSource {
    /// What rows.
    pub kind: GeneratorKind,
    /// How many a second; a fraction is one row in several seconds. 0: as fast as they are taken.
    pub rows_per_second: f64,
    /// How many in all; then the source ends. `None`: it does not end. Nexmark ends with its world instead.
    pub rows: Option<u64>,
}

/// What rows a generator makes.
#[derive(Debug, Clone, PartialEq)]
pub enum GeneratorKind {
    /// `value: int64`, counting from 0, and `timestamp`, when the row was made, in microseconds, UTC.
    Sequence,
    /// `value: utf8`, lines of words.
    Words(ZipfOptions),
    /// The events of one kind of a world of Nexmark. They can be read again, as those of the other kinds cannot.
    Nexmark(NexmarkOptions),
}

impl GeneratorSource {
    /// Numbers from 0, as fast as they are taken, without end.
    #[must_use]
    pub fn sequence() -> Self {
        Self { kind: GeneratorKind::Sequence, rows_per_second: 0.0, rows: None }
    }

    /// Lines of words, as fast as they are taken, without end.
    #[must_use]
    pub fn words(options: ZipfOptions) -> Self {
        Self { kind: GeneratorKind::Words(options), ..Self::sequence() }
    }

    /// The events of a world of Nexmark, as fast as they are taken.
    #[must_use]
    pub fn nexmark(options: NexmarkOptions) -> Self {
        Self { kind: GeneratorKind::Nexmark(options), ..Self::sequence() }
    }

    /// Reads the options `kind`, `rows-per-second`, `rows`, for words `seed`, `vocabulary` and `exponent`, and for Nexmark
    /// those of its world instead of `rows`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let names = [("sequence", Kind::Sequence), ("words", Kind::Words), ("nexmark", Kind::Nexmark)];
        let name = table.choice("kind", &names);
        let is_known = name.is_some() || !table.has("kind");
        let kind = match name.unwrap_or(Kind::Sequence) {
            Kind::Sequence => GeneratorKind::Sequence,
            Kind::Words => GeneratorKind::Words(parse_words(table)),
            Kind::Nexmark => GeneratorKind::Nexmark(NexmarkOptions::parse(table)),
        };
        let rows_per_second = table.float("rows-per-second").unwrap_or(0.0);
        let rows = match kind {
            GeneratorKind::Nexmark(_) => None,
            _ => table.integer("rows", 0..=i64::MAX as u64),
        };
        let source = Self { kind, rows_per_second, rows };
        if let Err((option, message)) = source.check() {
            table.problem(option, message, None);
        }
        is_known.then_some(source)
    }

    /// The first option that is wrong.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=RATE_MAX).contains(&self.rows_per_second) {
            return Err(("rows-per-second", "`rows-per-second` must be from 0 to 1000000000".into()));
        }
        match &self.kind {
            GeneratorKind::Sequence => Ok(()),
            GeneratorKind::Words(options) => options.check().map_err(|error| (error.option, error.message)),
            GeneratorKind::Nexmark(options) => options.check(),
        }
    }
}

/// The names of kinds.
#[derive(Clone, Copy)]
enum Kind {
    Sequence,
    Words,
    Nexmark,
}

fn parse_words(table: &mut Table<'_>) -> ZipfOptions {
    let mut options = ZipfOptions::default();
    options.seed = table.integer("seed", 0..=u64::MAX).unwrap_or(options.seed);
    let vocabulary = table.integer("vocabulary", 1..=u64::from(text::VOCABULARY_MAX));
    options.vocabulary = vocabulary.map_or(options.vocabulary, |n_words| n_words as u32);
    options.exponent = table.float("exponent").unwrap_or(options.exponent);
    options
}

impl SourceDefinition for GeneratorSource {
    fn type_name(&self) -> &str {
        "generator"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(match &self.kind {
            GeneratorKind::Sequence => Arc::new(Schema::new(vec![
                Field::new("value", DataType::Int64, false),
                Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false),
            ])),
            GeneratorKind::Words(_) => text_schema(),
            GeneratorKind::Nexmark(options) => nexmark::schema(options.events),
        })
    }

    fn describe(&self) -> String {
        let (kind, n_rows) = match &self.kind {
            GeneratorKind::Sequence => ("sequence".to_owned(), self.rows),
            GeneratorKind::Words(_) => ("words".to_owned(), self.rows),
            GeneratorKind::Nexmark(options) => (options.describe(), options.n_rows()),
        };
        let rate = match self.rows_per_second {
            0.0 => ", as fast as they are taken".to_owned(),
            rate => format!(", {rate} rows/s"),
        };
        let rows = n_rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
        format!("{kind}{rate}{rows}")
    }

    fn is_pushed_to(&self) -> bool {
        !matches!(self.kind, GeneratorKind::Nexmark(_))
    }

    fn ends(&self) -> bool {
        match &self.kind {
            GeneratorKind::Nexmark(options) => options.n_events.is_some(),
            _ => self.rows.is_some(),
        }
    }

    fn open(&self) -> Result<OpenSource, Error> {
        let wrong = |message| SourceError::Option { message, hint: None };
        self.check().map_err(|(_, message)| wrong(message))?;
        let rows = match &self.kind {
            GeneratorKind::Sequence => Rows::Sequence,
            GeneratorKind::Words(options) => {
                Rows::Words(Box::new(ZipfText::new(options.clone()).map_err(|error| wrong(error.message))?))
            }
            GeneratorKind::Nexmark(options) => {
                let clock = Arc::new(SystemClock::new());
                return Ok(OpenSource::Replayable(Box::new(NexmarkPlanner::new(options, self.rows_per_second, clock))));
            }
        };
        Ok(OpenSource::Receiver(Box::new(Generator {
            rows,
            rate: self.rows_per_second,
            n_rows: self.rows.unwrap_or(u64::MAX),
            n_made: 0,
        })))
    }
}

/// Makes rows when they are due.
struct Generator {
    rows: Rows,
    rate: f64,
    /// In all.
    n_rows: u64,
    /// So far; a receiver that is run again goes on.
    n_made: u64,
}

enum Rows {
    Sequence,
    Words(Box<ZipfText>),
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("n_made", &self.n_made).finish_non_exhaustive()
    }
}

impl Receiver for Generator {
    fn run(&mut self, intake: &Intake) -> Result<(), Error> {
        let mut pace = (self.rate > 0.0).then(|| Pace::new(self.rate, intake.clock().monotonic()));
        while self.n_made < self.n_rows && !intake.is_stopping() {
            let n_due = match &mut pace {
                None => ROWS_MAX,
                Some(pace) => match pace.due(intake.clock().monotonic()) {
                    Due::Rows(n_due) => n_due,
                    Due::In(wait) => {
                        intake.pause(wait);
                        continue;
                    }
                },
            };
            let n_rows = n_due.min(ROWS_MAX).min(self.n_rows - self.n_made);
            let rows = self.make(n_rows, intake)?;
            intake.push(rows)?;
            self.n_made += n_rows;
            if let Some(pace) = &mut pace {
                pace.made(n_rows);
            }
        }
        Ok(())
    }
}

impl Generator {
    fn make(&mut self, n_rows: u64, intake: &Intake) -> Result<RecordBatch, Error> {
        let columns: Vec<arrow::array::ArrayRef> = match &mut self.rows {
            Rows::Sequence => {
                // Fewer rows than an i64 holds are ever asked for, and times fit until the year 294247.
                let first = self.n_made as i64;
                let now_us = intake.clock().now().as_micros() as i64;
                let values = Int64Array::from_iter_values(first..first + n_rows as i64);
                let times = TimestampMicrosecondArray::from_value(now_us, n_rows as usize).with_timezone(UTC);
                vec![Arc::new(values), Arc::new(times)]
            }
            Rows::Words(text) => {
                let mut values = Vec::new();
                let mut offsets = Vec::with_capacity(n_rows as usize + 1);
                offsets.push(0_i32);
                for _ in 0..n_rows {
                    text.write_line(&mut values);
                    // At most 8,192 lines of at most 10,000 words of at most 16 bytes: below 2 GiB.
                    offsets.push(values.len() as i32);
                }
                values.shrink_to_fit();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let lines = StringArray::try_new(offsets, Buffer::from_vec(values), None)
                    .map_err(|source| Internal { doing: "making lines of words".into(), source })?;
                vec![Arc::new(lines)]
            }
        };
        RecordBatch::try_new(Arc::clone(intake.schema()), columns)
            .map_err(|source| Internal { doing: "making rows".into(), source }.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::job::table::read_options;
    use crate::source::BatchLimit;
    use crate::source::intake::test_intake;

    fn generate(source: &GeneratorSource) -> Vec<RecordBatch> {
        let OpenSource::Receiver(mut receiver) = source.open().expect("good options") else {
            panic!("a generator is a receiver");
        };
        let (intake, store, _) = test_intake(source.schema().expect("known"), 1 << 30);
        receiver.run(&intake).expect("it ends");
        store.allocate(0, u64::MAX).iter().map(|meta| store.get(meta.id).expect("allocated")).collect()
    }

    #[test]
    fn a_sequence_counts_and_ends() {
        let batches = generate(&GeneratorSource { rows: Some(20_000), ..GeneratorSource::sequence() });
        let values: Vec<i64> =
            batches.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(values, (0..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn words_are_the_text_of_the_seed() {
        let source = GeneratorSource { rows: Some(9_000), ..GeneratorSource::words(ZipfOptions::default()) };
        let batches = generate(&source);
        let mut text = ZipfText::new(ZipfOptions::default()).expect("good options");
        let mut n_rows = 0;
        for line in batches.iter().flat_map(|rows| rows.column(0).as_string::<i32>().iter()) {
            let mut expected = Vec::new();
            text.write_line(&mut expected);
            assert_eq!(line.map(str::as_bytes), Some(&expected[..]));
            n_rows += 1;
        }
        assert_eq!(n_rows, 9_000);
    }

    #[test]
    fn a_world_of_nexmark_ends_and_can_be_read_again() {
        let options = NexmarkOptions { n_events: Some(1_000), ..NexmarkOptions::of(NexmarkEvents::Bids) };
        let source = GeneratorSource::nexmark(options.clone());
        assert!(source.ends() && !GeneratorSource::nexmark(NexmarkOptions::of(NexmarkEvents::Bids)).ends());
        assert!(source.describe().ends_with(", as fast as they are taken, 920 rows"), "{}", source.describe());
        let Ok(OpenSource::Replayable(mut open)) = source.open() else { panic!("it is read by offset range") };
        let planned = open.plan_batch(BatchLimit { partitions: 1 }).expect("it can always be planned");
        let mut n_rows = 0;
        for range in planned.ranges.iter().chain(&planned.ranges) {
            let mut count = |rows: RecordBatch| {
                assert_eq!(rows.schema(), source.schema()?);
                n_rows += rows.num_rows();
                Ok(())
            };
            open.reader().read_range(range, &mut count).expect("a range of this source");
        }
        assert_eq!((n_rows, open.has_ended()), (2 * 920, true));
        let wrong = NexmarkOptions { hot_bidders: 0, ..options };
        assert!(GeneratorSource::nexmark(wrong).open().is_err_and(|error| error.in_one_line().contains("hot-bidders")));
    }

    #[test]
    fn options_are_read() {
        let read = |text: &str| read_options(text, Path::new("."), GeneratorSource::parse);
        assert_eq!(read(""), Ok(Some(GeneratorSource::sequence())));
        let options = ZipfOptions { seed: 7, vocabulary: 10, exponent: 1.5, ..ZipfOptions::default() };
        let expected = GeneratorSource { rows_per_second: 0.5, rows: Some(3), ..GeneratorSource::words(options) };
        let all = "kind = 'words'\nrows-per-second = 0.5\nrows = 3\nseed = 7\nvocabulary = 10\nexponent = 1.5";
        assert_eq!(read(all), Ok(Some(expected)));
        let world = NexmarkOptions { n_events: Some(500), ..NexmarkOptions::of(NexmarkEvents::Persons) };
        let expected = GeneratorSource { rows_per_second: 2.0, ..GeneratorSource::nexmark(world) };
        let nexmark = "kind = 'nexmark'\nrows-per-second = 2\nevents = 'persons'\nn-events = 500";
        assert_eq!(read(nexmark), Ok(Some(expected)));
        let problems = read("kind = 'nexmark'\nrows = 5\ndisorder = '400d'").expect_err("two mistakes");
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["unknown key `rows`", "`disorder` must be at most a year"]);
        let problems = read("seed = 1\nrows-per-second = -1").expect_err("two mistakes");
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["unknown key `seed`", "`rows-per-second` must be from 0 to 1000000000"]);
    }
}
