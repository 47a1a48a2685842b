//! What segments are written to: the disk, or in tests one that fails.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// A place for segments.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    /// Makes a file, over one of its name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;

    /// When it returns, files that were made in the folder outlive the machine's power.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Deletes a file, if it is there.
    fn delete(&self, path: &Path) -> io::Result<()>;
}

/// A file that is appended to.
pub(super) trait SegmentFile: Send + fmt::Debug {
    /// Appends. When it fails, some of the bytes may have been.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts off what is behind so many bytes, and goes on there.
    fn cut(&mut self, n_bytes: u64) -> io::Result<()>;

    /// When it returns, what was appended outlives the machine's power. When it fails, it may not, whether it is tried again or not.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk.
#[derive(Debug)]
pub(super) struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
        self.set_len(n_bytes)?;
        self.seek(SeekFrom::Start(n_bytes)).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        // The size of the file is written with it; times are not needed.
        self.sync_data()
    }
}
