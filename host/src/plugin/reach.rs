//! A plugin's grants, made ready: directories that can be opened, clients that send requests, threads that do both.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use wasmtime_wasi::filesystem::{FsPerms, WasiFilesystemCtx};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::plugin::LoadError;
use crate::plugin::error::EngineError;
use crate::plugin::grants::{Access, Grants};
use crate::plugin::wasi::http::HttpAccess;

/// How many threads do what guests wait for: they only pass on what the network brings.
const THREADS: usize = 2;
/// How many threads read and write files at once, over all plugins. A guest that was ended while it waited for a file leaves its
/// thread behind until the file answers.
const FILE_THREADS_MAX: usize = 64;

/// The threads on which the host does what guests with grants ask for. Started with the first such plugin.
#[derive(Debug, Default)]
pub(crate) struct IoThreads(OnceLock<Result<tokio::runtime::Runtime, String>>);

impl IoThreads {
    fn handle(&self) -> Result<Handle, EngineError> {
        let made = self.0.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .max_blocking_threads(FILE_THREADS_MAX)
                .thread_name("tidemill-guest-io")
                .enable_all()
                .build()
                .map_err(|error| format!("its threads cannot be started: {error}"))
        });
        made.as_ref().map(|runtime| runtime.handle().clone()).map_err(|error| EngineError(error.clone()))
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        if let Some(Ok(runtime)) = self.0.take() {
            // A file that does not answer must not hold up the end of the process; and this may be a thread of another such runtime,
            // which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// What the instances of a plugin reach.
pub(crate) struct Reach {
    grants: Grants,
    /// The directories, opened once: what their paths name later changes nothing.
    filesystem: WasiFilesystemCtx,
    /// One for each grant of HTTP, shared by the instances, so that they use each other's connections.
    http: Arc<[HttpAccess]>,
    threads: Option<Handle>,
}

impl Reach {
    /// Opens what `grants` names.
    pub(crate) fn new(plugin: &str, grants: Grants, threads: &IoThreads) -> Result<Self, LoadError> {
        let threads = if grants.needs_threads() {
            Some(threads.handle().map_err(|source| LoadError::Compile { plugin: plugin.into(), source })?)
        } else {
            None
        };
        let mut builder = WasiCtxBuilder::new();
        for granted in &grants.directories {
            let may = match granted.access {
                Access::Read => FsPerms::ReadOnly,
                Access::Write => FsPerms::ReadWrite,
            };
            builder.preopened_dir(&granted.path, &granted.guest_path, may).map_err(|error| LoadError::Directory {
                plugin: plugin.into(),
                path: granted.path.clone(),
                source: EngineError::new(&error),
            })?;
        }
        let mut context: WasiCtx = builder.build();
        let filesystem = context.filesystem().clone();
        let http = grants.http.iter().cloned().map(HttpAccess::new).collect();
        Ok(Self { grants, filesystem, http, threads })
    }

    /// What is granted.
    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The directories, for one instance.
    pub(crate) fn filesystem(&self) -> WasiFilesystemCtx {
        self.filesystem.clone()
    }

    /// Where requests may go.
    pub(crate) fn http(&self) -> Arc<[HttpAccess]> {
        Arc::clone(&self.http)
    }

    /// The threads that do it.
    pub(crate) fn threads(&self) -> Option<Handle> {
        self.threads.clone()
    }
}
