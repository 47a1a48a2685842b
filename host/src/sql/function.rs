//! Plugins as functions of SQL: a transform is computed for each row, an aggregator for each group.
//!
//! ```text
//!  functions = { shout = { plugin = "shout.wasm", reads = ["value"] } }
//!                  │                                  └─ what the plugin calls its columns: the arguments, in order
//!                  └─ shout(name) ──▶ open on { value: utf8 } ──▶ one column ──▶ the call's type
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use super::aggregate_function::AggregateFunction;
use super::scalar_function::ScalarFunction;
use super::types::plain_type;
use crate::error::{Error, Explain, Fault, Retry};
use crate::job::OperatorStep;
use crate::job::steps::read_plugin_alone;
use crate::job::table::Table;
use crate::metrics::StepMeter;
use crate::operator::{Crossed, Limits, OpenError, Operator, Role, StepInfo};
use crate::plan::PlannedOperator;
use crate::step::definition::PlanContext;
use crate::step::keyed::SpecProblem;
use crate::step::transform::CallBounds;

/// What the column of a function with one argument is called, unless it is said.
const READS: &str = "value";

/// What a job says of a function.
#[derive(Debug, Clone)]
pub struct FunctionDefinition {
    /// What texts call it.
    pub name: String,
    /// What the plugin calls its arguments, in their order.
    pub reads: Vec<String>,
    /// The plugin.
    pub operator: OperatorStep,
}

impl FunctionDefinition {
    /// A function of one argument, which the operator calls `value`.
    #[must_use]
    pub fn new(name: impl Into<String>, operator: impl Into<OperatorStep>) -> Self {
        Self { name: name.into(), reads: vec![READS.to_owned()], operator: operator.into() }
    }

    /// The function with these arguments, as the operator calls them.
    #[must_use]
    pub fn reads<'s>(mut self, reads: impl IntoIterator<Item = &'s str>) -> Self {
        self.reads = reads.into_iter().map(str::to_owned).collect();
        self
    }

    /// Reads the key `functions` of a step.
    pub(crate) fn parse_all(table: &mut Table<'_>, limits: &Limits) -> Vec<Self> {
        table
            .named_tables("functions")
            .into_iter()
            .filter_map(|(name, inner)| Self::parse(name, inner, limits))
            .collect()
    }

    fn parse(name: String, mut table: Table<'_>, limits: &Limits) -> Option<Self> {
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_lowercase());
        if !is_name {
            let hint = "Names of functions are small letters, digits and `_`.".to_owned();
            table.problem("", format!("a function cannot be called `{name}`"), Some(hint));
        }
        let reads = table.texts("reads").unwrap_or_else(|| vec![READS.to_owned()]);
        let operator = read_plugin_alone(table, limits)?;
        is_name.then_some(Self { name, reads, operator })
    }
}

/// A function whose plugin is loaded.
pub struct Function {
    shared: Arc<Shared>,
    implementation: Implementation,
}

/// What both kinds of functions have.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) reads: Vec<String>,
    pub(super) operator: Arc<dyn Operator>,
    pub(super) info: StepInfo,
    pub(super) bounds: CallBounds,
    pub(super) meter: Arc<StepMeter>,
}

/// What a plugin says for the types of arguments that texts call it with: asked once for each.
#[derive(Debug)]
pub(super) struct ByTypes<T> {
    /// A mutex: it is taken once a call, or a group.
    opened: Mutex<HashMap<Vec<DataType>, Arc<T>>>,
}

impl<T> Default for ByTypes<T> {
    fn default() -> Self {
        Self { opened: Mutex::default() }
    }
}

impl<T> ByTypes<T> {
    pub(super) fn get_or_open(
        &self,
        types: Vec<DataType>,
        open: impl FnOnce(&[DataType]) -> Result<T, DataFusionError>,
    ) -> Result<Arc<T>, DataFusionError> {
        let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = all.get(&types) {
            return Ok(opened.clone());
        }
        let opened = Arc::new(open(&types)?);
        all.insert(types, opened.clone());
        Ok(opened)
    }
}

/// What has been opened says nothing about which function it is.
impl<T> PartialEq for ByTypes<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for ByTypes<T> {}

impl<T> Hash for ByTypes<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What DataFusion calls.
#[derive(Clone)]
pub(super) enum Implementation {
    Scalar(Arc<ScalarUDF>),
    Aggregate(Arc<AggregateUDF>),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).field("operator", &self.operator).finish_non_exhaustive()
    }
}

impl Function {
    /// Loads the plugins of a step's functions.
    ///
    /// # Errors
    ///
    /// Those that cannot be loaded, or have no role for it.
    pub(crate) fn load_all(
        definitions: &[FunctionDefinition],
        context: &PlanContext<'_>,
    ) -> Result<Vec<Arc<Self>>, Vec<SpecProblem>> {
        let (mut functions, mut problems) = (Vec::new(), Vec::new());
        for definition in definitions {
            let key = format!("functions.{}.plugin", definition.name);
            match context.load(&definition.operator, &key) {
                Ok(operator) => {
                    let shared = Shared {
                        name: definition.name.clone(),
                        reads: definition.reads.clone(),
                        operator,
                        info: context.info(&definition.operator),
                        bounds: context.bounds(&definition.operator),
                        meter: context.meter.clone(),
                    };
                    match Self::of(Arc::new(shared)) {
                        Ok(function) => functions.push(Arc::new(function)),
                        Err((message, hint)) => problems.push(SpecProblem { key, message, hint: Some(hint) }),
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(functions) } else { Err(problems) }
    }

    fn of(shared: Arc<Shared>) -> Result<Self, (String, String)> {
        let roles = shared.operator.roles();
        let implementation = if roles.contains(&Role::Transform) {
            Implementation::Scalar(Arc::new(ScalarUDF::new_from_impl(ScalarFunction::new(shared.clone()))))
        } else if roles.contains(&Role::Aggregator) {
            Implementation::Aggregate(Arc::new(AggregateUDF::new_from_impl(AggregateFunction::new(shared.clone()))))
        } else {
            let has: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            let message = format!("`{}` cannot be a function", shared.operator.name());
            let hint = format!("A function is of role transform or aggregator, and it has {}.", has.join(", "));
            return Err((message, hint));
        };
        Ok(Self { shared, implementation })
    }

    /// What texts call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn implementation(&self) -> Implementation {
        self.implementation.clone()
    }

    /// The plugins of a step's functions, as a plan shows them; a call of them fails as the step does.
    pub(crate) fn planned(functions: &[Arc<Self>], definitions: &[FunctionDefinition]) -> Vec<PlannedOperator> {
        let planned = functions.iter().zip(definitions).map(|(function, definition)| {
            let Shared { operator, reads, info, .. } = &*function.shared;
            PlannedOperator {
                operator: operator.clone(),
                sha256: operator.sha256(),
                reads: reads.clone(),
                limits: info.limits.clone(),
                on_error: definition.operator.on_error.clone(),
            }
        });
        planned.collect()
    }
}

/// Each is loaded for itself.
impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Shared {
    /// Counts a call, and what crossed in it.
    pub(super) fn count_call(&self, before: Crossed, after: Crossed) {
        self.meter.calls.add(1);
        self.meter.crossed_in_bytes.add(after.in_bytes.saturating_sub(before.in_bytes));
        self.meter.crossed_out_bytes.add(after.out_bytes.saturating_sub(before.out_bytes));
    }

    /// An instance that was opened again must say what the first one said.
    pub(super) fn plan_changed(&self) -> OpenError {
        OpenError::PlanChanged { operator: self.operator.name().to_owned(), step: self.info.step.clone() }
    }

    /// The rows of arguments of these types, as the plugin sees them.
    pub(super) fn arguments(&self, types: &[DataType]) -> SchemaRef {
        let fields =
            self.reads.iter().zip(types).map(|(name, data_type)| Field::new(name, plain_type(data_type), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The one column of what the plugin gives.
    pub(super) fn result(&self, given: &SchemaRef) -> Result<FieldRef, Box<FunctionRefused>> {
        match given.fields().as_ref() {
            [field] => Ok(Arc::new(Field::new(&self.name, field.data_type().clone(), true))),
            fields => {
                let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name())).collect();
                Err(Box::new(FunctionRefused {
                    function: self.name.clone(),
                    what: Refused::Columns { operator: self.operator.name().to_owned(), columns: names.join(", ") },
                }))
            }
        }
    }

    /// What the plugin says when it is opened.
    pub(super) fn refused(&self, error: OpenError) -> FunctionRefused {
        FunctionRefused { function: self.name.clone(), what: Refused::Open { error, reads: self.reads.clone() } }
    }
}

/// A plugin cannot be called the way a text does.
#[derive(Debug, thiserror::Error)]
#[error("`{function}` cannot be called like this")]
pub(super) struct FunctionRefused {
    function: String,
    #[source]
    what: Refused,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{error}")]
    Open { error: OpenError, reads: Vec<String> },
    #[error("`{operator}` gives {}, and a function gives one column", if columns.is_empty() { "no column" } else { columns })]
    Columns { operator: String, columns: String },
}

impl FunctionRefused {
    /// The key of the step's table that it is about.
    pub(super) fn key(&self) -> String {
        let function = &self.function;
        match &self.what {
            Refused::Open { error: OpenError::Config { .. }, .. } => format!("functions.{function}.config"),
            Refused::Open { error: OpenError::LimitExceeded { .. }, .. } => format!("functions.{function}.limits"),
            Refused::Open { error: OpenError::Schema { .. }, .. } => format!("functions.{function}.reads"),
            _ => format!("functions.{function}.plugin"),
        }
    }
}

impl Explain for FunctionRefused {
    fn fault(&self) -> Fault {
        match &self.what {
            Refused::Open { error, .. } => error.fault(),
            Refused::Columns { .. } => Fault::User,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<String> {
        match &self.what {
            Refused::Open { error: error @ OpenError::Schema { .. }, reads } => {
                let reads: Vec<String> = reads.iter().map(|name| format!("\"{name}\"")).collect();
                let hint = error.hint().unwrap_or_default();
                Some(format!(
                    "{hint} They are called so by `reads = [{}]`: name there the columns that the plugin reads, in the order \
                     of the arguments.",
                    reads.join(", ")
                ))
            }
            Refused::Open { error, .. } => error.hint(),
            Refused::Columns { .. } => Some("Use it in a step of its own, with `transform` or `aggregate`.".into()),
        }
    }
}

/// A call of a function gave something that a function cannot.
#[derive(Debug, thiserror::Error)]
#[error("`{function}`, which is `{operator}`, {what}")]
pub(super) struct NotOneForOne {
    pub(super) function: String,
    pub(super) operator: String,
    pub(super) what: String,
}

impl Explain for NotOneForOne {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        Some("A function gives one row for each row. Use the plugin in a step of its own, with `transform`.".into())
    }
}

/// An error on its way through DataFusion.
pub(super) fn passed(error: impl Into<Error>) -> DataFusionError {
    super::failure::wrap(error)
}
