//! Leases: who has one, until when, and what happens when it cannot be renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::memory::InMemory;

use super::claim::take;
use super::lease::{Keeper, Lease, Record, Verdict, Watch};
use super::owner::Owner;
use super::patience::Patience;
use super::storage::faulty::{Faults, FaultyStore};
use super::storage::{Expected, LEASE_NAME, Storage, Version};
use super::{Checkpoint, CheckpointError, Standby};
use crate::clock::ManualClock;
use crate::operator::StopFlag;

const LASTS: Duration = Duration::from_secs(15);

/// A store, a clock, and a process that has a lease.
struct World {
    inner: Arc<InMemory>,
    faults: Arc<Faults>,
    clock: Arc<ManualClock>,
    lease: Arc<Lease>,
    keeper: Keeper,
}

impl World {
    fn new() -> Self {
        let (inner, faults) = (Arc::new(InMemory::new()), Faults::new(1));
        let clock = Arc::new(ManualClock::at(Duration::from_secs(1000)));
        let storage = FaultyStore::to(&inner, &faults).storage(LASTS);
        let record = Record::new(Owner::this_process(), 7, LASTS);
        let version =
            storage.put_if(LEASE_NAME, &record.encode(), Expected::Nothing).expect("memory").expect("nothing");
        let (lease, keeper) = Lease::held(storage, clock.clone(), record, version, Duration::from_secs(1015));
        Self { inner, faults, clock, lease, keeper }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        FaultyStore::to(&self.inner, &Faults::new(2)).storage(LASTS)
    }

    /// What comes of waiting for the lease when nobody has patience.
    #[track_caller]
    fn check(&self, expected: Result<(), &str>) {
        let over = StopFlag::default();
        over.set();
        let held =
            self.lease.hold(&Patience::until(&[&over])).map_err(|error| crate::error::Error::from(error).in_one_line());
        assert_eq!(held, expected.map_err(String::from));
    }
}

#[test]
fn a_lease_lasts_while_it_is_renewed() {
    let mut world = World::new();
    assert_eq!(world.lease.term(), 7);
    for _ in 0..5 {
        world.check(Ok(()));
        assert_eq!(world.keeper.renew(), Some(LASTS / 3));
        world.clock.advance(LASTS / 3);
    }
    world.check(Ok(()));
    // What is sent at the end of it may arrive behind it.
    world.clock.advance(LASTS / 3 * 2 - LASTS / 10);
    world.check(Err("checkpoint `s3://test/a/b`: `lease` could not be renewed: it is late"));
    world.keeper.renew();
    world.check(Ok(()));
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let mut world = World::new();
    // Everything fails in ways that pass.
    world.faults.begin(u64::MAX, 1000);
    for _ in 0..20 {
        assert!(world.keeper.renew().is_some());
    }
    world.check(Ok(()));
    world.clock.advance(LASTS);
    let away = world.lease.hold(&{
        let over = StopFlag::default();
        over.set();
        Patience::until(&[&over])
    });
    let away = crate::error::Error::from(away.expect_err("it is over")).in_one_line();
    assert!(
        away.starts_with("checkpoint `s3://test/a/b`: `lease` could not be renewed: the store answers with status 5"),
        "{away}"
    );
    // It is back. What failed may have been done.
    world.faults.begin(u64::MAX, 0);
    while world.keeper.renew() != Some(LASTS / 3) {}
    world.check(Ok(()));
}

#[test]
fn an_answer_that_was_lost_counts_from_when_it_was_asked() {
    let mut world = World::new();
    // An attempt of which nothing was heard took place: somebody has written our next record.
    let (bytes, version) = world.storage().get_versioned(LEASE_NAME).expect("memory").expect("a lease");
    let record = Record::decode(&bytes).expect("a lease");
    world
        .storage()
        .put_if(LEASE_NAME, &record.encode(), Expected::Version(&version))
        .expect("memory")
        .expect("it is that");
    world.clock.advance(LASTS / 3);
    assert_eq!(world.keeper.renew(), Some(Duration::ZERO));
    assert_eq!(world.keeper.renew(), Some(LASTS / 3));
    world.clock.advance(LASTS / 3 * 2);
    world.check(Ok(()));
}

#[test]
fn a_lease_that_another_has_taken_is_lost() {
    let mut world = World::new();
    let told = Arc::new(AtomicU64::new(0));
    let tell = |told: &Arc<AtomicU64>| {
        let told = told.clone();
        move || {
            told.fetch_add(1, Ordering::SeqCst);
        }
    };
    world.lease.on_loss(tell(&told));
    let other = Owner { process: 99, host: "other".into(), ..Owner::this_process() };
    let (_, version) = world.storage().get_versioned(LEASE_NAME).expect("memory").expect("a lease");
    let record = Record::new(other, 8, LASTS);
    world
        .storage()
        .put_if(LEASE_NAME, &record.encode(), Expected::Version(&version))
        .expect("memory")
        .expect("it is that");
    // It does not know yet; asked for, it finds out.
    world.check(Ok(()));
    assert!(matches!(world.lease.confirm(), Err(CheckpointError::Taken { .. })));
    assert_eq!(world.keeper.renew(), None);
    world.check(Err("checkpoint `s3://test/a/b` was taken over by another process (process 99 of `other`)"));
    assert_eq!(told.load(Ordering::SeqCst), 1);
    world.lease.on_loss(tell(&told));
    assert_eq!(told.load(Ordering::SeqCst), 2);
    // What is another's is not let go.
    let storage = world.storage();
    world.keeper.release();
    let (bytes, _) = storage.get_versioned(LEASE_NAME).expect("memory").expect("a lease");
    assert!(!Record::decode(&bytes).expect("a lease").released);
}

#[test]
fn others_take_a_lease_that_was_not_renewed_for_as_long_as_they_have_watched() {
    let record = Record::new(Owner::this_process(), 1, LASTS);
    let version = |n: u32| Version(n.to_string());
    let seconds = Duration::from_secs;
    let mut watch = Watch::default();
    // Whatever the time was when it was written.
    assert_eq!(watch.look(&record, &version(1), false, seconds(5000)), Verdict::Lasts);
    assert_eq!(watch.look(&record, &version(1), false, seconds(5019)), Verdict::Lasts);
    assert_eq!(watch.look(&record, &version(2), false, seconds(5020)), Verdict::Renewed);
    assert_eq!(watch.look(&record, &version(2), false, seconds(5039)), Verdict::Lasts);
    assert_eq!(watch.look(&record, &version(2), false, seconds(5040)), Verdict::Over);
    assert_eq!(Watch::default().look(&record, &version(1), true, seconds(1)), Verdict::Over);
    let released = Record { released: true, ..record };
    assert_eq!(Watch::default().look(&released, &version(1), false, seconds(1)), Verdict::Over);
}

#[test]
fn a_store_that_takes_no_notice_of_conditions_is_refused() {
    let (inner, faults) = (Arc::new(InMemory::new()), Faults::new(1));
    let store = Arc::new(FaultyStore { inner, faults, is_careless: true });
    let patience = Patience::until(&[&StopFlag::default()]);
    let claimed = take(Checkpoint::of(store.storage(LASTS)), LASTS, &Standby::default(), &patience);
    let error = crate::error::Error::from(claimed.err().expect("it keeps nobody out")).in_one_line();
    let expected = "the store takes no notice of `If-None-Match`: it cannot keep two jobs apart";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn two_processes_have_a_checkpoint_one_after_the_other() {
    let (inner, faults) = (Arc::new(InMemory::new()), Faults::new(1));
    let short = Duration::from_millis(300);
    let patience = Patience::until(&[&StopFlag::default()]);
    let claim = |standby: &Standby| {
        take(Checkpoint::of(FaultyStore::to(&inner, &faults).storage(short)), short, standby, &patience)
    };
    let first = claim(&Standby::default()).expect("it is free");
    let second = claim(&Standby::default()).err();
    assert!(matches!(second, Some(CheckpointError::InUse { by: Some(_), .. })), "{second:?}");
    // Who waits is let in when the first lets go.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| claim(&Standby::until_free()).map(|claimed| claimed.checkpoint.term()));
        drop(first);
        assert_eq!(waiting.join().expect("no panic").expect("it is free"), 2);
    });
    // And who gives up is told so.
    let held = claim(&Standby::default()).expect("it is free");
    let standby = Standby::until_free();
    standby.give_up();
    let given_up = take(
        Checkpoint::of(FaultyStore::to(&inner, &faults).storage(short)),
        short,
        &standby,
        &standby.patience(&StopFlag::default()),
    );
    assert!(matches!(given_up.err(), Some(CheckpointError::GivenUp { .. })));
    drop(held);
}
