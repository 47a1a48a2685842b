//! What files a table has, and what tells that they have changed.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::TableError;

/// A file of a table, and what changes when it is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableFile {
    pub(super) path: PathBuf,
    n_bytes: u64,
    modified: Option<SystemTime>,
    /// The file itself, whatever its name; 0 where the system does not tell.
    identity: u64,
}

/// The files of a table at one moment, by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) Vec<TableFile>);

impl Fingerprint {
    /// Looks at what is there now.
    pub(super) fn look(path: &Path) -> Result<Self, TableError> {
        let failed = |source| TableError::List { path: path.into(), source };
        let mut files = Vec::new();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                for entry in fs::read_dir(path).map_err(failed)? {
                    look_at(entry.map_err(failed)?.path(), &mut files).map_err(failed)?;
                }
            }
            Ok(metadata) => files.push(TableFile::new(path.into(), &metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound && is_pattern(path) => {
                let pattern = path.to_string_lossy();
                let paths = glob::glob(&pattern).map_err(|error| failed(io::Error::other(error)))?;
                for path in paths {
                    look_at(path.map_err(|error| failed(error.into()))?, &mut files).map_err(failed)?;
                }
            }
            Err(source) => return Err(failed(source)),
        }
        files.sort();
        Ok(Self(files))
    }
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Adds what a directory or a pattern gave, if it is a file that counts.
fn look_at(path: PathBuf, files: &mut Vec<TableFile>) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.starts_with(['.', '_']) || name.ends_with(".tmp") {
        return Ok(());
    }
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => files.push(TableFile::new(path, &metadata)),
        Ok(_) => {}
        // Gone since it was listed.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

impl TableFile {
    fn new(path: PathBuf, metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let identity = 0;
        Self { path, n_bytes: metadata.len(), modified: metadata.modified().ok(), identity }
    }
}
