//! What the benchmarks share: the text they read, counting words the obvious way, reading what a job counted.

pub mod counts;
pub mod cpu;
pub mod figure;
pub mod text;
