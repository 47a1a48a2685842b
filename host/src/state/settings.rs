//! Where state is kept, and how much of it in memory.

use std::path::PathBuf;

/// The smallest budget: what the caches of the store on disk take at least.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Where the state of a job is kept: `[state]` of a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// In memory, on disk, or both.
    pub backend: Backend,
    /// The state of the whole job that [`Backend::Auto`] keeps in memory, in bytes.
    pub memory_bytes: u64,
    /// The folder for what is on disk; the system's folder for temporary files when not said.
    pub path: Option<PathBuf>,
}

impl Default for StateSettings {
    fn default() -> Self {
        // Ten million small entries, and half of what a small machine has.
        Self { backend: Backend::Auto, memory_bytes: 512 << 20, path: None }
    }
}

/// Where tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// In memory until all of them exceed the budget; then the largest move to disk.
    #[default]
    Auto,
    /// In memory, however much it is.
    Memory,
    /// On disk, with caches in memory.
    Lsm,
}
