//! A folder of one job for what lives no longer than it: gone when the job ends; what dead processes left is removed.
//!
//! ```text
//!  state.path/ ── tidemill-state-PID-N/ ── lock     held from just after the folder is made until it is removed
//!                                       └─ lsm/     the store
//!  spill.path/ ── tidemill-spill-PID-N/ ── lock
//!                                       └─ N.arrow  spilled rows
//! ```
//!
//! A folder whose lock nobody holds belongs to a dead process: locks end with the process, however it ends. A folder is made before
//! its lock and emptied before it goes, so one without a lock file holds nothing, if it is ours: then it is removed, and a process that was
//! about to lock it makes another one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use crate::fail_point;

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The store of state on disk.
    State,
    /// Rows that memory has no room for.
    Spill,
}

impl Purpose {
    /// What the names of the folders start with.
    fn prefix(self) -> &'static str {
        match self {
            Purpose::State => "tidemill-state-",
            Purpose::Spill => "tidemill-spill-",
        }
    }

    /// What the folders hold, for the log.
    fn contents(self) -> &'static str {
        match self {
            Purpose::State => "state",
            Purpose::Spill => "spilled rows",
        }
    }
}

/// The file in a folder whose lock says that its process is alive.
const LOCK_FILE: &str = "lock";

/// Numbers that are tried for a new folder: each is taken by a job of this process, or left by one with the same id.
const ATTEMPTS_MAX: u32 = 10_000;

/// A folder of one job, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct JobFolder {
    path: PathBuf,
    /// Its lock, which is held while it is open.
    _lock: File,
}

impl JobFolder {
    /// Removes what dead processes left in `parent`, which is made if need be, and makes a new folder there.
    pub(crate) fn create(parent: &Path, purpose: Purpose) -> std::io::Result<Self> {
        prepare(parent, purpose)?;
        for attempt in 0..ATTEMPTS_MAX {
            let path = parent.join(format!("{}{}-{attempt}", purpose.prefix(), std::process::id()));
            match create_private(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            fail_point::pass("job-folder-made");
            // Nothing but another process that takes the folder for a left-over can be in the way.
            let lock = File::create_new(path.join(LOCK_FILE));
            if let Ok(lock) = lock
                && lock.try_lock().is_ok()
                && path.join(LOCK_FILE).exists()
            {
                return Ok(Self { path, _lock: lock });
            }
        }
        let text = format!("no lock could be had in {ATTEMPTS_MAX} new folders");
        Err(Error::other(text))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            let path = self.path.display().to_string();
            tracing::warn!(target: "tidemill::job_folder", path, %error, "folder could not be removed");
        }
    }
}

/// Makes `parent` if need be, and removes what dead processes left there.
pub(crate) fn prepare(parent: &Path, purpose: Purpose) -> std::io::Result<()> {
    fs::create_dir_all(parent)?;
    remove_left_overs(parent, purpose);
    Ok(())
}

/// Makes a folder that only this user can read: state holds what rows hold.
fn create_private(path: &Path) -> std::io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Removes a folder whose lock is held: the lock last, so that what is left when the process dies meanwhile is still known as a left-over.
fn remove(path: &Path) -> std::io::Result<()> {
    empty(path)?;
    fail_point::pass("job-folder-emptied");
    or_gone(fs::remove_file(path.join(LOCK_FILE)))?;
    or_gone(fs::remove_dir(path))
}

/// Removes all that a folder holds but its lock.
fn empty(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK_FILE {
            continue;
        }
        let is_folder = entry.file_type()?.is_dir();
        or_gone(if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) })?;
    }
    Ok(())
}

/// What somebody else has removed is gone as well.
fn or_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Removes the folders of dead processes, as far as that is possible: they may be another user's.
fn remove_left_overs(parent: &Path, purpose: Purpose) {
    let contents = purpose.contents();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(purpose.prefix())
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    for path in folders.map(|entry| entry.path()) {
        let lock = match File::options().read(true).write(true).open(path.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound {
                    // Its process died before it had locked it, or after it had emptied it. One that holds something stays.
                    let _ = fs::remove_dir(&path);
                }
                continue;
            }
        };
        match lock.try_lock() {
            Ok(()) => match remove(&path) {
                Ok(()) => {
                    let path = path.display().to_string();
                    tracing::info!(target: "tidemill::job_folder", path, contents, "what a dead process left was removed");
                }
                Err(error) => {
                    let path = path.display().to_string();
                    tracing::warn!(target: "tidemill::job_folder", path, contents, %error, "what a dead process left could not be removed");
                }
            },
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn folders_differ_and_go() {
        let parent = tempfile::tempdir().expect("a folder for temporary files");
        let first = JobFolder::create(&parent.path().join("a/b"), Purpose::State).expect("a folder");
        let second = JobFolder::create(&parent.path().join("a/b"), Purpose::State).expect("another folder");
        assert_ne!(first.path(), second.path());
        fs::write(first.path().join("file"), b"state").expect("a file");
        drop(first);
        assert_eq!(names(&parent.path().join("a/b")).len(), 1, "only the other is there");
        drop(second);
        assert_eq!(names(&parent.path().join("a/b")), [""; 0]);
    }

    #[test]
    fn only_folders_of_the_dead_are_removed() {
        let parent = tempfile::tempdir().expect("a folder for temporary files");
        let alive = JobFolder::create(parent.path(), Purpose::State).expect("a folder");
        for (name, file) in [
            ("tidemill-state-1-0", LOCK_FILE),
            ("tidemill-state-2-0", "lsm"),
            ("tidemill-spill-3-0", LOCK_FILE),
            ("other", LOCK_FILE),
        ] {
            fs::create_dir(parent.path().join(name)).expect("a folder");
            fs::write(parent.path().join(name).join(file), b"").expect("a file");
        }
        let kept = [alive.path().file_name().expect("a name").to_string_lossy().into_owned()];
        // Of a process that died before it had locked its folder.
        fs::create_dir(parent.path().join("tidemill-state-4-0")).expect("a folder");
        drop(JobFolder::create(parent.path(), Purpose::State).expect("another folder"));
        let mut expected = ["other", "tidemill-state-2-0", "tidemill-spill-3-0"].map(str::to_owned).to_vec();
        expected.extend(kept);
        expected.sort();
        assert_eq!(names(parent.path()), expected);
    }

    #[test]
    fn the_lock_goes_last() {
        let parent = tempfile::tempdir().expect("a folder for temporary files");
        let folder = JobFolder::create(parent.path(), Purpose::State).expect("a folder");
        fs::create_dir(folder.path().join("lsm")).expect("a folder");
        fs::write(folder.path().join("lsm/file"), b"state").expect("a file");
        fs::write(folder.path().join("0.arrow"), b"rows").expect("a file");
        empty(folder.path()).expect("it is ours");
        assert_eq!(names(folder.path()), [LOCK_FILE], "whoever finds the folder now removes it");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("a folder for temporary files");
        let folder = JobFolder::create(parent.path(), Purpose::State).expect("a folder");
        assert_eq!(fs::metadata(folder.path()).expect("a folder").permissions().mode() & 0o777, 0o700);
    }
}
