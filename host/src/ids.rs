//! Numbers with names: what identifies a batch, a partition, a stage, a task.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// The number of a batch, from 0, without gaps.
    BatchId(u64)
}
id! {
    /// The number of a partition within one stage of one batch, from 0.
    PartitionId(u32)
}
id! {
    /// The number of a stage in a plan, in the order of the flow, from 0.
    StageId(u32)
}
id! {
    /// The number of a block in the block store; never reused within a run.
    BlockId(u64)
}

impl BatchId {
    /// The batch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl PartitionId {
    /// The partition as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
