//! Storages that fail as a seed says, for tests: before a write or behind it, for a while, or for good as when the process has died.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::super::owner::Owner;
use super::{Directory, Expected, Locked, ObjectStorage, Storage, Version};

/// SplitMix64 (Steele et al., 2014): numbers from a seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It fails, and nothing was done.
    Fails,
    /// It was done, and the answer is lost.
    IsDoneAndFails,
    /// There is no room, or the store says to slow down: for a while.
    IsRefused,
    /// The process dies before.
    Dies,
    /// The process dies while the request is on its way: it is done later, when another has the checkpoint.
    DiesAndArrivesLate,
    /// The process dies behind it.
    IsDoneAndDies,
}

/// A request of a process that has died, on its way to the store.
#[derive(Debug, Clone)]
enum Late {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
}

#[derive(Debug)]
struct State {
    random: Random,
    /// Requests until the process dies.
    left: u64,
    is_dead: bool,
    /// Requests that are refused, one after the other.
    n_refused: u64,
    /// What fails and passes of a thousand.
    fails_of_1000: u64,
    late: VecDeque<Late>,
}

/// What goes wrong, by a seed.
#[derive(Debug)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            random: Random(seed),
            left: u64::MAX,
            is_dead: false,
            n_refused: 0,
            fails_of_1000: 0,
            late: VecDeque::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins, which dies within so many requests. Of a thousand so many fail in a way that passes.
    pub(crate) fn begin(&self, requests_max: u64, fails_of_1000: u64) {
        let mut state = self.lock();
        state.left = state.random.below(requests_max);
        (state.is_dead, state.n_refused, state.fails_of_1000) = (false, 0, fails_of_1000);
    }

    /// From now on nothing fails, and what is on its way has arrived.
    pub(crate) async fn end(&self, store: &InMemory) {
        let late = {
            let mut state = self.lock();
            (state.left, state.is_dead, state.fails_of_1000) = (u64::MAX, false, 0);
            std::mem::take(&mut state.late)
        };
        for late in late {
            arrive(store, late).await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    fn next(&self) -> Fate {
        let mut state = self.lock();
        if state.is_dead {
            return Fate::Dies;
        }
        if state.left == 0 {
            state.is_dead = true;
            return [Fate::Dies, Fate::DiesAndArrivesLate, Fate::IsDoneAndDies][state.random.below(3) as usize];
        }
        state.left -= 1;
        if state.n_refused > 0 {
            state.n_refused -= 1;
            return Fate::IsRefused;
        }
        if state.random.below(1000) >= state.fails_of_1000 {
            return Fate::Works;
        }
        match state.random.below(3) {
            0 => Fate::Fails,
            1 => Fate::IsDoneAndFails,
            _ => {
                state.n_refused = state.random.below(5);
                Fate::IsRefused
            }
        }
    }

    /// What arrives before the next request.
    fn arrived(&self) -> Option<Late> {
        let mut state = self.lock();
        let arrives = !state.is_dead && state.random.below(8) == 0;
        if arrives { state.late.pop_front() } else { None }
    }

    fn delay(&self) -> Option<Duration> {
        let mut state = self.lock();
        (state.random.below(50) == 0).then(|| Duration::from_micros(state.random.below(3000)))
    }
}

async fn arrive(store: &InMemory, late: Late) {
    // It may be too late for it: nobody waits for the answer.
    match late {
        Late::Put(path, payload, options) => drop(store.put_opts(&path, payload, options).await),
        Late::Delete(path) => drop(store.delete(&path).await),
    }
}

/// An object store in memory that fails.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<InMemory>,
    pub(crate) faults: Arc<Faults>,
    /// Whether it takes no notice of conditions.
    pub(crate) is_careless: bool,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn away(status: &str) -> Error {
    let source = format!("Error performing PUT in 1ms - Server returned non-2xx status code: {status}: ");
    Error::Generic { store: "S3", source: source.into() }
}

/// Not waited for: the process is gone.
fn dead() -> Error {
    Error::PermissionDenied { path: String::new(), source: "the process has died".into() }
}

impl FaultyStore {
    /// A process's way to a store.
    pub(crate) fn to(inner: &Arc<InMemory>, faults: &Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), faults: faults.clone(), is_careless: false })
    }

    /// A storage on it.
    pub(crate) fn storage(self: &Arc<Self>, lease: Duration) -> Arc<dyn Storage> {
        let storage = ObjectStorage::new(self.clone(), Path::from("a/b"), "s3://test/a/b", lease / 3);
        Arc::new(storage.expect("a thread"))
    }

    /// What becomes of a request, which may have been done by then if `late` says how.
    async fn before(&self, late: Option<Late>) -> Result<Option<Error>> {
        // Even no time at all is a millisecond to a timer.
        if let Some(delay) = self.faults.delay() {
            tokio::time::sleep(delay).await;
        }
        if let Some(late) = self.faults.arrived() {
            arrive(&self.inner, late).await;
        }
        match (self.faults.next(), late) {
            (Fate::Works, _) => Ok(None),
            (Fate::Fails, _) => Err(away("500 Internal Server Error")),
            (Fate::IsRefused, _) => Err(away("503 Service Unavailable")),
            (Fate::IsDoneAndFails, Some(_)) => Ok(Some(away("504 Gateway Timeout"))),
            (Fate::IsDoneAndDies, Some(_)) => Ok(Some(dead())),
            (Fate::DiesAndArrivesLate, Some(late)) => {
                self.faults.lock().late.push_back(late);
                Err(dead())
            }
            (Fate::IsDoneAndFails, None) => Err(away("504 Gateway Timeout")),
            (Fate::Dies | Fate::IsDoneAndDies | Fate::DiesAndArrivesLate, _) => Err(dead()),
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let late = Late::Put(location.clone(), payload.clone(), options.clone());
        let lost = self.before(Some(late)).await?;
        let options = if self.is_careless { PutOptions::default() } else { options };
        let put = self.inner.put_opts(location, payload, options).await;
        lost.map_or(put, Err)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before(None).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = Self::to(&self.inner, &self.faults);
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let lost = store.before(Some(Late::Delete(location.clone()))).await?;
                let deleted = store.inner.delete(&location).await.map(|()| location);
                lost.map_or(deleted, Err)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before(None).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A directory whose disk fails, tears what is written, and fills up.
#[derive(Debug)]
pub(crate) struct FaultyDirectory {
    inner: Directory,
    path: std::path::PathBuf,
    faults: Arc<Faults>,
}

impl FaultyDirectory {
    pub(crate) fn at(path: &FilePath, faults: &Arc<Faults>) -> Self {
        Self { inner: Directory::at(path), path: path.to_owned(), faults: faults.clone() }
    }

    fn ask<T>(&self, torn: Option<(&str, &[u8])>, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let dead = || io::Error::new(ErrorKind::PermissionDenied, "the process has died");
        let tear = || {
            // Half of it is on the disk, under the name that it has while it is written.
            if let Some((name, bytes)) = torn {
                let target = self.path.join(name);
                let folder = target.parent().unwrap_or(&self.path).to_owned();
                let written = std::fs::create_dir_all(&folder);
                let name = folder.join(format!(".tmp-1-{}", self.faults.lock().random.below(1 << 40)));
                written.and_then(|()| std::fs::write(name, &bytes[..bytes.len() / 2])).expect("a disk");
            }
        };
        match self.faults.next() {
            Fate::Works => ask(),
            // What is not written has nothing that fails and passes.
            _ if torn.is_none() && !self.faults.is_dead() => ask(),
            Fate::Fails => Err(io::Error::other("the disk does not answer")),
            Fate::IsRefused => Err(io::Error::new(ErrorKind::StorageFull, "no room")),
            Fate::IsDoneAndFails => ask().and_then(|_| Err(io::Error::other("the disk does not answer"))),
            Fate::IsDoneAndDies => ask().and_then(|_| Err(dead())),
            Fate::Dies | Fate::DiesAndArrivesLate => {
                tear();
                Err(dead())
            }
        }
    }
}

impl Storage for FaultyDirectory {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.ask(Some((name, bytes)), || self.inner.put(name, bytes))
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: Expected<'_>) -> io::Result<Option<Version>> {
        self.ask(Some((name, bytes)), || self.inner.put_if(name, bytes, expected))
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.ask(None, || self.inner.get(name))
    }

    fn get_versioned(&self, name: &str) -> io::Result<Option<(Vec<u8>, Version)>> {
        self.ask(None, || self.inner.get_versioned(name))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.ask(None, || self.inner.list(folder))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.ask(None, || self.inner.delete(name))
    }

    fn prepare(&self) -> io::Result<Option<String>> {
        self.ask(None, || self.inner.prepare())
    }

    fn lock(&self, owner: &Owner) -> io::Result<Locked> {
        self.ask(None, || self.inner.lock(owner))
    }
}
