//! `top-k = { by, k, order }`: the first k rows of each key, in an order.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::error::Error;
use crate::job::table::Table;
use crate::shuffle::Partitioning;
use crate::step::by_key::ByKey;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, SpecProblem, emit_in_chunks, internal};
use crate::step::order::Order;
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Rows that wait until those that cannot be among the first are thrown away; as many again as have stayed are waited for.
const PENDING_ROWS_MIN: usize = 65_536;

/// The step: of the rows of a batch with equal `by`, the first `k` in `order`. Rows that are equal in it stand as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopK {
    /// The key columns; none: all rows are one group.
    pub by: Vec<String>,
    /// How many rows of each key stay.
    pub k: usize,
    /// Terms as in `price desc`.
    pub order: Vec<String>,
    /// Partitions after the shuffle; the job's when not said.
    pub partitions: Option<u32>,
}

impl TopK {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        let mut inner = table.table("top-k")?;
        let by = inner.texts("by").unwrap_or_default();
        if !inner.has("k") {
            inner.missing("k", Some("Say how many rows of each key stay.".into()));
        }
        let k = inner.integer("k", 1..=u64::from(u32::MAX));
        if !inner.has("order") {
            inner.missing("order", Some("Write `order = [\"price desc\"]`.".into()));
        }
        let order = inner.texts("order");
        let partitions = crate::job::steps::read_partitions(&mut inner);
        inner.finish();
        Some(Self { by, k: usize::try_from(k?).ok()?, order: order?, partitions })
    }
}

impl StepDefinition for TopK {
    fn kind(&self) -> &'static str {
        "top-k"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(&input, &self.by, &mut problems);
        problems.iter_mut().for_each(|problem| problem.key = format!("top-k.{}", problem.key));
        let order = Order::resolve(&input, &self.order, "top-k.order", &mut problems);
        if order.is_empty() && problems.is_empty() {
            let hint = Some("Write `order = [\"price desc\"]`.".into());
            problems.push(SpecProblem { key: "top-k.order".into(), message: "`order` is empty".into(), hint });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let columns = keys.indices.clone();
        let n_partitions = if columns.is_empty() { 1 } else { self.partitions.unwrap_or(context.settings.partitions) };
        let factory: Arc<dyn StepFactory> =
            Arc::new(Shared { step: context.step.to_owned(), schema: input.clone(), keys, order, k: self.k });
        let side = GatherSide {
            prepare: Some(factory.clone()),
            partitioning: Partitioning::Hash { columns: columns.clone() },
        };
        let factory = ByKey::factory(context, factory, vec![columns.clone()], columns, &input);
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: false, state: None, factory };
        Ok(Built::gather(input, gather))
    }
}

/// Both halves: the first of the firsts are the firsts.
#[derive(Clone)]
struct Shared {
    step: String,
    schema: SchemaRef,
    keys: KeyColumns,
    order: Order,
    k: usize,
}

impl StepFactory for Shared {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Running { shared: self.clone(), pending: Vec::new(), n_pending: 0, n_max: PENDING_ROWS_MIN }))
    }
}

struct Running {
    shared: Shared,
    pending: Vec<RecordBatch>,
    n_pending: usize,
    n_max: usize,
}

impl Running {
    /// Keeps of what waits the rows that are among the first.
    fn compact(&mut self) -> Result<(), Error> {
        let rows = self.firsts().map_err(internal(format!("ordering the rows of step `{}`", self.shared.step)))?;
        self.n_pending = rows.num_rows();
        self.n_max = (2 * self.n_pending).max(PENDING_ROWS_MIN);
        self.pending = vec![rows];
        Ok(())
    }

    fn firsts(&mut self) -> Result<RecordBatch, ArrowError> {
        let Shared { schema, keys, order, k, .. } = &self.shared;
        let rows = concat_batches(schema, &self.pending)?;
        let types: Vec<DataType> = keys.fields.iter().map(|field| field.data_type().clone()).collect();
        let mut groups = Vec::new();
        KeyTable::new(&types).group_rows(&keys.of(&rows), rows.num_rows(), &mut groups)?;
        let converter = order.converter()?;
        let encoded = order.encode(&converter, &rows)?;
        let mut indices: Vec<u32> = (0..rows.num_rows() as u32).collect();
        // Stable: rows that are equal stay as they came.
        indices.sort_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            groups[a].cmp(&groups[b]).then_with(|| encoded.row(a).cmp(&encoded.row(b)))
        });
        let (mut group, mut n_of_group) = (u32::MAX, 0);
        indices.retain(|&row| {
            if groups[row as usize] != group {
                (group, n_of_group) = (groups[row as usize], 0);
            }
            n_of_group += 1;
            n_of_group <= *k
        });
        take_record_batch(&rows, &UInt32Array::from(indices))
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.n_pending += rows.num_rows();
        self.pending.push(rows);
        if self.n_pending > self.n_max { self.compact() } else { Ok(()) }
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.compact()?;
        self.pending.iter().try_for_each(|rows| emit_in_chunks(rows, emit))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{batch, cut, flat, run_one, schema, settings, text};
    use crate::step::testing::{DefinitionRun, run_half, texts};

    proptest! {
        #[test]
        fn the_first_rows_of_each_key_come_in_order(cut in cut(), k in 1usize..6, partitions in 1u32..5, global in any::<bool>()) {
            let by = if global { vec![] } else { vec!["key".into()] };
            let step = TopK { by, k, order: vec!["value desc".into()], partitions: Some(partitions) };
            let mut run = DefinitionRun::plan(&step, &[schema()], &settings(1), false).expect("it fits");
            let found = run_one(&mut run, &cut).concat();
            let mut expected: BTreeMap<Option<String>, Vec<_>> = BTreeMap::new();
            for row in flat(&cut) {
                let key = (!global).then(|| text(&row).split('|').next().unwrap_or_default().to_owned());
                expected.entry(key).or_default().push(row);
            }
            let mut n_rows = 0;
            for (key, mut rows) in expected {
                // Stable, the largest value first, nulls behind.
                rows.sort_by_key(|row| Reverse(row.0.1));
                rows.truncate(k);
                n_rows += rows.len();
                let of_key = found.iter().filter(|row| key.as_ref().is_none_or(|key| row.starts_with(&format!("{key}|"))));
                prop_assert_eq!(of_key.cloned().collect::<Vec<_>>(), rows.iter().map(text).collect::<Vec<_>>());
            }
            prop_assert_eq!(found.len(), n_rows);
        }
    }

    #[test]
    fn what_cannot_be_among_the_first_is_thrown_away_on_the_way() {
        let keys = KeyColumns::resolve(&schema(), &["key".into()], &mut Vec::new());
        let order = Order::resolve(&schema(), &["value".into()], "order", &mut Vec::new());
        let shared = Shared { step: "s".into(), schema: schema(), keys, order, k: 2 };
        let push = |part: usize| {
            let rows: Vec<_> =
                (0..PENDING_ROWS_MIN / 2 + 1).map(|row| (Some((row % 3) as u8), Some(-(part as i64)))).collect();
            batch(&rows, part * rows.len())
        };
        let pushes: Vec<_> = (0..7).map(push).collect();
        let found = texts(&run_half(&shared, 0, &pushes).expect("it runs"));
        let first = 6 * (PENDING_ROWS_MIN / 2 + 1);
        let expected = [(0, 0), (0, 3), (1, 1), (1, 4), (2, 2), (2, 5)];
        assert_eq!(found, expected.map(|(key, row)| format!("k{key}|-6|{}", first + row)));
    }
}
