//! Tidemill's command line.

use std::process::ExitCode;

mod cli;

/// glibc's allocator makes fresh large buffers cost many times more by its mood; batches are such buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
