//! Looks into a checkpoint without changing it, also while a job has it.

use serde::Serialize;
use std::collections::BTreeMap;

use super::lease::{LEASE_DEFAULT, Record};
use super::log::{self, Commit, Offsets, SourceOffsets};
use super::record::Kind;
use super::shape::JobShape;
use super::storage::LEASE_NAME;
use super::{Checkpoint, CheckpointError, Place};
use crate::state::Change;

/// What a checkpoint holds.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The job's name; `None`: no job has written it.
    pub job: Option<String>,
    /// The steps that keep something.
    pub steps: Vec<StepInspection>,
    /// The batches that are known, in order.
    pub batches: Vec<BatchInspection>,
    /// Who has it, or had it last; `None`: a lock says so, as in a directory.
    pub lease: Option<LeaseInspection>,
    /// The runs that make the state after the last batch that is done: the first and the last batch of each, and its bytes.
    pub runs: Vec<(u64, u64, u64)>,
}

/// Who has a checkpoint, or had it last.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseInspection {
    /// The process, in words.
    pub owner: String,
    /// Counts the processes that have had the checkpoint.
    pub term: u64,
    /// Whether the process has let it go.
    pub released: bool,
}

/// A step that keeps something from batch to batch.
#[derive(Debug, Clone, Serialize)]
pub struct StepInspection {
    /// Its name.
    pub step: String,
    /// What it keeps.
    pub keeps: String,
    /// Its partitions.
    pub partitions: u32,
}

/// A batch.
#[derive(Debug, Clone, Serialize)]
pub struct BatchInspection {
    /// Its number.
    pub batch_id: u64,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// Rows that came in and that sinks got; `None`: it was begun and is not done.
    pub rows: Option<(u64, u64)>,
    /// What it reads of each source, in words.
    pub reads: Vec<(String, String)>,
}

/// What a checkpoint turned out to hold when all of it was read.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// Files that were read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries and bytes of the state after the last batch that is done, of each step and source.
    pub state: BTreeMap<String, (u64, u64)>,
    /// What is wrong, a line a file.
    pub damage: Vec<String>,
}

/// Looks into the logs of a checkpoint.
///
/// # Errors
///
/// When there is none, or one of its logs cannot be read.
pub fn inspect(place: &Place) -> Result<Inspection, CheckpointError> {
    let checkpoint = to_read(place)?;
    let shape: Option<JobShape> = checkpoint.get_json(Kind::Job, "job")?;
    let mut batches: BTreeMap<u64, BatchInspection> = BTreeMap::new();
    for batch in checkpoint.batches("offsets")? {
        let Some(offsets) = checkpoint.get_json::<Offsets>(Kind::Offsets, &log::offsets_name(batch))? else { continue };
        let reads = offsets.sources.iter().map(|of| (of.source.clone(), in_words(of))).collect();
        let inspection = BatchInspection { batch_id: batch, batch_time_us: offsets.batch_time_us, rows: None, reads };
        batches.insert(batch, inspection);
    }
    let mut runs = Vec::new();
    for batch in checkpoint.batches("commits")? {
        let Some(commit) = checkpoint.get_json::<Commit>(Kind::Commit, &log::commit_name(batch))? else { continue };
        runs = commit.runs.iter().map(|run| (run.first, run.last, run.n_bytes)).collect();
        let known = batches.entry(batch).or_insert_with(|| BatchInspection {
            batch_id: batch,
            batch_time_us: commit.batch_time_us,
            rows: None,
            reads: Vec::new(),
        });
        known.rows = Some((commit.rows_in, commit.rows_out));
    }
    let steps = shape.iter().flat_map(|shape| &shape.steps).map(|step| StepInspection {
        step: step.step.clone(),
        keeps: step.keeps.clone(),
        partitions: step.partitions,
    });
    let lease = checkpoint.attempt(LEASE_NAME, "read", |storage| storage.get(LEASE_NAME))?;
    let lease = lease.map(|bytes| Record::decode(&bytes)).transpose().map_err(checkpoint.damaged(LEASE_NAME))?;
    let lease = lease.map(|record| LeaseInspection {
        owner: record.owner.to_string(),
        term: record.term,
        released: record.released,
    });
    Ok(Inspection {
        lease,
        job: shape.as_ref().map(|shape| shape.job.clone()),
        steps: steps.collect(),
        batches: batches.into_values().collect(),
        runs,
    })
}

/// Reads every file of a checkpoint.
///
/// # Errors
///
/// When there is none, or its folder cannot be read. Files that are damaged are in the result.
pub fn verify(place: &Place) -> Result<Verification, CheckpointError> {
    let checkpoint = to_read(place)?;
    let mut verification = Verification { files: 0, bytes: 0, state: BTreeMap::new(), damage: Vec::new() };
    let folders = [("", Kind::Job), ("offsets", Kind::Offsets), ("commits", Kind::Commit), ("state", Kind::State)];
    for (folder, kind) in folders {
        let files = checkpoint.attempt(folder, "listed", |storage| storage.list(folder))?;
        for (name, n_bytes) in files {
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            // In the folder itself there is also what says who has it.
            if folder.is_empty() && name != "job" {
                continue;
            }
            verification.files += 1;
            verification.bytes += n_bytes;
            match checkpoint.get(kind, &name) {
                Ok(_) => {}
                Err(error @ CheckpointError::Damaged { .. }) => verification.damage.push(one_line(error)),
                Err(error) => return Err(error),
            }
        }
    }
    let Some(&last) = checkpoint.batches("commits")?.iter().max() else { return Ok(verification) };
    match checkpoint.get_json::<Commit>(Kind::Commit, &log::commit_name(last)) {
        Ok(Some(commit)) => {
            if let Err(error) = checkpoint.count_state(&commit, &mut verification.state) {
                verification.damage.push(one_line(error));
            }
        }
        Ok(None) => {}
        Err(error) => verification.damage.push(one_line(error)),
    }
    verification.damage.sort();
    verification.damage.dedup();
    Ok(verification)
}

fn one_line(error: CheckpointError) -> String {
    crate::error::Error::from(error).in_one_line()
}

/// A checkpoint that is there, to be read.
fn to_read(place: &Place) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::at(place, LEASE_DEFAULT)?;
    match checkpoint.attempt("job", "read", |storage| storage.get("job"))? {
        Some(_) => Ok(checkpoint),
        None => Err(CheckpointError::NotThere { place: checkpoint.place() }),
    }
}

/// What a batch reads of a source, in words.
fn in_words(of: &SourceOffsets) -> String {
    if of.rows_received > 0 {
        return format!("{} rows that were received", of.rows_received);
    }
    let ranges: Vec<&log::Range> = of.partitions.iter().flatten().collect();
    match ranges.as_slice() {
        [] => "nothing".to_owned(),
        [one] => format!("{} {}..{}", one.object, one.start, one.end),
        [first, .., last] => {
            let n = ranges.len();
            format!("{n} ranges, from {} {} to {} {}", first.object, first.start, last.object, last.end)
        }
    }
}

impl Checkpoint {
    /// Counts the entries of the state, and their bytes: what is gone is not counted.
    fn count_state(&self, commit: &Commit, counts: &mut BTreeMap<String, (u64, u64)>) -> Result<(), CheckpointError> {
        type Entries = BTreeMap<(u32, u32, i64, Vec<u8>), u64>;
        let mut steps: BTreeMap<String, Entries> = BTreeMap::new();
        self.read_state(&commit.runs, |table, changes| {
            let entries = steps.entry(table.step.clone()).or_default();
            for change in changes.iter() {
                match change {
                    Change::Entry { slot, key, value } => {
                        let place = (table.partition, table.table, slot, key.to_vec());
                        match value {
                            Some(value) => drop(entries.insert(place, (key.len() + value.len()) as u64)),
                            None => drop(entries.remove(&place)),
                        }
                    }
                    Change::DropSlots(slots) => entries.retain(|(partition, index, slot, _), _| {
                        (*partition, *index) != (table.partition, table.table) || !slots.contains(slot)
                    }),
                }
            }
            Ok::<(), CheckpointError>(())
        })?;
        counts.extend(steps.into_iter().map(|(step, entries)| (step, (entries.len() as u64, entries.values().sum()))));
        Ok(())
    }
}
