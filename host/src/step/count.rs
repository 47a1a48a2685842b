//! `count = true` and `count-by-value = true`: how many rows a batch has, and how many of each.

use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::aggregate::AggregateSpec;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{KeyedStep, SpecProblem};

/// The column of counts.
const COUNT: &str = "count";

/// The step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One row a batch, also when it has none: column `count`.
    Rows,
    /// One row for each different row: its columns, and `count`.
    ByValue,
}

impl Count {
    pub(crate) fn parse(self, table: &mut Table<'_>) -> Option<Self> {
        let key = self.kind();
        if table.boolean(key)? {
            return Some(self);
        }
        let hint = "Leave the key out for another kind of step.";
        table.problem(key, format!("`{key}` can only be true"), Some(hint.into()));
        None
    }
}

impl StepDefinition for Count {
    fn kind(&self) -> &'static str {
        match self {
            Count::Rows => "count",
            Count::ByValue => "count-by-value",
        }
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let by: Vec<String> = match self {
            Count::Rows => Vec::new(),
            Count::ByValue => context.input().fields().iter().map(|field| field.name().clone()).collect(),
        };
        let select = [(COUNT.to_owned(), "count(*)".to_owned())];
        let spec = AggregateSpec::resolve(context.step, context.input(), &by, &select).map_err(|mut problems| {
            problems.iter_mut().for_each(|problem| problem.key = self.kind().into());
            problems
        })?;
        Ok(Built::gather(spec.output_schema(), gather_of(&spec, context.settings.partitions)))
    }
}

/// A keyed step as it is planned.
pub(crate) fn gather_of(keyed: &dyn KeyedStep, n_partitions: u32) -> Gather {
    Gather {
        sides: vec![GatherSide {
            prepare: Some(keyed.combine()),
            partitioning: Partitioning::Hash { columns: keyed.partial_key_columns() },
        }],
        n_partitions: if keyed.is_global() { 1 } else { n_partitions },
        runs_when_empty: keyed.is_global(),
        state: None,
        factory: keyed.merge(),
    }
}
