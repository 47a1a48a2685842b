//! Looks into a checkpoint without changing it, also while a job has it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::lease::{LEASE_DEFAULT, Record};
use super::log::{self, Commit, LogPlace, Offsets, SourceOffsets};
use super::record::Kind;
use super::recovery::{self, Found};
use super::shape::JobShape;
use super::storage::LEASE_NAME;
use super::{Checkpoint, CheckpointError, Place};
use crate::error::{Error, Explain};
use crate::state::Change;
use crate::write_ahead_log::{self, LogInspection, SourceInspection};

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
    /// The rows of receivers in the write-ahead log.
    pub log: LogInspection,
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
    /// It has changed nothing, and neither have those before it from this one on, of which nothing else is kept; `None`: it has, or is not done.
    pub idle_from: Option<u64>,
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
    /// The rows of receivers in the write-ahead log.
    pub log: LogInspection,
    /// What is wrong, a line a file.
    pub damage: Vec<String>,
}

/// Looks into the logs of a checkpoint.
///
/// # Errors
///
/// When there is none, or one of its logs cannot be read.
pub fn inspect(place: &Place) -> Result<Inspection, Error> {
    let checkpoint = to_read(place)?;
    let shape: Option<JobShape> = checkpoint.get_json(Kind::Job, "job")?;
    let mut batches: BTreeMap<u64, BatchInspection> = BTreeMap::new();
    for batch in checkpoint.batches("offsets")? {
        let Some(offsets) = checkpoint.get_json::<Offsets>(Kind::Offsets, &log::offsets_name(batch))? else { continue };
        let reads = offsets.sources.iter().map(|of| (of.source.clone(), in_words(of))).collect();
        let batch_time_us = offsets.batch_time_us;
        let inspection = BatchInspection { batch_id: batch, batch_time_us, rows: None, idle_from: None, reads };
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
            idle_from: None,
            reads: Vec::new(),
        });
        known.idle_from = commit.idle_from;
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
    let log = match log_directory(place, shape.as_ref()) {
        Some(directory) => {
            let before = checkpoint.log_places()?;
            checkpoint.compared(write_ahead_log::inspect(&directory)?, &before)?
        }
        None => LogInspection::default(),
    };
    Ok(Inspection {
        lease,
        job: shape.as_ref().map(|shape| shape.job.clone()),
        steps: steps.collect(),
        batches: batches.into_values().collect(),
        runs,
        log,
    })
}

/// Reads every file of a checkpoint.
///
/// # Errors
///
/// When there is none, or its folder cannot be read. Files that are damaged are in the result.
pub fn verify(place: &Place) -> Result<Verification, Error> {
    let checkpoint = to_read(place)?;
    // What is wrong with it is found with the other files.
    let shape: Option<JobShape> = checkpoint.get_json(Kind::Job, "job").unwrap_or_default();
    let log_directory = log_directory(place, shape.as_ref());
    let (log, damage) = match log_directory {
        Some(directory) => {
            let before = checkpoint.log_places()?;
            let (log, damage) = write_ahead_log::verify(&directory)?;
            (checkpoint.compared(log, &before)?, damage)
        }
        None => Default::default(),
    };
    let damage = damage.into_iter().map(one_line).chain(lost_rows(&log)).collect();
    let (files, bytes) = (log.files, log.bytes);
    let mut verification = Verification { files, bytes, state: BTreeMap::new(), log, damage };
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
                Err(error) => return Err(error.into()),
            }
        }
    }
    verification.damage.extend(missing_rows(&checkpoint, &verification.log)?);
    verification.damage.extend(missing_batches(&checkpoint)?);
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

/// Received rows that batches were begun with, are not done, and are not in the write-ahead log: a line each.
fn missing_rows(checkpoint: &Checkpoint, log: &LogInspection) -> Result<Vec<String>, CheckpointError> {
    let committed = checkpoint.batches("commits")?.into_iter().max();
    let mut missing = Vec::new();
    for batch in checkpoint.batches("offsets")?.into_iter().filter(|&batch| Some(batch) > committed) {
        // One that cannot be read has been named.
        let Ok(Some(offsets)) = checkpoint.get_json::<Offsets>(Kind::Offsets, &log::offsets_name(batch)) else {
            continue;
        };
        for of in &offsets.sources {
            let Some((start, end)) = of.received() else { continue };
            let kept = log.sources.iter().find(|source| source.source == of.source);
            if kept.is_none_or(|kept| !kept.has(start, end)) {
                missing.push(format!(
                    "the write-ahead log lacks rows of source `{}`: batch {batch} was begun with rows {start} to {end}",
                    of.source
                ));
            }
        }
    }
    Ok(missing)
}

/// What batches read, and that they are done, where it is missing between others: a line a file.
fn missing_batches(checkpoint: &Checkpoint) -> Result<Vec<String>, CheckpointError> {
    // A job that has it may begin a batch and end it meanwhile: what was done before was begun before.
    let commits = checkpoint.batches("commits")?;
    let found = Found { offsets: checkpoint.batches("offsets")?, commits };
    let commit = |&batch: &u64| checkpoint.get_json::<Commit>(Kind::Commit, &log::commit_name(batch)).ok().flatten();
    let commits = found.commits.iter().filter_map(commit);
    let idle: Vec<(u64, u64)> = commits.filter_map(|commit| Some((commit.idle_from?, commit.batch_id))).collect();
    let missing = recovery::missing(&found, &idle);
    // It may also have deleted what is too old meanwhile.
    let first_kept = checkpoint.batches("commits")?.into_iter().min();
    let names = missing.offsets.into_iter().map(|batch| (batch, log::offsets_name(batch)));
    let names = names.chain(missing.commits.into_iter().map(|batch| (batch, log::commit_name(batch))));
    let kept = names.filter(|(batch, _)| first_kept.is_some_and(|first| *batch >= first));
    Ok(kept.map(|(_, name)| one_line(checkpoint.missing(&name))).collect())
}

/// What of the write-ahead log is known to be gone: a line each.
fn lost_rows(log: &LogInspection) -> Vec<String> {
    let file = |file: &String| format!("the write-ahead log lacks its last file, `{file}`");
    let of_source = |of: &SourceInspection| match of.lost_rows {
        0 if of.lacks_its_end() => Some(format!(
            "the write-ahead log lacks its last rows of source `{}`, which batches have had; those behind row {} are not known",
            of.source, of.end_row
        )),
        0 => None,
        lost => Some(format!(
            "the write-ahead log lacks at least {lost} rows of source `{}` that no batch has had",
            of.source
        )),
    };
    log.missing_file.iter().map(file).chain(log.sources.iter().filter_map(of_source)).collect()
}

fn one_line(error: impl Explain) -> String {
    Error::from(error).in_one_line()
}

/// Where the write-ahead log of a checkpoint is.
fn log_directory(place: &Place, shape: Option<&JobShape>) -> Option<PathBuf> {
    let elsewhere = shape.and_then(|shape| shape.log_directory.as_ref()).map(PathBuf::from);
    elsewhere.or_else(|| place.directory().map(|path| path.join("wal")))
}

/// A checkpoint that is there, to be read.
pub(super) fn to_read(place: &Place) -> Result<Checkpoint, CheckpointError> {
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
    if let Some((start, end)) = of.received() {
        return format!("rows {start} to {end} of the write-ahead log");
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
    /// How far the write-ahead log has come with each source, as far as batches say that are kept and can be read.
    fn log_places(&self) -> Result<BTreeMap<String, LogPlace>, CheckpointError> {
        let mut places: BTreeMap<String, LogPlace> = BTreeMap::new();
        for batch in self.batches("offsets")? {
            let Ok(Some(offsets)) = self.offsets(batch) else { continue };
            for (of, found) in offsets.sources.iter().filter_map(|of| Some((of, of.log_place()?))) {
                let place = places.entry(of.source.clone()).or_insert(found);
                place.taken = place.taken.max(found.taken);
                place.on_disk = place.on_disk.max(found.on_disk);
            }
        }
        Ok(places)
    }

    /// A log that was looked into, compared with what batches said before that, and say now.
    fn compared(
        &self,
        mut log: LogInspection,
        before: &BTreeMap<String, LogPlace>,
    ) -> Result<LogInspection, CheckpointError> {
        let now = self.log_places()?;
        for (source, place) in before {
            let taken = now.get(source).map_or(0, |now| now.taken).max(place.taken);
            log.compare(source, place.on_disk, taken);
        }
        // Of the others no batch that is kept says anything: what is there was in none, and what is before it may have been.
        let others: Vec<(String, u64)> = log.sources.iter().map(|of| (of.source.clone(), of.first_row)).collect();
        for of in others.iter().filter(|of| !before.contains_key(&of.0)) {
            log.compare(&of.0, 0, of.1);
        }
        Ok(log)
    }

    /// Counts the entries of the state, and their bytes: what is gone is not counted.
    fn count_state(&self, commit: &Commit, counts: &mut BTreeMap<String, (u64, u64)>) -> Result<(), CheckpointError> {
        self.read_merged(&commit.runs, |table, changes| {
            let (n_entries, n_bytes) = counts.entry(table.step.clone()).or_default();
            for change in changes.iter() {
                let Change::Entry { key, value, .. } = change else { continue };
                *n_entries += 1;
                *n_bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
            }
            Ok::<(), CheckpointError>(())
        })
    }
}
