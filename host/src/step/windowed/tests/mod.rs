//! Every kind of window against a model that keeps all rows and looks at them one by one.

mod counts;
mod mistakes;
mod running;
mod sessions;
mod timed;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use proptest::prelude::*;

use super::*;
use crate::event_time::Watermark;
use crate::job::{OperatorRef, Settings};
use crate::operator::Limits;
use crate::step::testing::{DefinitionRun, Registered, SumJoinMean, TestBatch, cut_into_tasks, rows, texts};

/// A row as the model sees it.
#[derive(Debug, Clone)]
struct Sample {
    key: Option<i32>,
    n: Option<i64>,
    letter: u8,
    /// The time of the row; on batch time that of its batch.
    at: Option<i64>,
}

/// A batch as the model sees it.
#[derive(Debug, Clone)]
struct SampleBatch {
    time_us: i64,
    samples: Vec<Sample>,
    watermark: Watermark,
    closes: bool,
    /// How its rows are cut.
    cuts: Vec<usize>,
    n_tasks: usize,
    /// Whether it is run and given up before it is run for good.
    fails_first: bool,
}

/// What rows of a batch are made of: key, number, letter, time.
type RawSample = (Option<u8>, Option<i16>, u8, Option<i16>);
/// Its rows, by how much time goes on, cuts, tasks, whether it fails first.
type RawBatch = (Vec<RawSample>, u8, Vec<usize>, usize, bool);

/// Batches whose times go on by and by, now and then by years.
fn raw_batches() -> impl Strategy<Value = Vec<RawBatch>> {
    let key = prop_oneof![9 => (0u8..4).prop_map(Some), 1 => Just(None)];
    let time = prop_oneof![9 => (-40i16..40).prop_map(Some), 1 => Just(None)];
    let sample = (key, proptest::option::weighted(0.9, -50i16..50), 0u8..26, time);
    let cuts = proptest::collection::vec(1usize..6, 1..4);
    let batch = (proptest::collection::vec(sample, 0..14), any::<u8>(), cuts, 1usize..4, any::<bool>());
    proptest::collection::vec(batch, 1..9)
}

/// The batches with their times and clocks: the watermark is the largest time before less the delay.
fn batches(raw: &[RawBatch], delay: i64, on_batch_time: bool) -> Vec<SampleBatch> {
    const YEARS: i64 = 400 * 365 * 86_400 * 1_000_000;
    let (mut clock, mut seen, mut before) = (0i64, None::<i64>, None::<i64>);
    let mut batches: Vec<SampleBatch> = Vec::new();
    for (samples, step, cuts, n_tasks, fails_first) in raw {
        clock += match step {
            255 => YEARS,
            step => i64::from(step % 40) + 1,
        };
        let sample = |&(key, n, letter, at): &RawSample| Sample {
            key: key.map(i32::from),
            n: n.map(i64::from),
            letter: b'a' + letter,
            at: if on_batch_time { Some(clock) } else { at.map(|at| clock + i64::from(at)) },
        };
        let now_us = seen.map(|seen| seen - delay);
        let batch = SampleBatch {
            time_us: clock,
            samples: samples.iter().map(sample).collect(),
            watermark: Watermark { late_us: before, now_us },
            closes: false,
            cuts: cuts.clone(),
            n_tasks: *n_tasks,
            fails_first: *fails_first,
        };
        before = now_us;
        seen = batch.samples.iter().filter_map(|sample| sample.at).max().max(seen);
        batches.push(batch);
    }
    batches.push(SampleBatch {
        time_us: clock + 1,
        samples: Vec::new(),
        watermark: Watermark { late_us: before, now_us: Some(i64::MAX) },
        closes: true,
        cuts: vec![1],
        n_tasks: 1,
        fails_first: true,
    });
    batches
}

/// Columns `key`, `n`, `letters`, `ts`, and `quarters`, floats whose sums are exact, when they are asked for.
fn input(samples: &[Sample], has_quarters: bool) -> RecordBatch {
    let letters = samples.iter().map(|sample| Some(char::from(sample.letter).to_string()));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(samples.iter().map(|sample| sample.key).collect::<Int32Array>())),
        ("n", Arc::new(samples.iter().map(|sample| sample.n).collect::<Int64Array>())),
        ("letters", Arc::new(letters.collect::<StringArray>())),
        ("ts", Arc::new(samples.iter().map(|sample| sample.at).collect::<TimestampMicrosecondArray>())),
    ];
    if has_quarters {
        let quarters = samples.iter().map(|sample| sample.n.map(|n| n as f64 / 4.0));
        columns.push(("quarters", Arc::new(quarters.collect::<Float64Array>())));
    }
    rows(columns)
}

/// The rows as text, times as numbers, in any order: sorted.
fn sorted_texts(partitions: &[Vec<RecordBatch>]) -> Vec<String> {
    let plain = |batch: &RecordBatch| {
        let columns = batch.columns().iter().map(|column| match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64).expect("times are numbers"),
            _ => column.clone(),
        });
        let names = batch.schema();
        rows(names.fields().iter().map(|field| field.name().as_str()).zip(columns).collect())
    };
    let batches: Vec<_> = partitions.iter().flatten().map(plain).collect();
    let mut texts = texts(&batches);
    texts.sort();
    texts
}

fn settings(partitions: u32) -> Settings {
    Settings { partitions, batch_interval: std::time::Duration::ZERO, ..Settings::default() }
}

/// What is computed in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Counts and sums, which can be inverted, and drift if there are floats.
    Sums { floats: bool },
    /// Also extremes, which cannot.
    Extremes,
    /// What depends on the order of rows, and sets of values.
    Ordered,
    /// A reducer: the sum of `n`, and `letters` in order.
    Joined { invertible: bool },
}

impl What {
    fn any() -> impl Strategy<Value = What> {
        prop_oneof![
            any::<bool>().prop_map(|floats| What::Sums { floats }),
            Just(What::Extremes),
            Just(What::Ordered),
            any::<bool>().prop_map(|invertible| What::Joined { invertible }),
        ]
    }

    fn has_quarters(self) -> bool {
        !matches!(self, What::Joined { .. })
    }

    fn computes(self) -> Computes {
        let select = |texts: &[&str]| {
            let names = texts.iter().enumerate().map(|(index, text)| (format!("c{index}"), (*text).to_owned()));
            Computes::Select(names.collect())
        };
        match self {
            What::Sums { floats: false } => select(&["count(*)", "sum(n)"]),
            What::Sums { floats: true } => select(&["count(*)", "sum(quarters)"]),
            What::Extremes => select(&["count(*)", "min(n)", "max(letters)"]),
            What::Ordered => select(&["first(letters)", "last(letters)", "count(distinct n)"]),
            What::Joined { invertible } => {
                let operator = SumJoinMean { invertible, ..SumJoinMean::new() };
                Computes::Reducer(OperatorStep {
                    grants: Default::default(),
                    operator: OperatorRef::Registered(Arc::new(Registered(Arc::new(operator)))),
                    config: serde_json::json!({}),
                    limits: Limits::default(),
                    whole_partition: false,
                    on_error: crate::job::OnError::Fail,
                })
            }
        }
    }

    /// The result of some rows, in their order, as text.
    fn result(self, samples: &[&Sample]) -> String {
        let text = |n: Option<i64>| n.map_or("NULL".to_owned(), |n| n.to_string());
        let numbers = || samples.iter().filter_map(|sample| sample.n);
        let sum = || samples.iter().any(|sample| sample.n.is_some()).then(|| numbers().sum::<i64>());
        match self {
            What::Sums { floats: false } => format!("{}|{}", samples.len(), text(sum())),
            What::Sums { floats: true } => {
                let quarters = sum().map(|sum| Float64Array::from(vec![sum as f64 / 4.0]));
                let quarters = quarters.map(|sum| texts(&[rows(vec![("sum", Arc::new(sum) as ArrayRef)])]).remove(0));
                format!("{}|{}", samples.len(), quarters.unwrap_or_else(|| "NULL".into()))
            }
            What::Extremes => {
                let letter = samples.iter().map(|sample| char::from(sample.letter)).max();
                format!("{}|{}|{}", samples.len(), text(numbers().min()), letter.expect("a window has rows"))
            }
            What::Ordered => {
                let [first, last] = [samples.first(), samples.last()]
                    .map(|sample| char::from(sample.expect("a window has rows").letter));
                format!("{first}|{last}|{}", numbers().collect::<std::collections::BTreeSet<_>>().len())
            }
            What::Joined { .. } => {
                let letters: String = samples.iter().map(|sample| char::from(sample.letter)).collect();
                format!("{}|{letters}", numbers().sum::<i64>())
            }
        }
    }
}

/// A step at work, and the model's batches to run through it.
struct Case {
    run: DefinitionRun,
    /// The columns of [`input`] that the step gets.
    columns: Vec<usize>,
}

impl Case {
    fn new(what: What, by: &[&str], over: Over, partitions: u32) -> Self {
        // A reducer reduces all columns but keys and event time, and that of the tests takes two types alone.
        let is_reduced = matches!(what, What::Joined { .. });
        let has_time = matches!(&over, Over::Window(window) if window.time.is_some());
        let columns = input(&[], true).schema();
        let columns = columns.fields().iter().enumerate().filter(|(_, field)| match field.name().as_str() {
            "key" => !is_reduced || !by.is_empty(),
            "ts" => !is_reduced || has_time,
            "quarters" => !is_reduced,
            _ => true,
        });
        let columns: Vec<usize> = columns.map(|(index, _)| index).collect();
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        let definition = WindowedDefinition { computes: what.computes(), by, partitions: None, over };
        let schema = input(&[], true).project(&columns).expect("they are there").schema();
        let run = DefinitionRun::plan(&definition, &[schema], &settings(partitions), true);
        Self { run: run.unwrap_or_else(|problems| panic!("{problems:?}")), columns }
    }

    /// What a batch gives; the same when it failed before.
    fn batch(&mut self, batch: &SampleBatch) -> Vec<String> {
        let rows = input(&batch.samples, true).project(&self.columns).expect("they are there");
        let tasks = if rows.num_rows() == 0 { Vec::new() } else { cut_into_tasks(&rows, &batch.cuts, batch.n_tasks) };
        let test =
            TestBatch { time_us: batch.time_us, watermark: batch.watermark, closes: batch.closes, sides: vec![tasks] };
        let failed = batch.fails_first.then(|| self.run.failed_batch(&test).expect("it runs"));
        let given = sorted_texts(&self.run.batch(&test).expect("it runs"));
        if let Some(failed) = failed {
            assert_eq!(sorted_texts(&failed), given, "a failed batch left a trace");
        }
        given
    }
}

/// Rows by key.
fn by_key<'a>(samples: impl IntoIterator<Item = &'a Sample>, has_keys: bool) -> BTreeMap<Option<i32>, Vec<&'a Sample>> {
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sample in samples {
        keys.entry(if has_keys { sample.key } else { None }).or_default().push(sample);
    }
    keys
}

/// A key as text, with what follows.
fn keyed_text(key: Option<i32>, has_keys: bool, result: &str) -> String {
    match (has_keys, key) {
        (false, _) => result.to_owned(),
        (true, None) => format!("NULL|{result}"),
        (true, Some(key)) => format!("{key}|{result}"),
    }
}
