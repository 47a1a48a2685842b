//! Checkpoints: what a job needs to go on after its process has ended, however it ended.
//!
//! ```text
//!  generator   what batch 12 reads ── Checkpoint::begin ──▶ offsets/12          before it runs
//!  runner      sinks publish 12; what it has changed ── Committer::commit ─┐
//!  committer, a thread of its own                 state/12-12, commits/12 ◀┘   while batch 13 runs
//!  merger, another                                state/5-12: fewer, larger files
//! ```
//!
//! Batch 13 is published when batch 12 is committed, and not before. So at any instant at most one batch is in the sinks and not
//! committed: a restart runs it again, over the same rows, and a sink shows it once.
//!
//! | | |
//! | --- | --- |
//! | `storage` | files that are there whole or not at all |
//! | `record` | what each file begins with: kind, version, checksum |
//! | `log` | what is in them |
//! | `run` | state: runs of changes, how they are merged, and when |
//! | `recovery` | where a job goes on; pure |
//! | `shape` | what a changed job may change |
//! | `open` | reads all of it when a job starts |
//! | `committer` | writes it while the job runs |
//! | `inspect` | looks into it for people |
//! | `old_batch` | finds what an old batch read, and the state before it |

mod committer;
mod error;
mod inspect;
mod log;
mod old_batch;
mod open;
pub(crate) mod record;
mod recovery;
mod run;
mod shape;
mod storage;

use std::path::Path;
use std::sync::Arc;

use crate::fail_point;

pub use error::CheckpointError;
pub use inspect::{BatchInspection, Inspection, StepInspection, Verification, inspect, verify};
pub use record::Damage;
pub use recovery::Gap;

pub(crate) use committer::persist;
pub(crate) use committer::{Committer, Done};
pub(crate) use error::may_pass;
pub(crate) use log::{Clocks, Offsets, Range, Run, SourceOffsets};
pub(crate) use old_batch::{Kept, commit_of, old_batch};
pub(crate) use open::{Progress, Resumed, open, progress_changes};
pub(crate) use run::{CHANGES_MAX, RunWriter, TableId};
pub(crate) use shape::{JobShape, StepShape};

use record::Kind;
pub(crate) use storage::{Directory, LOCK_NAME, Lock, Storage};

/// The table that holds how far a source has been read.
pub(crate) fn source_table(source: &str) -> TableId {
    // No step has such a name.
    TableId { step: format!("source:{source}"), partition: 0, table: 0 }
}

/// The files of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    storage: Arc<dyn Storage>,
}

impl Checkpoint {
    /// The checkpoint in a directory, which is made if it is not there.
    pub(crate) fn in_directory(path: &Path) -> Result<Self, CheckpointError> {
        let opened = Directory::open(path);
        let storage = opened.map_err(|source| CheckpointError::Storage {
            place: path.display().to_string(),
            name: ".".into(),
            doing: "opened",
            source,
        })?;
        match storage {
            Ok(storage) => Ok(Self { storage: Arc::new(storage) }),
            Err(example) => Err(CheckpointError::Foreign { place: path.display().to_string(), example }),
        }
    }

    /// What to call it in messages.
    pub(crate) fn place(&self) -> String {
        self.storage.describe()
    }

    /// Says what a batch reads, before it runs. When it returns, a restart reads the same.
    pub(crate) fn begin(&self, offsets: &Offsets) -> Result<(), CheckpointError> {
        self.put_json(Kind::Offsets, &log::offsets_name(offsets.batch_id), offsets)?;
        fail_point::pass("offsets-written");
        Ok(())
    }

    /// What a batch reads; `None`: nothing says it.
    pub(crate) fn offsets(&self, batch_id: u64) -> Result<Option<Offsets>, CheckpointError> {
        self.get_json(Kind::Offsets, &log::offsets_name(batch_id))
    }

    fn failed(&self, name: &str, doing: &'static str) -> impl FnOnce(std::io::Error) -> CheckpointError {
        let (place, name) = (self.place(), name.to_owned());
        move |source| CheckpointError::Storage { place, name, doing, source }
    }

    fn damaged(&self, name: &str) -> impl FnOnce(Damage) -> CheckpointError {
        let (place, name) = (self.place(), name.to_owned());
        move |source| CheckpointError::Damaged { place, name, source }
    }

    fn put(&self, kind: Kind, name: &str, payload: &[u8]) -> Result<(), CheckpointError> {
        self.storage.put(name, &record::encode(kind, name, payload)).map_err(self.failed(name, "written"))
    }

    fn put_json(&self, kind: Kind, name: &str, value: &impl serde::Serialize) -> Result<(), CheckpointError> {
        let json =
            serde_json::to_vec_pretty(value).unwrap_or_else(|error| unreachable!("records are plain data: {error}"));
        self.put(kind, name, &json)
    }

    /// What a file holds; `None`: it is not there.
    fn get(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let Some(mut bytes) = self.storage.get(name).map_err(self.failed(name, "read"))? else { return Ok(None) };
        let n_bytes = record::decode(kind, name, &bytes).map_err(self.damaged(name))?.len();
        // In place: a part of the state has megabytes.
        bytes.drain(..bytes.len() - n_bytes);
        Ok(Some(bytes))
    }

    fn get_json<T: serde::de::DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>, CheckpointError> {
        let Some(payload) = self.get(kind, name)? else { return Ok(None) };
        let value = serde_json::from_slice(&payload);
        value.map(Some).map_err(|error| self.damaged(name)(Damage::Content { what: error.to_string() }))
    }

    fn missing(&self, name: &str) -> CheckpointError {
        CheckpointError::Missing { place: self.place(), name: name.to_owned() }
    }

    /// The names of the files in a folder.
    fn list(&self, folder: &str) -> Result<Vec<String>, CheckpointError> {
        let files = self.storage.list(folder).map_err(self.failed(folder, "listed"))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        self.storage.delete(name).map_err(self.failed(name, "deleted"))
    }

    /// Reads the parts of a run, one after the other.
    fn parts<'a>(&'a self, run: &'a log::Run) -> impl FnMut() -> Result<Option<Vec<u8>>, ReadError> + 'a {
        let mut next = 0;
        move || {
            if next == run.parts {
                return Ok(None);
            }
            let name = run.part_name(next);
            next += 1;
            match self.get(Kind::State, &name)? {
                Some(part) => Ok(Some(part)),
                None => Err(self.missing(&name).into()),
            }
        }
    }
}

/// What fails while runs are read: the files, or what is in them.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Damage(#[from] Damage),
}

impl ReadError {
    fn in_run(self, checkpoint: &Checkpoint, run: &log::Run) -> CheckpointError {
        match self {
            Self::Checkpoint(error) => error,
            Self::Damage(damage) => checkpoint.damaged(&run.part_name(0))(damage),
        }
    }
}
