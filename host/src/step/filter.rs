//! `filter = "price > 10 and category = 'a'"`: the rows for which an expression is true.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};

use crate::error::Error;
use crate::job::OnError;
use crate::job::steps::{read_on_error, refuse_plugin_keys_but};
use crate::job::table::Table;
use crate::operator::Limits;
use crate::sql::{Expression, Function, FunctionDefinition, Scope, Session};
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, internal};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The step.
#[derive(Debug, Clone)]
pub struct FilterDefinition {
    /// What is true of the rows that stay.
    pub condition: String,
    /// Plugins that it calls.
    pub functions: Vec<FunctionDefinition>,
    /// What happens when an expression has no value for a row, or a call of a plugin fails.
    pub on_error: OnError,
}

impl FilterDefinition {
    /// Keeps the rows for which this is true.
    #[must_use]
    pub fn new(condition: impl Into<String>) -> Self {
        Self { condition: condition.into(), functions: Vec::new(), on_error: OnError::Fail }
    }

    /// The step with a plugin as a function.
    #[must_use]
    pub fn function(mut self, function: FunctionDefinition) -> Self {
        self.functions.push(function);
        self
    }

    /// The step with this done when it fails in a batch.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    pub(crate) fn parse(table: &mut Table<'_>, limits: &Limits) -> Option<Self> {
        let functions = FunctionDefinition::parse_all(table, limits);
        let on_error = read_on_error(table);
        refuse_plugin_keys_but(table, "filter", &["on-error"]);
        Some(Self { condition: table.required_text("filter")?, functions, on_error })
    }
}

impl From<&str> for FilterDefinition {
    fn from(condition: &str) -> Self {
        Self::new(condition)
    }
}

impl StepDefinition for FilterDefinition {
    fn kind(&self) -> &'static str {
        "filter"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let functions = Function::load_all(&self.functions, context)?;
        let session = Session::new(&functions)?;
        let input = context.input().clone();
        let condition = session.expression(&self.condition, &input).map_err(|mistake| vec![mistake.at("filter")])?;
        if condition.data_type() != &DataType::Boolean {
            let type_name = crate::plan::describe_type(condition.data_type());
            let message = format!("`{}` is {type_name}, and a filter must be true or false", self.condition);
            let hint = "Compare it with something, as in `price > 10`.".to_owned();
            return Err(vec![SpecProblem { key: "filter".into(), message, hint: Some(hint) }]);
        }
        let operators = Function::planned(&functions, &self.functions);
        let on_error = self.on_error;
        let filter = Filter { step: context.step.to_owned(), condition };
        Ok(Built { operators, on_error, ..Built::narrow(input, Arc::new(filter)) })
    }
}

/// The filter of a plan.
#[derive(Debug, Clone)]
struct Filter {
    step: String,
    condition: Expression,
}

impl StepFactory for Filter {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Filtering { filter: self.clone(), scope: Scope::new(task) }))
    }
}

struct Filtering {
    filter: Filter,
    scope: Arc<Scope>,
}

impl PipelineStep for Filtering {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Filter { step, condition } = &self.filter;
        let is_true = condition.evaluate(&rows, step, &self.scope)?;
        let is_true = is_true.as_boolean();
        // Null is not true.
        match is_true.true_count() {
            0 => Ok(()),
            all if all == rows.num_rows() => emit(rows),
            _ => emit(filter_record_batch(&rows, is_true).map_err(internal(format!("filtering in step `{step}`")))?),
        }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}
