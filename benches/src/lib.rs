//! What the benchmarks share: CPU times and figures, counting words the obvious way, reading what a job counted.

pub mod counts;
pub mod cpu;
pub mod figure;
