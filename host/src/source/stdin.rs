//! Lines from standard input.

use std::io::{self, Read};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{RecvTimeoutError, TryRecvError, bounded};

use super::error::SourceError;
use super::format::{BatchBounds, LineFormat};
use super::lines::LineOptions;
use super::reject::BadRows;
use super::{Intake, OpenSource, Receiver, SourceDefinition};
use crate::error::Error;
use crate::job::table::Table;

/// Bytes of one read: what a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// Pieces read and not yet taken: half a megabyte, so that reading and cutting overlap.
const PIECES_WAITING_MAX: usize = 8;

/// Rows and bytes of a batch that is pushed, at most.
const BATCH: BatchBounds = BatchBounds { rows_max: 65_536, bytes_max: 1 << 20 };

/// What messages and dead letters call the input.
const NAME: &str = "standard input";

/// How often a silent input is left to look whether the job stops.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Lines from the standard input of the process.
///
/// Rows are as those of [`SocketSource`](super::SocketSource). The source ends with its input. A process has one
/// standard input: of several such sources each gets a part, so a job should have one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StdinSource {
    /// What a line is.
    pub format: LineFormat,
    /// How lines are read.
    pub lines: LineOptions,
    /// What is done with lines that are no rows.
    pub bad_rows: BadRows,
}

impl StdinSource {
    /// Reads the options `format`, `schema`, those of CSV, `max-line-bytes`, `invalid`, `on-error` and `dead-letter`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let (format, bad_rows) = LineFormat::parse(table);
        let lines = LineOptions::parse_for(table, format.as_ref());
        Some(Self { format: format?, lines, bad_rows })
    }
}

impl SourceDefinition for StdinSource {
    fn type_name(&self) -> &str {
        "stdin"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(self.format.schema())
    }

    fn dead_letter(&self) -> Option<&str> {
        self.bad_rows.dead_letter()
    }

    fn describe(&self) -> String {
        NAME.into()
    }

    fn ends(&self) -> bool {
        true
    }

    fn open(&self) -> Result<OpenSource, Error> {
        /// One thread a process reads standard input, for as long as the process lives: a read cannot be interrupted,
        /// and what it reads after a source was stopped is for the next one.
        static STDIN: OnceLock<Mutex<Option<Pieces>>> = OnceLock::new();
        let mut shared = STDIN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = match &*shared {
            Some(pieces) => pieces.clone(),
            None => shared.insert(read_pieces(io::stdin())?).clone(),
        };
        Ok(OpenSource::Receiver(Box::new(PieceReceiver { pieces, options: self.clone(), has_failed: false })))
    }
}

/// Pieces of input; the channel closes at its end.
type Pieces = crossbeam_channel::Receiver<io::Result<Vec<u8>>>;

/// Reads input on a thread of its own until it ends, fails, or nobody listens.
fn read_pieces(mut input: impl Read + Send + 'static) -> Result<Pieces, SourceError> {
    let (sender, pieces) = bounded(PIECES_WAITING_MAX);
    let read = move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(n_bytes) => Ok(buffer[..n_bytes].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if sender.send(piece).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".into()).spawn(read).map_err(|source| SourceError::Thread { source })?;
    Ok(pieces)
}

/// Makes rows of pieces of text.
#[derive(Debug)]
struct PieceReceiver {
    pieces: Pieces,
    options: StdinSource,
    /// Whether reading has failed: nothing more comes, and that is no end. Or a row has come that the job is to fail for.
    has_failed: bool,
}

impl Receiver for PieceReceiver {
    fn run(&mut self, intake: &Intake) -> Result<(), Error> {
        self.receive(intake).inspect_err(|error| {
            // Nothing of it can be had again.
            self.has_failed = error.downcast_ref::<SourceError>().is_some();
        })
    }

    fn can_run_again(&self) -> bool {
        !self.has_failed
    }
}

impl PieceReceiver {
    fn receive(&self, intake: &Intake) -> Result<(), Error> {
        let options = &self.options;
        let mut text = options.format.stream(NAME, &options.lines, &options.bad_rows, BATCH, intake.counters());
        let mut emit = |rows| Ok(intake.push(rows)?);
        loop {
            if intake.is_stopping() {
                return text.break_off(&mut emit);
            }
            // What is there is taken whole before it is pushed, and nothing waits while there is no more.
            let piece = match self.pieces.try_recv() {
                Ok(piece) => piece,
                Err(TryRecvError::Disconnected) => return text.finish(&mut emit),
                Err(TryRecvError::Empty) => {
                    text.flush(&mut emit)?;
                    match self.pieces.recv_timeout(STOP_POLL) {
                        Ok(piece) => piece,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return text.finish(&mut emit),
                    }
                }
            };
            match piece {
                Ok(piece) => text.add(&piece, &mut emit)?,
                Err(source) => {
                    text.break_off(&mut emit)?;
                    return Err(SourceError::Read { what: NAME.into(), source }.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::source::intake::test_intake;
    use crate::source::text_schema;

    fn receive(input: impl Read + Send + 'static) -> (Vec<String>, Result<(), Error>) {
        let (intake, store, _) = test_intake(text_schema(), 64 << 20);
        let pieces = read_pieces(input).expect("threads can be started");
        let outcome = PieceReceiver { pieces, options: StdinSource::default(), has_failed: false }.run(&intake);
        let mut lines = Vec::new();
        for meta in store.allocate(0, u64::MAX) {
            let rows = store.get(meta.id).expect("allocated");
            lines.extend(rows.column(0).as_string::<i32>().iter().map(|line| line.expect("no nulls").to_owned()));
        }
        (lines, outcome)
    }

    #[test]
    fn all_lines_of_an_input_come_through() {
        let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let (lines, outcome) = receive(io::Cursor::new(text.clone().into_bytes()));
        outcome.expect("the input ends");
        assert_eq!(lines, text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn an_input_that_fails_is_an_error_and_keeps_whole_lines() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("unplugged"))
            }
        }
        let (lines, outcome) = receive(io::Cursor::new(b"one\ntw").chain(Fails));
        assert_eq!(lines, ["one"]);
        assert_eq!(outcome.expect_err("it failed").to_string(), "cannot read from standard input");
    }

    #[test]
    fn a_silent_input_does_not_hold_up_a_stop() {
        let (reader, _writer) = io::pipe().expect("pipes can be made");
        let (intake, _, signal) = test_intake(text_schema(), 1 << 20);
        let pieces = read_pieces(reader).expect("threads can be started");
        let running = thread::spawn(move || {
            PieceReceiver { pieces, options: StdinSource::default(), has_failed: false }.run(&intake)
        });
        signal.stop();
        running.join().expect("does not panic").expect("stopped");
    }
}
