//! `sort = ["price desc"]`: the rows of a batch in an order, over all partitions.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::error::Error;
use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, emit_in_chunks, internal};
use crate::step::order::Order;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The step: every batch sorted, in one partition. Rows that are equal stand as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// Terms as in `price desc`.
    pub order: Vec<String>,
}

impl Sort {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        let order = table.texts("sort")?;
        if order.is_empty() {
            table.problem("sort", "`sort` is empty", Some("Write `sort = [\"price desc\"]`.".into()));
            return None;
        }
        Some(Self { order })
    }
}

impl StepDefinition for Sort {
    fn kind(&self) -> &'static str {
        "sort"
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let mut problems = Vec::new();
        let order = Order::resolve(&input, &self.order, "sort", &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let factory = Arc::new(Sorter { step: context.step.to_owned(), schema: input.clone(), order });
        let side = GatherSide { prepare: None, partitioning: Partitioning::Hash { columns: Vec::new() } };
        let gather = Gather { sides: vec![side], n_partitions: 1, runs_when_empty: false, state: None, factory };
        Ok(Built::gather(input, gather))
    }
}

#[derive(Clone)]
struct Sorter {
    step: String,
    schema: SchemaRef,
    order: Order,
}

impl Sorter {
    fn sorted(&self, pending: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let rows = concat_batches(&self.schema, pending)?;
        let converter = self.order.converter()?;
        let encoded = self.order.encode(&converter, &rows)?;
        let mut indices: Vec<u32> = (0..rows.num_rows() as u32).collect();
        indices.sort_by(|&a, &b| encoded.row(a as usize).cmp(&encoded.row(b as usize)));
        take_record_batch(&rows, &UInt32Array::from(indices))
    }
}

impl StepFactory for Sorter {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Sorting { sorter: self.clone(), pending: Vec::new() }))
    }
}

struct Sorting {
    sorter: Sorter,
    pending: Vec<RecordBatch>,
}

impl PipelineStep for Sorting {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.pending.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        let doing = format!("sorting the rows of step `{}`", self.sorter.step);
        emit_in_chunks(&self.sorter.sorted(&pending).map_err(internal(doing))?, emit)
    }
}
