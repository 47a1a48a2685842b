//! `drop = ["a"]`: all columns but these.

use std::sync::Arc;

use arrow::datatypes::Schema;

use crate::job::steps::refuse_plugin_keys;
use crate::job::table::Table;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, column_hint};
use crate::step::project::{Column, Project};
use crate::step::times::TimeColumns;

/// The step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropDefinition {
    /// The columns that go.
    pub columns: Vec<String>,
}

impl DropDefinition {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        refuse_plugin_keys(table, "drop");
        let columns = table.texts("drop")?;
        if columns.is_empty() {
            table.problem("drop", "`drop` is empty", Some("Write `drop = [\"a\"]`.".into()));
            return None;
        }
        Some(Self { columns })
    }
}

impl StepDefinition for DropDefinition {
    fn kind(&self) -> &'static str {
        "drop"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input();
        let mut problems = Vec::new();
        for (place, name) in self.columns.iter().enumerate() {
            if input.column_with_name(name).is_none() {
                let message = format!("there is no column `{name}`");
                let hint = Some(column_hint(input, name));
                problems.push(SpecProblem { key: format!("drop.{place}"), message, hint });
            }
        }
        let left = input.fields().iter().enumerate().filter(|(_, field)| !self.columns.contains(field.name()));
        let left: Vec<_> = left.map(|(index, field)| (field.as_ref().clone(), Column::Of(index))).collect();
        if problems.is_empty() && left.is_empty() {
            let message = "no column would be left".to_owned();
            problems.push(SpecProblem { key: "drop".into(), message, hint: None });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let project = Project::new(context.step, left);
        Ok(Built::narrow(project.output_schema().clone(), Arc::new(project)))
    }
}
