//! A checkpoint in a directory of this machine.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::owner::Owner;
use super::{Expected, LOCK_NAME, Locked, OWN, Storage, Version};

/// Names of files that are being written start with this.
const TEMPORARY: &str = ".tmp-";

/// A directory of this machine.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    next_temporary: AtomicU64,
}

impl Directory {
    /// A directory. Nothing is made and nothing removed until it is written to.
    pub(crate) fn at(path: &Path) -> Self {
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
pub(crate) fn is_temporary(name: &str) -> bool {
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

    fn put_if(&self, name: &str, bytes: &[u8], _: Expected<'_>) -> io::Result<Option<Version>> {
        // Who writes has the lock.
        self.put(name, bytes).map(|()| Some(Version(String::new())))
    }

    fn get_versioned(&self, name: &str) -> io::Result<Option<(Vec<u8>, Version)>> {
        Ok(self.get(name)?.map(|bytes| (bytes, Version(String::new()))))
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

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn prepare(&self) -> io::Result<Option<String>> {
        let path = &self.path;
        fs::create_dir_all(path)?;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !(OWN.contains(&name.as_str()) || is_temporary(&name)) {
                return Ok(Some(name));
            }
        }
        for folder in OWN.iter().map(|name| path.join(name)).filter(|path| path.is_dir()).chain([path.clone()]) {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if is_temporary(&entry.file_name().to_string_lossy()) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(None)
    }

    fn lock(&self, owner: &Owner) -> io::Result<Locked> {
        let path = self.path.join(LOCK_NAME);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                // For people: the lock holds without it.
                let _ = file.set_len(0).and_then(|()| (&file).write_all(&owner.to_json()));
                Ok(Locked::Ours(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                Ok(Locked::Taken(fs::read(&path).ok().and_then(|json| Owner::from_json(&json))))
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> io::Result<Directory> {
        let directory = Directory::at(path);
        assert_eq!(directory.prepare()?, None);
        Ok(directory)
    }

    #[test]
    fn a_directory_keeps_files_whole_and_by_name() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/checkpoint");
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
        // Somebody else's folder is left as it is.
        let other = folder.path().join("home");
        fs::create_dir(&other)?;
        fs::write(other.join(".tmp-1-1"), b"mine")?;
        fs::write(other.join("letter.txt"), b"dear")?;
        assert_eq!(Directory::at(&other).prepare()?.as_deref(), Some("letter.txt"));
        assert_eq!(fs::read_dir(&other)?.count(), 2);
        Ok(())
    }

    #[test]
    fn one_at_a_time_has_a_directory_and_others_know_who() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let storage = open(folder.path())?;
        let owner = Owner::this_process();
        let Locked::Ours(lock) = storage.lock(&owner)? else { panic!("it is free") };
        let Locked::Taken(by) = open(folder.path())?.lock(&Owner::this_process())? else { panic!("it is locked") };
        assert_eq!(by, Some(owner));
        drop(lock);
        assert!(matches!(storage.lock(&Owner::this_process())?, Locked::Ours(_)));
        Ok(())
    }
}
