//! Operators compiled into the program that runs them: the same functions, without WebAssembly.

use std::fmt;

use crate::role::{Aggregator, AggregatorPlan, Reducer, Refusal, Step, Transform, TransformPlan};
use crate::schema::Schema;

type Open<P, R> = fn(&Step, &Schema) -> Result<(P, Box<R>), Refusal>;

/// An operator of this program, in one or more roles: what `#[operator]` makes beside the plugin.
#[derive(Clone, Copy)]
pub struct Operator {
    name: &'static str,
    transform: Option<Open<TransformPlan, dyn Transform + Send>>,
    reducer: Option<Open<bool, dyn Reducer + Send>>,
    aggregator: Option<Open<AggregatorPlan, dyn Aggregator + Send>>,
}

impl Operator {
    /// An operator without a role.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, transform: None, reducer: None, aggregator: None }
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
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = [
            self.transform.map(|_| "transform"),
            self.reducer.map(|_| "reducer"),
            self.aggregator.map(|_| "aggregator"),
        ];
        let roles: Vec<_> = roles.into_iter().flatten().collect();
        f.debug_struct("Operator").field("name", &self.name).field("roles", &roles).finish()
    }
}
