//! `sample = { fraction, seed }`: some rows, chosen by chance that is the same whenever a batch is run again.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Error;
use crate::job::table::Table;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, internal};
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

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        Ok(Built::narrow(context.input().clone(), Arc::new(*self)))
    }
}

impl StepFactory for Sample {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let place = [self.seed.to_le_bytes(), task.batch_id.0.to_le_bytes(), u64::from(task.partition.0).to_le_bytes()];
        let seed = xxh3_64_with_seed(&place.concat(), 0);
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
