//! The half behind the shuffle: rows into groups, groups into calls.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::Grouping;
use crate::error::Error;
use crate::operator::{CallError, CallSite, Grouped, Grouper};
use crate::shuffle::key_encoding::plain;
use crate::shuffle::sort_by_group;
use crate::step::caller::Caller;
use crate::step::chunks::{RowBytes, concat_pushes};
use crate::step::dead_letters::{Letters, Tried, by_pieces};
use crate::step::key_table::KeyTable;
use crate::step::keyed::{batch_of, emit_in_chunks, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

pub(super) struct GroupFactory(pub(super) Arc<Grouping>);

impl StepFactory for GroupFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let caller = Caller::new(&self.0.callee, task);
        let rows = self.0.sides.iter().map(|_| Vec::new()).collect();
        let letters = self.0.letter_box.as_ref().map(|letter_box| letter_box.open(task));
        Ok(Box::new(Running { grouping: self.0.clone(), task: task.clone(), caller, letters, rows }))
    }
}

struct Running {
    grouping: Arc<Grouping>,
    task: TaskContext,
    caller: Caller<dyn Grouper>,
    /// Where bad groups are set aside, if they are.
    letters: Option<Letters>,
    /// The rows of each side: a group is whole only when all have come.
    rows: Vec<Vec<RecordBatch>>,
}

/// The rows of one side, sorted by group: what the operator reads of them.
struct Sorted {
    values: RecordBatch,
    ends: Vec<u32>,
    bytes: RowBytes,
    /// Where groups may be set aside: the rows as they came, and their numbers in the order of the groups.
    whole: Option<(RecordBatch, Vec<u32>)>,
}

impl Sorted {
    fn start_of(&self, group: usize) -> u32 {
        if group == 0 { 0 } else { self.ends[group - 1] }
    }

    fn n_rows(&self, groups: &Range<usize>) -> usize {
        if groups.is_empty() { 0 } else { (self.ends[groups.end - 1] - self.start_of(groups.start)) as usize }
    }

    /// The rows as they came, and the numbers of those of some groups.
    fn numbers(&self, groups: &Range<usize>) -> Option<(&RecordBatch, &[u32])> {
        let (rows, order) = self.whole.as_ref()?;
        let start = self.start_of(groups.start) as usize;
        Some((rows, &order[start..start + self.n_rows(groups)]))
    }

    fn n_bytes(&self, groups: &Range<usize>) -> u64 {
        self.bytes.of_rows(self.start_of(groups.start) as usize, self.n_rows(groups))
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.push_side(0, rows, emit)
    }

    fn push_side(&mut self, side: usize, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.rows[side].push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let grouping = self.grouping.clone();
        let doing = || internal(format!("grouping the rows of step `{}`", grouping.callee.step));
        let types: Vec<DataType> = grouping.key_schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let mut table = KeyTable::new(&types);
        let mut grouped: Vec<(RecordBatch, Vec<u32>)> = Vec::new();
        for (side, pending) in grouping.sides.iter().zip(std::mem::take(&mut self.rows)) {
            let Some(rows) = concat_pushes(&pending).map_err(doing())? else {
                grouped.push((RecordBatch::new_empty(Arc::new(Schema::empty())), Vec::new()));
                continue;
            };
            let mut groups = Vec::new();
            table.group_rows(&side.keys.of(&rows), rows.num_rows(), &mut groups).map_err(doing())?;
            grouped.push((rows, groups));
        }
        let n_groups = table.len();
        if n_groups == 0 {
            return Ok(());
        }
        let keys = batch_of(grouping.key_schema.clone(), table.keys().map_err(doing())?, n_groups).map_err(doing())?;
        let mut sides = Vec::new();
        for (index, (rows, groups)) in grouped.into_iter().enumerate() {
            sides.push(self.sorted(index, &rows, &groups, n_groups).map_err(doing())?);
        }
        if let Some(letters) = &mut self.letters {
            letters.saw(sides.iter().map(|side| side.values.num_rows()).sum());
        }
        let mut start = 0;
        while start < n_groups {
            let end = self.end_of_call(&sides, start, n_groups)?;
            self.call(&keys, &sides, start..end, emit)?;
            start = end;
        }
        self.caller.finish();
        self.letters.iter().for_each(Letters::finish);
        Ok(())
    }

    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.letters.as_mut().map_or(Ok(None), Letters::take)
    }
}

impl Running {
    fn sorted(
        &self,
        side: usize,
        rows: &RecordBatch,
        groups: &[u32],
        n_groups: usize,
    ) -> Result<Sorted, arrow::error::ArrowError> {
        let (order, ends) = sort_by_group(groups, n_groups);
        let columns = &self.grouping.sides[side];
        let fields = self.grouping.read_schemas[side].clone();
        if groups.is_empty() {
            let values = RecordBatch::new_empty(fields);
            return Ok(Sorted { bytes: RowBytes::of(&values), values, ends, whole: None });
        }
        let whole = self.letters.as_ref().map(|_| (rows.clone(), order.clone()));
        let order = UInt32Array::from(order);
        let values = columns
            .values
            .iter()
            .map(|&index| take(&plain(rows.column(index))?, &order, None))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let values = batch_of(fields, values, rows.num_rows())?;
        Ok(Sorted { bytes: RowBytes::of(&values), values, ends, whole })
    }

    /// Where a call that starts with group `start` ends: as many groups as fit.
    fn end_of_call(&self, sides: &[Sorted], start: usize, n_groups: usize) -> Result<usize, Error> {
        let bounds = &self.grouping.bounds;
        if bounds.whole_partition {
            return Ok(n_groups);
        }
        let fits = |groups: Range<usize>| {
            let n_rows: usize = sides.iter().map(|side| side.n_rows(&groups)).sum();
            let n_bytes: u64 = sides.iter().map(|side| side.n_bytes(&groups)).sum();
            n_rows <= bounds.rows as usize && n_bytes <= bounds.bytes && groups.len() <= bounds.rows as usize
        };
        if !fits(start..start + 1) {
            let one = start..start + 1;
            return Err(CallError::GroupTooLarge {
                site: Box::new(CallSite {
                    operator: self.grouping.operator.clone(),
                    step: self.grouping.callee.step.clone(),
                    batch_id: self.task.batch_id,
                    partition: self.task.partition,
                    n_rows: sides.iter().map(|side| side.n_rows(&one)).sum(),
                }),
                n_rows: sides.iter().map(|side| side.n_rows(&one) as u64).sum(),
                n_bytes: sides.iter().map(|side| side.n_bytes(&one)).sum(),
                rows_max: bounds.rows.into(),
                bytes_max: bounds.bytes,
            }
            .into());
        }
        // The largest end that fits, by halving: rows and bytes only grow with it.
        let (mut fitting, mut too_many) = (start + 1, n_groups + 1);
        while too_many - fitting > 1 {
            let middle = fitting + (too_many - fitting) / 2;
            if fits(start..middle) { fitting = middle } else { too_many = middle }
        }
        Ok(fitting)
    }

    /// One call, or several of half the groups each when an output is too large, and to find groups that are bad.
    fn call(
        &mut self,
        keys: &RecordBatch,
        sides: &[Sorted],
        groups: Range<usize>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        by_pieces(groups.len(), |piece, is_again| {
            let part = groups.start + piece.start..groups.start + piece.end;
            let Some(error) = self.try_call(keys, sides, &part, emit)? else { return Ok(Tried::Done) };
            // A partition that is to be one call is not cut.
            if error.is_output_too_large() && part.len() > 1 && !self.grouping.bounds.whole_partition {
                return Ok(Tried::Cut(part.len() / 2));
            }
            let Some(letters) = &mut self.letters else { return Err(error.into()) };
            let error = letters.blames_rows(error.into())?;
            if part.len() > 1 {
                return Ok(Tried::Cut(part.len() / 2));
            }
            // Groups before it may have broken the instance: the next one is new.
            if !is_again {
                return Ok(Tried::Again);
            }
            for (rows, numbers) in sides.iter().filter_map(|side| side.numbers(&part)) {
                letters.add_group(rows, numbers, &error)?;
            }
            Ok(Tried::Done)
        })
    }

    /// One call; gives its error when it failed.
    fn try_call(
        &mut self,
        keys: &RecordBatch,
        sides: &[Sorted],
        groups: &Range<usize>,
        emit: &mut Emit<'_>,
    ) -> Result<Option<CallError>, Error> {
        let call_keys = keys.slice(groups.start, groups.len());
        let cut: Vec<(RecordBatch, Vec<u32>)> = sides
            .iter()
            .map(|side| {
                let start = side.start_of(groups.start);
                let ends = side.ends[groups.clone()].iter().map(|end| end - start).collect();
                (side.values.slice(start as usize, side.n_rows(groups)), ends)
            })
            .collect();
        // Keys count as rows, as they do for updaters.
        let n_rows = call_keys.num_rows() + cut.iter().map(|(rows, _)| rows.num_rows()).sum::<usize>();
        let inputs: Vec<Grouped<'_>> = cut.iter().map(|(rows, ends)| Grouped { rows, ends }).collect();
        let output = match self.caller.call(n_rows, |grouper, call| grouper.process(call, &call_keys, &inputs))? {
            Ok(output) => output,
            Err(error) => return Ok(Some(error)),
        };
        for (side, rejected) in sides.iter().zip(&output.rejected) {
            match (&mut self.letters, side.numbers(groups)) {
                (Some(letters), Some((rows, numbers))) => letters.add_rejections(rows, numbers, rejected)?,
                _ => self.caller.rejected(rejected),
            }
        }
        let rows = with_keys(&call_keys, &output.group, &output.rows, &self.grouping.output)
            .map_err(internal(format!("putting the output of step `{}` together", self.grouping.callee.step)))?;
        emit_in_chunks(&rows, emit)?;
        Ok(None)
    }
}

/// Written columns with the keys of the groups they came from before them.
pub(crate) fn with_keys(
    keys: &RecordBatch,
    group: &[u32],
    written: &RecordBatch,
    output: &SchemaRef,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let group = UInt32Array::from(group.to_vec());
    let keys = keys.columns().iter().map(|column| take(column, &group, None));
    let mut columns = keys.collect::<Result<Vec<_>, _>>()?;
    columns.extend_from_slice(written.columns());
    batch_of(output.clone(), columns, written.num_rows())
}
