//! Plugins that are loaded anew while a job runs: from one batch to the next, and back when the first batch with them fails.
//!
//! ```text
//!  Running::reload ── the job is planned again, with new files ──▶ waits
//!  runner, before a batch: takes it ──▶ on trial ── a batch has passed the changed steps ──▶ kept
//!                                          └─────── a batch fails ──▶ the plan before is back, and runs the batch again
//! ```
//!
//! Both plans share what lives longer than a batch: sources, sinks, tables, what steps keep, and what is counted.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Explain, Fault};
use crate::metrics::StepMeter;
use crate::plan::{ChangedPlugin, Plan, PlanErrors, changed_plugins, check_fits};

/// Plans the job again; gets the plan that runs.
pub(crate) type PlanAgain = dyn Fn(&Plan) -> Result<Plan, PlanErrors> + Send + Sync;

/// Why plugins are not loaded anew: the job goes on with those that it has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A plugin cannot be opened, or does not fit its step.
    #[error("the plugins could not be loaded anew")]
    Plan(#[source] PlanErrors),
    /// They fit their steps, but not what runs.
    #[error("the job cannot go on with the plugins as they are now: {what}")]
    DoesNotFit {
        /// What differs.
        what: String,
    },
}

impl Explain for ReloadError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(errors) => errors.hint(),
            Self::DoesNotFit { .. } => Some("Stop the job and start it again, or bring the files back.".into()),
        }
    }
}

/// The plan that runs, and the one that is to run.
pub(crate) struct Plans {
    current: Mutex<Arc<Plan>>,
    next: Mutex<Option<Next>>,
    again: Box<PlanAgain>,
}

struct Next {
    plan: Arc<Plan>,
    changed: Vec<ChangedPlugin>,
}

/// A plan whose changed plugins have not been through a batch.
pub(crate) struct Trial {
    before: Arc<Plan>,
    pub(crate) changed: Vec<ChangedPlugin>,
    /// Of steps whose plugin has changed, and that no row has come to since: how many had come before.
    waiting: Vec<(Arc<StepMeter>, u64)>,
}

impl Trial {
    /// The trial of this plan and of the one before it, which has not been through a batch either: what comes back is the plan before both.
    pub(crate) fn after(mut self, first: Option<Self>) -> Self {
        if let Some(mut first) = first {
            self.before = first.before;
            self.waiting.append(&mut first.waiting);
            self.changed.append(&mut first.changed);
        }
        self
    }

    /// A batch went well. Says whether the trial is over.
    pub(crate) fn passed(&mut self) -> bool {
        self.waiting.retain(|(meter, rows_before)| meter.rows_in.get() == *rows_before);
        self.waiting.is_empty()
    }
}

impl Plans {
    pub(crate) fn new(plan: Arc<Plan>, again: Box<PlanAgain>) -> Self {
        Self { current: Mutex::new(plan), next: Mutex::new(None), again }
    }

    pub(crate) fn current(&self) -> Arc<Plan> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Plans the job again, and leaves the plan for the next batch. Says which plugins have changed: nothing happens when none has.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]: the job goes on as it is.
    pub(crate) fn reload(&self) -> Result<Vec<ChangedPlugin>, Error> {
        let current = self.current();
        let plan = (self.again)(&current).map_err(ReloadError::Plan)?;
        let changed = changed_plugins(&current, &plan);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_empty() {
            // What was to come has been taken back.
            *next = None;
            return Ok(changed);
        }
        check_fits(&current, &plan).map_err(|what| ReloadError::DoesNotFit { what })?;
        *next = Some(Next { plan: Arc::new(plan), changed: changed.clone() });
        Ok(changed)
    }

    /// Takes the plan that waits, if one does: it is the current one from then on, on trial.
    pub(crate) fn take(&self) -> Option<Trial> {
        let Next { plan, changed } = self.next.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let steps = plan.steps.iter().filter(|step| changed.iter().any(|changed| changed.step == step.name));
        let waiting = steps.map(|step| (step.meter.clone(), step.meter.rows_in.get())).collect();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Trial { before: std::mem::replace(&mut *current, plan), changed, waiting })
    }

    /// Brings back the plan before a trial.
    pub(crate) fn undo(&self, trial: Trial) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = trial.before;
    }
}
