//! Finds what an old batch read, and the state before it, so that it can be run again beside the job; and the state behind a batch.

use super::inspect::to_read;
use super::log::{self, Commit, Offsets};
use super::record::Kind;
use super::shape::JobShape;
use super::{Checkpoint, CheckpointError, Place};

/// An old batch, as it was begun.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) checkpoint: Checkpoint,
    /// What it reads.
    pub(crate) offsets: Offsets,
    /// What the job was before it; `None`: it is the first.
    pub(crate) before: Option<Commit>,
    /// What tells the write-ahead log of the checkpoint from others.
    pub(crate) log: String,
}

/// Finds a batch in the checkpoint of a job of this shape. Nothing is changed, and a job may have it meanwhile.
///
/// # Errors
///
/// When there is no checkpoint, it is of another job, or has not kept the batch.
pub(crate) fn old_batch(place: &Place, shape: &JobShape, batch_id: u64) -> Result<Kept, CheckpointError> {
    let (checkpoint, log) = of_job(place, shape)?;
    let (begun, committed) = (checkpoint.batches("offsets")?, checkpoint.batches("commits")?);
    let can_run = |batch: &u64| *batch == 0 || committed.contains(&(batch - 1));
    let not_kept = |what: String| {
        let kept = begun.iter().copied().filter(can_run);
        let kept = kept.clone().min().zip(kept.max());
        CheckpointError::NotKept { place: checkpoint.place(), what, kept }
    };
    let offsets = checkpoint.get_json(Kind::Offsets, &log::offsets_name(batch_id))?;
    let offsets = offsets.ok_or_else(|| not_kept(format!("what batch {batch_id} reads")))?;
    let before = match batch_id.checked_sub(1) {
        Some(before) => {
            let commit = checkpoint.get_json(Kind::Commit, &log::commit_name(before))?;
            Some(commit.ok_or_else(|| not_kept(format!("the state before batch {batch_id}")))?)
        }
        None => None,
    };
    Ok(Kept { checkpoint, offsets, before, log })
}

/// Finds what a job of this shape was behind a batch; `None`: behind the last that is done.
///
/// # Errors
///
/// When there is no checkpoint, it is of another job, or has not kept the batch.
pub(crate) fn commit_of(
    place: &Place,
    shape: &JobShape,
    batch_id: Option<u64>,
) -> Result<(Checkpoint, Commit), CheckpointError> {
    let (checkpoint, _) = of_job(place, shape)?;
    let committed = checkpoint.batches("commits")?;
    let kept = committed.iter().min().copied().zip(committed.iter().max().copied());
    let commit = match batch_id.or(kept.map(|(_, last)| last)) {
        Some(batch) => checkpoint.get_json(Kind::Commit, &log::commit_name(batch))?,
        None => None,
    };
    let what = || batch_id.map_or("any batch".to_owned(), |batch| format!("the state behind batch {batch}"));
    match commit {
        Some(commit) => Ok((checkpoint, commit)),
        None => Err(CheckpointError::NotKept { place: checkpoint.place(), what: what(), kept }),
    }
}

/// The checkpoint of a job of this shape, and what tells its write-ahead log from others.
fn of_job(place: &Place, shape: &JobShape) -> Result<(Checkpoint, String), CheckpointError> {
    let checkpoint = to_read(place)?;
    let before = checkpoint.get_json::<JobShape>(Kind::Job, "job")?;
    if let Some(before) = &before {
        shape.check_against(before).map_err(|mismatch| CheckpointError::OtherJob {
            place: checkpoint.place(),
            what: mismatch.what,
            hint: mismatch.hint,
        })?;
    }
    Ok((checkpoint, before.map(|before| before.log).unwrap_or_default()))
}
