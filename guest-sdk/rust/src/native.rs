//! Operators compiled into the program that runs them: the same functions, without WebAssembly.

use std::fmt;

use crate::role::{
    Aggregator, AggregatorPlan, Grouper, GrouperPlan, Reducer, Refusal, Step, Transform, TransformPlan, Updater,
    UpdaterPlan,
};
use crate::schema::Schema;

type Open<P, R> = fn(&Step, &Schema) -> Result<(P, Box<R>), Refusal>;
type OpenGrouper = fn(&Step, &Schema, &[Schema]) -> Result<(GrouperPlan, Box<dyn Grouper + Send>), Refusal>;
type OpenUpdater = fn(&Step, &Schema, &Schema) -> Result<(UpdaterPlan, Box<dyn Updater + Send>), Refusal>;

/// An operator of this program, in one or more roles: what `#[operator]` makes beside the plugin.
#[derive(Clone, Copy)]
pub struct Operator {
    name: &'static str,
    transform: Option<Open<TransformPlan, dyn Transform + Send>>,
    reducer: Option<Open<bool, dyn Reducer + Send>>,
    aggregator: Option<Open<AggregatorPlan, dyn Aggregator + Send>>,
    grouper: Option<OpenGrouper>,
    updater: Option<OpenUpdater>,
}

impl Operator {
    /// An operator without a role.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, transform: None, reducer: None, aggregator: None, grouper: None, updater: None }
    }

    /// The same operator, which can also be opened as the transform `T`.
    #[must_use]
    pub fn transform<T: Transform + Send + 'static>(self) -> Self {
        let open: Open<_, dyn Transform + Send> = |step, input| {
            let (plan, instance) = T::open(step, input)?;
            Ok((plan, Box::new(instance)))
        };
        Self { transform: Some(open), ..self }
    }

    /// The same operator, which can also be opened as the reducer `R`.
    #[must_use]
    pub fn reducer<R: Reducer + Send + 'static>(self) -> Self {
        let open: Open<_, dyn Reducer + Send> = |step, values| {
            let (invertible, instance) = R::open(step, values)?;
            Ok((invertible, Box::new(instance)))
        };
        Self { reducer: Some(open), ..self }
    }

    /// The same operator, which can also be opened as the aggregator `A`.
    #[must_use]
    pub fn aggregator<A: Aggregator + Send + 'static>(self) -> Self {
        let open: Open<_, dyn Aggregator + Send> = |step, values| {
            let (plan, instance) = A::open(step, values)?;
            Ok((plan, Box::new(instance)))
        };
        Self { aggregator: Some(open), ..self }
    }

    /// The same operator, which can also be opened as the grouper `G`.
    #[must_use]
    pub fn grouper<G: Grouper + Send + 'static>(self) -> Self {
        let open: OpenGrouper = |step, keys, inputs| {
            let (plan, instance) = G::open(step, keys, inputs)?;
            Ok((plan, Box::new(instance)))
        };
        Self { grouper: Some(open), ..self }
    }

    /// The same operator, which can also be opened as the updater `U`.
    #[must_use]
    pub fn updater<U: Updater + Send + 'static>(self) -> Self {
        let open: OpenUpdater = |step, keys, values| {
            let (plan, instance) = U::open(step, keys, values)?;
            Ok((plan, Box::new(instance)))
        };
        Self { updater: Some(open), ..self }
    }

    /// Its name: the function's or the type's.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Opens it as a transform, if it is one.
    #[must_use]
    pub fn as_transform(&self) -> Option<Open<TransformPlan, dyn Transform + Send>> {
        self.transform
    }

    /// Opens it as a reducer, if it is one. The answer says whether it can be inverted.
    #[must_use]
    pub fn as_reducer(&self) -> Option<Open<bool, dyn Reducer + Send>> {
        self.reducer
    }

    /// Opens it as an aggregator, if it is one.
    #[must_use]
    pub fn as_aggregator(&self) -> Option<Open<AggregatorPlan, dyn Aggregator + Send>> {
        self.aggregator
    }

    /// Opens it as a grouper of keys and inputs of these schemas, if it is one.
    #[must_use]
    pub fn as_grouper(&self) -> Option<OpenGrouper> {
        self.grouper
    }

    /// Opens it as an updater of keys and values of these schemas, if it is one.
    #[must_use]
    pub fn as_updater(&self) -> Option<OpenUpdater> {
        self.updater
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = [
            self.transform.map(|_| "transform"),
            self.reducer.map(|_| "reducer"),
            self.aggregator.map(|_| "aggregator"),
            self.grouper.map(|_| "grouper"),
            self.updater.map(|_| "updater"),
        ];
        let roles: Vec<_> = roles.into_iter().flatten().collect();
        f.debug_struct("Operator").field("name", &self.name).field("roles", &roles).finish()
    }
}
