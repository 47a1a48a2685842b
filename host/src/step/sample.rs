//! `sample = { fraction, seed }`: some rows, chosen by chance that is the same whenever a batch is run again.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use arrow::datatypes::Schema;

use crate::error::Error;
use crate::job::table::Table;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, internal};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The step: each row stays with this probability, whatever happens to the others (Bernoulli sampling).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Between 0 and 1.
    pub fraction: f64,
    /// Another seed chooses other rows.
    pub seed: u64,
}

impl Sample {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        if !table.is_table("sample") {
            let fraction = table.float("sample")?;
            return checked(table, "sample", fraction).map(|fraction| Self { fraction, seed: 0 });
        }
        let mut inner = table.table("sample")?;
        if !inner.has("fraction") {
            inner.missing("fraction", Some("Write `fraction = 0.1` for a tenth of the rows.".into()));
        }
        let fraction = inner.float("fraction").and_then(|fraction| checked(&mut inner, "fraction", fraction));
        let seed = inner.integer("seed", 0..=u64::MAX).unwrap_or(0);
        inner.finish();
        Some(Self { fraction: fraction?, seed })
    }
}

fn checked(table: &mut Table<'_>, key: &str, fraction: f64) -> Option<f64> {
    if (0.0..=1.0).contains(&fraction) {
        return Some(fraction);
    }
    table.problem(key, format!("`{key}` must be between 0 and 1"), Some("A tenth of the rows is 0.1.".into()));
    None
}

impl StepDefinition for Sample {
    fn kind(&self) -> &'static str {
        "sample"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        if !(0.0..=1.0).contains(&self.fraction) {
            let (key, message) = ("sample.fraction".into(), "`fraction` must be between 0 and 1".into());
            return Err(vec![SpecProblem { key, message, hint: Some("A tenth of the rows is 0.1.".into()) }]);
        }
        // Steps choose each for itself: a half of a half is a quarter.
        let sampler = Sampler { fraction: self.fraction, seed: xxh3_64_with_seed(context.step.as_bytes(), self.seed) };
        Ok(Built::narrow(context.input().clone(), Arc::new(sampler)))
    }
}

struct Sampler {
    fraction: f64,
    /// Of the step.
    seed: u64,
}

impl StepFactory for Sampler {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let place = [task.batch_id.0.to_le_bytes(), u64::from(task.partition.0).to_le_bytes()];
        let seed = xxh3_64_with_seed(&place.concat(), self.seed);
        Ok(Box::new(Sampling { fraction: self.fraction, seed, next_row: 0 }))
    }
}

struct Sampling {
    fraction: f64,
    seed: u64,
    /// The number of the next row within the partition.
    next_row: u64,
}

impl PipelineStep for Sampling {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        // Hashes are evenly spread over 64 bits; compared as numbers below 1 with 53 of them.
        let stays = |row: u64| (xxh3_64_with_seed(&row.to_le_bytes(), self.seed) >> 11) as f64 / (1_u64 << 53) as f64;
        let first = self.next_row;
        self.next_row += rows.num_rows() as u64;
        let kept: BooleanArray = (first..self.next_row).map(|row| Some(stays(row) < self.fraction)).collect();
        let kept = filter_record_batch(&rows, &kept).map_err(internal("choosing rows of a sample"))?;
        if kept.num_rows() > 0 { emit(kept) } else { Ok(()) }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{batch, cut, flat, map_tasks, one, schema, settings, text};
    use crate::step::testing::{DefinitionRun, run_half, texts};

    proptest! {
        #[test]
        fn a_row_stays_or_goes_however_rows_are_cut(cut in cut(), fraction in 0.0_f64..=1.0, seed in any::<u64>()) {
            let mut run = DefinitionRun::plan(&Sample { fraction, seed }, &[schema()], &settings(1), false).expect("it fits");
            let attempt = run.failed_batch(&one(&cut)).expect("it runs").concat();
            let whole = cut.iter().map(|pushes| vec![pushes.concat()]).collect();
            let again = run.batch(&one(&whole)).expect("it runs").concat();
            prop_assert_eq!(texts(&attempt), texts(&again));
            let all: Vec<_> = flat(&cut).iter().map(text).collect();
            prop_assert!(texts(&again).iter().all(|row| all.contains(row)));
            match fraction {
                0.0 => prop_assert!(again.is_empty()),
                1.0 => prop_assert_eq!(texts(&again), all),
                _ => {}
            }
        }
    }

    #[test]
    fn a_fraction_is_a_part() {
        for fraction in [-0.1, 1.1, f64::NAN] {
            let problems = DefinitionRun::plan(&Sample { fraction, seed: 0 }, &[schema()], &settings(1), false);
            assert_eq!(problems.err().expect("no part of the rows")[0].message, "`fraction` must be between 0 and 1");
        }
    }

    fn sampler(step: &str, fraction: f64) -> Sampler {
        Sampler { fraction, seed: xxh3_64_with_seed(step.as_bytes(), 0) }
    }

    #[test]
    fn about_the_fraction_stays_and_a_half_of_a_half_is_a_quarter() {
        let rows = batch(&vec![(None, None); 40_000], 0);
        let half = run_half(&sampler("one", 0.5), 0, &[rows]).expect("it runs");
        let quarter = run_half(&sampler("two", 0.5), 0, &half).expect("it runs");
        let n_rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert!(n_rows(&half).abs_diff(20_000) < 500, "{}", n_rows(&half));
        assert!(n_rows(&quarter).abs_diff(10_000) < 500, "{}", n_rows(&quarter));
        // Also where every partition has one row, the first.
        let both = (0..4_000).filter(|&partition| {
            let rows = map_tasks(&vec![vec![vec![(None, None)]]]).concat();
            let half = run_half(&sampler("one", 0.5), partition, &rows).expect("it runs");
            n_rows(&run_half(&sampler("two", 0.5), partition, &half).expect("it runs")) == 1
        });
        assert!(both.count().abs_diff(1_000) < 200);
    }
}
