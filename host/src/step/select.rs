//! `select = ["a", "b"]` or `select = { name = "expression" }`: the columns of the output, in the file's order.

use std::sync::Arc;

use crate::job::steps::refuse_plugin_keys_but;
use crate::job::table::Table;
use crate::job::{DeadLetters, ON_ERROR_KEYS, OnError, read_on_error};
use crate::operator::Limits;
use crate::sql::{Function, FunctionDefinition, Session};
use crate::step::dead_letters::LetterBox;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, column_hint};
use crate::step::project::{Column, Project};
use crate::step::with::computed;

/// The step.
#[derive(Debug, Clone)]
pub struct SelectDefinition {
    /// The columns.
    pub columns: Selected,
    /// Plugins that they call.
    pub functions: Vec<FunctionDefinition>,
    /// What happens when an expression has no value for a row, or a call of a plugin fails.
    pub on_error: OnError,
}

/// What is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// Columns of the input, by name.
    Names(Vec<String>),
    /// Columns with their expressions.
    Computed(Vec<(String, String)>),
}

impl SelectDefinition {
    /// Gives these columns, each with its expression.
    #[must_use]
    pub fn new<'s>(columns: impl IntoIterator<Item = (&'s str, &'s str)>) -> Self {
        let columns = columns.into_iter().map(|(name, expression)| (name.to_owned(), expression.to_owned()));
        Self { columns: Selected::Computed(columns.collect()), functions: Vec::new(), on_error: OnError::Fail }
    }

    /// Gives these columns of the input.
    #[must_use]
    pub fn names<'s>(names: impl IntoIterator<Item = &'s str>) -> Self {
        let names = names.into_iter().map(str::to_owned).collect();
        Self { columns: Selected::Names(names), functions: Vec::new(), on_error: OnError::Fail }
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
        refuse_plugin_keys_but(table, "select", &ON_ERROR_KEYS);
        let (columns, is_empty) = if table.is_table("select") {
            let columns = table.named_texts("select")?;
            let is_empty = columns.is_empty();
            (Selected::Computed(columns), is_empty)
        } else {
            let names = table.texts("select")?;
            let is_empty = names.is_empty();
            (Selected::Names(names), is_empty)
        };
        if is_empty {
            let hint = "Write `select = [\"a\", \"b\"]`, or `select = { name = \"expression\" }`.";
            table.problem("select", "`select` is empty", Some(hint.into()));
            return None;
        }
        Some(Self { columns, functions, on_error })
    }
}

impl<'s, const N: usize> From<[(&'s str, &'s str); N]> for SelectDefinition {
    fn from(columns: [(&'s str, &'s str); N]) -> Self {
        Self::new(columns)
    }
}

impl<'s, const N: usize> From<[&'s str; N]> for SelectDefinition {
    fn from(names: [&'s str; N]) -> Self {
        Self::names(names)
    }
}

impl StepDefinition for SelectDefinition {
    fn kind(&self) -> &'static str {
        "select"
    }

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.on_error.dead_letters()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input();
        let functions = Function::load_all(&self.functions, context)?;
        let columns = match &self.columns {
            Selected::Computed(columns) => computed(&Session::new(&functions)?, columns, input, "select")?,
            Selected::Names(names) => {
                let (mut columns, mut problems) = (Vec::new(), Vec::new());
                for (place, name) in names.iter().enumerate() {
                    let mut problem = |message, hint| {
                        problems.push(SpecProblem { key: format!("select.{place}"), message, hint });
                    };
                    match input.column_with_name(name) {
                        None => problem(format!("there is no column `{name}`"), Some(column_hint(input, name))),
                        Some(_) if names[..place].contains(name) => {
                            problem(format!("column `{name}` is named twice"), None);
                        }
                        Some((index, field)) => columns.push((field.clone(), Column::Of(index))),
                    }
                }
                if !problems.is_empty() {
                    return Err(problems);
                }
                columns
            }
        };
        let operators = Function::planned(&functions, &self.functions);
        let on_error = self.on_error.clone();
        let letter_box = LetterBox::of_step(context, on_error.dead_letters(), &operators);
        let project = Project::new(context.step, columns).with_dead_letters(letter_box);
        let times = Some(project.times(context));
        Ok(Built { operators, on_error, times, ..Built::narrow(project.output_schema().clone(), Arc::new(project)) })
    }
}
