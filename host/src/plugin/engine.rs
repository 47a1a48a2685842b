//! The component engines: their settings, the ticker that interrupts guests, the threads that compile.

use std::hash::{Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, Inlining, OptLevel};
use xxhash_rust::xxh3::Xxh3;

use crate::clock::{Clock, SystemClock};
use crate::operator::Limits;
use crate::plugin::error::EngineError;
use crate::plugin::guest::Guest;
use crate::plugin::{RuntimeError, contract, wasi};

/// How often running guests look whether their time is over: the error of a limit on time.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);
/// The most ticks made up for at once, when the ticker's thread did not run: a machine that slept does not take all
/// guests' time away.
const TICKS_AT_ONCE_MAX: u128 = 10;
/// The stack of a guest, in bytes; on top of it the host needs some hundred KiB of the thread's 2 MiB.
pub(crate) const WASM_STACK_BYTES: usize = 1 << 20;
/// The stack of a thread that compiles, in bytes: the compiler recurses over what it compiles.
const COMPILE_STACK_BYTES: usize = 8 << 20;

/// Plugins whose file is larger are compiled without inlining. To inline, the compiler holds all functions of a component at once
/// in its own form: Python, 18 MB, took 10.6 GiB of memory so, and QuickJS, 2 MB, 1.5 GiB; without, 0.5 and 0.2 GiB. The inner loop of
/// an interpreter, which is what counts, is one large function that nothing is inlined into. Most compilers make smaller plugins.
const INLINED_BYTES_MAX: usize = 1 << 20;

/// How a plugin's code is compiled: each way has an engine of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Build {
    /// Whether fuel stops a guest, too. Counting it changes the code, and costs a fifth.
    pub(crate) counts_fuel: bool,
    /// Whether small functions are compiled into those that call them.
    pub(crate) inlines: bool,
}

impl Build {
    /// How a component of `n_bytes` is compiled for a step with these limits.
    pub(crate) fn of(limits: &Limits, n_bytes: usize) -> Self {
        Self { counts_fuel: limits.fuel_per_call.is_some(), inlines: n_bytes <= INLINED_BYTES_MAX }
    }

    fn index(self) -> usize {
        usize::from(self.counts_fuel) + 2 * usize::from(self.inlines)
    }
}

/// An engine with what every instance in it is linked to.
pub(crate) struct Prepared {
    /// The engine.
    pub(crate) engine: Engine,
    /// Everything a plugin may import.
    pub(crate) linker: Linker<Guest>,
    /// Names the settings: code compiled under others cannot be loaded.
    pub(crate) settings_hash: u64,
}

/// The engines, made when they are first needed, and the thread that ticks for them.
pub(crate) struct Engines {
    /// By [`Build::index`].
    made: [OnceLock<Result<Prepared, EngineError>>; 4],
    ticker: Ticker,
}

/// How many epochs have gone by: what the engines' code looks at is not to be read, so it is counted a second time. Clones
/// are the same count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Epochs(Arc<AtomicU64>);

impl Epochs {
    /// How many.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Engines {
    pub(crate) fn new() -> Result<Self, RuntimeError> {
        // The one that most plugins are compiled for is made at once: a machine that cannot run it runs none.
        let usual = Build { counts_fuel: false, inlines: true };
        let prepared = Prepared::new(usual).map_err(RuntimeError::Engine)?;
        let ticker = Ticker::start(prepared.engine.clone()).map_err(RuntimeError::Thread)?;
        let mut made: [OnceLock<_>; 4] = Default::default();
        made[usual.index()] = Ok(prepared).into();
        Ok(Self { made, ticker })
    }

    /// The epochs of all engines.
    pub(crate) fn epochs(&self) -> &Epochs {
        &self.ticker.shared.epochs
    }

    /// The engine for plugins that are compiled so.
    pub(crate) fn get(&self, build: Build) -> Result<&Prepared, EngineError> {
        let made = self.made[build.index()].get_or_init(|| {
            let prepared = Prepared::new(build)?;
            self.ticker.add(prepared.engine.clone());
            Ok(prepared)
        });
        made.as_ref().map_err(Clone::clone)
    }
}

impl Prepared {
    fn new(build: Build) -> Result<Self, EngineError> {
        let engine = Engine::new(&config(build)).map_err(|error| EngineError::new(&error))?;
        let mut linker = Linker::new(&engine);
        contract::add_to_linker(&mut linker)
            .and_then(|()| wasi::add_to_linker(&mut linker))
            .map_err(|error| EngineError::new(&error))?;
        let mut hasher = Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { settings_hash: hasher.finish(), engine, linker })
    }
}

/// The settings that make a guest's run depend on nothing but its input, and stop it when it must be stopped.
pub(crate) fn config(build: Build) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(build.counts_fuel)
        // Guests are called one at a time: a call costs 130 ns without support for concurrent ones, 400 with.
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        // Small functions called in loops (iterators, string handling) ran up to a quarter faster.
        .compiler_inlining(if build.inlines { Inlining::Yes } else { Inlining::No })
        // The bits of a NaN and the results of relaxed SIMD differ between processors otherwise, and replays with them.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        // An async stack is never made; it must only not be smaller than the other.
        .async_stack_size(2 * WASM_STACK_BYTES)
        // A new instance maps its initial memory instead of copying it.
        .memory_init_cow(true)
        .wasm_threads(false);
    config
}

/// Increments the epoch of engines every [`EPOCH_TICK`], on a thread of its own, until it is dropped.
struct Ticker {
    shared: Arc<TickerShared>,
    thread: Option<JoinHandle<()>>,
}

struct TickerShared {
    state: Mutex<TickerState>,
    /// Wakes the thread before its time, to end.
    stop: Condvar,
    epochs: Epochs,
}

struct TickerState {
    engines: Vec<Engine>,
    is_stopped: bool,
}

impl Ticker {
    fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(TickerShared {
            state: Mutex::new(TickerState { engines: vec![engine], is_stopped: false }),
            stop: Condvar::new(),
            epochs: Epochs::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("tidemill-epoch".into()).spawn(move || tick_until_stopped(&for_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn add(&self, engine: Engine) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).engines.push(engine);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).is_stopped = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends at once, and its panic, which it has no reason for, would be of no use here.
            let _ = thread.join();
        }
    }
}

fn tick_until_stopped(shared: &TickerShared) {
    let clock = SystemClock::new();
    let mut n_ticks = 0;
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    while !state.is_stopped {
        (state, _) = shared.stop.wait_timeout(state, EPOCH_TICK).unwrap_or_else(PoisonError::into_inner);
        let due = clock.monotonic().as_nanos() / EPOCH_TICK.as_nanos();
        for _ in 0..(due - n_ticks).min(TICKS_AT_ONCE_MAX) {
            shared.epochs.0.fetch_add(1, Ordering::Relaxed);
            state.engines.iter().for_each(Engine::increment_epoch);
        }
        n_ticks = due;
    }
}

/// The threads that compile plugins: no more of them than was said, however many plugins are loaded at once.
pub(crate) struct CompilePool {
    n_threads: NonZeroUsize,
    /// Started with the first plugin that is not in the cache.
    threads: OnceLock<Result<rayon::ThreadPool, String>>,
}

impl CompilePool {
    pub(crate) fn new(n_threads: NonZeroUsize) -> Self {
        Self { n_threads, threads: OnceLock::new() }
    }

    /// Runs `compile` on the pool, what it does in parallel as well, and waits for it.
    ///
    /// A compiler that panics over a plugin is an error about that plugin.
    pub(crate) fn run<T: Send>(
        &self,
        compile: impl FnOnce() -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let threads = self.threads.get_or_init(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(self.n_threads.get())
                .thread_name(|index| format!("tidemill-compile-{index}"))
                .stack_size(COMPILE_STACK_BYTES)
                .build()
                .map_err(|error| error.to_string())
        });
        let threads = threads.as_ref().map_err(|error| EngineError(error.clone()))?;
        // Nothing that a compilation has begun is used after a panic.
        let compile = std::panic::AssertUnwindSafe(compile);
        threads
            .install(|| std::panic::catch_unwind(compile))
            .unwrap_or_else(|_| Err(EngineError("the compiler panicked".into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_do_not_share_code() {
        let engines = Engines::new().unwrap();
        let hash = |engines: &Engines, counts_fuel, inlines| {
            engines.get(Build { counts_fuel, inlines }).unwrap().settings_hash
        };
        let all = [(false, false), (false, true), (true, false), (true, true)];
        let hashes: std::collections::HashSet<_> =
            all.iter().map(|(fuel, inlines)| hash(&engines, *fuel, *inlines)).collect();
        assert_eq!(hashes.len(), all.len());
        assert_eq!(hash(&engines, false, true), hash(&Engines::new().unwrap(), false, true));
    }

    #[test]
    fn a_panic_of_the_compiler_is_an_error() {
        let pool = CompilePool::new(NonZeroUsize::MIN);
        assert_eq!(pool.run::<()>(|| panic!("boom")).unwrap_err().to_string(), "the compiler panicked");
        assert_eq!(pool.run(|| Ok(7)).unwrap(), 7);
    }
}
