//! A table at work: its rows as they are now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Refresh, TableSource};
use crate::error::Error;
use crate::source::{
    Columns, FileFormat, FileSource, Fingerprint, SourceDefinition, TableRead, fingerprint, read_table_within,
};

/// The rows of a table at one moment.
#[derive(Debug, Default)]
pub struct TableVersion {
    /// 0: it has not been read; then it grows with every change.
    pub number: u64,
    /// The rows, file by file.
    pub rows: Vec<RecordBatch>,
}

/// A table of a job.
#[derive(Debug)]
pub struct LiveTable {
    name: String,
    source: TableSource,
    schema: SchemaRef,
    /// A mutex: it is taken once a batch, and once for each task that joins.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Arc<TableVersion>,
    /// The files that `current` was read from.
    files: Option<Fingerprint>,
    /// When it was looked at last.
    looked_us: Option<i64>,
    /// What was said about files that cannot be read: it is said once.
    failure: Option<(Option<Fingerprint>, String)>,
}

impl LiveTable {
    /// A table that has not been read; finds its columns.
    ///
    /// # Errors
    ///
    /// When it does not say its columns, and no file can tell them.
    pub fn new(name: impl Into<String>, source: TableSource) -> Result<Self, Error> {
        let schema = source.files.schema()?;
        let TableSource { files, refresh, memory_bytes } = source;
        // Columns that were found are those of the table from now on.
        let format = match files.format {
            FileFormat::Text => FileFormat::Text,
            FileFormat::Json(_) => FileFormat::Json(Columns::Declared(schema.clone())),
            FileFormat::Csv(_, options) => FileFormat::Csv(Columns::Declared(schema.clone()), options),
            FileFormat::Parquet(_) => FileFormat::Parquet(Columns::Declared(schema.clone())),
            FileFormat::Arrow(_) => FileFormat::Arrow(Columns::Declared(schema.clone())),
        };
        let files = FileSource { format, ..files };
        Ok(Self {
            name: name.into(),
            source: TableSource { files, refresh, memory_bytes },
            schema,
            state: Mutex::default(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Its rows now. They stay as they are until [`refresh`](Self::refresh), which runs between batches.
    #[must_use]
    pub fn current(&self) -> Arc<TableVersion> {
        self.lock().current.clone()
    }

    /// Reads it when the job starts.
    ///
    /// # Errors
    ///
    /// When its file or directory is missing, a file cannot be read, or its rows are more than it may hold.
    pub fn open(&self) -> Result<(), Error> {
        let read = read_table_within(&self.source.files, self.source.memory_bytes)?;
        self.swap(&mut self.lock(), read);
        Ok(())
    }

    /// Before a batch: reads the table again if its files have changed. Files that cannot be read change nothing, and are
    /// told of once.
    pub fn refresh(&self, batch_time_us: i64) {
        let mut state = self.lock();
        let is_due = match self.source.refresh {
            Refresh::Batch => true,
            Refresh::Never => false,
            Refresh::Every(interval) => state.looked_us.is_none_or(|looked_us| {
                i128::from(batch_time_us) - i128::from(looked_us) >= interval.as_micros().cast_signed()
            }),
        };
        if !is_due {
            return;
        }
        state.looked_us = Some(batch_time_us);
        let files = match fingerprint(&self.source.files) {
            Ok(files) => files,
            Err(error) => return self.tell(&mut state, None, &error),
        };
        if state.files.as_ref() == Some(&files) {
            state.failure = None;
            return;
        }
        if state.failure.as_ref().is_some_and(|(failed, _)| failed.as_ref() == Some(&files)) {
            return;
        }
        let read = read_table_within(&self.source.files, self.source.memory_bytes);
        // Written to in the meantime: what was read may be half of it, and what is wrong with it may be right soon.
        if fingerprint(&self.source.files).ok().as_ref() != Some(&files) {
            return;
        }
        match read {
            Ok(read) => self.swap(&mut state, read),
            Err(error) => self.tell(&mut state, Some(files), &error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap(&self, state: &mut State, read: TableRead) {
        let number = state.current.number + 1;
        let n_rows: usize = read.batches.iter().map(RecordBatch::num_rows).sum();
        tracing::info!(
            table = self.name,
            version = number,
            files = read.fingerprint.n_files(),
            rows = n_rows,
            "table read"
        );
        if read.fingerprint.n_files() == 0 {
            tracing::warn!(table = self.name, version = number, "the table has no files, and so no rows");
        }
        state.current = Arc::new(TableVersion { number, rows: read.batches });
        state.files = Some(read.fingerprint);
        state.failure = None;
    }

    fn tell(&self, state: &mut State, files: Option<Fingerprint>, error: &Error) {
        let message = error.in_one_line();
        if state.failure.as_ref().is_none_or(|(_, told)| *told != message) {
            tracing::error!(
                table = self.name,
                version = state.current.number,
                error = message,
                "the table has changed and cannot be read: its rows stay as they were"
            );
        }
        state.failure = Some((files, message));
    }
}
