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
//! | `place` | where a checkpoint is: a directory or an object store |
//! | `storage` | files that are there whole or not at all |
//! | `claim` | takes a checkpoint for this process alone |
//! | `lease` | who has it where nothing can be locked |
//! | `owner` | which process that is |
//! | `patience` | waits for a full disk, or a server that is away |
//! | `record` | what each file begins with: kind, version, checksum |
//! | `log` | what is in them |
//! | `run` | state: runs of changes, how they are merged, and when |
//! | `recovery` | where a job goes on; pure |
//! | `shape` | what a changed job may change |
//! | `open` | reads all of it when a job starts |
//! | `committer` | writes it while the job runs |
//! | `inspect` | looks into it for people |
//! | `old_batch` | finds what an old batch read, and the state before it |

mod claim;
mod committer;
mod error;
#[cfg(test)]
mod fault_tests;
mod inspect;
mod lease;
#[cfg(test)]
mod lease_tests;
mod log;
mod old_batch;
mod open;
mod owner;
mod patience;
mod place;
pub(crate) mod record;
mod recovery;
mod run;
mod shape;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use crate::fail_point;
use crate::operator::StopFlag;

pub use claim::Standby;
pub use error::CheckpointError;
pub use inspect::{BatchInspection, Inspection, LeaseInspection, StepInspection, Verification, inspect, verify};
pub use place::{ObjectPlace, Place, PlaceMistake};
pub use record::Damage;
pub use recovery::Gap;

pub(crate) use claim::claim;
pub(crate) use committer::persist;
pub(crate) use committer::{Committer, Done};
pub(crate) use error::may_pass;
pub(crate) use lease::LEASE_DEFAULT;
pub(crate) use log::{Clocks, LogPlace, Offsets, Range, Run, SourceOffsets};
pub(crate) use old_batch::{Kept, commit_of, old_batch};
pub(crate) use open::{Progress, Resumed, open, progress_changes};
pub(crate) use owner::Owner;
pub(crate) use patience::Patience;
pub(crate) use place::{OPTIONS, OptionKind};
pub(crate) use run::{CHANGES_MAX, RunWriter, TableId};
pub(crate) use shape::{JobShape, StepShape};

use lease::Lease;
use record::Kind;
pub(crate) use storage::{Directory, LOCK_NAME, Lock, Locked, Storage, is_temporary};
use storage::{Expected, Files, ObjectStorage, Version};

/// The table that holds how far a source has been read.
pub(crate) fn source_table(source: &str) -> TableId {
    // No step has such a name.
    TableId { step: format!("source:{source}"), partition: 0, table: 0 }
}

/// The files of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    storage: Arc<dyn Storage>,
    /// Says whether it is still this process's; `None`: a lock does, or nobody writes.
    lease: Option<Arc<Lease>>,
    /// How long is waited for what may pass; `None`: not at all. What is written is waited for by [`persist`]; that something can be
    /// read or deleted, only where a store may be away.
    patience: Option<Patience>,
}

impl Checkpoint {
    /// The checkpoint at a place. Nothing is made or asked for yet. What concerns its lease, which lasts so long, must be answered in a
    /// third of that.
    pub(crate) fn at(place: &Place, lease: Duration) -> Result<Self, CheckpointError> {
        let storage: Arc<dyn Storage> = match place {
            Place::Directory(path) => Arc::new(Directory::at(path)),
            Place::ObjectStore(place) => {
                let connected = ObjectStorage::connect(place, lease / 3);
                Arc::new(connected.map_err(|source| CheckpointError::Storage {
                    place: place.url().to_owned(),
                    name: ".".into(),
                    doing: "opened",
                    source,
                })?)
            }
        };
        Ok(Self::of(storage))
    }

    /// The checkpoint in a storage.
    fn of(storage: Arc<dyn Storage>) -> Self {
        Self { storage, lease: None, patience: None }
    }

    /// The same, with so much patience.
    fn with_patience(self, patience: &Patience) -> Self {
        Self { patience: Some(patience.clone()), ..self }
    }

    /// The same, with patience until a job is stopped at once.
    pub(crate) fn until_stopped(self, stopped: &StopFlag) -> Self {
        let patience =
            self.patience.as_ref().map_or_else(|| Patience::until(&[stopped]), |patience| patience.but_until(stopped));
        self.with_patience(&patience)
    }

    fn with_lease(self, lease: Arc<Lease>) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Which owner this process is of those that the checkpoint has had; 0: they are not counted, a lock keeps them apart.
    fn term(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.term())
    }

    /// Waits until it is sure that nobody else has it, for a while: before anything is written or shown.
    ///
    /// # Errors
    ///
    /// When somebody else has it, or that cannot be known and nobody waits any more.
    pub(crate) fn hold(&self) -> Result<(), CheckpointError> {
        match (&self.lease, &self.patience) {
            (Some(lease), Some(patience)) => lease.hold(patience),
            (Some(lease), None) => lease.check_kept(),
            (None, _) => Ok(()),
        }
    }

    /// Whether it is known that somebody else has it.
    fn check_kept(&self) -> Result<(), CheckpointError> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check_kept())
    }

    /// Calls `tell` once when somebody else has it.
    pub(crate) fn on_loss(&self, tell: impl FnOnce() + Send + 'static) {
        if let Some(lease) = &self.lease {
            lease.on_loss(tell);
        }
    }

    /// What to call it in messages.
    pub(crate) fn place(&self) -> String {
        self.storage.describe()
    }

    /// Says what a batch reads, before it runs. When it returns, a restart reads the same.
    pub(crate) fn begin(&self, offsets: &Offsets) -> Result<(), CheckpointError> {
        self.put_log(Kind::Offsets, &log::offsets_name(offsets.batch_id), offsets)?;
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

    /// Asks something of the storage, again and again where a store may be away.
    fn attempt<T>(
        &self,
        name: &str,
        doing: &'static str,
        ask: impl Fn(&dyn Storage) -> std::io::Result<T>,
    ) -> Result<T, CheckpointError> {
        let ask = || ask(&*self.storage).map_err(self.failed(name, doing));
        match self.waits() {
            Some(patience) => patience.insist(ask),
            None => ask(),
        }
    }

    /// How long is waited when something cannot be read or deleted.
    fn waits(&self) -> Option<&Patience> {
        self.patience.as_ref().filter(|_| self.storage.is_remote())
    }

    fn put(&self, kind: Kind, name: &str, payload: &[u8]) -> Result<(), CheckpointError> {
        self.hold()?;
        self.storage.put(name, &record::encode(kind, name, payload)).map_err(self.failed(name, "written"))
    }

    /// Writes a file of a log. Of its name there is none yet, or what an earlier owner left: one that stood still while it wrote may
    /// write it when somebody else has the checkpoint. Whose it is to write then is what the lease says *after* the file was seen to be
    /// there; and it is written if it still is the same.
    fn put_log(&self, kind: Kind, name: &str, value: &impl serde::Serialize) -> Result<(), CheckpointError> {
        let json =
            serde_json::to_vec_pretty(value).unwrap_or_else(|error| unreachable!("records are plain data: {error}"));
        let bytes = record::encode(kind, name, &json);
        let mut seen: Option<Version> = None;
        loop {
            self.hold()?;
            let expected = seen.as_ref().map_or(Expected::Nothing, Expected::Version);
            let written = self.storage.put_if(name, &bytes, expected).map_err(self.failed(name, "written"))?;
            if written.is_some() {
                return Ok(());
            }
            seen = match self.storage.get_versioned(name).map_err(self.failed(name, "written"))? {
                // It was written, and the answer was lost.
                Some((found, _)) if found == bytes => return Ok(()),
                Some((_, version)) => {
                    self.lease.as_ref().map_or(Ok(()), |lease| lease.confirm())?;
                    Some(version)
                }
                None => None,
            };
        }
    }

    /// What a file holds; `None`: it is not there.
    fn get(&self, kind: Kind, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        self.attempt(name, "read", |storage| storage.get(name))?.map(|bytes| self.decode(kind, name, bytes)).transpose()
    }

    fn decode(&self, kind: Kind, name: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>, CheckpointError> {
        let n_bytes = record::decode(kind, name, &bytes).map_err(self.damaged(name))?.len();
        // In place: a part of the state has megabytes.
        bytes.drain(..bytes.len() - n_bytes);
        Ok(bytes)
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
        let files = self.attempt(folder, "listed", |storage| storage.list(folder))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn delete(&self, name: &str) -> Result<(), CheckpointError> {
        let delete = || {
            self.hold()?;
            self.storage.delete(name).map_err(self.failed(name, "deleted"))
        };
        self.waits().map_or_else(delete, |patience| patience.insist(delete))
    }

    /// Reads the parts of some runs in their order, some of them ahead.
    fn ahead<'a>(&'a self, runs: &[log::Run]) -> Ahead<'a> {
        let names: Vec<String> = runs.iter().flat_map(|run| (0..run.parts).map(|part| run.part_name(part))).collect();
        Ahead { checkpoint: self, names: names.clone().into_iter(), files: self.storage.get_all(names) }
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

/// The parts of some runs, some of them read ahead.
struct Ahead<'a> {
    checkpoint: &'a Checkpoint,
    names: std::vec::IntoIter<String>,
    files: Files<'a>,
}

impl Ahead<'_> {
    /// Gives the parts of the run that comes next.
    fn run(&mut self, run: &log::Run) -> impl FnMut() -> Result<Option<Vec<u8>>, ReadError> {
        let mut left = run.parts;
        move || {
            if left == 0 {
                return Ok(None);
            }
            left -= 1;
            let Some((name, part)) = self.names.next().zip(self.files.next()) else {
                unreachable!("every run has its parts")
            };
            let checkpoint = self.checkpoint;
            let part = match part {
                Ok(Some(bytes)) => Some(checkpoint.decode(Kind::State, &name, bytes)?),
                Ok(None) => None,
                // It is asked for again, where that may help.
                Err(error) if checkpoint.waits().is_some() && may_pass(&error) => checkpoint.get(Kind::State, &name)?,
                Err(error) => return Err(checkpoint.failed(&name, "read")(error).into()),
            };
            part.map(Some).ok_or_else(|| checkpoint.missing(&name).into())
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
