//! The plugin runtime: loads plugin files, compiles each once, and keeps the code that their instances share.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;

use wasmtime::component::{Component, InstancePre};

use crate::operator::Limits;
use crate::plugin::code_cache::CodeCache;
use crate::plugin::compile::{CompileError, Compiler};
use crate::plugin::engine::{Build, Engines, Epochs, Prepared};
use crate::plugin::error::EngineError;
use crate::plugin::file::{self, Digest};
use crate::plugin::grants::Grants;
use crate::plugin::guest::Guest;
use crate::plugin::inspect::Inspection;
use crate::plugin::reach::{IoThreads, Reach};
use crate::plugin::{LoadError, Plugin, RuntimeError};

/// How many threads compile by default, where the machine has that many: more make one plugin ready only a little sooner,
/// and take the processors from the jobs that run.
pub const COMPILE_THREADS_DEFAULT: usize = 4;

/// How a [`Runtime`] is set up.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where compiled plugins are kept; `None` keeps none. The default is `tidemill` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// How many threads compile, over all plugins that are loaded at once.
    pub compile_threads: NonZeroUsize,
    /// The `tidemill` program, which compiles each plugin in a process of its own, under the limits on compiling; `None`: plugins are
    /// compiled by this process, without limits on time and memory.
    pub compiler: Option<PathBuf>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        let n_processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let most = NonZeroUsize::new(COMPILE_THREADS_DEFAULT).unwrap_or(NonZeroUsize::MIN);
        Self {
            cache_dir: dirs::cache_dir().map(|folder| folder.join("tidemill")),
            compile_threads: n_processors.min(most),
            compiler: None,
        }
    }
}

/// Which instance runs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InstanceMode {
    /// The one that ran the call before, until it fails: a guest may keep something from batch to batch.
    #[default]
    Kept,
    /// A new one for every batch and for every attempt at it.
    Fresh,
}

/// What a job says of a plugin besides its path.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The SHA-256 digest that the file must have, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Which instance runs a call.
    pub instance: InstanceMode,
    /// What it may use, as far as that concerns loading it: the size of its file, what compiling it takes, and whether it is
    /// compiled to count fuel, at once rather than at `open`.
    pub limits: Limits,
    /// What it may reach.
    pub grants: Grants,
}

/// Loads plugins. A clone is the same runtime.
///
/// The runtime has one thread of its own, which interrupts guests whose time is over, and starts its compiler threads with
/// the first plugin that is not in the cache. All end with the last clone, plugin and instance.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    engines: Engines,
    compiler: Compiler,
    io_threads: IoThreads,
    cache: Option<CodeCache>,
    /// The code of every plugin that is loaded now: the same file is compiled once, whatever it is called.
    loaded: Mutex<HashMap<Digest, Weak<Code>>>,
}

impl Runtime {
    /// Starts a runtime.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`], when this machine cannot run compiled plugins. A cache that cannot be used is a warning.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let shared = Shared {
            engines: Engines::new()?,
            compiler: Compiler::new(config.compiler, config.compile_threads),
            io_threads: IoThreads::default(),
            cache: config.cache_dir.as_deref().and_then(CodeCache::open),
            loaded: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Loads a plugin: reads its file, checks its digest, its contract and its imports, and compiles it.
    ///
    /// `name` is what messages call it: the path as the job file gives it. The file is not read again, not even when it
    /// changes.
    ///
    /// # Cost
    ///
    /// 0.1 s for a Rust plugin and ten seconds for an interpreter when it is not in the cache; milliseconds when it is.
    /// Waits for the compiler threads.
    ///
    /// # Errors
    ///
    /// See [`LoadError`]. Nothing of the plugin has run, and nothing of it is kept.
    pub fn load(&self, name: &str, path: &Path, options: &LoadOptions) -> Result<Plugin, LoadError> {
        let pinned = match &options.sha256 {
            Some(pin) => Some(Digest::parse(pin.trim()).ok_or_else(|| LoadError::BadPin {
                plugin: name.into(),
                pin: super::text::one_line(pin).into_owned(),
            })?),
            None => None,
        };
        let bytes = file::read(name, path, options.limits.plugin_bytes)?;
        let found = Digest::of(&bytes);
        if let Some(pinned) = pinned.filter(|pinned| *pinned != found) {
            return Err(LoadError::DigestMismatch {
                plugin: name.into(),
                pinned: pinned.to_string(),
                found: found.to_string(),
            });
        }
        let inspection = inspect(name, &bytes)?;
        inspection.check_imports(name, &options.grants)?;
        let reach = Reach::new(name, options.grants.clone(), &self.shared.io_threads)?;
        let code = self.code(bytes, inspection);
        code.prepare(&options.limits).map_err(|error| {
            let plugin = name.to_owned();
            match error {
                PrepareError::Compile(CompileError::Engine(source)) => LoadError::Compile { plugin, source },
                PrepareError::Compile(CompileError::Limit { limit, seen }) => {
                    LoadError::LimitExceeded { plugin, limit, seen }
                }
                PrepareError::Link(source) => LoadError::ImportMismatch { plugin, source },
            }
        })?;
        Ok(Plugin::new(name, code, options.instance, reach))
    }

    /// Reads what a plugin says of itself, without checking its imports, compiling or running it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn inspect(&self, path: &Path) -> Result<Inspection, LoadError> {
        let name = path.display().to_string();
        inspect(&name, &file::read(&name, path, Limits::default().plugin_bytes)?)
    }

    /// The code of the plugin with these bytes: that of the same file loaded before, if it still is.
    fn code(&self, bytes: Vec<u8>, inspection: Inspection) -> Arc<Code> {
        let mut loaded = self.shared.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, code| code.strong_count() > 0);
        let known = loaded.get(&inspection.sha256).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let digest = inspection.sha256;
            let code = Arc::new(Code {
                runtime: Arc::clone(&self.shared),
                bytes,
                inspection,
                time: Slot::default(),
                fuel: Slot::default(),
            });
            loaded.insert(digest, Arc::downgrade(&code));
            code
        })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("cache", &self.shared.cache).finish_non_exhaustive()
    }
}

fn inspect(name: &str, bytes: &[u8]) -> Result<Inspection, LoadError> {
    file::check_is_component(name, bytes)?;
    Inspection::of(name, bytes)
}

/// A plugin's code, shared by everything that was loaded from the same bytes.
pub(crate) struct Code {
    runtime: Arc<Shared>,
    /// The component. Kept, because it may have to be compiled a second time, to count fuel.
    bytes: Vec<u8>,
    inspection: Inspection,
    time: Slot,
    fuel: Slot,
}

/// Where code compiled for one engine stands once it is made.
#[derive(Default)]
struct Slot {
    ready: OnceLock<InstancePre<Guest>>,
    /// Held by the thread that makes it; the others wait.
    making: Mutex<()>,
}

/// Why code cannot be run.
#[derive(Debug)]
pub(crate) enum PrepareError {
    /// It does not compile, or not within its limits.
    Compile(CompileError),
    /// Its imports have other types than what they would get.
    Link(EngineError),
}

impl Code {
    /// What the plugin says of itself.
    pub(crate) fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The epochs that its instances count.
    pub(crate) fn epochs(&self) -> &Epochs {
        self.runtime.engines.epochs()
    }

    /// The plugin, compiled and linked, ready to be instantiated. Waits while it is compiled.
    pub(crate) fn prepare(&self, limits: &Limits) -> Result<&InstancePre<Guest>, PrepareError> {
        let build = Build::of(limits, self.bytes.len());
        let slot = if build.counts_fuel { &self.fuel } else { &self.time };
        if let Some(ready) = slot.ready.get() {
            return Ok(ready);
        }
        let _making = slot.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = slot.ready.get() {
            return Ok(ready);
        }
        let prepared = self.runtime.engines.get(build).map_err(|error| PrepareError::Compile(error.into()))?;
        let component = self.compile(prepared, build, limits).map_err(PrepareError::Compile)?;
        let pre = prepared
            .linker
            .instantiate_pre(&component)
            .map_err(|error| PrepareError::Link(EngineError::new(&error)))?;
        Ok(slot.ready.get_or_init(|| pre))
    }

    fn compile(&self, prepared: &Prepared, build: Build, limits: &Limits) -> Result<Component, CompileError> {
        let Prepared { engine, settings_hash, .. } = prepared;
        let digest = &self.inspection.sha256;
        let cache = self.runtime.cache.as_ref();
        if let Some(cache) = cache
            && let Some(code) = cache.read(digest, *settings_hash)
        {
            // SAFETY: the cache gives out only what a process of this user wrote where nobody else can write, with its
            // checksum right; and this user's processes write only what the compiler gave them, below.
            match unsafe { Component::deserialize(engine, &code) } {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(
                        "a compiled plugin in the cache does not fit this host and is made again: {error:#}"
                    );
                    cache.remove(digest, *settings_hash);
                }
            }
        }
        let code = self.runtime.compiler.compile(prepared, build, &self.bytes, limits)?;
        // SAFETY: it is what the engine's compiler gave, in this process or in one of a program that the host was set up with.
        let component = unsafe { Component::deserialize(engine, &code) }.map_err(|error| EngineError::new(&error))?;
        if let Some(cache) = cache {
            cache.write(digest, *settings_hash, &code);
        }
        Ok(component)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("sha256", &self.inspection.sha256).finish_non_exhaustive()
    }
}
