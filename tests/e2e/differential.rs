//! Differential: a plugin gives what the same function gives natively, on random rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use tidemill::ids::{BatchId, PartitionId};
use tidemill::operator::native::NativeOperator;
use tidemill::operator::{Call, Change, Grouped, Limits, Operator, StepInfo, TimeoutChange, Timeouts, UpdaterInput};
use tidemill::plugin::{LoadOptions, Plugin};
use tidemill_tests::plugin;

use crate::library::runtime;

/// Numbers that look random and are the same in every run: a failure shows again. (Steele, Lea, Flood, SplitMix64.)
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Text with white space of every kind, and characters of one to four bytes.
    fn text(&mut self) -> String {
        const PIECES: [&str; 14] = [
            "a",
            "Tide",
            "é",
            "水",
            "🌊",
            " ",
            "  ",
            "\t",
            "\n",
            "\r",
            "\x0B",
            "\x0C",
            "ÀB",
            "a-word-of-thirty-one-characters",
        ];
        let n = self.below(30);
        (0..n).map(|_| PIECES[self.below(PIECES.len() as u64) as usize]).collect()
    }

    /// JSON that fits, JSON that does not, and what is no JSON.
    fn json(&mut self) -> String {
        match self.below(5) {
            0 => format!(r#"{{"user":{{"name":"{}"}},"n":{}}}"#, self.below(100), self.below(1000)),
            1 => format!(r#"{{"user":{{"name":{}}},"n":"x"}}"#, self.below(100)),
            2 => r#"{"n":9223372036854775807,"user":null}"#.into(),
            3 => r#"{"user":{"name":"é\n\"quoted\""},"n":1.5}"#.into(),
            _ => self.text(),
        }
    }
}

fn loaded(name: &str) -> Plugin {
    let path = plugin(name);
    runtime().load(name, Path::new(&path), &LoadOptions::default()).expect("a plugin")
}

fn info(config: serde_json::Value) -> StepInfo {
    StepInfo {
        budget: Default::default(),
        job: "differential".into(),
        step: "step".into(),
        partitions: 1,
        config,
        limits: Limits::default(),
        stop: Default::default(),
    }
}

fn call(n: u64) -> Call {
    Call {
        batch_id: BatchId(n),
        batch_time_us: 1_000_000 * n as i64,
        partition: PartitionId(0),
        attempt: 0,
        first_row: 0,
        watermark_us: None,
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns of one length")
}

/// Runs both over batches of several sizes, the empty one among them, and slices of them.
fn check_transform(
    name: &str,
    native: impl Into<NativeOperator>,
    config: &serde_json::Value,
    mut rows: impl FnMut(&mut Random, usize) -> RecordBatch,
) {
    let mut random = Random(42);
    let native = native.into();
    let plugin = loaded(name);
    let schema = rows(&mut random, 1).schema();
    let mut sandboxed = plugin.open_transform(&info(config.clone()), &schema).expect("the plugin opens");
    let mut native = native.open_transform(&info(config.clone()), &schema).expect("the function opens");
    assert_eq!(sandboxed.plan(), native.plan());
    for n in 0..60 {
        let whole = rows(&mut random, [0, 1, 7, 64, 1000][n % 5]);
        let start = random.below(whole.num_rows() as u64 + 1) as usize;
        for input in [whole.slice(start, whole.num_rows() - start), whole] {
            let input = input.project(&native.plan().reads).expect("the plan's columns");
            let seen = sandboxed.process(&call(n as u64), &input).expect("the plugin runs");
            let expected = native.process(&call(n as u64), &input).expect("the function runs");
            assert_eq!(seen.rows, expected.rows, "{name}, batch {n}");
            assert_eq!(seen.origin, expected.origin, "{name}, batch {n}");
            assert_eq!(seen.rejected, expected.rejected, "{name}, batch {n}");
        }
    }
}

#[test]
fn words_are_split_alike() {
    for lowercase in [false, true] {
        let config = serde_json::json!({ "lowercase": lowercase });
        check_transform("split_words", split_words::split_words::operator(), &config, |random, n| {
            let texts = (0..n).map(|_| (random.below(10) > 0).then(|| random.text()));
            batch(vec![("value", Arc::new(StringArray::from_iter(texts)))])
        });
    }
}

#[test]
fn rows_are_filtered_alike() {
    let config = serde_json::json!({ "min": 0.25 });
    check_transform("filter_amount", filter_amount::filter_amount::operator(), &config, |random, n| {
        let amounts = (0..n).map(|_| match random.below(10) {
            0 => None,
            1 => Some(f64::NAN),
            _ => Some(random.below(1000) as f64 / 1000.0),
        });
        let amounts: ArrayRef = Arc::new(Float64Array::from_iter(amounts));
        let names: ArrayRef = Arc::new(StringArray::from_iter((0..n).map(|_| Some(random.text()))));
        batch(vec![("name", names), ("amount", amounts)])
    });
}

#[test]
fn fields_are_taken_out_alike() {
    let config = serde_json::json!({ "fields": [
        { "column": "user", "path": "/user/name", "type": "text", "required": true },
        { "column": "n", "type": "int64" },
    ] });
    check_transform("json_field", json_field::JsonField::operator(), &config, |random, n| {
        let texts = (0..n).map(|_| Some(random.json()));
        batch(vec![("value", Arc::new(StringArray::from_iter(texts)))])
    });
}

/// Values of groups: some rows each, with the exclusive ends of the groups.
fn groups(random: &mut Random) -> (RecordBatch, Vec<u32>) {
    let mut ends = Vec::new();
    let mut end = 0;
    for _ in 0..random.below(50) {
        end += 1 + random.below(5) as u32;
        ends.push(end);
    }
    let integers = (0..end).map(|_| (random.below(8) > 0).then(|| random.below(2000) as i64 - 1000));
    let integers: ArrayRef = Arc::new(Int64Array::from_iter(integers));
    let floats = (0..end).map(|_| (random.below(8) > 0).then(|| random.below(2000) as f64 / 8.0));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter(floats));
    (batch(vec![("whole", integers), ("part", floats)]), ends)
}

#[test]
fn sums_are_reduced_alike() {
    let mut random = Random(7);
    let schema = groups(&mut random).0.schema();
    let step = info(serde_json::json!({}));
    let native = NativeOperator::from(sum::Sum::operator());
    let mut sandboxed = loaded("sum").open_reducer(&step, &schema).expect("the plugin opens");
    let mut native = native.open_reducer(&step, &schema).expect("the function opens");
    assert_eq!(sandboxed.plan(), native.plan());
    for n in 0..40 {
        let (values, ends) = groups(&mut random);
        let seen = sandboxed.reduce(&call(n), &values, &ends).expect("the plugin runs");
        assert_eq!(seen, native.reduce(&call(n), &values, &ends).expect("the function runs"));
    }
}

#[test]
fn means_are_aggregated_alike() {
    let mut random = Random(8);
    let schema = groups(&mut random).0.schema();
    let step = info(serde_json::json!({ "column": "part" }));
    let native = NativeOperator::from(mean::Mean::operator());
    let mut sandboxed = loaded("mean").open_aggregator(&step, &schema).expect("the plugin opens");
    let mut native = native.open_aggregator(&step, &schema).expect("the function opens");
    assert_eq!(sandboxed.plan(), native.plan());
    for n in 0..40 {
        let (values, ends) = groups(&mut random);
        let values = values.project(&native.plan().reads).expect("the plan's columns");
        let kept = sandboxed.accumulate(&call(n), &values, &ends).expect("the plugin runs");
        assert_eq!(kept, native.accumulate(&call(n), &values, &ends).expect("the function runs"));
        let pairs: Vec<u32> =
            (1..=kept.num_rows().div_ceil(2) as u32).map(|n| (2 * n).min(kept.num_rows() as u32)).collect();
        let merged = sandboxed.merge(&call(n), &kept, &pairs).expect("the plugin runs");
        assert_eq!(merged, native.merge(&call(n), &kept, &pairs).expect("the function runs"));
        let seen = sandboxed.finish(&call(n), &merged).expect("the plugin runs");
        assert_eq!(seen, native.finish(&call(n), &merged).expect("the function runs"));
    }
}

/// Keys from `first` on.
fn keys(first: i64, n: usize) -> RecordBatch {
    let keys = Int64Array::from_iter_values(first..first + n as i64);
    RecordBatch::try_from_iter([("key", Arc::new(keys) as ArrayRef)]).expect("one column")
}

/// The ends of groups of so many rows.
fn ends(n_rows: &[u64]) -> Vec<u32> {
    let end = |end: &mut u32, n: &u64| {
        *end += *n as u32;
        Some(*end)
    };
    n_rows.iter().scan(0, end).collect()
}

#[test]
fn orders_are_enriched_alike() {
    let mut random = Random(9);
    // One text in four is null, where the plugin cannot do with it as well.
    let texts = |random: &mut Random, n: u32| {
        let texts: StringArray = (0..n).map(|_| (random.below(4) > 0).then(|| random.text())).collect();
        Arc::new(texts) as ArrayRef
    };
    let orders = |random: &mut Random, n: u32| {
        let amounts = Arc::new(Float64Array::from_iter_values((0..n).map(f64::from))) as ArrayRef;
        batch(vec![("amount", amounts), ("order", texts(random, n)), ("note", texts(random, n))])
    };
    let customers = |random: &mut Random, n: u32| {
        let columns = [("name", texts(random, n)), ("tier", texts(random, n))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .expect("two columns")
    };
    let schemas = [orders(&mut random, 1).schema(), customers(&mut random, 1).schema()];
    let step = info(serde_json::json!({}));
    let native = NativeOperator::from(enrich::Enrich::operator());
    let mut sandboxed = loaded("enrich").open_grouper(&step, &keys(0, 0).schema(), &schemas).expect("the plugin opens");
    let mut native = native.open_grouper(&step, &keys(0, 0).schema(), &schemas).expect("the function opens");
    assert_eq!(sandboxed.plan(), native.plan());
    for n in 0..40 {
        let n_groups = random.below(20) as usize;
        let mut some_ends = || ends(&(0..n_groups).map(|_| random.below(5)).collect::<Vec<_>>());
        let ends = [some_ends(), some_ends()];
        let n_rows = ends.each_ref().map(|ends| ends.last().copied().unwrap_or(0));
        let rows = [orders(&mut random, n_rows[0]), customers(&mut random, n_rows[1])];
        let read = |i: usize| rows[i].project(&native.plan().reads[i]).expect("the plan's columns");
        let read = [read(0), read(1)];
        let inputs = [Grouped { rows: &read[0], ends: &ends[0] }, Grouped { rows: &read[1], ends: &ends[1] }];
        let keys = keys(0, n_groups);
        let seen = sandboxed.process(&call(n), &keys, &inputs).expect("the plugin runs");
        let expected = native.process(&call(n), &keys, &inputs).expect("the function runs");
        assert_eq!((seen.rows, seen.group, seen.rejected), (expected.rows, expected.group, expected.rejected));
    }
}

/// What an updater keeps of a key: a row of state.
type Kept = std::collections::BTreeMap<i64, RecordBatch>;

/// Runs batches of random payments, which are events and scores as well, through an updater as a plugin and natively, each
/// with what it keeps.
fn check_updaters(name: &str, native: NativeOperator, config: serde_json::Value) {
    let mut random = Random(12);
    let payments = |random: &mut Random, n: u32| {
        let times = TimestampMicrosecondArray::from_iter_values((0..n).map(|_| random.below(1000) as i64));
        let amounts = Float64Array::from_iter_values((0..n).map(|_| random.below(100) as f64));
        let items: StringArray = (0..n).map(|_| Some(random.text())).collect();
        let amounts = Arc::new(amounts) as ArrayRef;
        batch(vec![
            ("amount", Arc::clone(&amounts)),
            ("item", Arc::new(items)),
            ("at", Arc::new(times)),
            ("value", amounts),
        ])
    };
    let (step, schema) = (info(config), payments(&mut random, 0).schema());
    let mut sandboxed = loaded(name).open_updater(&step, &keys(0, 0).schema(), &schema).expect("the plugin opens");
    let mut native = native.open_updater(&step, &keys(0, 0).schema(), &schema).expect("the function opens");
    assert_eq!(sandboxed.plan(), native.plan());
    let plan = native.plan().clone();
    let mut kept = Kept::new();
    let (mut n_rows, mut n_timeouts) = (0, 0);
    for n in 0..40 {
        let (first, n_keys) = (random.below(10) as i64, random.below(8) as usize);
        let keys = keys(first, n_keys);
        let states: Vec<_> = (first..first + n_keys as i64).map(|key| kept.get(&key)).collect();
        let state = arrow::compute::concat_batches(&plan.state, states.iter().copied().flatten());
        let state = state.expect("states have one schema");
        let has_state: Vec<_> = states.iter().map(Option::is_some).collect();
        // A key that times out has state, and no rows.
        let may_time_out = plan.timeouts != Timeouts::Never;
        let n_values: Vec<_> = has_state
            .iter()
            .map(|&has| if has && may_time_out { random.below(4) } else { 1 + random.below(4) })
            .collect();
        let timed_out: Vec<_> = n_values.iter().map(|n| *n == 0).collect();
        let ends = ends(&n_values);
        let values = payments(&mut random, ends.last().copied().unwrap_or(0));
        let values = values.project(&plan.reads).expect("the plan's columns");
        let input = UpdaterInput {
            keys: &keys,
            values: &values,
            ends: &ends,
            state: &state,
            has_state: &has_state,
            timed_out: &timed_out,
        };
        let call = Call { watermark_us: Some(20 * n as i64), ..call(n) };
        let seen = sandboxed.update(&call, &input).expect("the plugin runs");
        let expected = native.update(&call, &input).expect("the function runs");
        assert_eq!(
            (&seen.changes, &seen.state, &seen.timeouts),
            (&expected.changes, &expected.state, &expected.timeouts)
        );
        assert_eq!((&seen.rows, seen.group, seen.rejected), (&expected.rows, expected.group, expected.rejected));
        n_rows += seen.rows.num_rows();
        let set = |change: &&TimeoutChange| matches!(change, TimeoutChange::Set(_));
        n_timeouts += seen.timeouts.iter().flatten().filter(set).count();
        for (key, change) in (first..).zip(&seen.changes) {
            match change {
                Change::Keep => None,
                Change::Put(row) => kept.insert(key, seen.state.slice(*row as usize, 1)),
                Change::Remove => kept.remove(&key),
            };
        }
    }
    assert!(n_rows > 20 && !kept.is_empty(), "{n_rows} rows came out, {} keys are kept", kept.len());
    assert_eq!(n_timeouts > 0, plan.timeouts != Timeouts::Never);
}

#[test]
fn keys_are_updated_alike() {
    let native = NativeOperator::from(sessionise::Sessionise::operator());
    check_updaters("sessionise", native, serde_json::json!({ "gap": "50us" }));
    let native = NativeOperator::from(running_top_k::RunningTopK::operator());
    check_updaters("running_top_k", native, serde_json::json!({ "k": 3 }));
    let native = NativeOperator::from(fraud_pattern::FraudPattern::operator());
    let config = serde_json::json!({ "small": 40, "large": 60, "within": "400us" });
    check_updaters("fraud_pattern", native, config);
}
