//! Where a checkpoint is kept: files with names, each there whole or not at all.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names of files that are being written start with this.
const TEMPORARY: &str = ".tmp-";

/// What a checkpoint has in its folder.
const OWN: [&str; 6] = ["job", LOCK_NAME, "offsets", "commits", "state", "wal"];

/// The file that is locked for as long as a job has the checkpoint.
pub(crate) const LOCK_NAME: &str = "lock";

/// What a place for checkpoints does. Names are paths with `/`, as in `commits/0000000012`.
pub(crate) trait Storage: Send + Sync + fmt::Debug {
    /// What to call it in messages.
    fn describe(&self) -> String;

    /// Writes a file, over one of its name. When it returns, the file outlives the machine's power.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// A file's bytes; `None`: there is none of this name.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The names of the files in a folder and their sizes, in order.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;

    /// Deletes a file, if it is there.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Keeps others out for as long as what is returned lives; `None`: somebody else does.
    fn lock(&self) -> io::Result<Option<Lock>>;
}

/// What keeps others out of a checkpoint. It ends with the process, however that ends.
pub(crate) type Lock = Box<dyn Send + Sync>;

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    next_temporary: AtomicU64,
}

impl Directory {
    /// The directory, made if it is not there; what a dead process was writing is removed. `Err` within: the name of something in it
    /// that is none of a checkpoint's, which is left alone.
    pub(crate) fn open(path: &Path) -> io::Result<Result<Self, String>> {
        fs::create_dir_all(path)?;
        let directory = Self::to_read(path);
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !(OWN.contains(&name.as_str()) || is_temporary(&name)) {
                return Ok(Err(name));
            }
        }
        for folder in OWN.iter().map(|name| path.join(name)).filter(|path| path.is_dir()).chain([path.to_owned()]) {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if is_temporary(&entry.file_name().to_string_lossy()) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(Ok(directory))
    }

    /// The directory, to be read: nothing is made and nothing removed.
    pub(crate) fn to_read(path: &Path) -> Self {
        Self { path: path.to_owned(), next_temporary: AtomicU64::new(0) }
    }

    /// Writes a file under a name that nobody reads, in the folder of `name`.
    fn write_temporary(&self, name: &str, bytes: &[u8]) -> io::Result<(PathBuf, PathBuf)> {
        let target = self.path.join(name);
        let folder = target.parent().unwrap_or(&self.path);
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            // A folder is there for good once the one that holds it is on the disk.
            folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.path)).try_for_each(sync_folder)?;
        }
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        match written {
            Ok(()) => Ok((temporary, target)),
            Err(error) => {
                // What is left of it takes room that may be what is missing.
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }
}

/// Whether a name is one that files have while they are written.
fn is_temporary(name: &str) -> bool {
    let number = name.strip_prefix(TEMPORARY).and_then(|name| name.split_once('-'));
    number.is_some_and(|(process, file)| [process, file].iter().all(|part| part.parse::<u64>().is_ok()))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Storage for Directory {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (temporary, target) = self.write_temporary(name, bytes)?;
        fs::rename(&temporary, &target).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        sync_folder(target.parent().unwrap_or(&self.path))
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.path.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if metadata.is_file() && !is_temporary(&name) {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        let file = File::options().create(true).truncate(false).write(true).open(self.path.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_files_whole_and_by_name() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/checkpoint");
        let open = |path: &Path| Directory::open(path).map(|opened| opened.expect("a checkpoint's folder"));
        let storage = open(&path)?;
        assert_eq!((storage.get("commits/1")?, storage.list("commits")?), (None, vec![]));
        storage.put("commits/2", b"two")?;
        storage.put("commits/1", b"one")?;
        storage.put("commits/2", b"two!")?;
        assert_eq!(storage.list("commits")?, [("1".to_owned(), 3), ("2".to_owned(), 4)]);
        assert_eq!(storage.get("commits/1")?, Some(b"one".to_vec()));
        storage.delete("commits/1")?;
        storage.delete("commits/1")?;
        assert_eq!(storage.list("commits")?, [("2".to_owned(), 4)]);
        // What a dead process left is nobody's.
        fs::write(path.join("commits/.tmp-1-1"), b"half")?;
        assert_eq!(storage.list("commits")?.len(), 1);
        open(&path)?;
        assert_eq!(fs::read_dir(path.join("commits"))?.count(), 1);
        // One at a time has it.
        let lock = storage.lock()?;
        assert!(lock.is_some() && open(&path)?.lock()?.is_none());
        drop(lock);
        assert!(storage.lock()?.is_some());
        // Somebody else's folder is left as it is.
        let other = folder.path().join("home");
        fs::create_dir(&other)?;
        fs::write(other.join(".tmp-1-1"), b"mine")?;
        fs::write(other.join("letter.txt"), b"dear")?;
        assert_eq!(Directory::open(&other)?.err().as_deref(), Some("letter.txt"));
        assert_eq!(fs::read_dir(&other)?.count(), 2);
        Ok(())
    }
}
