//! Every way an operator can fail, each with what was seen and the key that changes it.

use crate::error::{Explain, Fault, Retry};
use crate::ids::{BatchId, PartitionId};
use crate::operator::limits::{raise, size};
use crate::operator::{Limit, Role};

/// Why an operator could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It does not export the role that the step asks for.
    #[error("`{operator}`, in step `{step}`, has no role `{role}`")]
    MissingRole {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// The role asked for.
        role: Role,
        /// The roles it has.
        has: Vec<Role>,
    },
    /// It refused the configuration.
    #[error("`{operator}` refuses the config of step `{step}`: {reason}")]
    Config {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// Its words.
        reason: String,
    },
    /// It refused the schema of its input.
    #[error("`{operator}` refuses the input of step `{step}`: {reason}")]
    Schema {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// Its words.
        reason: String,
        /// The input it was given.
        input: String,
    },
    /// It refused for another reason.
    #[error("`{operator}` refuses step `{step}`: {reason}")]
    Refused {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// Its words.
        reason: String,
    },
    /// Its answer breaks the contract.
    #[error("`{operator}` answered `open` of step `{step}` against the contract: {rule}")]
    Invalid {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// Field and rule.
        rule: String,
    },
    /// It exceeded a limit while opening.
    #[error("`{operator}` exceeded its {} while opening step `{step}`: {seen}", limit.what())]
    LimitExceeded {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// Which limit.
        limit: Limit,
        /// The limit's value and what was seen, as in "the limit is 64 MiB, 65 MiB were asked for".
        seen: String,
    },
    /// It trapped while opening.
    #[error("`{operator}` crashed while opening step `{step}`: {reason}")]
    Trapped {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
        /// The trap, and what the guest wrote before it.
        reason: String,
    },
    /// The input has a column of a type that the contract does not carry.
    #[error("column `{column}` of the input of step `{step}` has type {data_type}, which the contract does not carry")]
    UnsupportedType {
        /// The step.
        step: String,
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// An instance's plan differs from that of the instance the job was checked with.
    #[error("`{operator}` answered `open` of step `{step}` in another way than when the job was checked")]
    PlanChanged {
        /// The operator.
        operator: String,
        /// The step.
        step: String,
    },
}

impl Explain for OpenError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn retry(&self) -> Retry {
        match self {
            // It opened in time when the job was checked: the machine may be busy.
            OpenError::LimitExceeded { limit, .. } if limit.may_pass() => Retry::WithBackoff,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            OpenError::MissingRole { has, role, .. } => {
                let has: Vec<_> = has.iter().map(|role| format!("`{role}`")).collect();
                Some(if has.is_empty() {
                    "It exports no role of the contract at all: build it with an SDK of `guest-sdk/`.".into()
                } else {
                    format!("It has {}. Use a step kind for that, or another plugin for `{role}`.", has.join(", "))
                })
            }
            OpenError::Schema { input, .. } => Some(format!("The input has the columns {input}.")),
            OpenError::LimitExceeded { step, limit, .. } => Some(raise(*limit, Some(step))),
            OpenError::Invalid { .. } | OpenError::Trapped { .. } | OpenError::PlanChanged { .. } => {
                Some("This is a bug in the plugin: report it to whoever wrote it.".into())
            }
            OpenError::UnsupportedType { column, .. } => {
                Some(format!("Drop or convert `{column}` in a step before this one."))
            }
            OpenError::Config { .. } | OpenError::Refused { .. } => None,
        }
    }
}

/// Where a call was made: what every message about it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSite {
    /// The operator: the plugin's path, or the name it was registered under.
    pub operator: String,
    /// The step.
    pub step: String,
    /// The batch.
    pub batch_id: BatchId,
    /// The partition.
    pub partition: PartitionId,
    /// Rows in the input of the call.
    pub n_rows: usize,
}

impl std::fmt::Display for CallSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` in step `{}`, batch {}, partition {}", self.operator, self.step, self.batch_id, self.partition)
    }
}

/// Why a call of an operator has no result. In every case nothing of its output was used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It exceeded a limit.
    #[error("{site} exceeded its {}: {seen}", limit.what())]
    LimitExceeded {
        /// Where.
        site: Box<CallSite>,
        /// Which limit.
        limit: Limit,
        /// The limit's value and what was seen.
        seen: String,
    },
    /// It trapped: a panic, a division by zero, an access out of bounds.
    #[error("{site} crashed: {reason}")]
    Trapped {
        /// Where.
        site: Box<CallSite>,
        /// The trap, and the last lines that the guest wrote to standard error.
        reason: String,
    },
    /// What it returned breaks the contract.
    #[error("{site} returned a batch against the contract: {rule}")]
    Invalid {
        /// Where.
        site: Box<CallSite>,
        /// Field and rule, as in "column `word`: offset 3 is 7, less than the one before it, 9".
        rule: String,
    },
    /// A group that must come in one call is larger than a call may be. The operator was not called.
    #[error(
        "{site} was not called: a group of {n_rows} rows and {} does not fit one call, which holds {rows_max} rows and {}",
        size(*n_bytes), size(*bytes_max)
    )]
    GroupTooLarge {
        /// Where.
        site: Box<CallSite>,
        /// Rows of the group, in all inputs together.
        n_rows: u64,
        /// Their bytes.
        n_bytes: u64,
        /// What `max-rows-per-call` is.
        rows_max: u64,
        /// What `max-bytes-per-call` is.
        bytes_max: u64,
    },
    /// It said that it failed.
    #[error("{site} failed: {reason}")]
    Failed {
        /// Where.
        site: Box<CallSite>,
        /// Its words.
        reason: String,
        /// Whether it asked to be tried again.
        retry: Retry,
    },
}

impl CallError {
    /// Where the call was made.
    #[must_use]
    pub fn site(&self) -> &CallSite {
        match self {
            CallError::LimitExceeded { site, .. }
            | CallError::Trapped { site, .. }
            | CallError::Invalid { site, .. }
            | CallError::GroupTooLarge { site, .. }
            | CallError::Failed { site, .. } => site,
        }
    }

    /// What happened, without where.
    #[must_use]
    pub fn what(&self) -> String {
        let text = self.to_string();
        // Every message begins with the place.
        let place = format!("{} ", self.site());
        text.strip_prefix(&place).map_or_else(|| text.clone(), str::to_owned)
    }

    /// Whether fewer rows in one call may help: what came back was too much.
    #[must_use]
    pub fn is_output_too_large(&self) -> bool {
        matches!(self, CallError::LimitExceeded { limit: Limit::OutputRows | Limit::OutputBytes, .. })
    }
}

impl Explain for CallError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn retry(&self) -> Retry {
        match self {
            // Time is not deterministic: the machine may have been busy.
            CallError::LimitExceeded { limit, .. } if limit.may_pass() => Retry::WithBackoff,
            CallError::Failed { retry, .. } => *retry,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CallError::LimitExceeded { site, limit, .. } => {
                Some(format!("The call held {} rows. {}", site.n_rows, raise(*limit, Some(&site.step))))
            }
            CallError::Trapped { .. } | CallError::Invalid { .. } => {
                Some("This is a bug in the plugin: report it to whoever wrote it.".into())
            }
            CallError::GroupTooLarge { site, n_rows, n_bytes, rows_max, bytes_max } => {
                let keys = match (n_rows > rows_max, n_bytes > bytes_max) {
                    (true, true) => "`max-rows-per-call` and `max-bytes-per-call`",
                    (true, false) => "`max-rows-per-call`",
                    _ => "`max-bytes-per-call`",
                };
                Some(format!(
                    "Raise {keys} in the job's `[job]` table, or give step `{}` the key `whole-partition = true`: each partition \
                     is one call then, however large. A reducer or an aggregator takes a group in parts.",
                    site.step
                ))
            }
            CallError::Failed { .. } => None,
        }
    }
}

/// The columns that an operator was opened with, as [`OpenError::Schema`] shows them: those of its input, or those of the
/// keys and those of each input.
pub(crate) fn columns_of(schemas: &[String]) -> String {
    let shown = |columns: &String| if columns.is_empty() { "none".to_owned() } else { columns.clone() };
    match schemas {
        [keys, input] => format!("{} as keys, and {}", shown(keys), shown(input)),
        [keys, inputs @ ..] if !inputs.is_empty() => {
            let inputs = inputs.iter().enumerate().map(|(i, input)| format!("in input {i} {}", shown(input)));
            format!("{} as keys, {}", shown(keys), inputs.collect::<Vec<_>>().join(", "))
        }
        _ => schemas.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_too_long_is_tried_again() {
        let (operator, step) = ("p.wasm".to_owned(), "s".to_owned());
        let open = |limit| OpenError::LimitExceeded {
            operator: operator.clone(),
            step: step.clone(),
            limit,
            seen: String::new(),
        };
        assert_eq!(open(Limit::TimeToOpen).retry(), Retry::WithBackoff);
        assert_eq!(open(Limit::Memory).retry(), Retry::Never);
        let site = CallSite {
            operator: operator.clone(),
            step: step.clone(),
            batch_id: BatchId(3),
            partition: PartitionId(0),
            n_rows: 1,
        };
        let call = |limit| CallError::LimitExceeded { site: Box::new(site.clone()), limit, seen: "so much".into() };
        assert_eq!(call(Limit::TimePerCall).retry(), Retry::WithBackoff);
        assert_eq!(call(Limit::TimeToOpen).retry(), Retry::WithBackoff);
        assert_eq!(call(Limit::FuelPerCall).retry(), Retry::Never);
        assert_eq!(call(Limit::Memory).what(), "exceeded its memory: so much");
    }

    #[test]
    fn a_group_too_large_says_what_to_raise_and_what_else_to_use() {
        let check = |n_rows, n_bytes, keys: &str| {
            let site = Box::new(CallSite {
                operator: "p.wasm".into(),
                step: "s".into(),
                batch_id: BatchId(3),
                partition: PartitionId(0),
                n_rows: 0,
            });
            let error = CallError::GroupTooLarge { site, n_rows, n_bytes, rows_max: 65_536, bytes_max: 4 << 20 };
            assert_eq!(
                error.to_string(),
                format!(
                    "`p.wasm` in step `s`, batch 3, partition 0 was not called: a group of {n_rows} rows and {} does not fit \
                     one call, which holds 65536 rows and 4MiB",
                    size(n_bytes)
                )
            );
            let hint = format!(
                "Raise {keys} in the job's `[job]` table, or give step `s` the key `whole-partition = true`: each \
                 partition is one call then, however large. A reducer "
            );
            assert!(error.hint().is_some_and(|found| found.starts_with(&hint)), "{:?}", error.hint());
            assert_eq!(error.retry(), Retry::Never);
        };
        check(100_000, 1 << 20, "`max-rows-per-call`");
        check(10, 5 << 20, "`max-bytes-per-call`");
        check(100_000, 5 << 20, "`max-rows-per-call` and `max-bytes-per-call`");
    }
}
