//! Takes a checkpoint for this process alone, and waits for it where that is wanted.

use std::sync::Arc;
use std::time::Duration;

use super::lease::{Lease, Record, Verdict, Watch};
use super::owner::Owner;
use super::patience::Patience;
use super::place::Place;
use super::storage::{Expected, LEASE_NAME, Lock, Locked, Storage, Version};
use super::{Checkpoint, CheckpointError};
use crate::clock::{Clock, SystemClock};
use crate::operator::StopFlag;

/// How often it is seen whether a lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a job waits before it starts. Clones are of the same start.
///
/// # Examples
///
/// ```no_run
/// use tidemill::checkpoint::Standby;
/// use tidemill::context::Context;
/// # fn start(mut context: Context) -> Result<(), tidemill::error::Error> {
/// let standby = Standby::until_free();
/// context.set_standby(standby.clone());
/// // From another thread `standby.give_up()` ends the waiting, and `start` with an error.
/// let running = context.start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Standby {
    waits_for_owner: bool,
    given_up: StopFlag,
}

impl Standby {
    /// Waits for as long as another process has what the job needs: its checkpoint, and the directories of its sinks. Without it
    /// that is an error. A job always waits for a store that is away, and for the lease of a process that may have died.
    #[must_use]
    pub fn until_free() -> Self {
        Self { waits_for_owner: true, given_up: StopFlag::default() }
    }

    /// Ends the waiting. A job that has started is not stopped by it.
    pub fn give_up(&self) {
        self.given_up.set();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.is_set()
    }

    pub(crate) fn waits_for_owner(&self) -> bool {
        self.waits_for_owner
    }

    /// What ends when the job is stopped or the waiting is given up.
    pub(crate) fn patience(&self, stopped: &StopFlag) -> Patience {
        Patience::until(&[&self.given_up, stopped])
    }
}

/// A checkpoint that this process has.
pub(crate) struct Claimed {
    pub(super) checkpoint: Checkpoint,
    pub(super) lock: Lock,
}

/// Takes the checkpoint at a place, with a lease that lasts so long where there are no locks.
///
/// # Errors
///
/// When somebody else has it, it is somebody else's, or the place cannot be used.
pub(crate) fn claim(
    place: &Place,
    lease: Duration,
    standby: &Standby,
    patience: &Patience,
) -> Result<Claimed, CheckpointError> {
    take(Checkpoint::at(place, lease)?, lease, standby, patience)
}

/// Takes a checkpoint.
pub(super) fn take(
    checkpoint: Checkpoint,
    lease: Duration,
    standby: &Standby,
    patience: &Patience,
) -> Result<Claimed, CheckpointError> {
    let checkpoint = checkpoint.with_patience(patience);
    let foreign = checkpoint.attempt(".", "opened", |storage| storage.prepare())?;
    if let Some(example) = foreign {
        return Err(CheckpointError::Foreign { place: checkpoint.place(), example });
    }
    let owner = Owner::this_process();
    let mut announced = Announced::default();
    loop {
        match checkpoint.attempt("lock", "locked", |storage| storage.lock(&owner))? {
            Locked::Ours(lock) => return Ok(Claimed { checkpoint, lock }),
            Locked::Taken(by) if !standby.waits_for_owner => return Err(in_use(&checkpoint, by.as_ref())),
            Locked::Taken(by) => announced.once(&checkpoint, by.as_ref(), standby),
            Locked::Never => {
                let claim = Claim { checkpoint, owner, lease, standby, patience, clock: Arc::new(SystemClock::new()) };
                return claim.lease();
            }
        }
        if !patience.pause(LOOK_EVERY) {
            return Err(CheckpointError::GivenUp { place: checkpoint.place() });
        }
    }
}

fn in_use(checkpoint: &Checkpoint, by: Option<&Owner>) -> CheckpointError {
    CheckpointError::InUse { place: checkpoint.place(), by: by.map(ToString::to_string) }
}

/// Says once that the job waits.
#[derive(Default)]
struct Announced(bool);

impl Announced {
    fn once(&mut self, checkpoint: &Checkpoint, by: Option<&Owner>, standby: &Standby) {
        if std::mem::replace(&mut self.0, true) {
            return;
        }
        let (place, by) = (checkpoint.place(), by.map_or("another process".into(), ToString::to_string));
        if standby.waits_for_owner {
            tracing::info!(target: "tidemill::checkpoint", place, "the job stands by: {by} has its checkpoint");
        } else {
            tracing::info!(target: "tidemill::checkpoint", place, "the job waits to see whether {by}, who has its checkpoint, is still there");
        }
    }
}

/// What it takes to get a lease.
struct Claim<'c> {
    checkpoint: Checkpoint,
    owner: Owner,
    lease: Duration,
    standby: &'c Standby,
    patience: &'c Patience,
    clock: Arc<dyn Clock>,
}

impl Claim<'_> {
    fn lease(self) -> Result<Claimed, CheckpointError> {
        let mut watch = Watch::default();
        let mut announced = Announced::default();
        // When it was first tried to write it: an attempt whose answer was lost may have succeeded.
        let mut first = None;
        let (record, version, since) = loop {
            let found = self.checkpoint.attempt(LEASE_NAME, "read", |storage| storage.get_versioned(LEASE_NAME))?;
            let found = found.map(|(bytes, version)| Ok((Record::decode(&bytes)?, version))).transpose();
            let found = found.map_err(self.checkpoint.damaged(LEASE_NAME))?;
            let (term, expected) = match found {
                Some((record, version)) if record.owner.nonce == self.owner.nonce => {
                    break (record, version, first.unwrap_or_default());
                }
                Some((record, version)) => {
                    if !self.is_over(&mut watch, &mut announced, &record, &version)? {
                        continue;
                    }
                    (record.term + 1, Some(version))
                }
                None => (1, None),
            };
            let record = Record::new(self.owner.clone(), term, self.lease);
            let bytes = record.encode();
            let since = self.clock.monotonic();
            first.get_or_insert(since);
            let expected = expected.as_ref().map_or(Expected::Nothing, Expected::Version);
            // Tried once: an attempt that failed may have succeeded, and what is there then is looked at above.
            let written = self.checkpoint.storage.put_if(LEASE_NAME, &bytes, expected);
            match written.map_err(self.checkpoint.failed(LEASE_NAME, "written")) {
                Ok(Some(version)) => break (record, version, since),
                Ok(None) => {}
                Err(error) => {
                    // It waits, says why, and gives it back when waiting does not help.
                    let mut error = Some(error);
                    self.patience.insist(|| error.take().map_or(Ok(()), Err))?;
                }
            }
        };
        self.check_conditions(&record)?;
        let storage = self.checkpoint.storage.clone();
        let (lease, keeper) = Lease::held(storage, self.clock.clone(), record, version, since + self.lease);
        let kept = keeper.start().map_err(self.checkpoint.failed(LEASE_NAME, "renewed"))?;
        Ok(Claimed { checkpoint: self.checkpoint.with_lease(lease), lock: Box::new(kept) })
    }

    /// Whether somebody else's lease may be taken. If not, waits a while.
    fn is_over(
        &self,
        watch: &mut Watch,
        announced: &mut Announced,
        record: &Record,
        version: &Version,
    ) -> Result<bool, CheckpointError> {
        let is_gone = record.owner.is_gone();
        let verdict = watch.look(record, version, is_gone, self.clock.monotonic());
        if verdict == Verdict::Over {
            if !record.released {
                let why = if is_gone { "it has died" } else { "it has not renewed its lease" };
                let place = self.checkpoint.place();
                tracing::info!(target: "tidemill::checkpoint", place, "the job takes the checkpoint of {}: {why}", record.owner);
            }
            return Ok(true);
        }
        if !self.standby.waits_for_owner && verdict == Verdict::Renewed {
            return Err(in_use(&self.checkpoint, Some(&record.owner)));
        }
        announced.once(&self.checkpoint, Some(&record.owner), self.standby);
        if !self.patience.pause((record.ends_after() / 20).min(LOOK_EVERY * 4)) {
            return Err(CheckpointError::GivenUp { place: self.checkpoint.place() });
        }
        Ok(false)
    }

    /// Sees to it that the store keeps to conditions: a store that does not know them writes over the lease of others.
    fn check_conditions(&self, record: &Record) -> Result<(), CheckpointError> {
        let bytes = record.encode();
        // No object has this tag.
        let other = Version("\"00000000000000000000000000000000\"".into());
        for (expected, header) in [(Expected::Nothing, "If-None-Match"), (Expected::Version(&other), "If-Match")] {
            // What it writes against our will is what is there already.
            let put = |storage: &dyn Storage| storage.put_if(LEASE_NAME, &bytes, expected);
            if self.checkpoint.attempt(LEASE_NAME, "written", put)?.is_some() {
                let what = format!("the store takes no notice of `{header}`: it cannot keep two jobs apart");
                let source = std::io::Error::new(std::io::ErrorKind::Unsupported, what);
                return Err(self.checkpoint.failed(LEASE_NAME, "written")(source));
            }
        }
        Ok(())
    }
}
