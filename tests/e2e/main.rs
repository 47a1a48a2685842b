//! End to end: the binary, job files, real sockets and files.

mod cli;
mod differential;
mod failing_batches;
mod formats;
mod golden;
mod hostile;
mod join;
mod library;
mod nexmark;
mod object_store;
mod recovery;
mod socket;
mod standby;
mod stop;
