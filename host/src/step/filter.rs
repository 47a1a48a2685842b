//! `filter = "price > 10 and category = 'a'"`: the rows for which an expression is true.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};

use crate::error::Error;
use crate::job::steps::refuse_plugin_keys_but;
use crate::job::table::Table;
use crate::job::{DeadLetters, ON_ERROR_KEYS, OnError, read_on_error};
use crate::operator::Limits;
use crate::sql::{Expression, Function, FunctionDefinition, Scope, Session};
use crate::step::dead_letters::{LetterBox, Letters, compute_by_pieces};
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
        let on_error = read_on_error(table, None);
        refuse_plugin_keys_but(table, "filter", &ON_ERROR_KEYS);
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

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.on_error.dead_letters()
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
        let on_error = self.on_error.clone();
        let letter_box = LetterBox::of_step(context, on_error.dead_letters(), &operators);
        let filter = Filter { step: context.step.to_owned(), condition, letter_box };
        Ok(Built { operators, on_error, ..Built::narrow(input, Arc::new(filter)) })
    }
}

/// The filter of a plan.
#[derive(Debug, Clone)]
struct Filter {
    step: String,
    condition: Expression,
    letter_box: Option<Arc<LetterBox>>,
}

impl Filter {
    /// The rows for which the condition is true, if there are any.
    fn apply(&self, rows: RecordBatch, scope: &Arc<Scope>) -> Result<Option<RecordBatch>, Error> {
        let Filter { step, condition, .. } = self;
        let is_true = condition.evaluate(&rows, step, scope)?;
        let is_true = is_true.as_boolean();
        // Null is not true.
        match is_true.true_count() {
            0 => Ok(None),
            all if all == rows.num_rows() => Ok(Some(rows)),
            _ => {
                let kept = filter_record_batch(&rows, is_true);
                kept.map(Some).map_err(internal(format!("filtering in step `{step}`")))
            }
        }
    }
}

impl StepFactory for Filter {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let letters = self.letter_box.as_ref().map(|letter_box| letter_box.open(task));
        Ok(Box::new(Filtering { filter: self.clone(), scope: Scope::new(task), letters }))
    }
}

struct Filtering {
    filter: Filter,
    scope: Arc<Scope>,
    letters: Option<Letters>,
}

impl PipelineStep for Filtering {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let apply = |rows| self.filter.apply(rows, &self.scope);
        match &mut self.letters {
            Some(letters) => compute_by_pieces(letters, &rows, apply, emit),
            None => apply(rows)?.map_or(Ok(()), emit),
        }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        self.letters.iter().for_each(Letters::finish);
        Ok(())
    }

    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.letters.as_mut().map_or(Ok(None), Letters::take)
    }
}
