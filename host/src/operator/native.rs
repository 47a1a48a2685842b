//! Operators compiled into the program: the functions of the Rust SDK, run on Arrow's own buffers.
