//! Publishes batches: makes their files visible, and then says in a manifest that they are all there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::earlier::Kept;
use super::part::{PartFile, PartWriter, Shared};
use crate::error::Error;
use crate::fail_point;
use crate::ids::{BatchId, PartitionId};
use crate::manifest::{self, Manifest, ManifestFile, PublishedFile};
use crate::sink::{PartitionWriter, Prepared, Sink, SinkBatch, SinkError};

/// An open file sink.
pub(super) struct FileBatches {
    shared: Arc<Shared>,
    /// A mutex, held while publishing, because publishing a batch twice must publish it once.
    state: Mutex<State>,
    /// Held for as long as the sink lives.
    _lock: File,
}

struct State {
    /// The last batch that was published whole, or that is in the checkpoint.
    last_published: Option<BatchId>,
    /// Batches that an earlier run published, and that are not in the checkpoint.
    uncommitted: BTreeSet<BatchId>,
    /// The files of manifests, in the order of their batches.
    manifests: Vec<ManifestFile>,
}

impl FileBatches {
    pub(super) fn new(shared: Shared, committed: Option<BatchId>, kept: Kept, lock: File) -> Self {
        let Kept { manifests, uncommitted } = kept;
        let state = Mutex::new(State { last_published: committed, uncommitted, manifests });
        Self { shared: Arc::new(shared), state, _lock: lock }
    }

    /// Brings the files to their places, and the places to the disk. `visible` gets what can be seen by then.
    fn show(&self, files: &mut [PartFile], visible: &mut Vec<PathBuf>) -> Result<(), SinkError> {
        let directory = &self.shared.directory;
        let mut folders = BTreeSet::from([directory.clone()]);
        for file in files {
            let folder = directory.join(&file.folder);
            if !folders.contains(&folder) {
                fs::create_dir_all(&folder).map_err(|source| SinkError::write_file(&folder, source))?;
                // A folder is there for good once the one that holds it is on the disk.
                folders
                    .extend(folder.ancestors().take_while(|above| *above != directory.as_path()).map(Path::to_owned));
            }
            let target = folder.join(&file.name);
            file.publish(&target)?;
            visible.push(target);
            fail_point::pass("file-published");
        }
        folders
            .iter()
            .try_for_each(|folder| sync_folder(folder).map_err(|source| SinkError::write_file(folder, source)))
    }

    /// Merges manifests when there are many. It may fail: readers find the same without it, and the next batch tries again.
    fn merge_manifests(&self, manifests: &mut Vec<ManifestFile>) -> io::Result<()> {
        let sizes: Vec<u64> = manifests.iter().map(|file| file.bytes).collect();
        let Some(merged) = manifest::to_merge(&sizes) else { return Ok(()) };
        let directory = &self.shared.directory;
        let mut batches = std::collections::BTreeMap::new();
        for file in &manifests[merged.clone()] {
            let of_file = manifest::read(directory, file)?;
            batches.extend(of_file.into_iter().map(|manifest| (manifest.batch_id, manifest)));
        }
        let batches: Vec<Manifest> = batches.into_values().collect();
        let bytes = manifest::encode(&batches);
        let of_merged = &manifests[merged.clone()];
        let [first, last] =
            [of_merged.iter().map(|file| file.first).min(), of_merged.iter().map(|file| file.last).max()];
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        let file = ManifestFile { first, last, bytes: bytes.len() as u64 };
        write_manifest(directory, &file.name(), &bytes)?;
        sync_folder(&directory.join(manifest::FOLDER))?;
        let old: Vec<ManifestFile> = manifests.splice(merged, [file.clone()]).collect();
        manifest::sort(manifests);
        for old in old.iter().filter(|old| old.name() != file.name()) {
            fs::remove_file(directory.join(manifest::FOLDER).join(old.name()))?;
        }
        Ok(())
    }
}

impl Sink for FileBatches {
    fn writer(&self, batch: &SinkBatch, partition: PartitionId) -> Result<Box<dyn PartitionWriter>, Error> {
        Ok(Box::new(PartWriter::new(self.shared.clone(), batch.batch_id, partition)))
    }

    fn publish(&self, batch: &SinkBatch, parts: Vec<Prepared>) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = &self.shared.directory;
        // What was prepared for nothing is removed as it is dropped.
        if state.last_published.is_some_and(|last| batch.batch_id <= last) {
            return Ok(());
        }
        if state.uncommitted.contains(&batch.batch_id) {
            if !batch.is_repeated {
                return Err(SinkError::AheadOfCheckpoint { path: directory.clone(), batch_id: batch.batch_id }.into());
            }
            // Readers have seen it.
            state.last_published = Some(batch.batch_id);
            return Ok(());
        }
        let mut files: Vec<PartFile> = Vec::new();
        for part in parts {
            files.extend(*part.payload.downcast::<Vec<PartFile>>().map_err(|_| SinkError::Foreign { sink: "file" })?);
        }
        if files.is_empty() {
            state.last_published = Some(batch.batch_id);
            return Ok(());
        }
        files.sort_by(|a, b| (a.partition, &a.folder, a.index).cmp(&(b.partition, &b.folder, b.index)));
        let published =
            files.iter().map(|file| PublishedFile { path: file.path(), rows: file.n_rows, bytes: file.n_bytes });
        let of_batch = Manifest::new(batch.batch_id.0, batch.batch_time_us, published.collect());
        let bytes = manifest::encode(&[of_batch]);
        let manifest = ManifestFile { first: batch.batch_id.0, last: batch.batch_id.0, bytes: bytes.len() as u64 };
        let failed = |source| SinkError::write_file(directory.join(manifest::FOLDER).join(manifest.name()), source);
        let mut visible = Vec::with_capacity(files.len());
        let shown = self.show(&mut files, &mut visible);
        let said = shown.and_then(|()| write_manifest(directory, &manifest.name(), &bytes).map_err(failed));
        if let Err(error) = said {
            // A part of a batch is not left to be seen; if this fails too, running the batch again mends it.
            visible.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(error.into());
        }
        // From here on readers see the batch: it is not taken back.
        sync_folder(&directory.join(manifest::FOLDER)).map_err(failed)?;
        fail_point::pass("manifest-written");
        state.last_published = Some(batch.batch_id);
        // A batch that was published and not brought to the disk is published again under the same name.
        state.manifests.retain(|other| other.name() != manifest.name());
        state.manifests.push(manifest);
        if let Err(error) = self.merge_manifests(&mut state.manifests) {
            let path = directory.display().to_string();
            tracing::warn!(target: "tidemill::sink", path, %error, "manifests could not be merged");
            state.manifests = manifest::list(directory).unwrap_or_default();
        }
        Ok(())
    }
}

/// Writes a file of the folder of manifests: it is there whole or not at all.
fn write_manifest(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = directory.join(manifest::FOLDER);
    let temporary = folder.join(format!(".{name}.tmp"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, folder.join(name)));
    renamed.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Makes renames last. Elsewhere than on Unix directories cannot be opened, and need not.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    File::open(folder)?.sync_all()
}
