//! Calls of an operator in one task: its instance, what is counted, what it rejects.

use std::sync::Arc;

use crate::error::Error;
use crate::event_time::ClockId;
use crate::ids::PartitionId;
use crate::metrics::StepMeter;
use crate::operator::{Call, CallError, Crossed, OpenError, Rejection};
use crate::step::definition::PlanContext;
use crate::step::instances::Instances;
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// Opens an instance, and checks that it is the one the job was checked with.
pub(crate) type OpenInstance<T> = Arc<dyn Fn() -> Result<Box<T>, Error> + Send + Sync>;

/// What all tasks of a step share to call its operator.
pub(crate) struct Callee<T: ?Sized> {
    pub(crate) job: String,
    pub(crate) step: String,
    pub(crate) open: OpenInstance<T>,
    pub(crate) instances: Instances<T>,
    pub(crate) crossed: fn(&T) -> Crossed,
    pub(crate) meter: Arc<StepMeter>,
    pub(crate) clock: Option<ClockId>,
}

impl<T: ?Sized> Callee<T> {
    /// What the tasks of the step that is planned share. `first` is the instance that the job is checked with, and becomes that
    /// of partition 0; `open` opens others.
    pub(crate) fn new(
        context: &PlanContext<'_>,
        first: Box<T>,
        crossed: fn(&T) -> Crossed,
        open: impl Fn() -> Result<Box<T>, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let callee = Self {
            job: context.settings.name.clone(),
            step: context.step.to_owned(),
            open: Arc::new(open),
            instances: Instances::default(),
            crossed,
            meter: context.meter.clone(),
            clock: context.clock,
        };
        callee.instances.put(PartitionId(0), first);
        Arc::new(callee)
    }
}

/// That an instance answered `open` as the one that the job was checked with.
pub(crate) fn same_plan(is_same: bool, operator: &str, step: &str) -> Result<(), Error> {
    if is_same {
        return Ok(());
    }
    Err(OpenError::PlanChanged { operator: operator.to_owned(), step: step.to_owned() }.into())
}

/// Calls an operator in one task.
pub(crate) struct Caller<T: ?Sized> {
    callee: Arc<Callee<T>>,
    task: TaskContext,
    /// Taken at the first call, so that a partition without calls costs no instance; gone after a call that failed.
    instance: Option<Box<T>>,
    /// Rows in the calls so far.
    first_row: u64,
    n_rejected: u64,
    first_reason: Option<String>,
}

impl<T: ?Sized> Caller<T> {
    pub(crate) fn new(callee: &Arc<Callee<T>>, task: &TaskContext) -> Self {
        Self {
            callee: callee.clone(),
            task: task.clone(),
            instance: None,
            first_row: 0,
            n_rejected: 0,
            first_reason: None,
        }
    }

    /// One call with `n_rows` rows. After an error of the operator the instance is spent, and the next call has another.
    ///
    /// # Errors
    ///
    /// Outside: when no instance can be opened, or the batch was given up. Inside: what the operator's call says.
    pub(crate) fn call<R>(
        &mut self,
        n_rows: usize,
        function: impl FnOnce(&mut T, &Call) -> Result<R, CallError>,
    ) -> Result<Result<R, CallError>, Error> {
        if self.task.is_cancelled() {
            return Err(Cancelled.into());
        }
        let callee = &self.callee;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => callee.instances.take(self.task.partition, || (callee.open)())?,
        };
        let before = (callee.crossed)(&instance);
        let call = self.task.call(self.first_row, callee.clock);
        let answer = function(&mut instance, &call);
        let after = (callee.crossed)(&instance);
        callee.meter.calls.add(1);
        callee.meter.crossed_in_bytes.add(after.in_bytes.saturating_sub(before.in_bytes));
        callee.meter.crossed_out_bytes.add(after.out_bytes.saturating_sub(before.out_bytes));
        match &answer {
            Ok(_) => {
                self.first_row += n_rows as u64;
                self.instance = Some(instance);
            }
            Err(_) => callee.meter.errors.add(1),
        }
        Ok(answer)
    }

    /// Notes rows that the operator could not process.
    pub(crate) fn rejected(&mut self, rejected: &[Rejection]) {
        if let Some(first) = rejected.first() {
            self.n_rejected += rejected.len() as u64;
            self.callee.meter.rows_rejected.add(rejected.len() as u64);
            self.first_reason.get_or_insert_with(|| first.reason.clone());
        }
    }

    /// Puts the instance back, and tells what was rejected.
    pub(crate) fn finish(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.callee.instances.put(self.task.partition, instance);
        }
        if let Some(reason) = self.first_reason.take() {
            tracing::warn!(
                target: "tidemill::step",
                job = self.callee.job, step = self.callee.step,
                batch_id = self.task.batch_id.0, partition = self.task.partition.0,
                rows_rejected = self.n_rejected, first_reason = reason,
                "rows were rejected"
            );
        }
    }
}
