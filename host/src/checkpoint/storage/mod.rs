//! Where a checkpoint is kept: files with names, each there whole or not at all.

mod directory;
mod failure;
#[cfg(test)]
pub(super) mod faulty;
mod object_store;

use std::fmt;
use std::io;

pub(crate) use directory::{Directory, is_temporary};
pub(crate) use object_store::ObjectStorage;

use super::owner::Owner;

/// The file that is locked for as long as a job has a checkpoint in a directory.
pub(crate) const LOCK_NAME: &str = "lock";

/// The object that says who has a checkpoint where nothing can be locked.
pub(crate) const LEASE_NAME: &str = "lease";

/// What a checkpoint has in its folder, wherever that is: so one can be copied from a directory to an object store, and back.
const OWN: [&str; 7] = ["job", LOCK_NAME, LEASE_NAME, "offsets", "commits", "state", "wal"];

/// What a place for checkpoints does. Names are paths with `/`, as in `commits/0000000012`.
///
/// Any thread calls it, and several at once. After an error it is not known whether a write took place, except that a file is never
/// there by half.
pub(crate) trait Storage: Send + Sync + fmt::Debug {
    /// What to call it in messages.
    fn describe(&self) -> String;

    /// Writes a file, over one of its name. When it returns, the file outlives the machine's power.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes a file if what is there of its name is what is expected; `None`: it is not, and nothing was written.
    ///
    /// Where there is a [lock](Self::lock) nobody else writes, and what is there need not be looked at.
    fn put_if(&self, name: &str, bytes: &[u8], expected: Expected<'_>) -> io::Result<Option<Version>>;

    /// A file's bytes; `None`: there is none of this name.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// A file's bytes, and which version they are of.
    fn get_versioned(&self, name: &str) -> io::Result<Option<(Vec<u8>, Version)>>;

    /// Reads files in their order, some of them ahead where that takes long.
    fn get_all<'s>(&'s self, names: Vec<String>) -> Files<'s> {
        Box::new(names.into_iter().map(|name| self.get(&name)))
    }

    /// The names of the files in a folder and their sizes, in order.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;

    /// Deletes a file, if it is there.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Makes the place ready for a job: makes a folder, removes what a dead process was writing. `Some`: the name of something in it
    /// that is none of a checkpoint's; then nothing was changed.
    fn prepare(&self) -> io::Result<Option<String>>;

    /// Keeps others out for as long as what is returned lives, and tells them who does.
    fn lock(&self, owner: &Owner) -> io::Result<Locked>;

    /// Whether reading and deleting too may fail in ways that pass: a server is away at times, a disk is not.
    fn is_remote(&self) -> bool {
        false
    }
}

/// The bytes of files, one after the other; `None`: there is none of its name.
pub(crate) type Files<'s> = Box<dyn Iterator<Item = io::Result<Option<Vec<u8>>>> + 's>;

/// What is to be there of a name for a file to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected<'v> {
    Nothing,
    Version(&'v Version),
}

/// A version of a file: no two that were ever written under a name have the same, unless they are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) String);

/// What came of locking a place.
pub(crate) enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Somebody has it; who, if that is known.
    Taken(Option<Owner>),
    /// Nothing can be locked here: a lease must do.
    Never,
}

/// What keeps others out of a checkpoint. It ends with the process, however that ends.
pub(crate) type Lock = Box<dyn Send + Sync>;
