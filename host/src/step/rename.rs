//! `rename = { old = "new" }`: columns under other names, at their places.

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
pub struct RenameDefinition {
    /// The names that columns have, and those they get.
    pub names: Vec<(String, String)>,
}

impl RenameDefinition {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        refuse_plugin_keys(table, "rename");
        let names = table.named_texts("rename")?;
        if names.is_empty() {
            table.problem("rename", "`rename` is empty", Some("Write `rename = { old = \"new\" }`.".into()));
            return None;
        }
        Some(Self { names })
    }
}

impl StepDefinition for RenameDefinition {
    fn kind(&self) -> &'static str {
        "rename"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        let old = |name: &str| self.names.iter().find(|(_, new)| new == name).map(|(old, _)| old.clone());
        context.times().through(output, |name| Some(old(name).unwrap_or_else(|| name.to_owned())))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input();
        let mut problems = Vec::new();
        let mut problem = |old: &str, message, hint| {
            problems.push(SpecProblem { key: format!("rename.{old}"), message, hint });
        };
        for (old, new) in &self.names {
            if input.column_with_name(old).is_none() {
                problem(old, format!("there is no column `{old}`"), Some(column_hint(input, old)));
            } else if new.is_empty() {
                problem(old, format!("the new name of `{old}` is empty"), None);
            }
        }
        let new_name =
            |name: &String| self.names.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new).clone();
        let names: Vec<String> = input.fields().iter().map(|field| new_name(field.name())).collect();
        for (old, new) in &self.names {
            if names.iter().filter(|name| *name == new).count() > 1 {
                problem(
                    old,
                    format!("two columns would be called `{new}`"),
                    Some("Rename or drop the other one too.".into()),
                );
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = input.fields().iter().zip(names).enumerate();
        let columns = columns.map(|(index, (field, name))| (field.as_ref().clone().with_name(name), Column::Of(index)));
        let project = Project::new(context.step, columns.collect());
        Ok(Built::narrow(project.output_schema().clone(), Arc::new(project)))
    }
}
