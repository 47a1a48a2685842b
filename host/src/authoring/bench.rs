//! `tidemill plugin bench`: how fast a plugin is, and what it takes.
//!
//! The rows are repeated to batches of a usual size and go through a job of one step, which is timed; two plugins take turns, so
//! that what else the machine does is the same for both, and medians are compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::authoring::test::load;
use crate::authoring::trial::{self, Feed, Subject, TrialError, Way};
use crate::clock::Stopwatch;
use crate::error::Error;
use crate::operator::{OpenError, Operator, Role};
use crate::plugin::{InstanceMode, Plugin, Runtime, RuntimeConfig};
use crate::source::FileSource;

/// How often each plugin is timed: enough for a median.
const ROUNDS: u32 = 5;

/// How often an instance is made, for the median of how long it takes.
const INSTANCES: usize = 15;

/// Rows of a batch: what a call gets at most.
const ROWS: usize = 65_536;

/// Rows of a key, where a key comes in one call: a fraction of what one holds.
const ROWS_OF_KEY: usize = 8_192;

/// What is measured.
#[derive(Debug, Clone)]
pub struct BenchRequest {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// Another one, that it is compared with.
    pub versus: Option<PathBuf>,
    /// The role; `None`: the plugin's, which has one.
    pub role: Option<Role>,
    /// The step's configuration.
    pub config: serde_json::Value,
    /// The columns that are the key.
    pub by: Vec<String>,
    /// Where the rows are.
    pub rows: FileSource,
    /// How long each plugin runs.
    pub time: Duration,
}

/// What was measured of a plugin: medians.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Measured {
    /// Its file.
    pub plugin: String,
    /// Rows that went in, a second of work in the step.
    pub rows_per_second: f64,
    /// Nanoseconds of work a row that went in.
    pub nanoseconds_per_row: f64,
    /// Bytes a row that went in that were copied into the plugin.
    pub in_bytes_per_row: f64,
    /// Bytes a row that went in that were copied out of it.
    pub out_bytes_per_row: f64,
    /// The most memory that an instance had.
    pub memory_bytes: u64,
    /// Seconds to compile it, on all threads that compile.
    pub compile_seconds: f64,
    /// Seconds to make an instance and open it.
    pub instantiate_seconds: f64,
    /// The size of its file.
    pub size_bytes: u64,
}

/// What a bench found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Bench {
    /// The plugin.
    pub plugin: Measured,
    /// The other one.
    pub versus: Option<Measured>,
    /// How many times as fast the plugin is as the other one: the median of the rounds.
    pub ratio: Option<f64>,
    /// Rows of a batch.
    pub batch_rows: u64,
}

/// A plugin while it is measured.
struct Runner {
    path: PathBuf,
    plugin: Arc<Plugin>,
    runtime: Runtime,
    subject: Subject,
    compile: Duration,
    instantiate: Duration,
    /// Of each round.
    seconds_per_row: Vec<f64>,
    crossed: (f64, f64),
}

/// Measures a plugin, or two.
///
/// # Errors
///
/// When a plugin or the rows cannot be read, or it fails.
pub fn bench(request: &BenchRequest) -> Result<Bench, Error> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let (schema, read) = trial::read_rows(&request.rows, false, &runtime)?;
    let sample = trial::concat(&schema, read.iter())?;
    if sample.num_rows() == 0 {
        let hint = Some("Name a file that has some with `--rows`.".into());
        return Err(TrialError { message: "there are no rows to run it on".into(), hint }.into());
    }
    let mut first = Runner::new(&request.plugin, request, &sample)?;
    let mut second = request.versus.as_deref().map(|path| Runner::new(path, request, &sample)).transpose()?;
    let rows = repeated(&sample, &first.subject)?;
    let round = (request.time / ROUNDS).max(Duration::from_millis(1));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let one = first.round(&rows, round)?;
        if let Some(second) = &mut second {
            ratios.push(second.round(&rows, round)? / one);
        }
    }
    Ok(Bench {
        plugin: first.measured(),
        ratio: second.is_some().then(|| median(&mut ratios)),
        versus: second.map(|second| second.measured()),
        batch_rows: rows.num_rows() as u64,
    })
}

impl Runner {
    fn new(path: &Path, request: &BenchRequest, rows: &RecordBatch) -> Result<Self, Error> {
        // Without a cache, so that it is compiled now; by this process, so that no start of another is counted.
        let runtime = Runtime::new(RuntimeConfig { cache_dir: None, ..RuntimeConfig::default() })?;
        let watch = Stopwatch::start();
        let (plugin, role) = load(&runtime, path, request.role, InstanceMode::Kept)?;
        let compile = watch.elapsed();
        let subject = Subject {
            operator: Arc::clone(&plugin) as Arc<dyn Operator>,
            role,
            config: request.config.clone(),
            by: request.by.clone(),
            whole_partition: false,
        };
        let mut opens = Vec::new();
        for _ in 0..INSTANCES {
            let watch = Stopwatch::start();
            open(&subject, rows)?;
            opens.push(watch.elapsed().as_secs_f64());
        }
        let instantiate = Duration::from_secs_f64(median(&mut opens));
        let (seconds_per_row, crossed) = (Vec::new(), (0.0, 0.0));
        Ok(Self { path: path.into(), plugin, runtime, subject, compile, instantiate, seconds_per_row, crossed })
    }

    /// Runs for a while; the seconds of work a row.
    fn round(&mut self, rows: &RecordBatch, time: Duration) -> Result<f64, Error> {
        let ran = trial::run(&self.subject, &self.runtime, Feed::endless(rows, time), &Way::whole())?;
        let n_rows = (ran.counts.rows_in as f64).max(1.0);
        let seconds = (ran.counts.busy_seconds / n_rows).max(f64::MIN_POSITIVE);
        self.seconds_per_row.push(seconds);
        self.crossed = (ran.counts.crossed_in_bytes as f64 / n_rows, ran.counts.crossed_out_bytes as f64 / n_rows);
        Ok(seconds)
    }

    fn measured(mut self) -> Measured {
        let seconds = median(&mut self.seconds_per_row);
        let metrics = self.plugin.metrics(trial::JOB, trial::STEP);
        Measured {
            plugin: self.path.display().to_string(),
            rows_per_second: 1.0 / seconds,
            nanoseconds_per_row: seconds * 1e9,
            in_bytes_per_row: self.crossed.0,
            out_bytes_per_row: self.crossed.1,
            memory_bytes: metrics.map_or(0, |metrics| metrics.memory_bytes_peak()),
            compile_seconds: self.compile.as_secs_f64(),
            instantiate_seconds: self.instantiate.as_secs_f64(),
            size_bytes: self.plugin.inspection().n_bytes,
        }
    }
}

/// Makes an instance, and drops it.
fn open(subject: &Subject, rows: &RecordBatch) -> Result<(), Error> {
    let (step, schema) = (trial::step_info(subject), rows.schema());
    let Some((keys, values)) = trial::split(subject, &schema) else {
        // The job tells which column is missing.
        return Ok(());
    };
    let operator = &subject.operator;
    let opened: Result<(), OpenError> = match subject.role {
        Role::Transform => operator.open_transform(&step, &schema).map(drop),
        Role::Reducer => operator.open_reducer(&step, &values).map(drop),
        Role::Aggregator => operator.open_aggregator(&step, &values).map(drop),
        Role::Grouper => operator.open_grouper(&step, &keys, &[values]).map(drop),
        Role::Updater => operator.open_updater(&step, &keys, &values).map(drop),
    };
    Ok(opened?)
}

/// The rows as often as makes a batch.
fn repeated(rows: &RecordBatch, subject: &Subject) -> Result<RecordBatch, Error> {
    let by_size = ROWS.div_ceil(rows.num_rows());
    let by_key = match subject.role {
        Role::Grouper | Role::Updater => ROWS_OF_KEY / trial::largest_group(rows, &subject.by).max(1),
        _ => usize::MAX,
    };
    let n = by_size.min(by_key).max(1);
    let all = trial::concat(&rows.schema(), std::iter::repeat_n(rows, n))?;
    Ok(all.slice(0, all.num_rows().min(ROWS.max(rows.num_rows()))))
}

/// The middle of some numbers; of an even count the upper one.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_that_of_numbers_in_order() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [3.0, 1.0]), 3.0);
        assert!(median(&mut []).is_nan());
    }
}
