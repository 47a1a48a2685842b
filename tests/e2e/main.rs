//! End to end: the binary, job files, real sockets and files.

mod golden;
mod library;
mod socket;
mod stop;
