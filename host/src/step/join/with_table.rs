//! The join of a stream with a table: every task looks its rows up in the same index of the table.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;

use super::JoinType;
use super::columns::JoinColumns;
use super::in_batch::join_left;
use super::pairs::Pairs;
use super::right_index::RightIndex;
use super::side_rows::{SideRows, row_widths};
use crate::error::Error;
use crate::operator::StopFlag;
use crate::source::table::{LiveTable, TableVersion};
use crate::step::keyed::internal;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Joins with a table.
pub(crate) struct WithTable {
    pub(crate) columns: Arc<JoinColumns>,
    pub(crate) join_type: JoinType,
    pub(crate) table: Arc<LiveTable>,
    pub(crate) stop: StopFlag,
    /// The table's rows by key, of the version that was joined with last. A mutex: it is taken once a task, and held while
    /// the first task that sees a new version makes the index that all others wait for.
    pub(crate) index: Mutex<Option<Arc<Indexed>>>,
}

/// A version of a table, by key.
pub(crate) struct Indexed {
    version: u64,
    /// With the bytes of each row.
    rows: Vec<(RecordBatch, Arc<[u32]>)>,
    index: RightIndex,
}

impl WithTable {
    fn indexed(&self, version: &TableVersion) -> Result<Arc<Indexed>, Error> {
        let mut current = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(indexed) = current.as_ref().filter(|indexed| indexed.version == version.number) {
            return Ok(indexed.clone());
        }
        // The old one goes first: two indices are not held for longer than tasks of the batch before run.
        *current = None;
        let plain = |rows: &RecordBatch| self.columns.plain_rows(1, rows.clone());
        let rows = version.rows.iter().map(plain).collect::<Result<Vec<_>, _>>();
        let rows = rows.map_err(internal("reading a table's rows"))?;
        let index = RightIndex::new(&self.columns, &rows).map_err(internal("indexing a table"))?;
        tracing::debug!(
            table = self.table.name(),
            version = version.number,
            index_bytes = index.bytes(),
            "table indexed"
        );
        let rows = rows.into_iter().map(|rows| {
            let widths = row_widths(&rows);
            (rows, widths)
        });
        let rows = rows.collect();
        let indexed = Arc::new(Indexed { version: version.number, rows, index });
        *current = Some(indexed.clone());
        Ok(indexed)
    }
}

impl StepFactory for Arc<WithTable> {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let indexed = self.indexed(&self.table.current())?;
        let mut right = SideRows::new(self.columns.sides[1].clone(), None);
        indexed.rows.iter().for_each(|(rows, widths)| right.push_measured(rows.clone(), widths.clone()));
        Ok(Box::new(Joining {
            join: self.clone(),
            indexed,
            sides: [SideRows::new(self.columns.sides[0].clone(), None), right],
            pairs: Pairs::new(self.columns.clone(), None, task, &self.stop),
        }))
    }
}

struct Joining {
    join: Arc<WithTable>,
    indexed: Arc<Indexed>,
    sides: [SideRows; 2],
    pairs: Pairs,
}

impl PipelineStep for Joining {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let rows = self.join.columns.plain_rows(0, rows).map_err(internal("reading joined rows"))?;
        self.sides[0].push(rows);
        let Joining { join, indexed, sides, pairs } = self;
        join_left(&join.columns, join.join_type, &indexed.index, sides, &mut [], pairs, emit)?;
        pairs.flush(sides, emit)?;
        sides[0].clear();
        Ok(())
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}
