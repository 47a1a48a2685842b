//! Checkpoints on stores and disks that fail, delay, tear what is written, fill up, and let go of processes at any instant: what is there
//! afterwards is what was committed.
//!
//! `TIDEMILL_SEED=7` draws other faults, `TIDEMILL_DEATHS=5000` more of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;

use super::claim::take;
use super::lease::Record;
use super::open::open;
use super::record::Kind;
use super::storage::faulty::{Faults, FaultyDirectory, FaultyStore, Random};
use super::storage::{LEASE_NAME, Storage};
use super::{
    Checkpoint, CheckpointError, Clocks, Committer, Done, JobShape, Offsets, Patience, Resumed, RunWriter, Standby,
    TableId, persist,
};
use crate::operator::StopFlag;
use crate::state::{Change, Changes};

/// A lease that a busy machine renews in time; a process that has died is waited for no longer than that.
const LEASE: Duration = Duration::from_millis(300);

/// Batches of a run, and keys that they change.
const BATCHES: u64 = 40;
const KEYS: u64 = 20;

fn table() -> TableId {
    TableId { step: "step".into(), partition: 0, table: 0 }
}

/// What a batch changes, as the process of this number says it.
fn changes(batch: u64, process: u64) -> Changes {
    let mut changes = Changes::default();
    let value = [batch.to_le_bytes(), process.to_le_bytes()].concat();
    (0..4).for_each(|n| changes.put(0, &((batch * 7 + n) % KEYS).to_le_bytes(), &value));
    changes.remove(0, &((batch * 3) % KEYS).to_le_bytes());
    changes
}

/// For each key that is there behind a batch, the batch that wrote it.
fn model(batches: u64) -> BTreeMap<u64, u64> {
    let mut keys = BTreeMap::new();
    for batch in 0..batches {
        keys.extend((0..4).map(|n| ((batch * 7 + n) % KEYS, batch)));
        keys.remove(&((batch * 3) % KEYS));
    }
    keys
}

/// What is kept must be what some batches have written, each of them as one process did.
fn check_state(resumed: &Resumed, context: &str) -> Result<(), CheckpointError> {
    let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    resumed.checkpoint.read_state(resumed.runs(), |_, changes| {
        for change in changes.iter() {
            if let Change::Entry { key, value, .. } = change {
                match value {
                    Some(value) => drop(found.insert(number(key), (number(&value[..8]), number(&value[8..])))),
                    None => drop(found.remove(&number(key))),
                }
            }
        }
        Ok::<(), CheckpointError>(())
    })?;
    let n_done = resumed.committed.as_ref().map_or(0, |commit| commit.batch_id + 1);
    let batches: BTreeMap<u64, u64> = found.iter().map(|(&key, &(batch, _))| (key, batch)).collect();
    assert_eq!(batches, model(n_done), "{context}: state behind {n_done} batches");
    let mut writers: BTreeMap<u64, u64> = BTreeMap::new();
    for (batch, process) in found.values() {
        assert_eq!(writers.entry(*batch).or_insert(*process), process, "{context}: batch {batch} is of two processes");
    }
    Ok(())
}

/// What is known of a run from outside.
#[derive(Default)]
struct World {
    /// Batches that were said to be committed.
    n_committed: u64,
    /// Batches that were given to be committed.
    n_given: u64,
    n_processes: u64,
}

/// One process: opens the checkpoint, and makes batches until it dies or all are made.
fn process(storage: Arc<dyn Storage>, world: &mut World, retain: u64, context: &str) -> Result<(), CheckpointError> {
    world.n_processes += 1;
    let of_process = world.n_processes;
    let stopped = StopFlag::default();
    let patience = Patience::until(&[&stopped]).hurried();
    let claimed = take(Checkpoint::of(storage), LEASE, &Standby::until_free(), &patience)?;
    let resumed = open(claimed, &JobShape { job: "job".into(), ..JobShape::default() })?;
    check_state(&resumed, context)?;
    let n_done = resumed.committed.as_ref().map_or(0, |commit| commit.batch_id + 1);
    assert!((world.n_committed..=world.n_given).contains(&n_done), "{context}: {n_done} are done of {}", world.n_given);
    for (expected, pending) in (n_done..).zip(&resumed.pending) {
        assert_eq!((pending.batch_id, pending.batch_time_us), (expected, expected as i64), "{context}: another batch");
    }
    let next = resumed.next;
    let checkpoint = resumed.checkpoint.clone();
    let committer = Committer::start(resumed, retain, stopped.clone(), None).expect("a thread");
    for batch_id in n_done..BATCHES {
        if batch_id >= next {
            let offsets = Offsets { batch_id, batch_time_us: batch_id as i64, closes: false, sources: Vec::new() };
            persist(&checkpoint, &stopped, |checkpoint| checkpoint.begin(&offsets))?;
        }
        committer.wait()?;
        world.n_committed = world.n_committed.max(batch_id);
        committer.hold()?;
        // Here it is shown: a batch behind one that is not in the checkpoint never is.
        let mut writer = RunWriter::default();
        writer.changes(&table(), &changes(batch_id, of_process));
        world.n_given = world.n_given.max(batch_id + 1);
        committer.commit(Done {
            batch_id,
            batch_time_us: batch_id as i64,
            closes: false,
            rows_in: 0,
            rows_out: 0,
            clocks: Clocks::default(),
            parts: writer.finish(),
        });
    }
    committer.wait()?;
    world.n_committed = BATCHES;
    Ok(())
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// So many processes die in all runs together, unless it is said otherwise. A disk is written through each time.
const DEATHS: u64 = 300;
const DEATHS_ON_DISK: u64 = 50;

/// The process is gone, and whoever looks sees that, as on the machine that it was on.
async fn let_go(store: &InMemory) {
    use object_store::{ObjectStoreExt, path::Path};
    let path = Path::from("a/b").join(LEASE_NAME);
    let Ok(found) = store.get(&path).await else { return };
    let bytes = found.bytes().await.expect("memory");
    let record = Record { released: true, ..Record::decode(&bytes).expect("a lease") };
    store.put(&path, record.encode().into()).await.expect("memory");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn whatever_a_store_does_what_is_committed_is_there() {
    let seed = from_environment("TIDEMILL_SEED", 1);
    let (mut random, runtime, mut deaths) = (Random(seed), runtime(), 0);
    for run in 0.. {
        let faults = Faults::new(random.below(u64::MAX));
        let (inner, mut world) = (Arc::new(InMemory::new()), World::default());
        let (retain, fails) = (1 + random.below(4), [0, 20, 100][random.below(3) as usize]);
        loop {
            let context = format!("seed {seed}, run {run}, process {}", world.n_processes + 1);
            // Each has connections of its own; what an earlier one has sent may still arrive.
            let store = FaultyStore::to(&inner, &faults);
            faults.begin(300, fails);
            match process(store.storage(LEASE), &mut world, retain, &context) {
                Ok(()) => break,
                Err(error) => assert!(faults.is_dead(), "{context}: it fails, and nothing is for good: {error:?}"),
            }
            deaths += 1;
            // A few are waited for until their lease is over.
            if random.below(16) != 0 {
                runtime.block_on(let_go(&inner));
            }
        }
        runtime.block_on(async {
            faults.end(&inner).await;
            let_go(&inner).await;
        });
        let store = FaultyStore::to(&inner, &faults);
        let context = format!("seed {seed}, run {run}, at the end");
        process(store.storage(LEASE), &mut world, retain, &context)
            .unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if deaths >= from_environment("TIDEMILL_DEATHS", DEATHS) {
            break;
        }
    }
}

#[test]
fn whatever_a_disk_does_what_is_committed_is_there() {
    let seed = from_environment("TIDEMILL_SEED", 1);
    let (mut random, mut deaths) = (Random(seed ^ 0xd15c), 0);
    for run in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let faults = Faults::new(random.below(u64::MAX));
        let mut world = World::default();
        let (retain, fails) = (1 + random.below(4), [0, 20, 100][random.below(3) as usize]);
        loop {
            let context = format!("seed {seed}, run {run}, process {}", world.n_processes + 1);
            faults.begin(300, fails);
            let storage = Arc::new(FaultyDirectory::at(folder.path(), &faults));
            match process(storage, &mut world, retain, &context) {
                Ok(()) => break,
                Err(error) => assert!(faults.is_dead(), "{context}: it fails, and nothing is for good: {error:?}"),
            }
            deaths += 1;
        }
        let files = walk(folder.path());
        assert!(!files.iter().any(|name| name.contains(".tmp-")), "seed {seed}, run {run}: {files:?}");
        if deaths >= from_environment("TIDEMILL_DEATHS", DEATHS_ON_DISK) {
            break;
        }
    }
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.flat_map(|entry| match entry.path().is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.path().display().to_string()],
    });
    names.collect()
}

/// The process that stands still wakes when another has gone on, and writes what it was about to write.
#[test]
fn what_an_earlier_owner_writes_late_is_written_over() {
    let (inner, faults) = (Arc::new(InMemory::new()), Faults::new(1));
    let storage = || FaultyStore::to(&inner, &faults).storage(LEASE);
    let offsets = |batch_time_us| Offsets { batch_id: 0, batch_time_us, closes: false, sources: Vec::new() };
    let shape = JobShape::default();
    let stopped = StopFlag::default();
    let claim = || take(Checkpoint::of(storage()), LEASE, &Standby::default(), &Patience::until(&[&stopped]).hurried());
    let first = open(claim().expect("it is free"), &shape).expect("it is empty");
    runtime().block_on(let_go(&inner));
    let second = open(claim().expect("it was let go"), &shape).expect("it is empty");
    // The first one is late: it has not looked at its lease again.
    let late = Checkpoint::of(first.checkpoint.storage.clone());
    late.begin(&offsets(1)).expect("nobody has begun it");
    second.checkpoint.begin(&offsets(2)).expect("it is the owner's to say");
    let found: Option<Offsets> = second.checkpoint.get_json(Kind::Offsets, "offsets/0000000000").expect("it is there");
    assert_eq!(found, Some(offsets(2)));
    // It looks at it, and the file is there already.
    let error = first.checkpoint.begin(&offsets(3)).expect_err("it is another's");
    assert!(matches!(error, CheckpointError::Taken { .. }), "{error:?}");
    let found: Option<Offsets> = second.checkpoint.get_json(Kind::Offsets, "offsets/0000000000").expect("it is there");
    assert_eq!(found, Some(offsets(2)));
}
