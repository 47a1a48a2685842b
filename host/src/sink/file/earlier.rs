//! What earlier runs left in a directory: what becomes of it when a sink opens it.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::names::{LOCK_NAME, Name, is_folder_of_value};
use crate::ids::BatchId;
use crate::manifest::{self, ManifestFile};
use crate::sink::SinkError;

/// What becomes of batches that were published by an earlier run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Earlier {
    /// They are not ours to delete, and would be written over.
    Refused,
    Deleted,
    /// The job goes on behind this one: what is published behind it stays too, and what is published by half is removed.
    KeptUpTo(Option<BatchId>),
}

/// What stays in a directory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The files of manifests.
    pub(super) manifests: Vec<ManifestFile>,
    /// Batches that are published, and not in the checkpoint.
    pub(super) uncommitted: BTreeSet<BatchId>,
}

/// Locks the directory for a sink. The lock ends with the process, however it ends.
pub(super) fn lock(directory: &Path) -> Result<File, SinkError> {
    let path = directory.join(LOCK_NAME);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| SinkError::write_file(&path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SinkError::InUse { path: directory.into() }),
        // Some network file systems have no locks: then nobody is kept out, and nothing else is lost.
        Err(TryLockError::Error(error)) => {
            let path = directory.display().to_string();
            tracing::warn!(target: "tidemill::sink", path, %error, "directory cannot be locked");
        }
    }
    Ok(file)
}

/// Removes what a dead run left unpublished, and deals with what it published. The directory is locked: nobody else
/// has files there under names of ours.
pub(super) fn clear(directory: &Path, earlier: Earlier) -> Result<Kept, SinkError> {
    let failed = |source| SinkError::Directory { path: directory.into(), source };
    let mut kept = Kept { manifests: manifest::list(directory).map_err(failed)?, ..Kept::default() };
    let found = Found::in_directory(directory).map_err(failed)?;
    remove(&found.temporary)?;
    let committed = match earlier {
        Earlier::Refused => {
            let of_manifest = kept.manifests.iter().map(|file| Path::new(manifest::FOLDER).join(file.name()));
            let published = found.published.iter().map(|(path, _)| path.strip_prefix(directory).unwrap_or(path));
            let example = published.min().map(Path::to_owned).or(of_manifest.min());
            return match example {
                None => Ok(kept),
                Some(example) => {
                    let example = example.display().to_string();
                    Err(SinkError::Occupied { path: directory.into(), example })
                }
            };
        }
        Earlier::Deleted => {
            // Nothing is published any more, and then nothing is there any more.
            let folder = directory.join(manifest::FOLDER);
            let manifests: Vec<PathBuf> = kept.manifests.iter().map(|file| folder.join(file.name())).collect();
            remove(&manifests)?;
            let published: Vec<PathBuf> = found.published.into_iter().map(|(path, _)| path).collect();
            remove(&published)?;
            // Those that have something of others stay.
            found.folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
            return Ok(Kept::default());
        }
        Earlier::KeptUpTo(committed) => committed,
    };
    let is_behind = |batch_id: BatchId| committed.is_none_or(|committed| batch_id > committed);
    for file in kept.manifests.iter().filter(|file| is_behind(BatchId(file.last))) {
        let manifests = manifest::read(directory, file).map_err(failed)?;
        kept.uncommitted
            .extend(manifests.iter().map(|manifest| BatchId(manifest.batch_id)).filter(|&id| is_behind(id)));
    }
    let is_half = |batch_id: BatchId| is_behind(batch_id) && !kept.uncommitted.contains(&batch_id);
    let half: Vec<PathBuf> =
        found.published.into_iter().filter(|(_, batch_id)| is_half(*batch_id)).map(|(path, _)| path).collect();
    remove(&half)?;
    Ok(kept)
}

fn remove(paths: &[PathBuf]) -> Result<(), SinkError> {
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(SinkError::write_file(path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// What is ours in a directory, by its names.
#[derive(Debug, Default)]
struct Found {
    temporary: Vec<PathBuf>,
    published: Vec<(PathBuf, BatchId)>,
    /// Folders of values, each behind the one that it is in.
    folders: Vec<PathBuf>,
}

impl Found {
    fn in_directory(directory: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        found.look_into(directory)?;
        let mut next = 0;
        while let Some(folder) = found.folders.get(next).cloned() {
            found.look_into(&folder)?;
            next += 1;
        }
        if let Ok(entries) = fs::read_dir(directory.join(manifest::FOLDER)) {
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let of = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp"));
                if of.and_then(manifest::batches_of).is_some() {
                    found.temporary.push(entry.path());
                }
            }
        }
        Ok(found)
    }

    fn look_into(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            match Name::of(name) {
                Name::Temporary => self.temporary.push(entry.path()),
                Name::Published(batch_id) => self.published.push((entry.path(), batch_id)),
                // A link may lead anywhere: it is none of ours.
                Name::Foreign if is_folder_of_value(name) && entry.file_type()?.is_dir() => {
                    self.folders.push(entry.path());
                }
                Name::Foreign => {}
            }
        }
        Ok(())
    }
}
