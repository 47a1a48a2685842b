//! `tidemill compile-plugin`: compiles one plugin, in a process that may take so much and no more.

use std::io::{stdin, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ENDED_WELL, JOB_FAILED};

/// What the process is told.
#[derive(Debug, Args)]
pub(super) struct CompileArguments {
    /// The code counts fuel.
    #[arg(long)]
    counts_fuel: bool,

    /// Small functions are compiled into those that call them.
    #[arg(long)]
    inlines: bool,

    /// How many threads compile.
    #[arg(long)]
    threads: NonZeroUsize,

    /// Bytes of memory that it may take.
    #[arg(long)]
    memory_bytes: u64,

    /// Seconds of processor time that it may take.
    #[arg(long)]
    time_seconds: u64,
}

/// This program, to be started once more.
pub(super) fn this_program() -> Option<PathBuf> {
    // The program that runs, also when its file has been replaced by a newer one.
    let running = Path::new("/proc/self/exe");
    if running.exists() { Some(running.to_owned()) } else { std::env::current_exe().ok() }
}

pub(super) fn compile(arguments: &CompileArguments) -> u8 {
    let &CompileArguments { counts_fuel, inlines, threads, memory_bytes, time_seconds } = arguments;
    let arguments = tidemill::plugin::CompileArguments { counts_fuel, inlines, threads, memory_bytes, time_seconds };
    match tidemill::plugin::compile_here(&arguments, stdin().lock(), stdout().lock()) {
        Ok(()) => ENDED_WELL,
        Err(error) => {
            eprintln!("{error}");
            JOB_FAILED
        }
    }
}
