//! What files there are, and which of them count.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::Xxh3;

use crate::manifest::{self, Manifest};
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
    Pattern {
        /// Where the pattern starts: a directory that is there, whatever characters its name has.
        base: PathBuf,
        /// The rest.
        pattern: String,
    },
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
    /// What cannot be read, and why.
    pub(super) unusable: Vec<(PathBuf, String)>,
}

impl Place {
    /// Decides what a path means. What exists is meant literally, whatever characters it has.
    pub(super) fn find(path: &Path) -> Result<Self, SourceError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Self::Directory(path.into())),
            Ok(metadata) if !metadata.is_file() || is_made_up(path, &metadata) => {
                return Err(SourceError::Irregular { path: path.into() });
            }
            Ok(_) => return Ok(Self::File(path.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(SourceError::List { path: path.into(), source }),
        }
        let Some((base, pattern)) = split_pattern(path)? else {
            return Err(SourceError::Missing { path: path.into() });
        };
        // A pattern may match nothing yet, but the directory that it starts in must be there.
        let fixed: PathBuf = Path::new(&pattern).components().take_while(|part| !is_wild(part.as_os_str())).collect();
        if !fixed.as_os_str().is_empty() {
            return Err(SourceError::Missing { path: base.join(fixed) });
        }
        Ok(Self::Pattern { base, pattern })
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
            Self::Directory(path) if path.join(manifest::FOLDER).is_dir() => {
                // In the order of batches and of their rows, whatever the times of the files.
                listing.add_published(path)?;
                return Ok(listing);
            }
            Self::Directory(path) => {
                let failed = |source| SourceError::List { path: path.clone(), source };
                for entry in fs::read_dir(path).map_err(failed)? {
                    listing.look_at(entry.map_err(failed)?.path());
                }
            }
            Self::Pattern { base, pattern } => {
                let failed = |path: PathBuf, source| SourceError::List { path, source };
                let escaped = glob::Pattern::escape(&base.to_string_lossy());
                let whole = Path::new(&escaped).join(pattern);
                let paths = glob::glob(&whole.to_string_lossy())
                    .map_err(|error| failed(base.join(pattern), io::Error::other(error)))?;
                let mut sinks = Sinks::default();
                for path in paths {
                    match path {
                        Ok(path) if sinks.hide(&path)? => {}
                        Ok(path) => listing.look_at(path),
                        Err(error) if error.error().kind() == ErrorKind::NotFound => {}
                        Err(error) if error.path() == base => return Err(failed(base.clone(), error.into())),
                        Err(error) => listing.refuse(error.path().to_owned(), error.error()),
                    }
                }
            }
        }
        listing.files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        Ok(listing)
    }
}

impl Listing {
    /// Adds what a directory or a pattern gave, if it is a file that counts. One that cannot be looked at stops no other.
    fn look_at(&mut self, path: PathBuf) {
        if path.file_name().is_none_or(|name| is_passed_over(&name.to_string_lossy())) {
            return;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) => self.add(path, &metadata),
            // Gone since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {}
            Err(error) => self.refuse(path, &error),
        }
    }

    /// Adds the files that the manifests of a directory name.
    fn add_published(&mut self, directory: &Path) -> Result<(), SourceError> {
        for batch in read_manifests(directory)? {
            for file in batch.files {
                let path = directory.join(&file.path);
                match fs::metadata(&path) {
                    Ok(metadata) => self.add(path, &metadata),
                    Err(error) => self.refuse(path, &error),
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, path: PathBuf, error: &io::Error) {
        let reason = format!("`{}` cannot be read: {error}", path.display());
        self.unusable.push((path, reason));
    }

    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        if !metadata.is_file() {
            let reason = SourceError::Irregular { path: path.clone() }.to_string();
            self.unusable.push((path, reason));
            return;
        }
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
            // No range can name it.
            Err(path) => {
                let path = PathBuf::from(path);
                let reason = format!("the name of `{}` is not UTF-8", path.display());
                self.unusable.push((path, reason));
            }
        }
    }
}

fn read_manifests(directory: &Path) -> Result<Vec<Manifest>, SourceError> {
    manifest::read_all(directory).map_err(|source| SourceError::List { path: directory.into(), source })
}

/// What the manifests name of directories that file sinks write to: the other files in them do not count.
#[derive(Debug, Default)]
struct Sinks {
    /// By directory; `None`: it has no manifests.
    published: HashMap<PathBuf, Option<HashSet<PathBuf>>>,
}

impl Sinks {
    /// Whether a file is in the directory of a sink, or in a folder of values there, and none that is published.
    fn hide(&mut self, path: &Path) -> Result<bool, SourceError> {
        for directory in path.ancestors().skip(1) {
            if !self.published.contains_key(directory) {
                let published = if directory.join(manifest::FOLDER).is_dir() {
                    let files = read_manifests(directory)?.into_iter().flat_map(|batch| batch.files);
                    Some(files.map(|file| directory.join(&file.path)).collect())
                } else {
                    None
                };
                self.published.insert(directory.to_owned(), published);
            }
            if let Some(Some(published)) = self.published.get(directory) {
                return Ok(!published.contains(path));
            }
            if !directory.file_name().is_some_and(|name| name.to_string_lossy().contains('=')) {
                break;
            }
        }
        Ok(false)
    }
}

/// Cuts a path that is not there in two: a directory that is, and the pattern that follows. `None` if it has none.
///
/// What exists is meant literally, so that a job may stand in a folder whose name has brackets.
///
/// # Errors
///
/// [`SourceError::Option`] when the pattern is none.
pub(super) fn split_pattern(path: &Path) -> Result<Option<(PathBuf, String)>, SourceError> {
    if fs::metadata(path).is_ok() {
        return Ok(None);
    }
    let mut base = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.clone().next() {
        let longer = base.join(part);
        if !longer.is_dir() {
            break;
        }
        base = longer;
        parts.next();
    }
    let Some(pattern) = parts.as_path().to_str().filter(|pattern| is_wild(pattern.as_ref())) else { return Ok(None) };
    if let Err(error) = glob::Pattern::new(pattern) {
        let message = format!("`{pattern}` is no pattern: {} at character {}", error.msg, error.pos + 1);
        return Err(SourceError::Option { message, hint: Some("patterns have `*`, `?`, `[…]` and `**`".into()) });
    }
    Ok(Some((base, pattern.into())))
}

/// Whether a text has characters that stand for others in patterns.
fn is_wild(text: &OsStr) -> bool {
    text.to_string_lossy().contains(['*', '?', '['])
}

/// Whether the system makes up a file's content when it is read, as it does under `/proc`: then its size says nothing,
/// and no range can be cut.
fn is_made_up(path: &Path, metadata: &Metadata) -> bool {
    let has_content = || -> io::Result<bool> {
        let mut file = File::open(path)?;
        Ok(file.read(&mut [0])? > 0 && file.metadata()?.len() == 0)
    };
    // Whatever is wrong with it shows when it is read.
    metadata.len() == 0 && has_content().unwrap_or(false)
}

/// Whether a file of this name is passed over: hidden, private, or still being written.
fn is_passed_over(name: &str) -> bool {
    name.starts_with(['.', '_']) || name.ends_with(".tmp")
}

/// A number for the file under this path: another file that takes its place has another, even if the file system gives
/// it the old one's number.
pub(super) fn identity(path: &str, metadata: &Metadata) -> u128 {
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
