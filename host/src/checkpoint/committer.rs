//! Writes that batches are done, and what they have changed, while the next ones run.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::log::{self, Clocks, Commit, KeptCommit, Run};
use super::record::Kind;
use super::recovery::{self, Found};
use super::run::{RunReader, merge, to_merge};
use super::{Checkpoint, CheckpointError, Patience, ReadError, Resumed};
use crate::fail_point;
use crate::operator::StopFlag;
use crate::write_ahead_log::WriteAheadLog;

/// A batch whose rows are in the sinks.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) batch_id: u64,
    pub(crate) batch_time_us: i64,
    pub(crate) closes: bool,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) clocks: Clocks,
    /// What it has changed, in parts of a run.
    pub(crate) parts: Vec<Vec<u8>>,
}

enum Work {
    Commit(Box<Done>),
    /// Runs were merged into one; `None`: it failed, and is tried again later.
    Merged(Option<Run>),
    End,
}

#[derive(Debug, Default)]
struct Progress {
    /// Batches that were given and are not committed.
    n_waiting: usize,
    failure: Option<CheckpointError>,
}

struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits batches in order, on a thread of its own.
pub(crate) struct Committer {
    checkpoint: Checkpoint,
    work: Sender<Work>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread. It has the checkpoint from then on.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(crate) fn start(
        resumed: Resumed,
        retain: u64,
        stopped: StopFlag,
        received: Option<Arc<WriteAheadLog>>,
    ) -> std::io::Result<Self> {
        let runs_from = resumed.runs().to_vec();
        let clocks = resumed.clocks().cloned();
        let checkpoint = resumed.checkpoint.until_stopped(&stopped);
        let (work, queue) = unbounded();
        let shared = Arc::new(Shared { progress: Mutex::default(), changed: Condvar::new() });
        let mut writer = Writer {
            checkpoint: checkpoint.clone(),
            _lock: resumed.lock,
            runs: runs_from,
            clocks,
            kept: resumed.kept.into(),
            left: resumed.left,
            retain,
            partitions: resumed.partitions,
            stopped,
            received,
            merging: None,
            work: work.clone(),
        };
        let of_thread = shared.clone();
        let run = move || writer.run(&queue, &of_thread);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(run)?;
        Ok(Self { checkpoint, work, shared, thread: Some(thread) })
    }

    /// Waits until every batch that was given is committed.
    ///
    /// # Errors
    ///
    /// Why one could not be; told once.
    pub(crate) fn wait(&self) -> Result<(), CheckpointError> {
        let progress = self.shared.lock();
        let waits = |progress: &mut Progress| progress.n_waiting > 0 && progress.failure.is_none();
        let mut progress = self.shared.changed.wait_while(progress, waits).unwrap_or_else(PoisonError::into_inner);
        match progress.failure.take() {
            Some(failure) => Err(failure),
            None => self.checkpoint.check_kept(),
        }
    }

    /// Waits until it is sure that no other process has the checkpoint, for a while: before a batch is shown.
    ///
    /// # Errors
    ///
    /// When another has it, or that cannot be known and the job is stopped at once.
    pub(crate) fn hold(&self) -> Result<(), CheckpointError> {
        self.checkpoint.hold()
    }

    /// Gives a batch to be committed, and returns at once.
    pub(crate) fn commit(&self, done: Done) {
        self.shared.lock().n_waiting += 1;
        // The thread takes work for as long as this is there.
        let _ = self.work.send(Work::Commit(Box::new(done)));
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let _ = self.work.send(Work::End);
        if let Some(thread) = self.thread.take() {
            // It ends when it has written what it was given, or the job was stopped at once.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Writer {
    checkpoint: Checkpoint,
    _lock: super::storage::Lock,
    /// The state, the oldest run first.
    runs: Vec<Run>,
    /// How far event time had come with the last commit.
    clocks: Option<Clocks>,
    /// What the commits that are kept name, the oldest first.
    kept: VecDeque<KeptCommit>,
    /// Files of state that are nobody's once a batch is done.
    left: Vec<(u64, String)>,
    retain: u64,
    /// Partitions of each step's state.
    partitions: BTreeMap<String, u32>,
    stopped: StopFlag,
    /// The rows of receivers, if they are kept.
    received: Option<Arc<WriteAheadLog>>,
    /// The thread that merges runs, when one does.
    merging: Option<JoinHandle<()>>,
    work: Sender<Work>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Work>, shared: &Shared) {
        let mut failed = false;
        while let Ok(work) = queue.recv() {
            match work {
                Work::Commit(done) => {
                    if failed {
                        continue;
                    }
                    let outcome = self.commit(*done);
                    failed = outcome.is_err();
                    let mut progress = shared.lock();
                    progress.n_waiting -= 1;
                    progress.failure = outcome.err();
                    drop(progress);
                    shared.changed.notify_all();
                    if !failed {
                        self.clean_up();
                    }
                }
                Work::Merged(run) => self.merged(run),
                Work::End => break,
            }
        }
        if let Some(merging) = self.merging.take() {
            // What it has merged is not named by any commit, and is removed at the next start.
            let _ = merging.join();
        }
    }

    /// Where the row of batches begins that have changed nothing, when this is one: a restart from the commit before would do the same, but for
    /// its number and its time.
    fn idle_from(&self, done: &Done) -> Option<u64> {
        let changes_nothing = done.parts.is_empty() && done.rows_in == 0 && done.rows_out == 0 && !done.closes;
        let before = self.kept.back().filter(|_| changes_nothing && self.clocks.as_ref() == Some(&done.clocks))?;
        Some(before.idle_from.unwrap_or(done.batch_id))
    }

    fn commit(&mut self, done: Done) -> Result<(), CheckpointError> {
        let idle_from = self.idle_from(&done);
        if !done.parts.is_empty() {
            let run = Run {
                first: done.batch_id,
                last: done.batch_id,
                parts: done.parts.len() as u32,
                n_bytes: done.parts.iter().map(|part| part.len() as u64).sum(),
                is_merged: false,
                edition: 0,
                term: self.checkpoint.term(),
            };
            for (number, part) in (0..).zip(&done.parts) {
                self.persist(|checkpoint| checkpoint.put(Kind::State, &run.part_name(number), part))?;
                fail_point::pass("state-written");
            }
            self.runs.push(run);
        }
        let commit = Commit {
            batch_id: done.batch_id,
            batch_time_us: done.batch_time_us,
            closes: done.closes,
            rows_in: done.rows_in,
            rows_out: done.rows_out,
            clocks: done.clocks,
            runs: self.runs.clone(),
            partitions: self.partitions.clone(),
            idle_from,
        };
        self.persist(|checkpoint| checkpoint.put_log(Kind::Commit, &log::commit_name(done.batch_id), &commit))?;
        fail_point::pass("commit-written");
        self.kept.push_back(KeptCommit { batch_id: done.batch_id, runs: commit.runs, idle_from });
        self.clocks = Some(commit.clocks);
        Ok(())
    }

    /// Writes until it is written: a disk that is full, a server that is down, are waited for.
    fn persist(&self, write: impl Fn(&Checkpoint) -> Result<(), CheckpointError>) -> Result<(), CheckpointError> {
        persist(&self.checkpoint, &self.stopped, write)
    }

    /// Deletes what no commit that is kept names, and starts to merge runs when there are many. What fails here is tried again
    /// behind the next batch.
    fn clean_up(&mut self) {
        let batches: Vec<u64> = self.kept.iter().map(|kept| kept.batch_id).collect();
        let idle: HashSet<u64> =
            self.kept.iter().filter(|kept| kept.idle_from.is_some()).map(|kept| kept.batch_id).collect();
        let found = Found { offsets: Vec::new(), commits: batches };
        let is_idle = |batch: u64| idle.contains(&batch);
        let expired: HashSet<u64> = recovery::expired(&found, is_idle, self.retain).into_iter().collect();
        let mut gone: HashSet<Run> = HashSet::new();
        let (old, kept) = std::mem::take(&mut self.kept).into_iter().partition(|kept| expired.contains(&kept.batch_id));
        self.kept = kept;
        let old: VecDeque<KeptCommit> = old;
        for KeptCommit { batch_id: batch, runs, .. } in old {
            gone.extend(runs);
            // Where it cannot be read, a batch behind it says as much.
            let read = self.received.as_ref().and_then(|_| self.checkpoint.offsets(batch).ok().flatten());
            // The commit first: without it the rest means nothing.
            let deleted = self.checkpoint.delete(&log::commit_name(batch));
            fail_point::pass("old-commit-deleted");
            let deleted = deleted.and_then(|()| self.checkpoint.delete(&log::offsets_name(batch)));
            if let Err(error) = deleted {
                tracing::warn!(target: "tidemill::checkpoint", batch_id = batch, %error, "an old batch could not be deleted");
            } else if let Some((received, read)) = self.received.as_ref().zip(read) {
                received.release(read.sources.iter().filter_map(|of| Some((of.source.as_str(), of.received_end()?))));
            }
        }
        let committed = self.kept.back().map(|kept| kept.batch_id);
        for (_, name) in self.left.extract_if(.., |(last, _)| committed.is_some_and(|committed| *last <= committed)) {
            if let Err(error) = self.checkpoint.delete(&name) {
                tracing::warn!(target: "tidemill::checkpoint", %error, "old state could not be deleted");
            }
        }
        let merging = self.merging.is_some();
        let is_named = |run: &Run| self.runs.contains(run) || self.kept.iter().any(|kept| kept.runs.contains(run));
        for run in gone.iter().filter(|run| !is_named(run)) {
            for part in 0..run.parts {
                if let Err(error) = self.checkpoint.delete(&run.part_name(part)) {
                    tracing::warn!(target: "tidemill::checkpoint", %error, "old state could not be deleted");
                }
            }
        }
        if !merging {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let sizes: Vec<u64> = self.runs.iter().map(|run| run.n_bytes).collect();
        let Some(range) = to_merge(&sizes) else { return };
        let forgets = range.start == 0;
        let runs = self.runs[range].to_vec();
        let (checkpoint, stopped, work) = (self.checkpoint.clone(), self.stopped.clone(), self.work.clone());
        let run = move || {
            let merged = merge_runs(&checkpoint, &stopped, &runs, forgets).map_err(|error| {
                let error = crate::error::Error::from(error).in_one_line();
                tracing::warn!(target: "tidemill::checkpoint", error, "state could not be merged; it is tried again");
            });
            let _ = work.send(Work::Merged(merged.ok()));
        };
        // Without a thread there are more files for now.
        self.merging = std::thread::Builder::new().name("checkpoint-merge".into()).spawn(run).ok();
    }

    fn merged(&mut self, run: Option<Run>) {
        if let Some(merging) = self.merging.take() {
            let _ = merging.join();
        }
        let Some(run) = run else { return };
        let start = self.runs.iter().position(|old| old.first == run.first);
        let end = self.runs.iter().position(|old| old.last == run.last);
        if let (Some(start), Some(end)) = (start, end) {
            // The next commit names it; until then the old ones are kept.
            self.runs.splice(start..=end, (run.parts > 0).then_some(run));
        }
    }
}

/// Writes one run that says what some say.
fn merge_runs(
    checkpoint: &Checkpoint,
    stopped: &StopFlag,
    runs: &[Run],
    forgets: bool,
) -> Result<Run, CheckpointError> {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { unreachable!("some runs are merged") };
    let term = checkpoint.term();
    let (first_batch, last_batch) = (first.first, last.last);
    let mut merged =
        Run { first: first_batch, last: last_batch, parts: 0, n_bytes: 0, is_merged: true, edition: 0, term };
    let readers = runs.iter().map(|run| {
        let reader = RunReader::new(checkpoint.parts(run)).map_err(|error| error.in_run(checkpoint, run))?;
        Ok((reader, run.is_merged))
    });
    let outcome = merge(readers.collect::<Result<_, CheckpointError>>()?, forgets, |part| {
        let name = merged.part_name(merged.parts);
        persist(checkpoint, stopped, |checkpoint| checkpoint.put(Kind::State, &name, &part))?;
        fail_point::pass("merged-part-written");
        merged.parts += 1;
        merged.n_bytes += part.len() as u64;
        Ok::<(), ReadError>(())
    });
    outcome.map_err(|error| error.in_run(checkpoint, first))?;
    Ok(merged)
}

/// Writes until it is written, unless waiting does not help or the job is stopped at once.
pub(crate) fn persist(
    checkpoint: &Checkpoint,
    stopped: &StopFlag,
    write: impl Fn(&Checkpoint) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let patience = checkpoint.patience.clone().unwrap_or_else(|| Patience::until(&[stopped]));
    patience.insist(|| write(checkpoint))
}
