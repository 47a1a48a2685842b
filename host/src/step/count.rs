//! `count = true` and `count-by-value = true`: how many rows a batch has, and how many of each.

use arrow::datatypes::Schema;

use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::aggregate::AggregateSpec;
use crate::step::by_key::ByKey;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{KeyedStep, SpecProblem};
use crate::step::times::TimeColumns;

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

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| matches!(self, Count::ByValue).then(|| name.to_owned()))
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
        Ok(Built::gather(spec.output_schema(), gather_of(context, &spec, context.settings.partitions)))
    }
}

/// A keyed step as it is planned.
pub(crate) fn gather_of(context: &PlanContext<'_>, keyed: &dyn KeyedStep, n_partitions: u32) -> Gather {
    let columns = keyed.partial_key_columns();
    let factory = match keyed.needs_whole_partitions() {
        true => keyed.merge(),
        false => ByKey::factory(context, keyed.merge(), vec![columns.clone()], columns.clone(), &keyed.output_schema()),
    };
    Gather {
        sides: vec![GatherSide { prepare: Some(keyed.combine()), partitioning: Partitioning::Hash { columns } }],
        n_partitions: if keyed.is_global() { 1 } else { n_partitions },
        runs_when_empty: keyed.is_global(),
        state: None,
        factory,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{cut, flat, one, run_one, schema, settings, sorted, text};
    use crate::step::testing::{DefinitionRun, TestBatch};

    proptest! {
        #[test]
        fn every_row_is_counted_once(cut in cut(), partitions in 1u32..5) {
            let mut run = DefinitionRun::plan(&Count::Rows, &[schema()], &settings(partitions), false).expect("it fits");
            let expected = flat(&cut).len().to_string();
            prop_assert_eq!(run_one(&mut run, &cut).concat(), [expected]);
        }

        #[test]
        fn equal_rows_are_counted_together(cut in cut(), partitions in 1u32..5) {
            // Without the numbers, which make every row another one.
            let schema = std::sync::Arc::new(schema().project(&[0, 1]).expect("two columns"));
            let mut run = DefinitionRun::plan(&Count::ByValue, &[schema], &settings(partitions), false).expect("it fits");
            let mut batch = one(&cut);
            for rows in batch.sides.iter_mut().flatten().flatten() {
                *rows = rows.project(&[0, 1]).expect("two columns");
            }
            let found = run.batch(&batch).expect("it runs").concat();
            let mut expected = BTreeMap::new();
            for row in flat(&cut) {
                let text = text(&row);
                let (values, _) = text.rsplit_once('|').expect("a number");
                *expected.entry(values.to_owned()).or_insert(0) += 1;
            }
            let expected: Vec<_> = expected.into_iter().map(|(values, n)| format!("{values}|{n}")).collect();
            prop_assert_eq!(sorted(crate::step::testing::texts(&found)), sorted(expected));
        }
    }

    #[test]
    fn a_batch_without_rows_counts_none_but_the_one_that_closes_a_job_is_no_batch() {
        let mut run = DefinitionRun::plan(&Count::Rows, &[schema()], &settings(3), false).expect("it fits");
        assert_eq!(run_one(&mut run, &vec![]).concat(), ["0"]);
        let closing = TestBatch { closes: true, ..one(&vec![]) };
        assert!(run.batch(&closing).expect("it runs").concat().is_empty());
        // Rows that something kept until then are counted.
        let closing = TestBatch { closes: true, ..one(&vec![vec![vec![(None, None)]]]) };
        assert_eq!(run.batch(&closing).expect("it runs").concat()[0].num_rows(), 1);
    }

    #[test]
    fn a_column_of_the_name_is_told() {
        let schema = arrow::datatypes::Schema::new(vec![schema().field(1).clone().with_name("count")]);
        let problems = DefinitionRun::plan(&Count::ByValue, &[schema.into()], &settings(1), false);
        let problems = problems.err().expect("two columns of one name");
        assert!(problems[0].key == "count-by-value" && problems[0].message.contains("`count`"), "{problems:?}");
    }
}
