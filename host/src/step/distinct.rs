//! `distinct = true` or a list of columns: of the rows of a batch that are equal in them, the first.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema};

use crate::error::Error;
use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::by_key::ByKey;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, SpecProblem, internal};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Bytes of keys that a task remembers before the shuffle; with more it starts anew, and the half behind the shuffle finds
/// what is left doubled.
const TABLE_BYTES_MAX: usize = 32 << 20;

/// The step. Rows of earlier batches do not count: that is `dedup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct {
    /// The columns; `None`: all.
    pub by: Option<Vec<String>>,
}

impl Distinct {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        if !table.is_boolean("distinct") {
            let by = table.texts("distinct")?;
            if by.is_empty() {
                let hint = "Name the columns in which rows are equal, or write `distinct = true` for all.";
                table.problem("distinct", "`distinct` is empty", Some(hint.into()));
                return None;
            }
            return Some(Self { by: Some(by) });
        }
        if table.boolean("distinct")? {
            return Some(Self { by: None });
        }
        let hint = "Leave the key out for another kind of step.";
        table.problem("distinct", "`distinct` can only be true, or name columns", Some(hint.into()));
        None
    }
}

impl StepDefinition for Distinct {
    fn kind(&self) -> &'static str {
        "distinct"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let all = || input.fields().iter().map(|field| field.name().clone()).collect();
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(&input, &self.by.clone().unwrap_or_else(all), &mut problems);
        if !problems.is_empty() {
            problems.iter_mut().for_each(|problem| problem.key = "distinct".into());
            return Err(problems);
        }
        let columns = keys.indices.clone();
        let n_partitions = if columns.is_empty() { 1 } else { context.settings.partitions };
        let firsts = |bytes_max| -> Arc<dyn StepFactory> {
            Arc::new(Firsts { step: context.step.to_owned(), keys: keys.clone(), bytes_max })
        };
        let side = GatherSide {
            prepare: Some(firsts(TABLE_BYTES_MAX)),
            partitioning: Partitioning::Hash { columns: columns.clone() },
        };
        let factory = ByKey::factory(context, firsts(usize::MAX), vec![columns.clone()], columns, &input);
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: false, state: None, factory };
        Ok(Built::gather(input, gather))
    }
}

/// Both halves: the first of the firsts is the first.
struct Firsts {
    step: String,
    keys: KeyColumns,
    bytes_max: usize,
}

impl StepFactory for Firsts {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let types: Vec<DataType> = self.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Box::new(Running {
            step: self.step.clone(),
            keys: self.keys.clone(),
            bytes_max: self.bytes_max,
            table: KeyTable::new(&types),
            types,
            groups: Vec::new(),
        }))
    }
}

struct Running {
    step: String,
    keys: KeyColumns,
    bytes_max: usize,
    types: Vec<DataType>,
    table: KeyTable,
    groups: Vec<u32>,
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let doing = || internal(format!("comparing the rows of step `{}`", self.step));
        let mut n_known = self.table.len() as u32;
        self.groups.clear();
        self.table.group_rows(&self.keys.of(&rows), rows.num_rows(), &mut self.groups).map_err(doing())?;
        // New groups come in order: a row that is the first of its key has the next number.
        let is_first = |&group: &u32| {
            let is_new = group == n_known;
            n_known += u32::from(is_new);
            Some(is_new)
        };
        let firsts: BooleanArray = self.groups.iter().map(is_first).collect();
        let firsts = filter_record_batch(&rows, &firsts).map_err(doing())?;
        if self.table.bytes() > self.bytes_max {
            // A new one, because one that is cleared keeps its memory.
            self.table = KeyTable::new(&self.types);
        }
        if firsts.num_rows() > 0 { emit(firsts) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{cut, flat, map_tasks, run_one, schema, settings, sorted, text};
    use crate::step::testing::{DefinitionRun, run_half, texts};

    fn firsts(cut: &crate::step::test_rows::Cut) -> Vec<String> {
        let mut seen = BTreeSet::new();
        flat(cut).iter().filter(|row| seen.insert(row.0.0)).map(text).collect()
    }

    proptest! {
        #[test]
        fn the_first_row_of_each_key_stays(cut in cut(), partitions in 1u32..5) {
            let step = Distinct { by: Some(vec!["key".into()]) };
            let mut run = DefinitionRun::plan(&step, &[schema()], &settings(partitions), false).expect("it fits");
            for _ in 0..2 {
                // Earlier batches do not count.
                prop_assert_eq!(sorted(run_one(&mut run, &cut).concat()), sorted(firsts(&cut)));
            }
        }

        #[test]
        fn a_task_that_forgets_lets_more_through_never_less(cut in cut()) {
            let mut problems = Vec::new();
            let keys = KeyColumns::resolve(&schema(), &["key".into()], &mut problems);
            let small = Firsts { step: "s".into(), keys: keys.clone(), bytes_max: 1 };
            let all = Firsts { step: "s".into(), keys, bytes_max: usize::MAX };
            let pushes = map_tasks(&cut).concat();
            let some = run_half(&small, 0, &pushes).expect("it runs");
            prop_assert_eq!(texts(&run_half(&all, 0, &some).expect("it runs")), firsts(&cut));
        }
    }

    #[test]
    fn without_columns_whole_rows_are_compared() {
        let mut run = DefinitionRun::plan(&Distinct { by: None }, &[schema()], &settings(2), false).expect("it fits");
        let cut = vec![vec![vec![(Some(1), Some(1)), (Some(1), Some(1))]]];
        // Their numbers differ.
        assert_eq!(run_one(&mut run, &cut).concat().len(), 2);
    }
}
