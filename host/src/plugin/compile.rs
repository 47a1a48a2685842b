//! Compiling plugins, bounded in time, memory and threads.
//!
//! What a compiler takes follows from what it compiles, and a plugin can be made for it: a small file that takes hours, or all
//! memory there is. A thread cannot be ended, nor told how much memory it may have; a process can. So where there is a program
//! for it (`tidemill` is its own), each plugin is compiled in a process that may use so much and no more, that knows nothing of
//! the job, and whose crash is an error about that plugin. A program that embeds the library and names none compiles on its own
//! threads, without limits on time and memory.
//!
//! ```text
//!  host ── component on standard input ──▶ process: limits set on itself, engine made, compiled
//!       ◀─ code on standard output ───────          ends with 0; else with its error on standard error
//! ```

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wasmtime::Engine;

use crate::operator::{Limit, Limits, size};
use crate::plugin::engine::{Build, CompilePool, Prepared, config};
use crate::plugin::error::EngineError;
use crate::plugin::text;

/// The hidden command of the command line that compiles.
const COMMAND: &str = "compile-plugin";
/// How much of what a compiler's process says is kept, in bytes.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// What a process that compiles is told.
#[derive(Debug, Clone)]
pub struct CompileArguments {
    /// Whether the code counts fuel.
    pub counts_fuel: bool,
    /// Whether small functions are compiled into those that call them.
    pub inlines: bool,
    /// How many threads compile.
    pub threads: NonZeroUsize,
    /// Bytes of memory that it may take.
    pub memory_bytes: u64,
    /// Seconds of processor time that it may take.
    pub time_seconds: u64,
}

/// Why there is no code.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// The compiler said so.
    Engine(EngineError),
    /// It would have taken more than it may.
    Limit {
        /// Which.
        limit: Limit,
        /// Its value and what was seen.
        seen: String,
    },
}

impl From<EngineError> for CompileError {
    fn from(error: EngineError) -> Self {
        CompileError::Engine(error)
    }
}

/// What compiles the plugins of a runtime.
pub(crate) struct Compiler {
    /// The program, if there is one.
    program: Option<PathBuf>,
    threads: NonZeroUsize,
    /// Held while a process compiles: one at a time, so that the memory of one is the memory of all.
    turn: Mutex<()>,
    /// Where there is no program.
    pool: CompilePool,
}

impl Compiler {
    pub(crate) fn new(program: Option<PathBuf>, threads: NonZeroUsize) -> Self {
        Self { program, threads, turn: Mutex::new(()), pool: CompilePool::new(threads) }
    }

    /// The code of a component, as the engine serialises it.
    pub(crate) fn compile(
        &self,
        prepared: &Prepared,
        build: Build,
        component: &[u8],
        limits: &Limits,
    ) -> Result<Vec<u8>, CompileError> {
        let Some(program) = &self.program else {
            let compile = || prepared.engine.precompile_component(component).map_err(|error| EngineError::new(&error));
            return Ok(self.pool.run(compile)?);
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = whole_seconds(limits.compile_time);
        let mut command = Command::new(program);
        command
            .arg(COMMAND)
            .arg(format!("--threads={}", self.threads))
            .arg(format!("--memory-bytes={}", limits.compile_memory_bytes))
            .arg(format!("--time-seconds={seconds}"))
            // It needs nothing of what this process was told.
            .env_clear()
            // Its allocator would take a GiB of addresses at once, which counts.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.args(build.counts_fuel.then_some("--counts-fuel")).args(build.inlines.then_some("--inlines"));
        run(command, component, limits, seconds)
    }
}

/// A limit in the unit that processes have: at least one, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

fn run(mut command: Command, component: &[u8], limits: &Limits, seconds: u64) -> Result<Vec<u8>, CompileError> {
    let failed = |what: &str, error: io::Error| EngineError(format!("the compiler's process {what}: {error}"));
    let mut process = command.spawn().map_err(|error| failed("could not be started", error))?;
    if let Some(mut input) = process.stdin.take() {
        // A process that ends early says itself why: it reads all of its input before it does anything.
        let _ = input.write_all(component);
    }
    let output = process.wait_with_output().map_err(|error| failed("was lost", error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said =
        String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(ERROR_BYTES_MAX as usize)]).into_owned();
    let ran_out = ["memory allocation of", "Cannot allocate memory", "out of memory", "OutOfMemory"];
    if was_out_of_time(output.status) {
        let seen = format!("the limit is {seconds}s of processor time, the compiler had not ended by then");
        return Err(CompileError::Limit { limit: Limit::CompileTime, seen });
    }
    if ran_out.iter().any(|words| said.contains(words)) {
        let seen = format!("the limit is {}, the compiler asked for more", size(limits.compile_memory_bytes));
        return Err(CompileError::Limit { limit: Limit::CompileMemory, seen });
    }
    let message =
        if said.trim().is_empty() { format!("the compiler's process ended: {}", output.status) } else { said };
    Err(EngineError(text::one_line(message.trim()).into_owned()).into())
}

#[cfg(unix)]
fn was_out_of_time(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::XCPU.as_raw())
}

#[cfg(not(unix))]
fn was_out_of_time(_: ExitStatus) -> bool {
    false
}

/// Compiles the component that `input` gives, under the limits, which are those of this whole process from now on: for a process
/// that does nothing else.
///
/// # Errors
///
/// What the compiler says, or that something could not be read or written. A limit that is exceeded ends the process.
pub fn compile_here(
    arguments: &CompileArguments,
    mut input: impl Read,
    mut output: impl Write,
) -> Result<(), EngineError> {
    let lost = |what: &str, error: io::Error| EngineError(format!("the {what}: {error}"));
    limit_process(arguments)?;
    let mut component = Vec::new();
    input.read_to_end(&mut component).map_err(|error| lost("component cannot be read", error))?;
    let build = Build { counts_fuel: arguments.counts_fuel, inlines: arguments.inlines };
    let engine = Engine::new(&config(build)).map_err(|error| EngineError::new(&error))?;
    let pool = CompilePool::new(arguments.threads);
    let code = pool.run(|| engine.precompile_component(&component).map_err(|error| EngineError::new(&error)))?;
    output.write_all(&code).and_then(|()| output.flush()).map_err(|error| lost("code cannot be written", error))
}

/// What the process may use: processor time, and memory beyond what it has already; no file, no core dump.
#[cfg(unix)]
fn limit_process(arguments: &CompileArguments) -> Result<(), EngineError> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |resource, current: u64, maximum: u64| {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        setrlimit(resource, limit).map_err(|error| EngineError(format!("the compiler cannot be limited: {error}")))
    };
    // At the first of the two it is told so by a signal, which says what it was.
    limit(Resource::Cpu, arguments.time_seconds, arguments.time_seconds.saturating_add(1))?;
    let addresses = addresses_now().saturating_add(arguments.memory_bytes);
    limit(Resource::As, addresses, addresses)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Core, 0, 0)
}

/// Other systems have no such limits.
#[cfg(not(unix))]
fn limit_process(_: &CompileArguments) -> Result<(), EngineError> {
    Ok(())
}

/// The addresses that this process has, in bytes: its program and libraries, before it does anything.
#[cfg(unix)]
fn addresses_now() -> u64 {
    /// What a program is taken to have where that cannot be read.
    const OTHERWISE: u64 = 1 << 30;
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').next()?.parse().ok());
    let page_bytes = rustix::param::page_size() as u64;
    pages.map_or(OTHERWISE, |pages: u64| pages.saturating_mul(page_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rounded_up_to_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_about_the_plugin() {
        let engines = crate::plugin::engine::Engines::new().unwrap();
        let compiler = Compiler::new(Some("/nowhere/tidemill".into()), NonZeroUsize::MIN);
        let build = Build { counts_fuel: false, inlines: true };
        let prepared = engines.get(build).unwrap();
        let Err(CompileError::Engine(error)) = compiler.compile(prepared, build, b"", &Limits::default()) else {
            panic!("it was compiled by nobody");
        };
        assert!(error.to_string().starts_with("the compiler's process could not be started: "), "{error}");
    }
}
