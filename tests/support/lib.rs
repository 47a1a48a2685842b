//! What the end-to-end tests share: the binary, a folder of its own for each test, servers on loopback, bounded waiting.

mod install;
pub mod proxy;
pub mod s3;
pub mod toolchains;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No wait of a test is longer: a machine that needs more is broken, not busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The project's folder.
#[must_use]
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The `tidemill` binary that stands beside the tests' own.
///
/// # Panics
///
/// When it has not been built.
#[must_use]
pub fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap_or_default();
    let built = tests.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("tidemill");
    assert!(built.exists(), "{} is not there: run `cargo build -p tidemill` first", built.display());
    built
}

/// The plugin of a crate of the project, as `cargo xtask plugins` builds it.
///
/// # Panics
///
/// When it has not been built.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    let built = project().join("target/plugins").join(format!("{name}.wasm"));
    assert!(built.exists(), "{} is not there: run `cargo xtask plugins` first", built.display());
    built
}

/// A folder of a test's own, removed when it is dropped.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "a machine without a temporary folder runs no tests")]
pub fn folder() -> tempfile::TempDir {
    match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => panic!("no temporary folder: {error}"),
    }
}

/// Waits until `condition` gives something.
///
/// # Panics
///
/// When it has not for [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// The exit code; -1 when it was killed.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

/// The binary at work on a job.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Starts `tidemill` with these arguments in `folder`. What it compiles is cached in the project's target folder, so
    /// that the tests neither read nor fill the user's own cache.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder);
        Self::spawn(command)
    }

    /// Starts a command whose streams are kept.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        command.env("XDG_CACHE_HOME", project().join("target/test-cache"));
        command.env_remove("TIDEMILL_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?} does not start: {error}"),
        };
        let (stdout, stderr) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let mut readers = Vec::new();
        if let Some(stream) = child.stdout.take() {
            readers.push(keep(stream, stdout.clone()));
        }
        if let Some(stream) = child.stderr.take() {
            readers.push(keep(stream, stderr.clone()));
        }
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, stderr, readers }
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub fn type_in(&mut self, text: &str) {
        if let Some(stdin) = &mut self.stdin {
            // A process that has ended reads nothing; its end is what the test then sees.
            let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Its standard input, for whoever writes to it from another thread.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal, as in `TERM`.
    ///
    /// # Panics
    ///
    /// When the system has no `kill`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {name} could not be sent");
    }

    /// Whether it is still at work.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end: what it wrote is shown.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    // It may have ended in between.
                    let _ = self.child.kill();
                    panic!("it does not end\n--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr());
                }
            }
        };
        for reader in self.readers.drain(..) {
            assert!(reader.join().is_ok(), "a reader of its output panicked");
        }
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(stream: impl std::io::Read + Send + 'static, into: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Runs `tidemill` to its end.
#[track_caller]
#[must_use]
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    let mut running = Running::start(folder, arguments);
    running.close_stdin();
    running.wait()
}

/// A TCP server that a socket source connects to.
pub struct Sender {
    listener: TcpListener,
}

impl Sender {
    /// Listens on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn listen() -> Self {
        match TcpListener::bind("127.0.0.1:0") {
            Ok(listener) => Self { listener },
            Err(error) => panic!("no free port: {error}"),
        }
    }

    /// Its address.
    ///
    /// # Panics
    ///
    /// When the system does not know it.
    #[must_use]
    pub fn address(&self) -> String {
        match self.listener.local_addr() {
            Ok(address) => address.to_string(),
            Err(error) => panic!("a listener without an address: {error}"),
        }
    }

    /// A connection, if one waits.
    ///
    /// # Panics
    ///
    /// When the listener or the connection cannot be told to wait, or not to.
    #[must_use]
    pub fn try_accept(&self) -> Option<TcpStream> {
        assert!(self.listener.set_nonblocking(true).is_ok(), "a listener that cannot wait");
        let stream = self.listener.accept().ok()?.0;
        assert!(stream.set_nonblocking(false).is_ok(), "a connection that cannot wait");
        Some(stream)
    }

    /// Waits for a connection.
    ///
    /// # Panics
    ///
    /// When none comes.
    #[track_caller]
    #[must_use]
    pub fn accept(&self) -> TcpStream {
        wait_for("a connection", || self.try_accept())
    }
}

/// The lines of all visible files of a folder that a file sink wrote, sorted.
#[must_use]
pub fn written_lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return lines };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}
