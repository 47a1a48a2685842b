//! What files there are, and which of them count.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::Xxh3;

use crate::source::SourceError;

/// Names that say that a file is compressed.
const COMPRESSED: &[&str] = &["gz", "zst", "bz2", "xz", "lz4", "snappy", "zip", "br"];

/// Where files are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// One file, whatever its name.
    File(PathBuf),
    /// The files of a directory.
    Directory(PathBuf),
    /// The files that match.
    Pattern(String),
}

/// A file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFile {
    pub(super) path: String,
    /// Its path and identity, hashed: sixteen bytes a file are remembered for as long as the job runs.
    pub(super) key: u128,
    pub(super) n_bytes: u64,
    pub(super) modified: SystemTime,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order in which they are read.
    pub(super) files: Vec<FoundFile>,
    /// Files that are refused for their names.
    pub(super) compressed: Vec<PathBuf>,
    /// Files whose names are not UTF-8, so that no range can name them.
    pub(super) unnameable: Vec<PathBuf>,
}

impl Place {
    /// Decides what a path means. What exists is meant literally, whatever characters it has.
    pub(super) fn find(path: &Path) -> Result<Self, SourceError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Self::Directory(path.into())),
            Ok(_) => return Ok(Self::File(path.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(SourceError::List { path: path.into(), source }),
        }
        let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']));
        let Some(pattern) = pattern else { return Err(SourceError::Missing { path: path.into() }) };
        if let Err(error) = glob::Pattern::new(pattern) {
            let message = format!("`{pattern}` is no pattern: {} at character {}", error.msg, error.pos + 1);
            return Err(SourceError::Option { message, hint: Some("patterns have `*`, `?`, `[…]` and `**`".into()) });
        }
        // A pattern may match nothing yet, but the directory that it starts in must be there.
        let fixed: PathBuf = path
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
            .collect();
        if !fixed.as_os_str().is_empty() && !fixed.is_dir() {
            return Err(SourceError::Missing { path: fixed });
        }
        Ok(Self::Pattern(pattern.into()))
    }

    /// Lists what is there now.
    pub(super) fn list(&self) -> Result<Listing, SourceError> {
        let mut listing = Listing::default();
        match self {
            Self::File(path) => match fs::metadata(path) {
                Ok(metadata) => listing.add(path.clone(), &metadata),
                // A single file that was read and removed is not missed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(SourceError::List { path: path.clone(), source }),
            },
            Self::Directory(path) => {
                let failed = |source| SourceError::List { path: path.clone(), source };
                for entry in fs::read_dir(path).map_err(failed)? {
                    listing.look_at(entry.map_err(failed)?.path())?;
                }
            }
            Self::Pattern(pattern) => {
                let failed = |path: &Path, source| SourceError::List { path: path.into(), source };
                let paths = glob::glob(pattern).map_err(|error| failed(Path::new(pattern), io::Error::other(error)))?;
                for path in paths {
                    match path {
                        Ok(path) => listing.look_at(path)?,
                        Err(error) if error.error().kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(failed(&error.path().to_owned(), error.into())),
                    }
                }
            }
        }
        listing.files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        Ok(listing)
    }
}

impl Listing {
    /// Adds what a directory or a pattern gave, if it is a file that counts.
    fn look_at(&mut self, path: PathBuf) -> Result<(), SourceError> {
        if path.file_name().is_none_or(|name| is_passed_over(&name.to_string_lossy())) {
            return Ok(());
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => self.add(path, &metadata),
            Ok(_) => {}
            // Gone since it was listed, or a link to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(SourceError::List { path, source }),
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        if extension.is_some_and(|extension| COMPRESSED.contains(&extension.as_str())) {
            self.compressed.push(path);
            return;
        }
        match path.into_os_string().into_string() {
            Ok(path) => {
                let key = identity(&path, metadata);
                let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
                self.files.push(FoundFile { path, key, n_bytes: metadata.len(), modified });
            }
            Err(path) => self.unnameable.push(path.into()),
        }
    }
}

/// Whether a file of this name is passed over: hidden, private, or still being written.
fn is_passed_over(name: &str) -> bool {
    name.starts_with(['.', '_']) || name.ends_with(".tmp")
}

/// A number for the file under this path: another file that takes its place has another, even if the file system gives
/// it the old one's number.
fn identity(path: &str, metadata: &Metadata) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(path.as_bytes());
    hash.update(&[0]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        hash.update(&metadata.dev().to_le_bytes());
        hash.update(&metadata.ino().to_le_bytes());
    }
    // Not every file system knows when a file was made.
    if let Some(made) = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok()) {
        hash.update(&made.as_nanos().to_le_bytes());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: bool) {
        assert_eq!(is_passed_over(name), expected, "{name}");
    }

    #[test]
    fn names_say_what_is_passed_over() {
        check("part-0.txt", false);
        check(".part-0.txt", true);
        check("_SUCCESS", true);
        check("part-0.txt.tmp", true);
        check("tmp", false);
        check("a_b", false);
    }
}
