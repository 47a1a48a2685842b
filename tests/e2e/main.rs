//! End to end: the binary, job files, real sockets and files.

mod cli;
mod dead_letters;
mod differential;
mod failing_batches;
mod formats;
mod golden;
mod grants;
mod hostile;
mod idle_batches;
mod join;
mod library;
mod missed_batches;
mod nexmark;
mod object_store;
mod received;
mod received_state;
mod recovery;
mod reload;
mod replay;
mod rescale;
mod senders;
mod socket;
mod spill;
mod standby;
mod stop;
