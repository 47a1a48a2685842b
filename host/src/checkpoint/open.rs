//! Reads a checkpoint when a job starts.

use std::collections::{BTreeMap, HashMap};

use super::claim::Claimed;
use super::log::{self, Clocks, Commit, KeptCommit, Offsets, Run};
use super::record::Kind;
use super::recovery::{self, Found};
use super::run::{CHANGES_MAX, Merged, RunReader, merge_entries};
use super::shape::JobShape;
use super::storage::Lock;
use super::{Checkpoint, CheckpointError, Damage, TableId, persist, source_table};
use crate::fail_point;
use crate::operator::StopFlag;
use crate::source::OffsetRange;
use crate::state::{Change, Changes};

/// A checkpoint that a job has, and where it goes on.
pub(crate) struct Resumed {
    pub(crate) checkpoint: Checkpoint,
    /// Keeps other processes out.
    pub(crate) lock: Lock,
    /// The last batch that is done.
    pub(crate) committed: Option<Commit>,
    /// Batches that were begun and are run again first.
    pub(crate) pending: Vec<Offsets>,
    /// The number of the first batch that is new.
    pub(crate) next: u64,
    /// The last batch that sinks may have published.
    pub(crate) published_max: u64,
    /// What the commits that are kept say the state was, the oldest first.
    pub(crate) kept: Vec<KeptCommit>,
    /// How many partitions the state of each step is in, from the next commit on.
    pub(crate) partitions: BTreeMap<String, u32>,
    /// What tells the write-ahead log of this checkpoint from others.
    pub(crate) log: String,
    /// Files of state that no commit names, each with a batch: nobody's once that is done, and until then what an earlier owner may
    /// name, if it writes late that a batch is done.
    pub(crate) left: Vec<(u64, String)>,
}

impl std::fmt::Debug for Resumed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resumed")
            .field("checkpoint", &self.checkpoint)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Reads the checkpoint of a job that this process has taken.
///
/// # Errors
///
/// When it cannot be read, or is another job's.
pub(crate) fn open(claimed: Claimed, shape: &JobShape) -> Result<Resumed, CheckpointError> {
    let Claimed { checkpoint, lock } = claimed;
    let mut shape = shape.clone();
    shape.log = new_identity();
    let before = checkpoint.get_json::<JobShape>(Kind::Job, "job")?;
    if let Some(before) = &before {
        if !before.log.is_empty() {
            shape.log.clone_from(&before.log);
        }
        shape.check_against(before).map_err(|mismatch| CheckpointError::OtherJob {
            place: checkpoint.place(),
            what: mismatch.what,
            hint: mismatch.hint,
        })?;
    }
    let mut found = Found { offsets: checkpoint.batches("offsets")?, commits: checkpoint.batches("commits")? };
    // A batch is published when the one before it is committed, whether that can still be read or not.
    let published_max = found.commits.iter().max().map_or(0, |last| last + 1);
    let mut kept = Vec::new();
    let committed = loop {
        let Some(&last) = found.commits.iter().max() else { break None };
        match checkpoint.commit(last).and_then(|commit| checkpoint.check(&commit.runs).map(|()| commit)) {
            Ok(commit) => break Some(commit),
            // What is written is written again if the batch is run again, from the state before it.
            Err(error) if is_damage(&error) && found.commits.len() > 1 => {
                let report = crate::error::Error::from(error).in_one_line();
                tracing::warn!(
                    target: "tidemill::checkpoint",
                    place = checkpoint.place(), batch_id = last, error = report,
                    "a batch of the checkpoint is damaged: the job goes on from the one before it"
                );
                found.commits.retain(|&batch| batch != last);
            }
            Err(error) => return Err(error),
        }
    };
    let gap = |source| CheckpointError::Gap { place: checkpoint.place(), source };
    let resume = recovery::resume(&found).map_err(gap)?;
    let mut pending = Vec::new();
    for &batch in &resume.pending {
        let name = log::offsets_name(batch);
        pending.push(checkpoint.get_json(Kind::Offsets, &name)?.ok_or_else(|| checkpoint.missing(&name))?);
    }
    for &batch in &found.commits {
        // An older one that cannot be read is not needed, and goes when its time comes.
        if let Ok(commit) = checkpoint.commit(batch) {
            kept.push(KeptCommit { batch_id: batch, runs: commit.runs, idle_from: commit.idle_from });
        }
    }
    kept.sort_unstable_by_key(|kept| kept.batch_id);
    let left = checkpoint.remove_orphans(&kept, resume.committed)?;
    // What a process left that died while it deleted a batch: its commit goes first.
    let is_left = |batch: &&u64| resume.committed > Some(**batch) && !found.commits.contains(batch);
    for &batch in found.offsets.iter().filter(is_left) {
        checkpoint.delete(&log::offsets_name(batch))?;
    }
    if before.as_ref() != Some(&shape) {
        let put = || checkpoint.put_log(Kind::Job, "job", &shape);
        checkpoint.patience.as_ref().map_or_else(put, |patience| patience.insist(put))?;
    }
    let partitions = shape.steps.iter().map(|step| (step.step.clone(), step.partitions)).collect();
    let log = shape.log;
    Ok(Resumed { checkpoint, lock, committed, pending, next: resume.next, published_max, kept, partitions, log, left })
}

/// A number that no other checkpoint has, in hexadecimal.
fn new_identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Keys of hash tables are drawn by the system.
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

fn is_damage(error: &CheckpointError) -> bool {
    match error {
        CheckpointError::Damaged { source, .. } => !matches!(source, Damage::Newer { .. }),
        CheckpointError::Missing { .. } => true,
        _ => false,
    }
}

impl Checkpoint {
    /// The batches that a log has, in order.
    pub(crate) fn batches(&self, folder: &str) -> Result<Vec<u64>, CheckpointError> {
        Ok(self.list(folder)?.iter().filter_map(|name| log::batch_of(name)).collect())
    }

    fn commit(&self, batch: u64) -> Result<Commit, CheckpointError> {
        let name = log::commit_name(batch);
        self.get_json(Kind::Commit, &name)?.ok_or_else(|| self.missing(&name))
    }

    /// Reads every file of some runs.
    fn check(&self, runs: &[Run]) -> Result<(), CheckpointError> {
        let mut ahead = self.ahead(runs);
        for run in runs {
            let mut next = ahead.run(run);
            while next().map_err(|error| error.in_run(self, run))?.is_some() {}
        }
        Ok(())
    }

    /// Removes files of state that no commit names: of a batch that was not committed, or of a merge that was not used. Those are
    /// given back that an earlier owner might still name.
    pub(super) fn remove_orphans(
        &self,
        kept: &[KeptCommit],
        committed: Option<u64>,
    ) -> Result<Vec<(u64, String)>, CheckpointError> {
        let parts =
            kept.iter().flat_map(|kept| &kept.runs).flat_map(|run| (0..run.parts).map(|part| run.part_name(part)));
        let named: std::collections::HashSet<String> = parts.collect();
        let mut left = Vec::new();
        for file in self.list("state")? {
            let name = format!("state/{file}");
            if named.contains(&name) {
                continue;
            }
            match Run::last_of(&file) {
                // A commit that an earlier owner writes late is one of the batch behind the last, or of one behind that.
                Some(last) if self.lease.is_some() => {
                    left.push((last.max(committed.map_or(0, |batch| batch + 1)), name))
                }
                _ => self.delete(&name)?,
            }
        }
        Ok(left)
    }

    /// Gives what the state of some runs comes to, to `apply`: what each table holds, in the order of slots and keys, and nothing that was
    /// removed or dropped.
    ///
    /// # Errors
    ///
    /// What cannot be read, or what `apply` said.
    pub(crate) fn read_merged<E: From<CheckpointError>>(
        &self,
        runs: &[Run],
        mut apply: impl FnMut(&TableId, Changes) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(first) = runs.first() else { return Ok(()) };
        let mut readers = Vec::new();
        for run in runs {
            let reader = RunReader::new(self.parts(run)).map_err(|error| error.in_run(self, run))?;
            readers.push((reader, run.is_merged));
        }
        let mut waiting: Option<(TableId, Changes)> = None;
        let mut failure = None;
        let merged = merge_entries(readers, |table, merged| {
            let Merged::Entry { slot, key, value: Some(value) } = merged else { return Ok(true) };
            if let Some((of, changes)) = waiting.take_if(|(of, changes)| of != table || changes.len() >= CHANGES_MAX) {
                failure = apply(&of, changes).err();
            }
            waiting.get_or_insert_with(|| (table.clone(), Changes::default())).1.put(slot, key, value);
            Ok(failure.is_none())
        });
        merged.map_err(|error| error.in_run(self, first))?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        waiting.map_or(Ok(()), |(table, changes)| apply(&table, changes))
    }

    /// Gives the changes that make the state of some runs to `apply`, in order.
    ///
    /// # Errors
    ///
    /// What cannot be read, or what `apply` said.
    pub(crate) fn read_state<E: From<CheckpointError>>(
        &self,
        runs: &[Run],
        mut apply: impl FnMut(&TableId, Changes) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ahead = self.ahead(runs);
        for run in runs {
            let mut reader = RunReader::new(ahead.run(run)).map_err(|error| error.in_run(self, run))?;
            while let Some((table, changes)) = reader.next_changes().map_err(|error| error.in_run(self, run))? {
                apply(&table, changes)?;
            }
        }
        Ok(())
    }
}

/// How far sources have been read.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    ends: HashMap<TableId, HashMap<Vec<u8>, u64>>,
}

impl Progress {
    /// Notes the changes of a table, if it is a source's; says whether it is.
    pub(crate) fn apply(&mut self, table: &TableId, changes: &Changes) -> bool {
        if !table.step.starts_with("source:") {
            return false;
        }
        let ends = self.ends.entry(table.clone()).or_default();
        for change in changes.iter() {
            if let Change::Entry { key, value: Some(value), .. } = change
                && let Ok(end) = value.try_into()
            {
                ends.insert(key.to_vec(), u64::from_le_bytes(end));
            }
        }
        true
    }

    /// The tables it was read from, as changes that make them.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&TableId, Changes)> {
        self.ends.iter().map(|(table, ends)| {
            let sorted: BTreeMap<&Vec<u8>, &u64> = ends.iter().collect();
            let mut changes = Changes::default();
            sorted.into_iter().for_each(|(key, end)| changes.put(0, key, &end.to_le_bytes()));
            (table, changes)
        })
    }

    /// What has been read of a source: each object once, from its beginning.
    pub(crate) fn of(&self, source: &str) -> Vec<OffsetRange> {
        let ends = self.ends.get(&source_table(source));
        ends.into_iter().flatten().filter_map(|(key, &end)| object_of(key, end)).collect()
    }
}

/// What a batch has read of a source, as changes of its table.
pub(crate) fn progress_changes<'r>(ranges: impl Iterator<Item = &'r OffsetRange>) -> Changes {
    let mut ends: std::collections::BTreeMap<Vec<u8>, u64> = std::collections::BTreeMap::new();
    for range in ranges {
        let end = ends.entry(object_key(range)).or_default();
        *end = range.end.max(*end);
    }
    let mut changes = Changes::default();
    ends.iter().for_each(|(key, end)| changes.put(0, key, &end.to_le_bytes()));
    changes
}

/// An object's key: whether it has an identity, that, and its name.
fn object_key(range: &OffsetRange) -> Vec<u8> {
    let mut key = vec![u8::from(range.identity.is_some())];
    key.extend_from_slice(&range.identity.unwrap_or_default().to_le_bytes());
    key.extend_from_slice(range.object.as_bytes());
    key
}

fn object_of(key: &[u8], end: u64) -> Option<OffsetRange> {
    let (has_identity, rest) = key.split_first()?;
    let (identity, name) = rest.split_first_chunk::<16>()?;
    let identity = (*has_identity == 1).then(|| u128::from_le_bytes(*identity));
    Some(OffsetRange { object: String::from_utf8_lossy(name).into_owned(), start: 0, end, identity })
}

impl Resumed {
    /// The runs that make the state.
    pub(crate) fn runs(&self) -> &[Run] {
        self.committed.as_ref().map_or(&[], |commit| &commit.runs)
    }

    /// How far event time had come.
    pub(crate) fn clocks(&self) -> Option<&Clocks> {
        self.committed.as_ref().map(|commit| &commit.clocks)
    }

    /// Writes the state anew, as the job has it now, in one run: `write` gives its parts to what it gets. The last commit names it then,
    /// and nothing else has changed; until then the old one holds.
    ///
    /// # Errors
    ///
    /// What `write` says, and what cannot be written.
    pub(crate) fn write_state_anew<E: From<CheckpointError>>(
        &mut self,
        stopped: &StopFlag,
        write: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> Result<(), CheckpointError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(commit) = &mut self.committed else { return Ok(()) };
        let editions = self.kept.iter().flat_map(|kept| &kept.runs).map(|run| run.edition);
        let edition = editions.max().unwrap_or(0) + 1;
        let term = self.checkpoint.term();
        let mut run = Run { first: 0, last: commit.batch_id, parts: 0, n_bytes: 0, is_merged: true, edition, term };
        write(&mut |part| {
            let name = run.part_name(run.parts);
            persist(&self.checkpoint, stopped, |checkpoint| checkpoint.put(Kind::State, &name, &part))?;
            fail_point::pass("rescaled-part-written");
            run.parts += 1;
            run.n_bytes += part.len() as u64;
            Ok(())
        })?;
        commit.runs = if run.parts > 0 { vec![run] } else { Vec::new() };
        commit.partitions = self.partitions.clone();
        let name = log::commit_name(commit.batch_id);
        persist(&self.checkpoint, stopped, |checkpoint| checkpoint.put_log(Kind::Commit, &name, commit))?;
        fail_point::pass("rescaled-commit-written");
        for kept in self.kept.iter_mut().filter(|kept| kept.batch_id == commit.batch_id) {
            kept.runs.clone_from(&commit.runs);
        }
        self.left = self.checkpoint.remove_orphans(&self.kept, Some(commit.batch_id))?;
        Ok(())
    }
}
