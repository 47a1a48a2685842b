//! Where a receiver puts its rows.

/// A receiver's way into the block store.
#[derive(Debug)]
pub struct Intake {}
