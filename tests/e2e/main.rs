//! End to end: the binary, job files, real sockets and files.

mod cli;
mod differential;
mod golden;
mod hostile;
mod join;
mod library;
mod socket;
mod stop;
