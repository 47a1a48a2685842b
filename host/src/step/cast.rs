//! `cast = { amount = "int64" }`: columns in other types, at their places.

use std::sync::Arc;

use arrow::compute::can_cast_types;

use crate::job::steps::refuse_plugin_keys_but;
use crate::job::table::Table;
use crate::job::{DeadLetters, ON_ERROR_KEYS, OnError, read_on_error_or_null};
use crate::plan::describe_type;
use crate::source::schema::parse_type;
use crate::step::dead_letters::LetterBox;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, column_hint};
use crate::step::project::{Column, Project};

/// The step.
#[derive(Debug, Clone, PartialEq)]
pub struct CastDefinition {
    /// The columns and their new types, as in the schema of a source.
    pub types: Vec<(String, String)>,
    /// What happens to a row with a value that the type does not have; `None`: the value becomes null.
    pub on_error: Option<OnError>,
}

impl CastDefinition {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        let on_error = read_on_error_or_null(table);
        refuse_plugin_keys_but(table, "cast", &ON_ERROR_KEYS);
        let types = table.named_texts("cast")?;
        if types.is_empty() {
            table.problem("cast", "`cast` is empty", Some("Write `cast = { amount = \"int64\" }`.".into()));
            return None;
        }
        Some(Self { types, on_error })
    }
}

impl StepDefinition for CastDefinition {
    fn kind(&self) -> &'static str {
        "cast"
    }

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.on_error.as_ref()?.dead_letters()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input();
        let null = self.on_error.is_none();
        let mut problems = Vec::new();
        let mut columns: Vec<_> = input
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| (field.as_ref().clone(), Column::Of(index)))
            .collect();
        for (name, text) in &self.types {
            let mut problem = |message, hint| problems.push(SpecProblem { key: format!("cast.{name}"), message, hint });
            let Some((index, field)) = input.column_with_name(name) else {
                problem(format!("there is no column `{name}`"), Some(column_hint(input, name)));
                continue;
            };
            match parse_type(text) {
                Err(error) => problem(error.message, error.hint),
                Ok(to) if can_cast_types(field.data_type(), &to) => {
                    let nullable = field.is_nullable() || null;
                    let field = field.clone().with_data_type(to).with_nullable(nullable);
                    columns[index] = (field, Column::Cast { index, null });
                }
                Ok(_) => {
                    let from = describe_type(field.data_type());
                    problem(format!("column `{name}` is {from}, which cannot become {text}"), None);
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let on_error = self.on_error.clone().unwrap_or_default();
        let letter_box = LetterBox::of_step(context, on_error.dead_letters(), &[]);
        let project = Project::new(context.step, columns).with_dead_letters(letter_box);
        let times = Some(project.times(context));
        Ok(Built { on_error, times, ..Built::narrow(project.output_schema().clone(), Arc::new(project)) })
    }
}
