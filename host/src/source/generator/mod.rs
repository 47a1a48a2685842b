//! Rows made up at a given rate: for tests, demonstrations and measurements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::error::SourceError;
use super::lines::text_schema;
use super::schema::UTC;
use super::{Intake, OpenSource, Receiver, SourceDefinition};
use crate::error::{Error, Internal};
use crate::job::table::Table;

use text::{ZipfOptions, ZipfText};

pub mod text;

/// Rows of a batch that is pushed, at most: half a megabyte of text.
const ROWS_MAX: u64 = 8_192;

/// How often rows are due, at rates at which several come between two ticks.
const TICK: Duration = Duration::from_millis(5);

/// A generator that was held up makes up for so much and no more: it does not flood a job that comes back.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

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
    /// How many in all; then the source ends. `None`: it does not end.
    pub rows: Option<u64>,
}

/// What rows a generator makes.
#[derive(Debug, Clone, PartialEq)]
pub enum GeneratorKind {
    /// `value: int64`, counting from 0, and `timestamp`, when the row was made, in microseconds, UTC.
    Sequence,
    /// `value: utf8`, lines of words.
    Words(ZipfOptions),
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

    /// Reads the options `kind`, `rows-per-second`, `rows`, and for words `seed`, `vocabulary` and `exponent`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let is_words = table.choice("kind", &[("sequence", false), ("words", true)]);
        let mut options = ZipfOptions::default();
        if is_words == Some(true) {
            options.seed = table.integer("seed", 0..=u64::MAX).unwrap_or(options.seed);
            let vocabulary = table.integer("vocabulary", 1..=u64::from(text::VOCABULARY_MAX));
            options.vocabulary = vocabulary.map_or(options.vocabulary, |n_words| n_words as u32);
            options.exponent = table.float("exponent").unwrap_or(options.exponent);
        }
        let rows_per_second = table.float("rows-per-second").unwrap_or(0.0);
        let rows = table.integer("rows", 0..=i64::MAX as u64);
        let kind = if is_words == Some(true) { GeneratorKind::Words(options) } else { GeneratorKind::Sequence };
        let source = Self { kind, rows_per_second, rows };
        if let Err((option, message)) = source.check() {
            table.problem(option, message, None);
        }
        (is_words.is_some() || !table.has("kind")).then_some(source)
    }

    /// The first option that is wrong.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=RATE_MAX).contains(&self.rows_per_second) {
            return Err(("rows-per-second", "`rows-per-second` must be from 0 to 1000000000".into()));
        }
        match &self.kind {
            GeneratorKind::Sequence => Ok(()),
            GeneratorKind::Words(options) => options.check().map_err(|error| (error.option, error.message)),
        }
    }
}

impl SourceDefinition for GeneratorSource {
    fn type_name(&self) -> &str {
        "generator"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(match self.kind {
            GeneratorKind::Sequence => Arc::new(Schema::new(vec![
                Field::new("value", DataType::Int64, false),
                Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false),
            ])),
            GeneratorKind::Words(_) => text_schema(),
        })
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            GeneratorKind::Sequence => "sequence",
            GeneratorKind::Words(_) => "words",
        };
        let rate = match self.rows_per_second {
            0.0 => ", as fast as they are taken".to_owned(),
            rate => format!(", {rate} rows/s"),
        };
        let rows = self.rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
        format!("{kind}{rate}{rows}")
    }

    fn ends(&self) -> bool {
        self.rows.is_some()
    }

    fn open(&self) -> Result<OpenSource, Error> {
        let wrong = |message| SourceError::Option { message, hint: None };
        self.check().map_err(|(_, message)| wrong(message))?;
        let rows = match &self.kind {
            GeneratorKind::Sequence => Rows::Sequence,
            GeneratorKind::Words(options) => {
                Rows::Words(Box::new(ZipfText::new(options.clone()).map_err(|error| wrong(error.message))?))
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

/// Says when rows are due, so that the rate holds over time however late each look is.
#[derive(Debug)]
struct Pace {
    rate: f64,
    /// When the rows counted in `n_made` began.
    started: Duration,
    n_made: u64,
}

/// What is due.
#[derive(Debug, PartialEq)]
enum Due {
    /// So many rows, now; at least one.
    Rows(u64),
    /// None for so long.
    In(Duration),
}

impl Pace {
    fn new(rate: f64, now: Duration) -> Self {
        Self { rate, started: now, n_made: 0 }
    }

    fn due(&mut self, now: Duration) -> Due {
        let earliest = Duration::try_from_secs_f64(self.n_made as f64 / self.rate).unwrap_or(Duration::MAX);
        let behind = now.saturating_sub(self.started.saturating_add(earliest));
        if behind > CATCH_UP_MAX {
            // What was missed beyond that is missed.
            self.started += behind - CATCH_UP_MAX;
        }
        let elapsed = now.saturating_sub(self.started).as_secs_f64();
        // The first row is due at once, and `f64` counts exactly for a hundred days of a billion rows a second.
        let n_due = ((elapsed * self.rate).floor() as u64 + 1).saturating_sub(self.n_made);
        if n_due > 0 {
            return Due::Rows(n_due);
        }
        let next = Duration::try_from_secs_f64(self.n_made as f64 / self.rate).unwrap_or(Duration::MAX);
        let wait = self.started.saturating_add(next).saturating_sub(now);
        // Several rows a tick are made together.
        Due::In(wait.max(if self.rate * TICK.as_secs_f64() > 1.0 { TICK } else { Duration::from_micros(1) }))
    }

    fn made(&mut self, n_rows: u64) {
        self.n_made += n_rows;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::job::table::read_options;
    use crate::source::intake::test_intake;

    /// Looks at a pace every so often, for so long; how many rows were due.
    fn run_pace(rate: f64, every: Duration, total: Duration) -> u64 {
        let mut pace = Pace::new(rate, Duration::from_secs(7));
        let (mut now, mut n_made) = (Duration::ZERO, 0);
        while now < total {
            if let Due::Rows(n_due) = pace.due(Duration::from_secs(7) + now) {
                pace.made(n_due);
                n_made += n_due;
            }
            now += every;
        }
        n_made
    }

    #[test]
    fn the_rate_holds_however_late_each_look_is() {
        for every in [1, 5, 30, 900].map(Duration::from_millis) {
            let n_made = run_pace(1_000.0, every, Duration::from_secs(90));
            assert!((89_000..=90_001).contains(&n_made), "{n_made} every {every:?}");
        }
        assert_eq!(run_pace(0.1, Duration::from_millis(50), Duration::from_secs(60)), 6);
    }

    #[test]
    fn a_stall_is_made_up_for_up_to_a_second() {
        let mut pace = Pace::new(100.0, Duration::ZERO);
        assert_eq!(pace.due(Duration::ZERO), Due::Rows(1));
        pace.made(1);
        let Due::Rows(n_due) = pace.due(Duration::from_secs(3600)) else { panic!("rows are due") };
        assert!((99..=102).contains(&n_due), "{n_due}");
        pace.made(n_due);
        assert!(matches!(pace.due(Duration::from_secs(3600)), Due::In(_)));
    }

    #[test]
    fn a_wait_ends_when_the_next_row_is_due() {
        let mut pace = Pace::new(2.0, Duration::ZERO);
        pace.made(1);
        assert_eq!(pace.due(Duration::from_millis(100)), Due::In(Duration::from_millis(400)));
        let mut fast = Pace::new(100_000.0, Duration::ZERO);
        fast.made(1);
        assert_eq!(fast.due(Duration::ZERO), Due::In(TICK));
    }

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
    fn options_are_read() {
        let read = |text: &str| read_options(text, Path::new("."), GeneratorSource::parse);
        assert_eq!(read(""), Ok(Some(GeneratorSource::sequence())));
        let options = ZipfOptions { seed: 7, vocabulary: 10, exponent: 1.5, ..ZipfOptions::default() };
        let expected = GeneratorSource { rows_per_second: 0.5, rows: Some(3), ..GeneratorSource::words(options) };
        let all = "kind = 'words'\nrows-per-second = 0.5\nrows = 3\nseed = 7\nvocabulary = 10\nexponent = 1.5";
        assert_eq!(read(all), Ok(Some(expected)));
        let problems = read("seed = 1\nrows-per-second = -1").expect_err("two mistakes");
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["unknown key `seed`", "`rows-per-second` must be from 0 to 1000000000"]);
    }
}
