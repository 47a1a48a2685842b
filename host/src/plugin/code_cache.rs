//! Compiled plugins on disk, so that a start does not compile again.
//!
//! To load compiled code is to run it, so a file is loaded only when it and its folder belong to this process's user,
//! nobody else can write them, and its checksum is right. Everything that is wrong with the cache is a warning: the plugin
//! is compiled as if there were none.
//!
//! ```text
//!  DIGEST-SETTINGS.code:   magic, 16 bytes │ xxh3-128 of what follows, 16 bytes │ code as the engine serialises it
//! ```
//!
//! | crash after … | next start … |
//! | --- | --- |
//! | a part of the file is written | finds no file: it is still under its temporary name, and removed when it is old |
//! | it is renamed, not yet on disk | finds a wrong checksum, warns, compiles, writes it again |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_128;

use crate::plugin::file::Digest;

/// What a file of the cache begins with. The number is that of the layout.
const MAGIC: &[u8; 16] = b"tidemill code 1\n";
/// Magic and checksum.
const HEADER_BYTES: usize = MAGIC.len() + 16;
/// How much the cache keeps, in bytes; beyond it the files written longest ago are removed.
pub const CODE_CACHE_BYTES_MAX: u64 = 1 << 30;
/// How old a temporary file is when it is certain that nobody is writing it any more.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

/// A folder of compiled plugins.
#[derive(Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    /// The user who owns what this process writes.
    #[cfg(unix)]
    user: u32,
}

impl CodeCache {
    /// The cache in `folder`, which is made if it is not there; `None`, and a warning, when it cannot be used.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        Self::try_open(folder)
            .inspect_err(|error| {
                tracing::warn!("compiled plugins are not cached: {} cannot be used: {error}", folder.display());
            })
            .ok()
    }

    fn try_open(folder: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
        // A file of our own tells both that the folder can be written and who we are.
        let probe = folder.join(temporary_name("probe"));
        let metadata = create_private(&probe).and_then(|file| file.metadata());
        let _ = fs::remove_file(&probe);
        let metadata = metadata?;
        let this = Self {
            folder: folder.to_owned(),
            #[cfg(unix)]
            user: std::os::unix::fs::MetadataExt::uid(&metadata),
        };
        #[cfg(not(unix))]
        let _ = metadata;
        this.check_private(&fs::metadata(folder)?)?;
        Ok(this)
    }

    /// The code of the plugin `digest`, compiled under the settings `settings_hash`, if it is there and can be trusted.
    pub(crate) fn read(&self, digest: &Digest, settings_hash: u64) -> Option<Vec<u8>> {
        let path = self.path(digest, settings_hash);
        match self.try_read(&path) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("the compiled plugin {} is not used and made again: {error}", path.display());
                None
            }
        }
    }

    fn try_read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Checked on what is opened, not on the name: a link is followed, and what it leads to must be ours.
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        self.check_private(&metadata)?;
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| invalid("it is cut off"))?;
        let (magic, checksum) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(invalid("it is not a file of this cache"));
        }
        let mut code = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.read_to_end(&mut code)?;
        if checksum != xxh3_128(&code).to_le_bytes() {
            return Err(invalid("its checksum is wrong"));
        }
        Ok(code)
    }

    /// Keeps the code of a plugin.
    pub(crate) fn write(&self, digest: &Digest, settings_hash: u64, code: &[u8]) {
        let path = self.path(digest, settings_hash);
        let temporary = self.folder.join(temporary_name(&digest.to_string()));
        if let Err(error) = write_new(&temporary, code).and_then(|()| fs::rename(&temporary, &path)) {
            let _ = fs::remove_file(&temporary);
            tracing::warn!("the compiled plugin {} could not be written: {error}", path.display());
        }
        if let Err(error) = self.remove_old(CODE_CACHE_BYTES_MAX) {
            tracing::warn!("the cache of compiled plugins in {} could not be tidied: {error}", self.folder.display());
        }
    }

    /// Removes the code of a plugin, which the engine did not take.
    pub(crate) fn remove(&self, digest: &Digest, settings_hash: u64) {
        // If it stays it is found wanting again.
        let _ = fs::remove_file(self.path(digest, settings_hash));
    }

    /// Removes temporary files that were left, and the oldest code until `n_bytes_max` are kept.
    fn remove_old(&self, n_bytes_max: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it.
            let Ok(metadata) = entry.metadata() else { continue };
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".code") {
                files.push((written, metadata.len(), entry.path()));
            } else if name.starts_with('.')
                && name.ends_with(".tmp")
                && written.elapsed().is_ok_and(|age| age > TEMPORARY_AGE_MAX)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut n_bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        files.sort();
        for (_, len, path) in files {
            if n_bytes <= n_bytes_max {
                break;
            }
            let _ = fs::remove_file(path);
            n_bytes -= len;
        }
        Ok(())
    }

    fn path(&self, digest: &Digest, settings_hash: u64) -> PathBuf {
        self.folder.join(format!("{digest}-{settings_hash:016x}.code"))
    }

    #[cfg(unix)]
    fn check_private(&self, metadata: &fs::Metadata) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let denied = |what: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned()));
        if metadata.uid() != self.user {
            return denied("it belongs to another user");
        }
        if metadata.mode() & 0o022 != 0 {
            return denied("other users can write it");
        }
        Ok(())
    }

    /// A user's cache folder is private without our doing.
    #[cfg(not(unix))]
    fn check_private(&self, _metadata: &fs::Metadata) -> io::Result<()> {
        Ok(())
    }
}

/// A name that no other file has, in this process or in another.
fn temporary_name(what: &str) -> String {
    static N_NAMES: AtomicU64 = AtomicU64::new(0);
    format!(".{what}-{}-{}.tmp", process::id(), N_NAMES.fetch_add(1, Ordering::Relaxed))
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write_new(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file = create_private(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&xxh3_128(code).to_le_bytes())?;
    file.write_all(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, CodeCache, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::try_open(&folder.path().join("a/b")).unwrap();
        (folder, cache, Digest::of(b"plugin"))
    }

    #[test]
    fn what_is_written_is_read() {
        let (_folder, cache, digest) = cache();
        assert_eq!(cache.read(&digest, 1), None);
        cache.write(&digest, 1, b"code");
        assert_eq!(cache.read(&digest, 1).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.read(&digest, 2), None);
        cache.remove(&digest, 1);
        assert_eq!(cache.read(&digest, 1), None);
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (_folder, cache, digest) = cache();
        cache.write(&digest, 1, b"code");
        let path = cache.path(&digest, 1);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut changed = whole.clone();
            changed[i] ^= 1;
            fs::write(&path, changed).unwrap();
            assert_eq!(cache.read(&digest, 1), None, "byte {i}");
            fs::write(&path, &whole[..i]).unwrap();
            assert_eq!(cache.read(&digest, 1), None, "cut at {i}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, cache, digest) = cache();
        assert_eq!(fs::metadata(&cache.folder).unwrap().permissions().mode() & 0o777, 0o700);
        cache.write(&digest, 1, b"code");
        let path = cache.path(&digest, 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o620)).unwrap();
        assert_eq!(cache.read(&digest, 1), None);
        fs::set_permissions(&cache.folder, PermissionsExt::from_mode(0o777)).unwrap();
        let error = CodeCache::try_open(&cache.folder).unwrap_err();
        assert_eq!(error.to_string(), "other users can write it");
    }

    #[test]
    fn a_folder_that_cannot_be_is_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(CodeCache::open(&file).is_none());
    }

    #[test]
    fn the_oldest_code_goes_first() {
        let (_folder, cache, digest) = cache();
        for (hash, age) in [(1, 30), (2, 20), (3, 10)] {
            cache.write(&digest, hash, &[0; 100]);
            let file = File::options().write(true).open(cache.path(&digest, hash)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        cache.remove_old(2 * (100 + HEADER_BYTES as u64)).unwrap();
        let kept: Vec<_> = (1..=3).map(|hash| cache.read(&digest, hash).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
    }
}
