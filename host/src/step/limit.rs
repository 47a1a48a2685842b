//! `limit = n`: the first n rows of each batch.

use std::sync::Arc;

use arrow::array::RecordBatch;

use arrow::datatypes::Schema;

use crate::error::Error;
use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::SpecProblem;
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The step: at most so many rows of a batch, in the order of partitions. Behind `sort` they are the first in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many rows of a batch stay.
    pub rows: u64,
}

impl Limit {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        Some(Self { rows: table.integer("limit", 1..=u64::from(u32::MAX))? })
    }
}

impl StepDefinition for Limit {
    fn kind(&self) -> &'static str {
        "limit"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let factory: Arc<dyn StepFactory> = Arc::new(*self);
        let side =
            GatherSide { prepare: Some(factory.clone()), partitioning: Partitioning::Hash { columns: Vec::new() } };
        let gather = Gather { sides: vec![side], n_partitions: 1, runs_when_empty: false, state: None, factory };
        Ok(Built::gather(context.input().clone(), gather))
    }
}

/// Both halves: the first of the firsts are the firsts.
impl StepFactory for Limit {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Limiting { left: usize::try_from(self.rows).unwrap_or(usize::MAX) }))
    }
}

struct Limiting {
    left: usize,
}

impl PipelineStep for Limiting {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let n_rows = rows.num_rows().min(self.left);
        self.left -= n_rows;
        if n_rows > 0 { emit(rows.slice(0, n_rows)) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{cut, flat, run_one, schema, settings, text};
    use crate::step::testing::DefinitionRun;

    proptest! {
        #[test]
        fn the_first_rows_stay(cut in cut(), rows in 1u64..20) {
            let mut run = DefinitionRun::plan(&Limit { rows }, &[schema()], &settings(3), false).expect("it fits");
            let expected: Vec<_> = flat(&cut).iter().take(rows as usize).map(text).collect();
            prop_assert_eq!(run_one(&mut run, &cut).concat(), expected);
        }
    }
}
