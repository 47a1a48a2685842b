//! Instances of operators, one for each (step, partition), kept from batch to batch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::ids::PartitionId;

/// The instances of one step that are not at work, by partition.
///
/// A task takes the instance of its partition and puts it back when a call has gone well. After an error it does not:
/// the instance is spent, and the next task opens another.
#[derive(Debug)]
pub struct Instances<T: ?Sized> {
    /// A mutex, not a concurrent map: it is taken twice a task, for nanoseconds.
    idle: Mutex<HashMap<PartitionId, Box<T>>>,
}

impl<T: ?Sized> Default for Instances<T> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<T: ?Sized> Instances<T> {
    /// Takes the partition's instance, or opens one.
    ///
    /// # Errors
    ///
    /// What `open` says.
    pub fn take<E>(&self, partition: PartitionId, open: impl FnOnce() -> Result<Box<T>, E>) -> Result<Box<T>, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        match idle {
            Some(instance) => Ok(instance),
            None => open(),
        }
    }

    /// Puts an instance back whose last call went well.
    pub fn put(&self, partition: PartitionId, instance: Box<T>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, instance);
    }
}
