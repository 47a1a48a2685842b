//! `wasi:filesystem`: the directories that a job grants, by wasmtime-wasi, which resolves paths as cap-std does; counted, and
//! waited for no longer than the call may go on.

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types as waiting};
use wasmtime_wasi::p2::bindings::sync::filesystem::types;
use wasmtime_wasi::p2::bindings::sync::io::streams;
use wasmtime_wasi::p2::{FsError, FsResult};

use crate::plugin::guest::Guest;
use crate::plugin::wasi::wait::wait;

/// A guest, as far as it has files.
pub(crate) struct Files<'a>(pub(crate) &'a mut Guest);

/// Says that [`Files`] is what the functions are called on.
pub(crate) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

impl Files<'_> {
    fn view(&mut self) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut self.0.filesystem, table: &mut self.0.table }
    }

    /// Does something to a file or directory; `what` and `path` are for the message when it is denied.
    fn run<T>(
        &mut self,
        what: &str,
        path: Option<&str>,
        work: impl AsyncFnOnce(&mut WasiFilesystemCtxView<'_>) -> FsResult<T>,
    ) -> FsResult<T> {
        let Guest { filesystem, table, time, .. } = &mut *self.0;
        let mut view = WasiFilesystemCtxView { ctx: filesystem, table };
        let result = wait(time, work(&mut view)).map_err(FsError::trap)?;
        result.inspect_err(|error| self.note(what, path, error))
    }

    /// Says what was denied, and what would allow it. What is not there, or is wrong, is the guest's to deal with.
    fn note(&mut self, what: &str, path: Option<&str>, error: &FsError) {
        use waiting::ErrorCode::{Access, NotPermitted, ReadOnly};
        let Some(Access | NotPermitted | ReadOnly) = error.downcast_ref() else { return };
        let of = path.map(|path| format!(" of `{}`", crate::plugin::text::one_line(path))).unwrap_or_default();
        self.0.log.lock().deny(format!(
            "`{what}`{of}: it leads out of the directories that `grants.directories` names, or they are granted with less than \
             `access = \"write\"`"
        ));
    }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<types::Descriptor>, String)>> {
        preopens::Host::get_directories(&mut self.view())
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        types::Host::convert_error_code(&mut self.view(), error)
    }

    fn filesystem_error_code(&mut self, error: Resource<streams::Error>) -> wasmtime::Result<Option<types::ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.view(), error)
    }
}

type Descriptor = Resource<types::Descriptor>;

impl types::HostDescriptor for Files<'_> {
    fn advise(&mut self, file: Descriptor, offset: u64, len: u64, advice: types::Advice) -> FsResult<()> {
        let advice = advice.into();
        self.run("advise", None, async |view| waiting::HostDescriptor::advise(view, file, offset, len, advice).await)
    }

    fn sync_data(&mut self, file: Descriptor) -> FsResult<()> {
        self.run("sync-data", None, async |view| waiting::HostDescriptor::sync_data(view, file).await)
    }

    fn get_flags(&mut self, file: Descriptor) -> FsResult<types::DescriptorFlags> {
        self.run("get-flags", None, async |view| Ok(waiting::HostDescriptor::get_flags(view, file).await?.into()))
    }

    fn get_type(&mut self, file: Descriptor) -> FsResult<types::DescriptorType> {
        self.run("get-type", None, async |view| Ok(waiting::HostDescriptor::get_type(view, file).await?.into()))
    }

    fn set_size(&mut self, file: Descriptor, size: u64) -> FsResult<()> {
        let now = types::HostDescriptor::stat(self, Resource::new_borrow(file.rep()))?.size;
        // What a file grows by is written, if only as zeroes.
        self.0.deeds.write_file(size.saturating_sub(now)).map_err(FsError::trap)?;
        self.run("set-size", None, async |view| waiting::HostDescriptor::set_size(view, file, size).await)
    }

    fn set_times(
        &mut self,
        file: Descriptor,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (accessed.into(), modified.into());
        self.run("set-times", None, async |view| {
            waiting::HostDescriptor::set_times(view, file, accessed, modified).await
        })
    }

    fn read(&mut self, file: Descriptor, len: u64, offset: u64) -> FsResult<(Vec<u8>, bool)> {
        self.run("read", None, async |view| waiting::HostDescriptor::read(view, file, len, offset).await)
    }

    fn write(&mut self, file: Descriptor, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        self.0.deeds.write_file(bytes.len() as u64).map_err(FsError::trap)?;
        self.run("write", None, async |view| waiting::HostDescriptor::write(view, file, bytes, offset).await)
    }

    fn read_directory(&mut self, directory: Descriptor) -> FsResult<Resource<types::DirectoryEntryStream>> {
        self.run("read-directory", None, async |view| waiting::HostDescriptor::read_directory(view, directory).await)
    }

    fn sync(&mut self, file: Descriptor) -> FsResult<()> {
        self.run("sync", None, async |view| waiting::HostDescriptor::sync(view, file).await)
    }

    fn create_directory_at(&mut self, directory: Descriptor, path: String) -> FsResult<()> {
        self.run("create-directory-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::create_directory_at(view, directory, path).await
        })
    }

    fn stat(&mut self, file: Descriptor) -> FsResult<types::DescriptorStat> {
        self.run("stat", None, async |view| Ok(waiting::HostDescriptor::stat(view, file).await?.into()))
    }

    fn stat_at(
        &mut self,
        directory: Descriptor,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.run("stat-at", Some(&path.clone()), async |view| {
            Ok(waiting::HostDescriptor::stat_at(view, directory, flags.into(), path).await?.into())
        })
    }

    fn set_times_at(
        &mut self,
        directory: Descriptor,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (accessed.into(), modified.into());
        self.run("set-times-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::set_times_at(view, directory, flags.into(), path, accessed, modified).await
        })
    }

    fn link_at(
        &mut self,
        directory: Descriptor,
        flags: types::PathFlags,
        path: String,
        new_directory: Descriptor,
        new_path: String,
    ) -> FsResult<()> {
        self.run("link-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::link_at(view, directory, flags.into(), path, new_directory, new_path).await
        })
    }

    fn open_at(
        &mut self,
        directory: Descriptor,
        flags: types::PathFlags,
        path: String,
        how: types::OpenFlags,
        with: types::DescriptorFlags,
    ) -> FsResult<Descriptor> {
        self.run("open-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::open_at(view, directory, flags.into(), path, how.into(), with.into()).await
        })
    }

    fn drop(&mut self, file: Descriptor) -> wasmtime::Result<()> {
        types::HostDescriptor::drop(&mut self.view(), file)
    }

    fn readlink_at(&mut self, directory: Descriptor, path: String) -> FsResult<String> {
        self.run("readlink-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::readlink_at(view, directory, path).await
        })
    }

    fn remove_directory_at(&mut self, directory: Descriptor, path: String) -> FsResult<()> {
        self.run("remove-directory-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::remove_directory_at(view, directory, path).await
        })
    }

    fn rename_at(
        &mut self,
        directory: Descriptor,
        path: String,
        new_directory: Descriptor,
        new_path: String,
    ) -> FsResult<()> {
        self.run("rename-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::rename_at(view, directory, path, new_directory, new_path).await
        })
    }

    fn symlink_at(&mut self, directory: Descriptor, path: String, new_path: String) -> FsResult<()> {
        self.run("symlink-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::symlink_at(view, directory, path, new_path).await
        })
    }

    fn unlink_file_at(&mut self, directory: Descriptor, path: String) -> FsResult<()> {
        self.run("unlink-file-at", Some(&path.clone()), async |view| {
            waiting::HostDescriptor::unlink_file_at(view, directory, path).await
        })
    }

    fn read_via_stream(&mut self, file: Descriptor, offset: u64) -> FsResult<Resource<streams::InputStream>> {
        types::HostDescriptor::read_via_stream(&mut self.view(), file, offset)
    }

    fn write_via_stream(&mut self, file: Descriptor, offset: u64) -> FsResult<Resource<streams::OutputStream>> {
        let stream = types::HostDescriptor::write_via_stream(&mut self.view(), file, offset);
        self.keep_stream(stream)
    }

    fn append_via_stream(&mut self, file: Descriptor) -> FsResult<Resource<streams::OutputStream>> {
        let stream = types::HostDescriptor::append_via_stream(&mut self.view(), file);
        self.keep_stream(stream)
    }

    fn is_same_object(&mut self, a: Descriptor, b: Descriptor) -> wasmtime::Result<bool> {
        let Guest { filesystem, table, time, .. } = &mut *self.0;
        let mut view = WasiFilesystemCtxView { ctx: filesystem, table };
        wait(time, waiting::HostDescriptor::is_same_object(&mut view, a, b))?
    }

    fn metadata_hash(&mut self, file: Descriptor) -> FsResult<types::MetadataHashValue> {
        self.run("metadata-hash", None, async |view| {
            Ok(waiting::HostDescriptor::metadata_hash(view, file).await?.into())
        })
    }

    fn metadata_hash_at(
        &mut self,
        directory: Descriptor,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.run("metadata-hash-at", Some(&path.clone()), async |view| {
            Ok(waiting::HostDescriptor::metadata_hash_at(view, directory, flags.into(), path).await?.into())
        })
    }
}

impl Files<'_> {
    /// Notes that what is written to a stream is written to a file.
    fn keep_stream(
        &mut self,
        stream: FsResult<Resource<streams::OutputStream>>,
    ) -> FsResult<Resource<streams::OutputStream>> {
        match &stream {
            Ok(stream) => {
                self.0.file_streams.insert(stream.rep());
            }
            Err(error) => self.note("write-via-stream", None, error),
        }
        stream
    }
}

impl types::HostDirectoryEntryStream for Files<'_> {
    fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.run("read-directory-entry", None, async |view| {
            let entry = waiting::HostDirectoryEntryStream::read_directory_entry(view, stream).await?;
            Ok(entry.map(Into::into))
        })
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        types::HostDirectoryEntryStream::drop(&mut self.view(), stream)
    }
}
