//! Sends lines of text to whoever connects, at a steady rate: what the demo counts.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::text::Text;

/// How often lines are sent: often enough to look steady.
const PERIOD: Duration = Duration::from_millis(20);

/// What is made up for after a stall, at most. A reader that was slow for longer gets fewer lines.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// How long one write may wait for a reader that does not read: the feeder looks whether it is to stop this often.
const WRITE_TIME_MAX: Duration = Duration::from_millis(200);

/// A TCP server on a thread of its own. Dropped, it closes its connection after the last whole line, and ends.
pub(super) struct Feeder {
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts a server on a free port of the loopback interface; one connection is served at a time.
    pub(super) fn start(rows_per_second: u32) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on the loopback interface")?;
        listener.set_nonblocking(true).context("cannot listen without waiting")?;
        let address = listener.local_addr().context("cannot tell the port")?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&is_stopping);
        let thread = std::thread::spawn(move || serve(&listener, rows_per_second, &stopping));
        Ok(Self { address, is_stopping, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only by a bug, which it has reported itself.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, rows_per_second: u32, is_stopping: &AtomicBool) {
    let mut text = Text::new();
    while !is_stopping.load(Ordering::Relaxed) {
        match listener.accept() {
            // A reader that goes away may come back.
            Ok((stream, _)) => drop(feed(stream, rows_per_second, &mut text, is_stopping)),
            Err(_) => std::thread::sleep(PERIOD),
        }
    }
}

/// Sends lines to one reader until it goes away or the feeder stops.
fn feed(mut stream: TcpStream, rows_per_second: u32, text: &mut Text, is_stopping: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIME_MAX))?;
    let mut started = Instant::now();
    let mut n_sent = 0;
    let mut lines = String::new();
    while !is_stopping.load(Ordering::Relaxed) {
        let elapsed = started.elapsed();
        let mut n_due = rows_due(elapsed, rows_per_second) - n_sent;
        if n_due > rows_due(CATCH_UP_MAX, rows_per_second) {
            (started, n_sent, n_due) = (Instant::now(), 0, 0);
        }
        lines.clear();
        (0..n_due).for_each(|_| text.push_line(&mut lines));
        write_patiently(&mut stream, lines.as_bytes(), is_stopping)?;
        n_sent += n_due;
        std::thread::sleep(PERIOD);
    }
    Ok(())
}

/// Lines that should have been sent by then.
fn rows_due(elapsed: Duration, rows_per_second: u32) -> u64 {
    // Far below 2^64: a day at a million lines a second is 2^37.
    (elapsed.as_millis() as u64) * u64::from(rows_per_second) / 1_000
}

/// Writes everything, however long the reader takes, unless the feeder stops in between.
fn write_patiently(stream: &mut TcpStream, mut bytes: &[u8], is_stopping: &AtomicBool) -> std::io::Result<()> {
    while !bytes.is_empty() && !is_stopping.load(Ordering::Relaxed) {
        match stream.write(bytes) {
            Ok(n_written) => bytes = &bytes[n_written..],
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn a_reader_gets_lines_and_may_come_back() {
        let feeder = Feeder::start(1_000).expect("the loopback interface works");
        for _ in 0..2 {
            let stream = TcpStream::connect(feeder.address()).expect("the feeder listens");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
            let lines: Vec<String> =
                BufReader::new(stream).lines().take(5).collect::<Result<_, _>>().expect("five lines come");
            assert!(lines.iter().all(|line| line.split(' ').count() >= 5), "{lines:?}");
        }
    }

    #[test]
    fn the_rate_is_what_was_asked_for() {
        assert_eq!(rows_due(Duration::from_millis(1_500), 2_000), 3_000);
        assert_eq!(rows_due(Duration::from_millis(20), 1), 0);
        assert_eq!(rows_due(Duration::from_secs(86_400), 1_000_000), 86_400_000_000);
    }

    #[test]
    fn a_feeder_without_a_reader_ends() {
        drop(Feeder::start(1).expect("the loopback interface works"));
    }
}
