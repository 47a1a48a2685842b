//! Lines from a TCP server: what Spark calls `socketLineStream`.

use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::counters::SourceNote;
use super::error::SourceError;
use super::format::{BatchBounds, LineFormat};
use super::lines::LineOptions;
use super::reject::BadRows;
use super::{Intake, OpenSource, Receiver, SourceDefinition};
use crate::error::Error;
use crate::job::table::Table;

/// Bytes of one read. A busy socket gives 64 to 256 KiB at a time, and what one read gives is pushed at once.
const READ_BYTES: usize = 256 << 10;

/// Rows and bytes of a batch that is pushed, at most; the bytes of one read are always fewer.
const BATCH: BatchBounds = BatchBounds { rows_max: 65_536, bytes_max: 4 << 20 };

/// How often a silent socket is left to look whether the job stops.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Lines from a TCP server that the job connects to.
///
/// Each line is a row, of one column, `value: utf8`, or as `format` says. Lines end in `\n`; a `\r` before it is no part of them. When the
/// server closes the connection, its last line counts even without a line end; when the connection breaks, that line
/// is left out and counted. Nothing can be read again: what a crash may lose, the job's [`Durability`](crate::job::Durability) says.
///
/// # Examples
///
/// ```
/// use tidemill::source::{SocketSource, SourceDefinition};
///
/// let source = SocketSource { reconnect: false, ..SocketSource::new("127.0.0.1:9999") };
/// assert_eq!(source.describe(), "127.0.0.1:9999");
/// assert!(source.ends());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSource {
    /// Host and port, as in `127.0.0.1:9999` or `[::1]:9999`. A name is looked up at every connection.
    pub address: String,
    /// Whether to connect again when the connection has ended or broken. If not, the source ends with its first
    /// connection. A server that is not there yet is waited for either way.
    pub reconnect: bool,
    /// How long the server may take to answer one attempt to connect.
    pub connect_timeout: Duration,
    /// What a line is. A header of CSV stands at the start of every connection.
    pub format: LineFormat,
    /// How lines are read.
    pub lines: LineOptions,
    /// What is done with lines that are no rows.
    pub bad_rows: BadRows,
}

impl SocketSource {
    /// A source that connects to `address`, again and again.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            reconnect: true,
            connect_timeout: Duration::from_secs(5),
            format: LineFormat::Text,
            lines: LineOptions::default(),
            bad_rows: BadRows::Drop,
        }
    }

    /// Reads the options `address`, `reconnect`, `connect-timeout`, `format`, `schema`, those of CSV, `max-line-bytes`,
    /// `invalid`, `on-error` and `dead-letter`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let address = table.required_text("address");
        if let Some(SourceError::Option { message, hint }) =
            address.as_deref().and_then(|text| check_address(text).err())
        {
            table.problem("address", message, hint);
        }
        let mut source = Self::new(address.clone().unwrap_or_default());
        source.reconnect = table.boolean("reconnect").unwrap_or(source.reconnect);
        match table.duration("connect-timeout") {
            Some(timeout) if timeout.is_zero() => {
                table.problem("connect-timeout", "`connect-timeout` must be longer than 0", None);
            }
            timeout => source.connect_timeout = timeout.unwrap_or(source.connect_timeout),
        }
        let (format, bad_rows) = LineFormat::parse(table);
        source.lines = LineOptions::parse_for(table, format.as_ref());
        source.bad_rows = bad_rows;
        source.format = format?;
        address.map(|_| source)
    }
}

/// Whether it is a host and a port; the host may still be unknown.
fn check_address(address: &str) -> Result<(), SourceError> {
    let problem = |message: String| {
        let hint = Some("write a host and a port, as in `127.0.0.1:9999`".into());
        Err(SourceError::Option { message, hint })
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return problem(format!("address `{address}` has no port"));
    };
    if host.is_empty() {
        return problem(format!("address `{address}` has no host"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return problem(format!("address `{address}` needs brackets around its host, as in `[::1]:9999`"));
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => problem(format!("address `{address}` needs a port from 1 to 65535")),
        Ok(_) => Ok(()),
    }
}

impl SourceDefinition for SocketSource {
    fn type_name(&self) -> &str {
        "socket"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(self.format.schema())
    }

    fn dead_letter(&self) -> Option<&str> {
        self.bad_rows.dead_letter()
    }

    fn describe(&self) -> String {
        self.address.clone()
    }

    fn ends(&self) -> bool {
        !self.reconnect
    }

    fn open(&self) -> Result<OpenSource, Error> {
        check_address(&self.address)?;
        Ok(OpenSource::Receiver(Box::new(SocketReceiver { options: self.clone(), has_failed: false })))
    }
}

/// Connects and reads until the connection ends.
#[derive(Debug)]
struct SocketReceiver {
    options: SocketSource,
    /// Whether a row has come that the job is to fail for.
    has_failed: bool,
}

/// How a connection ended.
enum End {
    /// The job stops.
    Stopping,
    /// The server closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
}

impl Receiver for SocketReceiver {
    fn run(&mut self, intake: &Intake) -> Result<(), Error> {
        let address = &self.options.address;
        let connected = connect(&self.options, intake);
        let Some(stream) = connected.map_err(|source| SourceError::Connect { address: address.clone(), source })?
        else {
            return Ok(());
        };
        intake.note(SourceNote::Connected);
        let received = receive(stream, &self.options, intake).inspect_err(|error| {
            self.has_failed = matches!(
                error.downcast_ref::<SourceError>(),
                Some(SourceError::BadRow { .. } | SourceError::BadFile { .. })
            );
        });
        let error = match received? {
            End::Stopping => return Ok(()),
            End::Closed => SourceError::Closed { address: address.clone() },
            End::Broken(source) => SourceError::Read { what: format!("`{address}`"), source },
        };
        if self.options.reconnect {
            return Err(error.into());
        }
        if let SourceError::Read { source, .. } = &error {
            intake.note(SourceNote::Failed { error: format!("{error}: {source}") });
            tracing::warn!(target: "tidemill::source", address, %source, "connection broke, and `reconnect` is false");
        }
        Ok(())
    }

    fn can_run_again(&self) -> bool {
        !self.has_failed
    }
}

/// Reads until the connection ends or the job stops; pushes what there is after every read.
fn receive(mut stream: TcpStream, options: &SocketSource, intake: &Intake) -> Result<End, Error> {
    let mut text = options.format.stream(&options.address, &options.lines, &options.bad_rows, BATCH, intake.counters());
    let mut emit = |rows| Ok(intake.push(rows)?);
    if let Err(error) = stream.set_read_timeout(Some(STOP_POLL)) {
        return Ok(End::Broken(error));
    }
    let mut buffer = vec![0; READ_BYTES];
    let end = loop {
        if intake.is_stopping() {
            break End::Stopping;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break End::Closed,
            Ok(n_bytes) => {
                text.add(&buffer[..n_bytes], &mut emit)?;
                text.flush(&mut emit)?;
            }
            Err(error) if is_pause(error.kind()) => {}
            Err(error) => break End::Broken(error),
        }
    };
    match end {
        End::Closed => text.finish(&mut emit)?,
        End::Stopping | End::Broken(_) => text.break_off(&mut emit)?,
    }
    Ok(end)
}

/// Whether a read ended without data, with nothing wrong.
fn is_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Connects; `None` when the job stops meanwhile.
///
/// Looking up a name and waiting for a server that does not answer cannot be interrupted, so a thread of its own does
/// both; if the job stops it is left to end by itself, within the timeout.
fn connect(options: &SocketSource, intake: &Intake) -> io::Result<Option<TcpStream>> {
    let (sender, answer) = mpsc::sync_channel(1);
    let (address, timeout) = (options.address.clone(), options.connect_timeout);
    thread::Builder::new().name("connect".into()).spawn(move || {
        // Nobody listens when the job stops.
        let _ = sender.send(connect_any(&address, timeout));
    })?;
    loop {
        match answer.recv_timeout(STOP_POLL) {
            Ok(outcome) => return outcome.map(Some),
            Err(RecvTimeoutError::Timeout) if intake.is_stopping() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the thread that connects ended")),
        }
    }
}

/// Connects to the first address of a name that answers.
fn connect_any(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last_error = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
