//! Tidemill's command line.

use std::process::ExitCode;

mod cli;

/// glibc's allocator makes fresh large buffers cost many times more by its mood; batches are such buffers.
///
/// It gives memory back to the system after 10 ms, which costs short batches something: `MIMALLOC_PURGE_DELAY=1000` in the environment
/// lets it wait. That cannot be set here: `libmimalloc-sys` has no name for the option, and its number differs between versions
/// of mimalloc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
