//! Gives what steps keep, from a checkpoint, for people and their tools.

use crate::checkpoint::commit_of;
use crate::error::{Error, Explain, Fault};
use crate::ids::BatchId;
use crate::plan::Plan;
use crate::scheduler::recover::shape;
use crate::state::{Change, ShownEntry, StateError};

/// An entry of what a step keeps.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ExportedEntry {
    /// The step.
    pub step: String,
    /// The partition that has it.
    pub partition: u32,
    /// Which of the step's tables, from 0: see `docs/job-file.md`.
    pub table: u32,
    /// What it is.
    #[serde(flatten)]
    pub entry: ShownEntry,
}

/// Why state cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is no checkpoint.
    #[error("job `{job}` has no checkpoint")]
    NoCheckpoint {
        /// The job.
        job: String,
    },
    /// There is nothing of that name.
    #[error("the job has no step `{step}` that keeps anything")]
    NoStep {
        /// The name.
        step: String,
        /// Those that keep something.
        steps: Vec<String>,
    },
}

impl Explain for ExportError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCheckpoint { .. } => {
                "State is exported from the checkpoint that `checkpoint` of `[job]` names.".into()
            }
            Self::NoStep { steps, .. } if steps.is_empty() => "No step of it keeps anything.".into(),
            Self::NoStep { steps, .. } => format!("There are: `{}`.", steps.join("`, `")),
        })
    }
}

/// Gives `take` what the steps of a job kept behind a batch, or one of them: by default behind the last batch that is done. Entries come step by
/// step, and of each table in the order of slots and keys, until `take` answers `false`. Indexes, and what is made of other entries, are left out.
///
/// Nothing is changed, and the job may run meanwhile; when it removes what is read here because newer batches are done, that is an error,
/// and a second try reads those.
///
/// # Errors
///
/// When the job has no checkpoint or no such step, the checkpoint is of another job, or cannot be read.
pub fn export_state(
    plan: &Plan,
    step: Option<&str>,
    batch_id: Option<BatchId>,
    mut take: impl FnMut(&ExportedEntry) -> bool,
) -> Result<(), Error> {
    let Some(path) = &plan.settings.checkpoint else {
        return Err(ExportError::NoCheckpoint { job: plan.settings.name.clone() }.into());
    };
    if let Some(step) = step
        && !plan.states.iter().any(|state| state.step() == step)
    {
        let steps = plan.states.iter().map(|state| state.step().to_owned()).collect();
        return Err(ExportError::NoStep { step: step.to_owned(), steps }.into());
    }
    let (checkpoint, commit) = commit_of(path, &shape(plan), batch_id.map(|batch_id| batch_id.0))?;
    let mut goes_on = true;
    checkpoint.read_merged(&commit.runs, |table, changes| {
        let is_asked = step.is_none_or(|step| step == table.step);
        let state = plan.states.iter().find(|state| is_asked && goes_on && state.step() == table.step);
        let layout = state.and_then(|state| state.layouts().get(table.table as usize));
        let Some(layout) = layout.filter(|layout| layout.is_shown()) else { return Ok::<(), Error>(()) };
        for change in changes.iter() {
            if !goes_on {
                break;
            }
            let Change::Entry { slot, key, value: Some(value) } = change else { continue };
            let entry = layout.show(slot, key, value).ok_or_else(|| StateError::Damaged {
                step: table.step.clone(),
                what: format!("an entry of table {} is none of its", table.table),
            })?;
            let (step, partition, table) = (table.step.clone(), table.partition, table.table);
            goes_on = take(&ExportedEntry { step, partition, table, entry });
        }
        Ok(())
    })
}
