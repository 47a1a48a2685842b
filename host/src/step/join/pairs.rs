//! What a join gives, row by row: bounded chunks, however many rows match one.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow::compute::kernels::zip::zip;
use arrow::error::ArrowError;

use super::columns::{Column, JoinColumns};
use super::side_rows::{Picked, RowRef, SideRows};
use crate::error::Error;
use crate::operator::StopFlag;
use crate::source::schema::UTC;
use crate::step::Emit;
use crate::step::keyed::{OUTPUT_ROWS_MAX, batch_of, internal};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// Bytes of a chunk, where a single row is not larger.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Pairs of rows on their way out: a left row, a right row, or both.
///
/// Only references are gathered; columns are made when a chunk is full. A key that many rows of both sides share costs as
/// much memory as any other.
pub(crate) struct Pairs {
    columns: Arc<JoinColumns>,
    rows: [Vec<RowRef>; 2],
    /// The start of the window of each, when rows say their window; in microseconds.
    windows: Option<Windows>,
    bytes: usize,
    task: TaskContext,
    stop: StopFlag,
}

struct Windows {
    starts_us: Vec<i64>,
    size_us: i64,
}

impl Pairs {
    /// Nothing yet. `window_us` is the size of windows, when rows say theirs.
    pub(crate) fn new(columns: Arc<JoinColumns>, window_us: Option<i64>, task: &TaskContext, stop: &StopFlag) -> Self {
        let windows = window_us.map(|size_us| Windows { starts_us: Vec::new(), size_us });
        Self { columns, rows: [Vec::new(), Vec::new()], windows, bytes: 0, task: task.clone(), stop: stop.clone() }
    }

    /// Adds a pair; `start_us` is the start of its window, if rows say theirs.
    ///
    /// # Errors
    ///
    /// Whatever stops the task.
    pub(crate) fn push(
        &mut self,
        sides: &[SideRows; 2],
        pair: [RowRef; 2],
        start_us: i64,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        for side in 0..2 {
            self.rows[side].push(pair[side]);
            self.bytes += sides[side].width(pair[side]);
        }
        if let Some(windows) = &mut self.windows {
            windows.starts_us.push(start_us);
        }
        if self.rows[0].len() >= OUTPUT_ROWS_MAX || self.bytes >= OUTPUT_BYTES_MAX {
            self.flush(sides, emit)?;
        }
        Ok(())
    }

    /// Adds a row of one side (0 is left) without a row of the other.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub(crate) fn push_alone(
        &mut self,
        sides: &[SideRows; 2],
        side: usize,
        row: RowRef,
        start_us: i64,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        let pair = if side == 0 { [row, RowRef::Nothing] } else { [RowRef::Nothing, row] };
        self.push(sides, pair, start_us, emit)
    }

    /// Gives what was gathered.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub(crate) fn flush(&mut self, sides: &[SideRows; 2], emit: &mut Emit<'_>) -> Result<(), Error> {
        // A product may be large: this is where it is given up.
        if self.task.is_cancelled() || self.stop.is_set() {
            return Err(Cancelled.into());
        }
        let n_rows = self.rows[0].len();
        if n_rows == 0 {
            return Ok(());
        }
        let columns = self.take_columns(sides).map_err(internal("gathering joined rows"))?;
        let rows = batch_of(self.columns.schema.clone(), columns, n_rows);
        emit(rows.map_err(internal("gathering joined rows"))?)
    }

    fn take_columns(&mut self, sides: &[SideRows; 2]) -> Result<Vec<ArrayRef>, ArrowError> {
        let needs_right =
            self.columns.columns.iter().any(|column| matches!(column, Column::Right(_) | Column::Either(..)));
        let left = sides[0].pick(&self.rows[0])?;
        let right = if needs_right { Some(sides[1].pick(&self.rows[1])?) } else { None };
        let of_right = |index: usize| match &right {
            Some(right) => right.column(index),
            None => unreachable!("the right side was picked because a column needs it"),
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.columns.len());
        for column in &self.columns.columns {
            columns.push(match *column {
                Column::Left(index) => left.column(index)?,
                Column::Right(index) => of_right(index)?,
                Column::Either(index, other) => self.either(&left, index, || of_right(other))?,
                Column::WindowStart => self.window_times(0),
                Column::WindowEnd => self.window_times(1),
            });
        }
        self.rows.iter_mut().for_each(Vec::clear);
        self.bytes = 0;
        if let Some(windows) = &mut self.windows {
            windows.starts_us.clear();
        }
        Ok(columns)
    }

    /// The left column, and the right one where there is no left row.
    fn either(
        &self,
        left: &Picked<'_>,
        index: usize,
        right: impl FnOnce() -> Result<ArrayRef, ArrowError>,
    ) -> Result<ArrayRef, ArrowError> {
        let column = left.column(index)?;
        if !self.rows[0].contains(&RowRef::Nothing) {
            return Ok(column);
        }
        let is_left: BooleanArray = self.rows[0].iter().map(|row| Some(*row != RowRef::Nothing)).collect();
        zip(&is_left, &column, &right()?)
    }

    fn window_times(&self, sizes: i64) -> ArrayRef {
        let windows = self.windows.as_ref();
        let times = windows.iter().flat_map(|windows| {
            windows.starts_us.iter().map(|start_us| start_us.saturating_add(sizes * windows.size_us))
        });
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(UTC))
    }
}
