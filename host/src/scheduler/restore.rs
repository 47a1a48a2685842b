//! Gives steps back what they kept, from a checkpoint; in other partitions, where a job has more of them now, or fewer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::checkpoint::{CHANGES_MAX, Checkpoint, CheckpointError, Progress, Resumed, Run, RunWriter, TableId};
use crate::error::Error;
use crate::ids::PartitionId;
use crate::plan::Plan;
use crate::state::{Changes, Dealer, StateError, StateStore, StepState};
use crate::step::keyed::internal;

/// Changes of state that have been read and wait to be applied, for each thread that does it: some thousand entries each.
const CHANGES_WAITING_MAX: usize = 8;

/// After so many of them it is seen whether the state has outgrown its memory, and moves to disk.
const CHANGES_BETWEEN_MOVES: u64 = 16;

/// What has been read and waits to be applied.
type Read = (Arc<StepState>, TableId, Changes);

/// Gives the steps of a plan what they kept, on so many threads, and says how far sources had been read. Of state that may move to
/// disk no more is in memory meanwhile than its budget and what waits here.
///
/// Where a step has another number of partitions than it had, what it kept is dealt out, and written anew in the checkpoint.
///
/// # Errors
///
/// What cannot be read, or be kept here.
pub(crate) fn restore(
    plan: &Plan,
    resumed: &mut Resumed,
    store: Option<&StateStore>,
    n_threads: usize,
) -> Result<Progress, Error> {
    let rescaled = resumed.committed.as_ref().map_or_else(BTreeMap::new, |commit| commit.rescaled(&resumed.partitions));
    let progress = read_back(plan, &resumed.checkpoint, resumed.runs(), &rescaled, store, n_threads)?;
    if !rescaled.is_empty() {
        for (step, before) in &rescaled {
            let now = resumed.partitions.get(step);
            tracing::info!(
                target: "tidemill::checkpoint",
                job = plan.settings.name, step, before, now,
                "the state of the step is dealt out to another number of partitions"
            );
        }
        resumed.write_state_anew(&plan.stop, |emit| write_state(plan, &progress, emit))?;
    }
    Ok(progress)
}

/// Gives the steps of a plan what some runs of a checkpoint say they kept, and says how far sources had been read. Of steps in `rescaled`,
/// which had so many partitions, it is dealt out.
///
/// # Errors
///
/// What cannot be read, or be kept here.
pub(crate) fn read_back(
    plan: &Plan,
    checkpoint: &Checkpoint,
    runs: &[Run],
    rescaled: &BTreeMap<String, u32>,
    store: Option<&StateStore>,
    n_threads: usize,
) -> Result<Progress, Error> {
    let mut reading = Reading { plan, store, progress: Progress::default(), n_read: 0, dealers: HashMap::new() };
    std::thread::scope(|scope| {
        let mut queues = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..n_threads.max(1) {
            let (queue, changes) = bounded::<Read>(CHANGES_WAITING_MAX);
            queues.push(queue);
            threads.push(scope.spawn(move || {
                changes.iter().try_for_each(|(state, table, changes)| {
                    state.restore(PartitionId(table.partition), table.table, &changes)
                })
            }));
        }
        let read = if rescaled.is_empty() {
            checkpoint.read_state(runs, |table, changes| reading.take(table, changes, &queues))
        } else {
            // What a partition has dropped is not to be dropped of others, whose entries are in the same one now.
            let deal = |table: &TableId, changes| reading.deal(table, changes, rescaled, &queues);
            checkpoint.read_merged(runs, deal)
        };
        reading.finish_dealing(&queues);
        drop(queues);
        for thread in threads {
            match thread.join() {
                Ok(restored) => restored?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read?;
        store.map_or(Ok(()), |store| Ok::<(), Error>(store.maintain()?))
    })?;
    Ok(reading.progress)
}

/// What is read of a checkpoint's state.
struct Reading<'p> {
    plan: &'p Plan,
    store: Option<&'p StateStore>,
    progress: Progress,
    n_read: u64,
    /// Of tables whose step has another number of partitions: step and table.
    dealers: HashMap<(String, u32), Dealer>,
}

impl Reading<'_> {
    /// The step that some changes are of; `None`: they were a source's, or there is no such step any more.
    fn step(&mut self, table: &TableId, changes: &Changes) -> Result<Option<Arc<StepState>>, Error> {
        if self.progress.apply(table, changes) {
            return Ok(None);
        }
        self.n_read += 1;
        if self.n_read.is_multiple_of(CHANGES_BETWEEN_MOVES)
            && let Some(store) = self.store
        {
            store.maintain()?;
        }
        // Its shape was checked: a step that is gone has kept nothing that is still there.
        Ok(self.plan.states.iter().find(|state| state.step() == table.step).cloned())
    }

    /// Takes changes to the partition that they are of.
    fn take(&mut self, table: &TableId, changes: Changes, queues: &[Sender<Read>]) -> Result<(), Error> {
        if let Some(state) = self.step(table, &changes)? {
            send(queues, state, table.clone(), changes);
        }
        Ok(())
    }

    /// Takes entries to the partitions that they belong to now.
    fn deal(
        &mut self,
        table: &TableId,
        entries: Changes,
        rescaled: &BTreeMap<String, u32>,
        queues: &[Sender<Read>],
    ) -> Result<(), Error> {
        let Some(state) = self.step(table, &entries)? else { return Ok(()) };
        if !rescaled.contains_key(&table.step) {
            send(queues, state, table.clone(), entries);
            return Ok(());
        }
        let layout = state.layouts().get(table.table as usize).ok_or_else(|| StateError::Damaged {
            step: table.step.clone(),
            what: format!("there is no table {}", table.table),
        })?;
        let dealer = self.dealers.entry((table.step.clone(), table.table));
        let dealer = dealer.or_insert_with(|| Dealer::new(layout.placement().clone(), state.n_partitions()));
        let dealt = dealer.deal(table.partition, &entries);
        let dealt = dealt.map_err(internal(format!("dealing out what step `{}` keeps", table.step)))?;
        for (partition, entries) in (0..).zip(dealt).filter(|(_, entries)| !entries.is_empty()) {
            send(queues, state.clone(), TableId { partition, ..table.clone() }, entries);
        }
        Ok(())
    }

    /// Gives every partition what is made of those of all.
    fn finish_dealing(&mut self, queues: &[Sender<Read>]) {
        for ((step, table), dealer) in self.dealers.drain() {
            let Some(state) = self.plan.states.iter().find(|state| *state.step() == *step) else { continue };
            let of_all = dealer.finish();
            for partition in (0..state.n_partitions()).filter(|_| !of_all.is_empty()) {
                send(queues, state.clone(), TableId { step: step.clone(), partition, table }, of_all.clone());
            }
        }
    }
}

fn send(queues: &[Sender<Read>], state: Arc<StepState>, table: TableId, changes: Changes) {
    // A partition has one thread, so that its changes stay in order. One that has failed takes no more: it says why when it is joined.
    let _ = queues[table.partition as usize % queues.len()].send((state, table, changes));
}

/// Writes all that steps keep and how far sources have been read, in parts of a run, table by table in their order.
fn write_state(
    plan: &Plan,
    progress: &Progress,
    emit: &mut dyn FnMut(Vec<u8>) -> Result<(), CheckpointError>,
) -> Result<(), Error> {
    let mut tables: BTreeMap<TableId, What<'_>> = BTreeMap::new();
    for state in &plan.states {
        for partition in 0..state.n_partitions() {
            for table in 0..state.layouts().len() as u32 {
                tables.insert(TableId { step: state.step().to_owned(), partition, table }, What::State(state));
            }
        }
    }
    tables.extend(progress.tables().map(|(table, changes)| (table.clone(), What::Source(changes))));
    let mut writer = RunWriter::default();
    for (table, what) in tables {
        match what {
            What::Source(changes) => writer.changes(&table, &changes),
            What::State(state) => {
                let mut failure = None;
                let mut n_written = 0_usize;
                state.scan(PartitionId(table.partition), table.table, &mut |slot, key, value| {
                    writer.entry(&table, slot, key, Some(value));
                    n_written += 1;
                    if n_written.is_multiple_of(CHANGES_MAX) {
                        failure = writer.take_full().into_iter().try_for_each(&mut *emit).err();
                    }
                    Ok(failure.is_none())
                })?;
                if let Some(error) = failure {
                    return Err(error.into());
                }
            }
        }
    }
    Ok(writer.finish().into_iter().try_for_each(emit)?)
}

/// What a table is of.
enum What<'a> {
    State(&'a StepState),
    Source(Changes),
}
