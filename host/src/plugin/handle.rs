//! A loaded plugin, as the host holds it: an [`Operator`] that opens instances of a component.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;

use crate::ids::BatchId;
use crate::operator::{
    Aggregator, AggregatorPlan, Grouper, GrouperPlan, OpenError, Operator, Reducer, ReducerPlan, Role, StepInfo,
    Transform, TransformPlan, Updater, UpdaterPlan,
};
use crate::plugin::aggregator::PluginAggregator;
use crate::plugin::breakdowns::Breakdowns;
use crate::plugin::grants::Grants;
use crate::plugin::grouper::PluginGrouper;
use crate::plugin::inspect::Inspection;
use crate::plugin::metrics::{GuestMetrics, MetricValue};
use crate::plugin::reach::Reach;
use crate::plugin::reducer::PluginReducer;
use crate::plugin::runtime::{Code, InstanceMode};
use crate::plugin::seat::Seat;
use crate::plugin::transform::PluginTransform;
use crate::plugin::updater::PluginUpdater;

/// A component file that was loaded. A clone is the same plugin.
#[derive(Clone)]
pub struct Plugin {
    shared: Arc<PluginShared>,
}

/// What all instances of a plugin share.
pub(crate) struct PluginShared {
    /// What messages call it.
    pub(crate) name: String,
    /// Its code.
    pub(crate) code: Arc<Code>,
    /// Which instance runs a call.
    pub(crate) instance: InstanceMode,
    /// What its instances reach.
    pub(crate) reach: Reach,
    /// What the instances of a step share, by job and step. Locked when an instance is opened, never by a call.
    steps: Mutex<HashMap<(String, String), Arc<StepShared>>>,
}

/// What the instances of a plugin in one step share.
#[derive(Default)]
pub(crate) struct StepShared {
    /// Their counters and gauges.
    pub(crate) metrics: Arc<GuestMetrics>,
    /// How their calls have broken down in the batch that runs.
    pub(crate) breakdowns: Arc<Breakdowns>,
    /// What the first of each role was asked and answered: the others must answer the same.
    plans: Mutex<HashMap<Role, Answered>>,
}

struct Answered {
    config: serde_json::Value,
    partitions: u32,
    inputs: Vec<SchemaRef>,
    plan: AnyPlan,
}

/// The plan of a role.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnyPlan {
    /// Of a transform.
    Transform(TransformPlan),
    /// Of a reducer.
    Reducer(ReducerPlan),
    /// Of an aggregator.
    Aggregator(AggregatorPlan),
    /// Of a grouper.
    Grouper(GrouperPlan),
    /// Of an updater.
    Updater(UpdaterPlan),
}

impl AnyPlan {
    fn role(&self) -> Role {
        match self {
            AnyPlan::Transform(_) => Role::Transform,
            AnyPlan::Reducer(_) => Role::Reducer,
            AnyPlan::Aggregator(_) => Role::Aggregator,
            AnyPlan::Grouper(_) => Role::Grouper,
            AnyPlan::Updater(_) => Role::Updater,
        }
    }
}

impl StepShared {
    /// Whether an instance answered `open` as the first one did that was asked the same. A new question is a new first.
    pub(crate) fn is_same_plan(&self, step: &StepInfo, inputs: &[SchemaRef], plan: AnyPlan) -> bool {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = plans.get(&plan.role())
            && first.config == step.config
            && first.partitions == step.partitions
            && first.inputs == inputs
        {
            return first.plan == plan;
        }
        plans.insert(
            plan.role(),
            Answered { config: step.config.clone(), partitions: step.partitions, inputs: inputs.to_vec(), plan },
        );
        true
    }
}

impl PluginShared {
    /// What the instances of a step share.
    pub(crate) fn step(&self, step: &StepInfo) -> Arc<StepShared> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(steps.entry((step.job.clone(), step.step.clone())).or_default())
    }
}

impl Plugin {
    pub(crate) fn new(name: &str, code: Arc<Code>, instance: InstanceMode, reach: Reach) -> Self {
        let steps = Mutex::default();
        Self { shared: Arc::new(PluginShared { name: name.into(), code, instance, reach, steps }) }
    }

    /// What it is granted.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        self.shared.reach.grants()
    }

    /// What the plugin says of itself: digest, size, roles, imports.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        self.shared.code.inspection()
    }

    /// The counters and gauges that the guests of a step keep; `None` before one was opened.
    #[must_use]
    pub fn metrics(&self, job: &str, step: &str) -> Option<Arc<GuestMetrics>> {
        let steps = self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(&(job.to_owned(), step.to_owned())).map(|step| Arc::clone(&step.metrics))
    }
}

impl Operator for Plugin {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn sha256(&self) -> Option<String> {
        Some(self.inspection().sha256.to_string())
    }

    fn guest_metrics(&self, job: &str, step: &str) -> BTreeMap<String, serde_json::Value> {
        let kept = self.metrics(job, step).map(|metrics| metrics.snapshot()).unwrap_or_default();
        let value = |value| match value {
            MetricValue::Counter(sum) => serde_json::Value::from(sum),
            // What is no number in JSON is null.
            MetricValue::Gauge(last) => serde_json::Value::from(last),
        };
        kept.into_iter().map(|(name, kept)| (name, value(kept))).collect()
    }

    fn end_batch(&self, job: &str, step: &str, batch_id: BatchId) {
        let steps = self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = steps.get(&(job.to_owned(), step.to_owned())).cloned();
        drop(steps);
        let Some(untold) = shared.map(|shared| shared.breakdowns.end_batch()) else { return };
        let batch_id = batch_id.0;
        for (stderr, n_calls) in untold.more {
            tracing::info!(
                target: "tidemill::plugin",
                job, step, batch_id, n_calls, stderr, "more calls broke down as the one that was logged before"
            );
        }
        if untold.n_others > 0 {
            tracing::info!(
                target: "tidemill::plugin",
                job, step, batch_id, n_calls = untold.n_others, "more calls broke down, in other ways, which are not logged"
            );
        }
    }

    fn asks_for(&self) -> Vec<String> {
        self.inspection().asks_for()
    }

    fn gets(&self) -> Vec<String> {
        self.grants().describe()
    }

    fn roles(&self) -> Vec<Role> {
        self.inspection().roles.iter().map(|export| export.role).collect()
    }

    fn open_transform(&self, step: &StepInfo, input: &SchemaRef) -> Result<Box<dyn Transform>, OpenError> {
        Ok(Box::new(PluginTransform::new(Seat::open(&self.shared, step, &[input])?)))
    }

    fn open_reducer(&self, step: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Reducer>, OpenError> {
        Ok(Box::new(PluginReducer(Seat::open(&self.shared, step, &[values])?)))
    }

    fn open_aggregator(&self, step: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Aggregator>, OpenError> {
        Ok(Box::new(PluginAggregator(Seat::open(&self.shared, step, &[values])?)))
    }

    fn open_grouper(
        &self,
        step: &StepInfo,
        keys: &SchemaRef,
        inputs: &[SchemaRef],
    ) -> Result<Box<dyn Grouper>, OpenError> {
        let schemas: Vec<_> = std::iter::once(keys).chain(inputs).collect();
        Ok(Box::new(PluginGrouper::new(Seat::open(&self.shared, step, &schemas)?)))
    }

    fn open_updater(
        &self,
        step: &StepInfo,
        keys: &SchemaRef,
        values: &SchemaRef,
    ) -> Result<Box<dyn Updater>, OpenError> {
        Ok(Box::new(PluginUpdater::new(Seat::open(&self.shared, step, &[keys, values])?)))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.shared.name)
            .field("code", &self.shared.code)
            .field("instance", &self.shared.instance)
            .finish_non_exhaustive()
    }
}
