//! Who has a checkpoint where nothing can be locked, as in an object store: whoever wrote the object `lease` last, for as long as he
//! goes on writing it.
//!
//! 1. The owner writes it anew, on the condition that it is as he wrote it last, three times in the time that it lasts.
//! 2. Before he shows or writes anything he looks whether it still lasts, counted from before the last renewal was *sent*.
//! 3. Others read it again and again. When it has been the same for as long as it lasts and a third longer, counted from when it was
//!    *read* first, one of them writes it, on the condition that it still is the same.
//!
//! So no time of one machine is compared with that of another: the owner's ends before that of the others does. What is sent by an
//! owner in that third and arrives late is met by conditions of its own: see `Checkpoint::put_log`.
//!
//! | what happens to the owner | what others do | what the owner does |
//! | --- | --- | --- |
//! | it ends | take the lease at once: it says that it was let go | |
//! | it dies, on the same machine | take it at once: the process is gone | |
//! | it dies, elsewhere | take it when it has not been renewed | |
//! | it stands still, or is cut off from the store | the same | shows and writes nothing; when it is back it finds another's lease and fails |
//! | the store is away for all | cannot take it | shows and writes nothing, renews it when the store is back, goes on |

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::error::may_pass;
use super::owner::Owner;
use super::patience::Patience;
use super::record::{self, Damage, Kind};
use super::storage::{Expected, LEASE_NAME, Storage, Version};
use crate::clock::{Clock, Stopwatch};

/// How long a lease lasts that is not renewed, unless the job says otherwise: a server that starts anew is back before.
pub(crate) const LEASE_DEFAULT: Duration = Duration::from_secs(15);

/// The object `lease`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) owner: Owner,
    /// Counts owners.
    pub(super) term: u64,
    /// Counts how often this one has renewed it: no two that are written are the same.
    pub(super) renewals: u64,
    pub(super) duration_ms: u64,
    /// The owner has ended, and nobody need wait.
    pub(super) released: bool,
}

impl Record {
    pub(super) fn new(owner: Owner, term: u64, duration: Duration) -> Self {
        Self { owner, term, renewals: 0, duration_ms: duration.as_millis() as u64, released: false }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec_pretty(self);
        let json = json.unwrap_or_else(|error| unreachable!("records are plain data: {error}"));
        record::encode(Kind::Lease, LEASE_NAME, &json)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let json = record::decode(Kind::Lease, LEASE_NAME, bytes)?;
        serde_json::from_slice(json).map_err(|error| Damage::Content { what: error.to_string() })
    }

    /// How long others see it unchanged before it is over.
    pub(super) fn ends_after(&self) -> Duration {
        Duration::from_millis(self.duration_ms).saturating_mul(4) / 3
    }
}

/// What is known of somebody else's lease by looking at it again and again.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What was seen last, and since when.
    seen: Option<(Version, Duration)>,
}

/// What a look at a lease tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be taken.
    Over,
    /// It may be over later.
    Lasts,
    /// Its owner is at work: it was renewed since the last look.
    Renewed,
}

impl Watch {
    /// Looks at a lease `now`.
    pub(super) fn look(&mut self, record: &Record, version: &Version, is_gone: bool, now: Duration) -> Verdict {
        if record.released || is_gone {
            return Verdict::Over;
        }
        match &self.seen {
            Some((seen, since)) if seen == version => {
                if now.saturating_sub(*since) >= record.ends_after() {
                    Verdict::Over
                } else {
                    Verdict::Lasts
                }
            }
            seen => {
                let verdict = if seen.is_some() { Verdict::Renewed } else { Verdict::Lasts };
                self.seen = Some((version.clone(), now));
                verdict
            }
        }
    }
}

/// How a lease was lost.
#[derive(Debug)]
enum Loss {
    Taken(Option<Owner>),
    Failed(io::ErrorKind, String),
}

struct State {
    /// Until when it lasts, of the clock's monotonic time.
    valid_until: Duration,
    loss: Option<Loss>,
    /// Why it was not renewed last.
    trouble: Option<(io::ErrorKind, String)>,
    /// The owner lets it go.
    ends: bool,
    on_loss: Option<Box<dyn FnOnce() + Send>>,
}

/// A lease that this process has, or had.
pub(crate) struct Lease {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    nonce: String,
    term: u64,
    duration: Duration,
    /// A mutex, because what is waited for is any of its fields, and only a few look a second.
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("term", &self.term).finish_non_exhaustive()
    }
}

impl Lease {
    /// The lease that was written as `record`, which is now of `version`, and lasts until `valid_until`.
    pub(super) fn held(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        record: Record,
        version: Version,
        valid_until: Duration,
    ) -> (Arc<Self>, Keeper) {
        let state = State { valid_until, loss: None, trouble: None, ends: false, on_loss: None };
        let lease = Arc::new(Self {
            storage,
            clock,
            nonce: record.owner.nonce.clone(),
            term: record.term,
            duration: Duration::from_millis(record.duration_ms),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        (lease.clone(), Keeper { lease, record, version, attempt: None })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which owner this is of those that the checkpoint has had.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Waits until it is sure that nobody else has the checkpoint, for a while.
    ///
    /// # Errors
    ///
    /// When somebody else has it, or the store refuses; when patience is over, why it could not be renewed.
    pub(crate) fn hold(&self, patience: &Patience) -> Result<(), CheckpointError> {
        /// So often it is seen whether waiting has an end.
        const LOOK_EVERY: Duration = Duration::from_millis(25);
        /// So often it is said why it waits.
        const TELL_EVERY: Duration = Duration::from_secs(10);
        let (waiting, mut tell_at) = (Stopwatch::start(), Duration::ZERO);
        let mut state = self.lock();
        loop {
            self.check(&state)?;
            // What is sent now is on its way for a while.
            if self.clock.monotonic() + self.duration / 10 < state.valid_until {
                return Ok(());
            }
            if patience.is_over() {
                let (kind, why) = state.trouble.clone().unwrap_or((io::ErrorKind::TimedOut, "it is late".into()));
                return Err(self.failed(kind, why));
            }
            if let Some((_, why)) = &state.trouble
                && waiting.elapsed() >= tell_at
            {
                tell_at = waiting.elapsed() + TELL_EVERY;
                let place = self.storage.describe();
                tracing::warn!(
                    target: "tidemill::checkpoint",
                    place, error = why, "the job waits for its checkpoint: the lease could not be renewed, and nothing is shown until it is"
                );
            }
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it is known to be lost.
    ///
    /// # Errors
    ///
    /// How.
    pub(crate) fn check_kept(&self) -> Result<(), CheckpointError> {
        self.check(&self.lock())
    }

    /// Asks the store whether the lease is still this process's.
    ///
    /// # Errors
    ///
    /// When it is not, or the store fails.
    pub(crate) fn confirm(&self) -> Result<(), CheckpointError> {
        let found =
            self.storage.get_versioned(LEASE_NAME).map_err(|error| self.failed(error.kind(), error.to_string()))?;
        match found.map(|(bytes, _)| Record::decode(&bytes)) {
            Some(Ok(record)) if record.owner.nonce == self.nonce => Ok(()),
            Some(Ok(record)) => Err(self.taken(Some(&record.owner))),
            Some(Err(_)) | None => Err(self.taken(None)),
        }
    }

    /// Calls `tell` once when it is lost, which may have been.
    pub(crate) fn on_loss(&self, tell: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.loss.is_some() {
            drop(state);
            tell();
        } else {
            state.on_loss = Some(Box::new(tell));
        }
    }

    fn check(&self, state: &State) -> Result<(), CheckpointError> {
        match &state.loss {
            None => Ok(()),
            Some(Loss::Taken(by)) => Err(self.taken(by.as_ref())),
            Some(Loss::Failed(kind, why)) => Err(self.failed(*kind, why.clone())),
        }
    }

    fn taken(&self, by: Option<&Owner>) -> CheckpointError {
        CheckpointError::Taken { place: self.storage.describe(), by: by.map(ToString::to_string) }
    }

    fn failed(&self, kind: io::ErrorKind, why: String) -> CheckpointError {
        let (place, name) = (self.storage.describe(), LEASE_NAME.to_owned());
        CheckpointError::Storage { place, name, doing: "renewed", source: io::Error::new(kind, why) }
    }
}

/// Renews a lease.
pub(super) struct Keeper {
    lease: Arc<Lease>,
    /// What was written last.
    record: Record,
    version: Version,
    /// When it was first tried to write the next one: an attempt whose answer was lost may have succeeded.
    attempt: Option<Duration>,
}

impl Keeper {
    /// Renews the lease once; gives the pause until the next time, or `None` when it is lost.
    pub(super) fn renew(&mut self) -> Option<Duration> {
        let lease = self.lease.clone();
        let now = lease.clock.monotonic();
        let first = *self.attempt.get_or_insert(now);
        let next = Record { renewals: self.record.renewals + 1, ..self.record.clone() };
        let written = lease.storage.put_if(LEASE_NAME, &next.encode(), Expected::Version(&self.version));
        let found = match written {
            Ok(Some(version)) => {
                self.renewed(next, version, now);
                return Some(lease.duration / 3);
            }
            Ok(None) => lease.storage.get_versioned(LEASE_NAME),
            Err(error) => Err(error),
        };
        match found {
            Ok(Some((bytes, version))) => match Record::decode(&bytes) {
                Ok(record) if record.owner.nonce == lease.nonce => {
                    // The answer to an earlier attempt was lost: it took place at some time since.
                    self.renewed(record, version, first);
                    Some(Duration::ZERO)
                }
                Ok(record) => self.lost(Loss::Taken(Some(record.owner))),
                Err(damage) => self.lost(Loss::Failed(io::ErrorKind::InvalidData, damage.to_string())),
            },
            Ok(None) => self.lost(Loss::Taken(None)),
            Err(error) if may_pass(&error) => {
                lease.lock().trouble = Some((error.kind(), error.to_string()));
                Some(lease.duration / 20)
            }
            Err(error) => self.lost(Loss::Failed(error.kind(), error.to_string())),
        }
    }

    fn renewed(&mut self, record: Record, version: Version, since: Duration) {
        (self.record, self.version, self.attempt) = (record, version, None);
        let mut state = self.lease.lock();
        state.valid_until = state.valid_until.max(since + self.lease.duration);
        state.trouble = None;
        drop(state);
        self.lease.changed.notify_all();
    }

    fn lost(&self, loss: Loss) -> Option<Duration> {
        let mut state = self.lease.lock();
        state.loss = Some(loss);
        let tell = state.on_loss.take();
        drop(state);
        self.lease.changed.notify_all();
        if let Some(tell) = tell {
            tell();
        }
        None
    }

    /// Says that nobody need wait. When that fails, others wait.
    pub(super) fn release(self) {
        let record = Record { released: true, renewals: self.record.renewals + 1, ..self.record };
        let written = self.lease.storage.put_if(LEASE_NAME, &record.encode(), Expected::Version(&self.version));
        if let Err(error) = written {
            tracing::debug!(target: "tidemill::checkpoint", %error, "the lease could not be let go; it ends by itself");
        }
    }

    /// Renews the lease on a thread of its own, until what is returned is dropped.
    pub(super) fn start(self) -> io::Result<Kept> {
        let lease = self.lease.clone();
        let mut keeper = self;
        let run = move || {
            let mut pause = keeper.lease.duration / 3;
            loop {
                let lease = keeper.lease.clone();
                let waits = |state: &mut State| !state.ends;
                let waited = lease.changed.wait_timeout_while(lease.lock(), pause, waits);
                if waited.unwrap_or_else(PoisonError::into_inner).0.ends {
                    return keeper.release();
                }
                match keeper.renew() {
                    Some(next) => pause = next,
                    None => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint-lease".into()).spawn(run)?;
        Ok(Kept { lease, thread: Some(thread) })
    }
}

/// A lease that is renewed, until this is dropped: then it is let go.
pub(super) struct Kept {
    lease: Arc<Lease>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lease.lock().ends = true;
        self.lease.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been shown.
            let _ = thread.join();
        }
    }
}
