//! Rows that a step cannot process: found by halving what failed, set aside with the reason, and bounded.
//!
//! ```text
//!  rows ──▶ step ──▶ failed ──▶ halves, each on a new instance ──▶ … ──▶ one row ──▶ dead letter ──▶ who reads `dead-letter`
//!             │                   │
//!             └── rows ───────────┴──▶ in their order, as if bad rows had not come ──▶ who reads the step
//! ```
//!
//! Of steps that give an operator all rows of a key together, a piece is some keys, and all rows of a bad key are set aside. Where keys are
//! called without rows, as when they time out, the key itself is, with what it has kept.
//!
//! A chunk of n rows of which b are bad costs at most 1 + 2 b ⌈log₂ n⌉ calls, one more for each bad row whose call was not the
//! first of its instance, and, of a transform, one in a task without rows: an operator that fails then is broken whatever comes,
//! and the batch fails.
//!
//! The law: the rows that a step gives are those that it gives of its input without the bad rows, and the bad rows are the dead
//! letters, each once; for operators that take each row for itself.

use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Emit;
use super::definition::PlanContext;
use super::keyed::SpecProblem;
use crate::clock::Stopwatch;
use crate::error::{Error, Explain, Fault, Internal, Retry, shortened};
use crate::ids::{BatchId, PartitionId};
use crate::job::{DeadLetters, OperatorStep};
use crate::json_lines::json_line;
use crate::metrics::StepMeter;
use crate::operator::{CallError, Limit, Rejection, StopFlag};
use crate::plan::PlannedOperator;
use crate::sql::EvaluationFailed;
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// How often the calls of a task may take too long while bad rows are looked for. One endless row of a full call is found with some
/// 17 such calls.
const TIMEOUTS_MAX: u32 = 64;

/// Between two warnings of a step that it sets rows aside.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// How much of a reason is kept: a plugin may write its whole log into it.
const REASON_CHARS_MAX: usize = 1024;

/// The schema of the dead letters of steps.
///
/// | column | type | meaning |
/// | --- | --- | --- |
/// | `step` | `utf8` | the step |
/// | `plugin` | `utf8` | the SHA-256 of the plugin that failed; null for an expression, and for an operator that the program brings |
/// | `batch` | `int64` | the batch |
/// | `partition` | `int64` | the partition of the batch |
/// | `position` | `int64` | the number of the row among those that the step was given in the partition, from 0; -1 of a key without rows |
/// | `reason` | `utf8` | why it was set aside |
/// | `value` | `utf8` | the row as a JSON object, all columns that the step was given; null where JSON cannot say it |
#[must_use]
pub fn letter_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(vec![
            field("step", DataType::Utf8, false),
            field("plugin", DataType::Utf8, true),
            field("batch", DataType::Int64, false),
            field("partition", DataType::Int64, false),
            field("position", DataType::Int64, false),
            field("reason", DataType::Utf8, false),
            field("value", DataType::Utf8, true),
        ]))
    });
    SCHEMA.clone()
}

/// More rows of a partition are bad than its step allows.
#[derive(Debug, thiserror::Error)]
#[error(
    "step `{step}` cannot process {n_bad} of the first {n_rows} rows of partition {partition} in batch {batch_id}, and its \
     `dead-letter-rate` is {rate}"
)]
pub struct TooManyBadRows {
    /// The step.
    pub step: String,
    /// The batch.
    pub batch_id: BatchId,
    /// The partition.
    pub partition: PartitionId,
    /// Rows that were set aside, the last one included.
    pub n_bad: u64,
    /// Rows that the step was given until then.
    pub n_rows: u64,
    /// The share of them that may be bad.
    pub rate: f64,
    /// Why the last row was set aside.
    #[source]
    pub last: BadRow,
}

/// Why a row was set aside.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadRow(pub String);

impl Explain for TooManyBadRows {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "So many bad rows are seldom a matter of the rows: look at the plugin, its config and what comes in. If they are \
             expected, raise `dead-letter-rate` of step `{}`, or `dead-letter-min-rows`, up to which the share does not matter.",
            self.step
        ))
    }
}

/// Calls took too long again and again while bad rows were looked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "step `{step}` exceeded its time per call {TIMEOUTS_MAX} times in batch {batch_id}, partition {partition}, while bad rows were \
     looked for"
)]
pub struct TooManyTimeouts {
    /// The step.
    pub step: String,
    /// The batch.
    pub batch_id: BatchId,
    /// The partition.
    pub partition: PartitionId,
    /// The last of them.
    #[source]
    pub last: Error,
}

impl Explain for TooManyTimeouts {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "If rows are slow, raise `time-per-call` and `cpu-time-per-call` in the `limits` of step `{}`, or lower \
             `max-rows-per-call`; if rows never end, there are too many of them for one batch.",
            self.step
        ))
    }
}

/// Where a step that runs an operator sets bad rows aside, if it does.
///
/// # Errors
///
/// When its calls cannot be cut to find them.
pub(crate) fn letters_of(runs: &OperatorStep) -> Result<Option<&DeadLetters>, Vec<SpecProblem>> {
    match runs.on_error.dead_letters() {
        Some(_) if runs.whole_partition => {
            let message = "a step with `whole-partition` has no dead letters: its calls cannot be cut to find bad rows";
            let hint = Some("Leave out one of the two.".into());
            Err(vec![SpecProblem { key: "on-error".into(), message: message.into(), hint }])
        }
        letters => Ok(letters),
    }
}

/// What all tasks of a step share to set rows aside.
#[derive(Debug)]
pub struct LetterBox {
    job: String,
    step: String,
    /// The operators of the step, with their digests.
    plugins: Vec<(String, Option<String>)>,
    bounds: DeadLetters,
    /// How often a batch is run at most.
    attempts: u32,
    stop: StopFlag,
    meter: Arc<StepMeter>,
    /// A mutex: it is taken once a task that has set rows aside.
    warned: Mutex<Warned>,
}

/// When it was last told of dead letters, and how many came since.
#[derive(Debug, Default)]
struct Warned {
    last: Option<Stopwatch>,
    n_untold: u64,
}

impl LetterBox {
    /// That of the step that is planned, if it sets rows aside.
    pub(crate) fn of_step(
        context: &PlanContext<'_>,
        bounds: Option<&DeadLetters>,
        operators: &[PlannedOperator],
    ) -> Option<Arc<Self>> {
        let plugin = |planned: &PlannedOperator| (planned.operator.name().to_owned(), planned.sha256.clone());
        Some(Arc::new(Self {
            job: context.settings.name.clone(),
            step: context.step.to_owned(),
            plugins: operators.iter().map(plugin).collect(),
            bounds: bounds?.clone(),
            attempts: context.settings.attempts,
            stop: context.stop.clone(),
            meter: context.meter.clone(),
            warned: Mutex::default(),
        }))
    }

    /// The letters of one task.
    pub(crate) fn open(self: &Arc<Self>, task: &TaskContext) -> Letters {
        Letters {
            of: self.clone(),
            task: task.clone(),
            n_rows: 0,
            n_bad: 0,
            n_timeouts: 0,
            ready: Vec::new(),
            last_reason: String::new(),
        }
    }

    /// Says that rows were set aside, but not more often than anybody reads.
    fn warn(&self, task: &TaskContext, n_bad: u64, reason: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.n_untold += n_bad;
        if warned.last.is_some_and(|last| last.elapsed() < WARNING_INTERVAL) {
            return;
        }
        warned.last = Some(Stopwatch::start());
        let n_rows = std::mem::take(&mut warned.n_untold);
        tracing::warn!(
            target: "tidemill::step",
            job = self.job, step = self.step, batch_id = task.batch_id.0, partition = task.partition.0,
            n_rows, dead_letter = self.bounds.name, last_reason = reason,
            "rows were set aside as dead letters"
        );
    }
}

/// The position of a key that was called without rows.
const WITHOUT_ROWS: i64 = -1;

/// A number as a column has it.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One row that was set aside.
#[derive(Debug)]
struct Letter {
    plugin: Option<String>,
    /// [`WITHOUT_ROWS`] of a key that was called without rows.
    position: i64,
    reason: String,
    value: Option<String>,
}

/// The rows that one task of a step sets aside.
pub(crate) struct Letters {
    of: Arc<LetterBox>,
    task: TaskContext,
    /// Rows that the step was given so far.
    n_rows: u64,
    n_bad: u64,
    n_timeouts: u32,
    ready: Vec<Letter>,
    last_reason: String,
}

impl Letters {
    /// Notes rows that are about to be processed. Gives the position of the first.
    pub(crate) fn saw(&mut self, n_rows: usize) -> u64 {
        let first = self.n_rows;
        self.n_rows += n_rows as u64;
        first
    }

    /// Whether rows are to blame for an error, so that it helps to look for them. Otherwise it is one of the batch.
    ///
    /// A plugin that asks to be tried again is, as long as there are attempts. A call that took too long is not waited for: its
    /// halves are new attempts.
    ///
    /// # Errors
    ///
    /// When the batch was given up, and when too many calls took too long.
    pub(crate) fn blames_rows(&mut self, error: Error) -> Result<Error, Error> {
        if self.task.is_cancelled() || self.of.stop.is_set() {
            return Err(Cancelled.into());
        }
        let is_of_rows = match error.downcast_ref::<CallError>() {
            Some(
                CallError::LimitExceeded { limit: Limit::TimeToOpen | Limit::CpuTimeToOpen, .. }
                | CallError::GroupTooLarge { .. },
            ) => false,
            // All plugins of the job together took too much: no row is to blame.
            Some(CallError::LimitExceeded { limit, .. }) if limit.is_of_job() => false,
            Some(CallError::LimitExceeded { limit: Limit::TimePerCall | Limit::CpuTimePerCall, .. }) => {
                self.n_timeouts += 1;
                if self.n_timeouts >= TIMEOUTS_MAX {
                    return Err(TooManyTimeouts {
                        step: self.of.step.clone(),
                        batch_id: self.task.batch_id,
                        partition: self.task.partition,
                        last: error,
                    }
                    .into());
                }
                true
            }
            Some(CallError::Failed { retry, .. }) => {
                *retry == Retry::Never || self.task.attempt.saturating_add(1) >= self.of.attempts
            }
            Some(_) => true,
            None => error.downcast_ref::<EvaluationFailed>().is_some(),
        };
        if is_of_rows { Ok(error) } else { Err(error) }
    }

    /// Sets the only row of `rows` aside, for which the step failed.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add_failed(&mut self, rows: &RecordBatch, position: u64, error: &Error) -> Result<(), Error> {
        self.add_at(rows, number(position), error)
    }

    /// Sets a key aside, for which the step failed when it was called without rows: `rows` has it, with what it has kept, as one row.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add_key(&mut self, rows: &RecordBatch, error: &Error) -> Result<(), Error> {
        self.add_at(rows, WITHOUT_ROWS, error)
    }

    fn add_at(&mut self, rows: &RecordBatch, position: i64, error: &Error) -> Result<(), Error> {
        let (operator, reason) = match error.downcast_ref::<CallError>() {
            Some(error) => (Some(&error.site().operator), error.what()),
            None => (None, reason_of(error)),
        };
        let digest = |name: &String| self.of.plugins.iter().find(|(plugin, _)| plugin == name)?.1.clone();
        let plugin = operator.and_then(digest);
        self.add(rows, position, plugin, &reason)
    }

    /// Sets a group of `rows` aside, for which the step failed: the rows of these numbers.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add_group(&mut self, rows: &RecordBatch, group: &[u32], error: &Error) -> Result<(), Error> {
        group.iter().try_for_each(|&row| self.add_failed(&rows.slice(row as usize, 1), row.into(), error))
    }

    /// Sets rows of a call of a group or several aside, which the operator rejected: `order` has the numbers in `rows` of those that
    /// the call had.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add_rejections(
        &mut self,
        rows: &RecordBatch,
        order: &[u32],
        rejected: &[Rejection],
    ) -> Result<(), Error> {
        rejected.iter().try_for_each(|rejection| {
            let row = order[rejection.row as usize];
            self.add_rejected(&rows.slice(row as usize, 1), row.into(), &rejection.reason)
        })
    }

    /// Sets the only row of `rows` aside, which the only operator of the step rejected.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(crate) fn add_rejected(&mut self, rows: &RecordBatch, position: u64, reason: &str) -> Result<(), Error> {
        let plugin = self.of.plugins.first().and_then(|(_, digest)| digest.clone());
        self.add(rows, number(position), plugin, reason)
    }

    fn add(&mut self, rows: &RecordBatch, position: i64, plugin: Option<String>, reason: &str) -> Result<(), Error> {
        debug_assert_eq!(rows.num_rows(), 1, "rows are set aside one by one");
        let reason = shortened(reason, REASON_CHARS_MAX);
        self.n_bad += 1;
        self.last_reason.clone_from(&reason);
        let DeadLetters { rate, rows_min, .. } = self.of.bounds;
        if self.n_bad > rows_min && self.n_bad as f64 > rate * self.n_rows as f64 {
            return Err(TooManyBadRows {
                step: self.of.step.clone(),
                batch_id: self.task.batch_id,
                partition: self.task.partition,
                n_bad: self.n_bad,
                n_rows: self.n_rows,
                rate,
                last: BadRow(reason),
            }
            .into());
        }
        self.ready.push(Letter { plugin, position, reason, value: json_line(rows) });
        Ok(())
    }

    /// What was set aside since it was last asked, in the order of the rows.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>, Error> {
        let mut letters = std::mem::take(&mut self.ready);
        if letters.is_empty() {
            return Ok(None);
        }
        letters.sort_by_key(|letter| letter.position);
        let (batch, partition) = (number(self.task.batch_id.0), i64::from(self.task.partition.0));
        let n = letters.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.of.step, n))),
            Arc::new(letters.iter().map(|letter| letter.plugin.as_deref()).collect::<StringArray>()),
            Arc::new(Int64Array::from_value(batch, n)),
            Arc::new(Int64Array::from_value(partition, n)),
            Arc::new(Int64Array::from_iter_values(letters.iter().map(|letter| letter.position))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| &letter.reason))),
            Arc::new(letters.iter().map(|letter| letter.value.as_deref()).collect::<StringArray>()),
        ];
        let doing = || format!("setting rows of step `{}` aside", self.of.step);
        let letters = RecordBatch::try_new(letter_schema(), columns);
        letters.map(Some).map_err(|source| Internal { doing: doing(), source }.into())
    }

    /// The task has ended well: counts what was set aside, when the batch is published, and tells of it.
    pub(crate) fn finish(&self) {
        if self.n_bad > 0 {
            self.task.late.add_dead(&self.of.meter, self.n_bad);
            self.of.warn(&self.task, self.n_bad, &self.last_reason);
        }
    }
}

/// What came of a piece of rows.
pub(crate) enum Tried {
    /// It is done with.
    Done,
    /// Its first rows are tried for themselves, so many, and the others then.
    Cut(usize),
    /// It is tried once more.
    Again,
}

/// Tries `n_rows` rows together, and smaller pieces of them where that is asked for, in their order. `attempt` is told whether it
/// asked for the same piece [again](Tried::Again).
pub(crate) fn by_pieces(
    n_rows: usize,
    mut attempt: impl FnMut(Range<usize>, bool) -> Result<Tried, Error>,
) -> Result<(), Error> {
    // The next piece is the last; halving leaves one a level.
    let mut left = vec![(0..n_rows, false)];
    while let Some((piece, is_again)) = left.pop() {
        match attempt(piece.clone(), is_again)? {
            Tried::Done => {}
            Tried::Cut(n) => {
                let n = n.clamp(1, piece.len());
                let middle = piece.start + n;
                if middle < piece.end {
                    left.push((middle..piece.end, false));
                }
                left.push((piece.start..middle, false));
            }
            Tried::Again => left.push((piece, true)),
        }
    }
    Ok(())
}

/// Gives what `compute` makes of rows, those left out and set aside for which it fails.
///
/// # Errors
///
/// Those that no row is to blame for, and when too many rows are bad.
pub(crate) fn compute_by_pieces(
    letters: &mut Letters,
    rows: &RecordBatch,
    mut compute: impl FnMut(RecordBatch) -> Result<Option<RecordBatch>, Error>,
    emit: &mut Emit<'_>,
) -> Result<(), Error> {
    let first = letters.saw(rows.num_rows());
    by_pieces(rows.num_rows(), |piece, is_again| {
        let part = rows.slice(piece.start, piece.len());
        let error = match compute(part.clone()) {
            Ok(Some(given)) => return emit(given).map(|()| Tried::Done),
            Ok(None) => return Ok(Tried::Done),
            Err(error) => letters.blames_rows(error)?,
        };
        if piece.len() > 1 {
            return Ok(Tried::Cut(piece.len() / 2));
        }
        // The instance of a function that failed may have been broken by rows before: the next one is new.
        if error.downcast_ref::<CallError>().is_some() && !is_again {
            return Ok(Tried::Again);
        }
        letters.add_failed(&part, first + piece.start as u64, &error)?;
        Ok(Tried::Done)
    })
}

/// Why an expression has no value: the row that the error shows is in the letter.
fn reason_of(error: &Error) -> String {
    match error.downcast_ref::<EvaluationFailed>() {
        Some(failed) => format!("`{}`: {}", failed.text, failed.source.reason),
        None => error.in_one_line(),
    }
}

#[cfg(test)]
mod tests;
