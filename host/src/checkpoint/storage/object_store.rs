//! A checkpoint in an object store: S3, and what speaks as it does.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::channel::oneshot;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, Error, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    PutResult, RetryConfig, UpdateVersion,
};
use tokio::runtime::{Builder, Handle};

use super::super::owner::Owner;
use super::failure::{is_about_bucket, is_about_credentials, to_io};
use super::{Expected, Files, LEASE_NAME, Locked, OWN, Storage, Version};
use crate::checkpoint::place::ObjectPlace;

/// A request is tried again so often before it is said to have failed; whoever asked then waits, and says why.
const RETRIES: usize = 3;

/// No request is tried again behind this.
const RETRY_TIME_MAX: Duration = Duration::from_secs(10);

/// Files that are read ahead: of state, each some megabytes.
const FILES_AHEAD: usize = 8;

/// A folder of an object store.
pub(crate) struct ObjectStorage {
    /// What to call it in messages.
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    requests: Requests,
    /// How long what concerns the lease may take: it is of no use later.
    lease_request_max: Duration,
    /// Whether the store has ever answered. Until then, not to find credentials means that there are none.
    has_answered: AtomicBool,
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A store knows its credentials.
        f.debug_tuple("ObjectStorage").field(&self.name).finish()
    }
}

impl ObjectStorage {
    /// The folder that a place names. Nothing is asked of the store yet.
    pub(crate) fn connect(place: &ObjectPlace, lease_request_max: Duration) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(ErrorKind::InvalidInput, what);
        let mut builder = AmazonS3Builder::new();
        for (key, value) in from_environment(place).chain(place.options()) {
            builder = builder.with_config(key, value);
        }
        let value = |key| builder.get_config_value(&key);
        let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
        let allows_http = value(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.to_ascii_lowercase().starts_with("http:"))
            && !allows_http
                .is_some_and(|allows| matches!(allows.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y"))
        {
            return Err(invalid(format!(
                "the endpoint `{endpoint}` is not encrypted: write `allow-http = true` in `[job.checkpoint-options]`, or set \
                 AWS_ALLOW_HTTP=true, if that is meant"
            )));
        }
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let builder = builder
            .with_url(place.url())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIME_MAX });
        let store = builder.build().map_err(|error| invalid(error.to_string()))?;
        Self::new(Arc::new(store), place.prefix(), place.url(), lease_request_max)
    }

    /// A folder of a store.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        name: &str,
        lease_request_max: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            store,
            prefix,
            requests: Requests::start()?,
            lease_request_max,
            has_answered: AtomicBool::new(false),
        })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// What is left of an object's path in a folder.
    fn name_in(folder: &Path, location: &Path) -> Option<String> {
        let parts: Vec<String> = location.prefix_match(folder)?.map(|part| part.as_ref().to_owned()).collect();
        match parts.as_slice() {
            [name] => Some(name.clone()),
            _ => None,
        }
    }

    fn limit(&self, name: &str) -> Option<Duration> {
        (name == LEASE_NAME).then_some(self.lease_request_max)
    }

    /// Waits for an answer; `None` within: what was asked for is not there.
    fn answer<T>(&self, answer: io::Result<Result<T, Error>>) -> io::Result<Result<T, Error>> {
        let answer = answer?;
        match &answer {
            Ok(_) => self.has_answered.store(true, Ordering::Relaxed),
            Err(error) if is_about_credentials(error) && !self.has_answered.load(Ordering::Relaxed) => {
                let what = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write \
                            `access-key-id` and `secret-access-key` in `[job.checkpoint-options]`";
                return Err(io::Error::new(ErrorKind::PermissionDenied, what));
            }
            Err(error) if is_about_bucket(error) => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "there is no such bucket"));
            }
            Err(_) => {}
        }
        Ok(answer)
    }

    fn wait<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> io::Result<Result<T, Error>> {
        self.answer(self.requests.begin(limit, request).wait())
    }

    fn put_object(&self, name: &str, bytes: &[u8], mode: PutMode) -> io::Result<Result<PutResult, Error>> {
        let (store, path, payload) = (self.store.clone(), self.path(name), PutPayload::from(bytes.to_vec()));
        self.wait(self.limit(name), async move { store.put_opts(&path, payload, PutOptions::from(mode)).await })
    }

    fn begin_get(&self, name: &str) -> Request<(Vec<u8>, Option<String>)> {
        let (store, path) = (self.store.clone(), self.path(name));
        self.requests.begin(self.limit(name), async move {
            let found: GetResult = store.get(&path).await?;
            let tag = found.meta.e_tag.clone();
            Ok((found.bytes().await?.to_vec(), tag))
        })
    }

    fn got<T>(&self, answer: io::Result<Result<T, Error>>) -> io::Result<Option<T>> {
        match self.answer(answer)? {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(to_io(&error)),
        }
    }
}

/// What the environment says of the store, under the names that `AmazonS3Builder::from_env` reads. Of credentials, and of where the store
/// is, all is said in one place: a token of the environment is none of a key of the job.
fn from_environment(place: &ObjectPlace) -> impl Iterator<Item = (AmazonS3ConfigKey, String)> {
    use AmazonS3ConfigKey::{AccessKeyId, Endpoint, S3Endpoint, SecretAccessKey, Token};
    let says = |key| place.options().any(|(option, _)| option == key);
    let (has_key, has_endpoint) = (says(AccessKeyId), says(Endpoint));
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let known = variables.filter(|(name, _)| name.starts_with("AWS_"));
    let known = known.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)));
    known.filter(move |(key, _)| match key {
        AccessKeyId | SecretAccessKey | Token => !has_key,
        Endpoint | S3Endpoint => !has_endpoint,
        _ => true,
    })
}

/// Without the names of versions nothing can be written on a condition.
fn version(tag: Option<String>) -> io::Result<Version> {
    tag.map(Version).ok_or_else(|| io::Error::new(ErrorKind::Unsupported, "the store gives objects no ETag"))
}

impl Storage for ObjectStorage {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_object(name, bytes, PutMode::Overwrite)?.map(drop).map_err(|error| to_io(&error))
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: Expected<'_>) -> io::Result<Option<Version>> {
        let mode = match expected {
            Expected::Nothing => PutMode::Create,
            Expected::Version(Version(tag)) => {
                PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: None })
            }
        };
        match self.put_object(name, bytes, mode)? {
            Ok(put) => version(put.e_tag).map(Some),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => Ok(None),
            Err(error) => Err(to_io(&error)),
        }
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.got(self.begin_get(name).wait())?.map(|(bytes, _)| bytes))
    }

    fn get_versioned(&self, name: &str) -> io::Result<Option<(Vec<u8>, Version)>> {
        let found = self.got(self.begin_get(name).wait())?;
        found.map(|(bytes, tag)| Ok((bytes, version(tag)?))).transpose()
    }

    fn get_all<'s>(&'s self, names: Vec<String>) -> Files<'s> {
        let mut names = names.into_iter();
        let mut begun = VecDeque::new();
        Box::new(std::iter::from_fn(move || {
            begun.extend(names.by_ref().take(FILES_AHEAD - begun.len()).map(|name| self.begin_get(&name)));
            let first: Request<(Vec<u8>, Option<String>)> = begun.pop_front()?;
            Some(self.got(first.wait()).map(|found| found.map(|(bytes, _)| bytes)))
        }))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let (store, folder) = (self.store.clone(), self.path(folder));
        let of_folder = folder.clone();
        let listed = self.wait(None, async move { store.list_with_delimiter(Some(&of_folder)).await })?;
        let objects = listed.map_err(|error| to_io(&error))?.objects;
        let mut files: Vec<(String, u64)> = objects
            .iter()
            .filter_map(|object| Some((Self::name_in(&folder, &object.location)?, object.size)))
            .collect();
        files.sort();
        Ok(files)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let (store, path) = (self.store.clone(), self.path(name));
        match self.wait(None, async move { store.delete(&path).await })? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(to_io(&error)),
        }
    }

    fn prepare(&self) -> io::Result<Option<String>> {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        let listed = self.wait(None, async move { store.list_with_delimiter(Some(&prefix)).await })?;
        let listed = listed.map_err(|error| to_io(&error))?;
        let locations = listed.objects.iter().map(|object| &object.location).chain(&listed.common_prefixes);
        let names = locations.filter_map(|location| Self::name_in(&self.prefix, location));
        Ok(names.filter(|name| !OWN.contains(&name.as_str())).min())
    }

    fn lock(&self, _: &Owner) -> io::Result<Locked> {
        Ok(Locked::Never)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// A thread that does requests, any number at a time; whoever asks waits for the answer.
struct Requests {
    handle: Handle,
    /// Dropped, it ends the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Requests {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            // An error is the word: the sender has been dropped.
            let _ = runtime.block_on(ended);
        };
        let thread = std::thread::Builder::new().name("checkpoint-requests".into()).spawn(run)?;
        Ok(Self { handle, end: Some(end), thread: Some(thread) })
    }

    fn begin<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Request<T> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.handle.spawn(async move {
            let result = match limit {
                Some(limit) => tokio::time::timeout(limit, request).await.map_err(|_| {
                    io::Error::new(ErrorKind::TimedOut, format!("the store has not answered within {limit:?}"))
                }),
                None => Ok(request.await),
            };
            // Whoever asked may have given up.
            let _ = answer.send(result);
        });
        Request { answered }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been shown.
            let _ = thread.join();
        }
    }
}

/// A request that was begun.
struct Request<T> {
    answered: crossbeam_channel::Receiver<io::Result<Result<T, Error>>>,
}

impl<T> Request<T> {
    fn wait(self) -> io::Result<Result<T, Error>> {
        self.answered.recv().unwrap_or_else(|_| Err(io::Error::other("the request was broken off")))
    }
}
