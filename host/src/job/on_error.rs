//! What happens to a batch, or to its rows, when a step fails: the keys `on-error`, `dead-letter` and those beside them.

use super::table::Table;

/// What happens when a call of an operator fails, or an expression.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OnError {
    /// The job fails.
    #[default]
    Fail,
    /// The batch is given up: none of its rows reaches a sink, and the job goes on with the next.
    SkipBatch,
    /// The rows that the step cannot process are found and set aside, and the others go on.
    DeadLetter(DeadLetters),
}

impl OnError {
    /// Where bad rows are set aside, if they are.
    #[must_use]
    pub fn dead_letters(&self) -> Option<&DeadLetters> {
        match self {
            OnError::DeadLetter(dead_letters) => Some(dead_letters),
            OnError::Fail | OnError::SkipBatch => None,
        }
    }
}

/// Where a step sets bad rows aside, and how many are too many.
///
/// In each partition of a batch, more than [`rows_min`](Self::rows_min) rows that are also more than [`rate`](Self::rate) of
/// those that the partition has had so far fail the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetters {
    /// What `from` calls the stream of them.
    pub name: String,
    /// The share of rows above which a batch fails, from 0 to 1.
    pub rate: f64,
    /// So many rows are never too many.
    pub rows_min: u64,
}

impl DeadLetters {
    /// More bad rows than a tenth are seldom a matter of the rows: the plugin is broken, or what comes in has changed.
    pub const RATE: f64 = 0.1;
    /// So that one bad row of ten does not stop a job.
    pub const ROWS_MIN: u64 = 100;

    /// A stream of this name, with the default bounds.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), rate: Self::RATE, rows_min: Self::ROWS_MIN }
    }
}

/// The keys that are read here.
pub(crate) const ON_ERROR_KEYS: [&str; 4] = ["on-error", "dead-letter", "dead-letter-rate", "dead-letter-min-rows"];

/// Reads `on-error` and what belongs to it. `refused`: why a step of this kind sets no rows aside, and what to do instead; `None`:
/// it does.
pub(crate) fn read_on_error(table: &mut Table<'_>, refused: Option<(&str, &str)>) -> OnError {
    let choices = [("fail", Choice::Fail), ("skip-batch", Choice::SkipBatch), ("dead-letter", Choice::DeadLetter)];
    let choice = table.choice("on-error", &choices);
    read_chosen(table, choice, refused)
}

/// Reads `on-error` of a step that can also make a value null that it has none for: `None` then.
pub(crate) fn read_on_error_or_null(table: &mut Table<'_>) -> Option<OnError> {
    let choices = [
        ("fail", Choice::Fail),
        ("null", Choice::Null),
        ("skip-batch", Choice::SkipBatch),
        ("dead-letter", Choice::DeadLetter),
    ];
    let choice = table.choice("on-error", &choices);
    let on_error = read_chosen(table, choice, None);
    (choice != Some(Choice::Null)).then_some(on_error)
}

#[derive(Clone, Copy, PartialEq)]
enum Choice {
    Fail,
    Null,
    SkipBatch,
    DeadLetter,
}

fn read_chosen(table: &mut Table<'_>, choice: Option<Choice>, refused: Option<(&str, &str)>) -> OnError {
    let name = table.text("dead-letter");
    let rate = table.float("dead-letter-rate").filter(|rate| {
        let is_share = (0.0..=1.0).contains(rate);
        if !is_share {
            let hint = "Write `dead-letter-rate = 0.01` for a hundredth of the rows.".into();
            table.problem("dead-letter-rate", "`dead-letter-rate` must be between 0 and 1", Some(hint));
        }
        is_share
    });
    let rows_min = table.integer("dead-letter-min-rows", 0..=u64::MAX);
    if choice == Some(Choice::DeadLetter) {
        if let Some((why, hint)) = refused {
            table.problem("on-error", why, Some(hint.to_owned()));
            return OnError::Fail;
        }
        let Some(name) = name else {
            if !table.has("dead-letter") {
                let hint = "Write `dead-letter = \"bad-rows\"`: what `from` of a step or sink calls the stream.";
                table.missing("dead-letter", Some(hint.into()));
            }
            return OnError::Fail;
        };
        return OnError::DeadLetter(DeadLetters {
            name,
            rate: rate.unwrap_or(DeadLetters::RATE),
            rows_min: rows_min.unwrap_or(DeadLetters::ROWS_MIN),
        });
    }
    // When `on-error` is wrong, that has been told.
    if choice.is_some() || !table.has("on-error") {
        for key in &ON_ERROR_KEYS[1..] {
            if table.has(key) {
                let hint = Some("Write `on-error = \"dead-letter\"` beside it.".into());
                table.problem(key, format!("`{key}` needs `on-error = \"dead-letter\"`"), hint);
            }
        }
    }
    if choice == Some(Choice::SkipBatch) { OnError::SkipBatch } else { OnError::Fail }
}
