//! End to end: the binary, job files, real sockets and files.

mod golden;
mod socket;
mod stop;
