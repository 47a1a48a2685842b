//! Where rows go that memory has no room for, and how much may be there.

use std::path::PathBuf;

/// The least memory for the rows of a batch: with less a record would be some rows.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// The least room on disk that is of use, unless it is none.
pub const QUOTA_BYTES_MIN: u64 = 1 << 20;

/// Where rows go that memory has no room for: `[spill]` of a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillSettings {
    /// The folder in which the job's own folder is made; the system's folder for temporary files when not said.
    pub path: Option<PathBuf>,
    /// Bytes on disk at most; 0: nothing is ever spilled, and rows of a batch are in memory however many they are.
    pub quota_bytes: u64,
    /// Bytes of rows of a batch that shuffles and the steps behind them hold in memory before they go to disk.
    pub memory_bytes: u64,
    /// Whether received rows that the block store has no room for go to disk; otherwise the receiver waits at once.
    pub blocks: bool,
}

impl Default for SpillSettings {
    fn default() -> Self {
        // As much memory as state has, which is half of what a small machine has; and what the temporary folder of most has.
        Self { path: None, quota_bytes: 10 << 30, memory_bytes: 512 << 20, blocks: true }
    }
}

impl SpillSettings {
    /// The folder in which the job's own folder is made.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(std::env::temp_dir)
    }
}
