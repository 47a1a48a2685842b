//! `with = { total = "price * quantity" }`: columns added to those that are there, or in the place of some.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};

use crate::job::steps::refuse_plugin_keys_but;
use crate::job::table::Table;
use crate::job::{DeadLetters, ON_ERROR_KEYS, OnError, read_on_error};
use crate::operator::Limits;
use crate::sql::{Function, FunctionDefinition, Session};
use crate::step::dead_letters::LetterBox;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::SpecProblem;
use crate::step::project::{Column, Project};

/// The step.
#[derive(Debug, Clone)]
pub struct WithDefinition {
    /// The columns and what they are. Expressions see the columns of the input, not each other.
    pub columns: Vec<(String, String)>,
    /// Plugins that they call.
    pub functions: Vec<FunctionDefinition>,
    /// What happens when an expression has no value for a row, or a call of a plugin fails.
    pub on_error: OnError,
}

impl WithDefinition {
    /// Adds columns: each with its expression.
    #[must_use]
    pub fn new<'s>(columns: impl IntoIterator<Item = (&'s str, &'s str)>) -> Self {
        let columns = columns.into_iter().map(|(name, expression)| (name.to_owned(), expression.to_owned()));
        Self { columns: columns.collect(), functions: Vec::new(), on_error: OnError::Fail }
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
        refuse_plugin_keys_but(table, "with", &ON_ERROR_KEYS);
        let columns = table.named_texts("with")?;
        if columns.is_empty() {
            table.problem("with", "`with` is empty", Some("Write `with = { total = \"price * quantity\" }`.".into()));
            return None;
        }
        Some(Self { columns, functions, on_error })
    }
}

impl<'s, const N: usize> From<[(&'s str, &'s str); N]> for WithDefinition {
    fn from(columns: [(&'s str, &'s str); N]) -> Self {
        Self::new(columns)
    }
}

/// The columns that some expressions give; `table` is the key that they stand in.
pub(crate) fn computed(
    session: &Session,
    columns: &[(String, String)],
    input: &SchemaRef,
    table: &str,
) -> Result<Vec<(Field, Column)>, Vec<SpecProblem>> {
    let (mut given, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in columns {
        match session.expression(text, input) {
            Ok(expression) => {
                let field = Field::new(name, expression.data_type().clone(), expression.nullable());
                given.push((field, Column::Computed(Box::new(expression))));
            }
            Err(mistake) => problems.push(mistake.at(format!("{table}.{name}"))),
        }
    }
    if problems.is_empty() { Ok(given) } else { Err(problems) }
}

impl StepDefinition for WithDefinition {
    fn kind(&self) -> &'static str {
        "with"
    }

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.on_error.dead_letters()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let functions = Function::load_all(&self.functions, context)?;
        let session = Session::new(&functions)?;
        let input = context.input();
        let mut added = computed(&session, &self.columns, input, "with")?;
        let mut columns = Vec::new();
        for (index, field) in input.fields().iter().enumerate() {
            match added.iter().position(|(added, _)| added.name() == field.name()) {
                Some(place) => columns.push(added.remove(place)),
                None => columns.push((field.as_ref().clone(), Column::Of(index))),
            }
        }
        columns.extend(added);
        let operators = Function::planned(&functions, &self.functions);
        let on_error = self.on_error.clone();
        let letter_box = LetterBox::of_step(context, on_error.dead_letters(), &operators);
        let project = Project::new(context.step, columns).with_dead_letters(letter_box);
        let times = Some(project.times(context));
        Ok(Built { operators, on_error, times, ..Built::narrow(project.output_schema().clone(), Arc::new(project)) })
    }
}
