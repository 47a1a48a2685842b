//! A file of the log: a line that says what it is and what it has rows of, then frames, one behind the other, only ever appended to.
//!
//! ```text
//! tidemill-checkpoint wal 1 96 3f1c…\n{"log":"9e37…","sources":[{"source":"lines","schema":"{value: utf8}","next_row":1200}]}
//! frame frame frame …
//! ```
//!
//! A file is complete and on the disk before the next one is made, and a restart begins a new one: so only the end of the last file can be torn.
//!
//! | what is wrong | where | what it is |
//! | --- | --- | --- |
//! | a frame is cut off, or its bytes are others | in a file before the last | damage |
//! | the same | in the last, and a later frame says that it was on the disk | damage |
//! | the same | in the last, and none does | the process ended while it was written: it is cut off |

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::end::END_NAME;
use super::error::LogError;
use super::frame::{FrameHeader, HEADER_BYTES, MAGIC, payload_sum, seed};
use super::retention::RowRange;
use crate::checkpoint::record::{self, Kind};
use crate::checkpoint::{Damage, is_temporary};

/// Frames of one source that stand near one another are found by the first of them: those of so many bytes.
const PIECE_BYTES_MAX: u64 = 256 << 10;

/// Bytes that are read at once.
const READ_BYTES: usize = 128 << 10;

/// What a segment starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentHeader {
    /// The log that the segment is of.
    pub(super) log: String,
    /// What it may have rows of.
    pub(super) sources: Vec<SegmentSource>,
}

/// A source of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentSource {
    pub(super) source: String,
    /// Its columns, in words: with others its rows cannot be read.
    pub(super) schema: String,
    /// The number of the first row that the segment may have.
    pub(super) next_row: u64,
}

/// The name of a segment's file in its folder.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:010}")
}

/// The segment that a file is; `None`: it is none.
pub(super) fn number_of(file_name: &str) -> Option<u64> {
    let is_number = file_name.len() >= 10 && file_name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| file_name.parse().ok()).flatten()
}

/// What checksums call a segment.
pub(super) fn record_name(number: u64) -> String {
    format!("wal/{number:010}")
}

/// The bytes that a segment starts with.
pub(super) fn encode_header(number: u64, header: &SegmentHeader) -> Vec<u8> {
    let json = serde_json::to_vec(header).unwrap_or_else(|error| unreachable!("headers are plain data: {error}"));
    record::encode(Kind::Wal, &record_name(number), &json)
}

/// Some frames of a source that stand near one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The source, by its place in the header.
    pub(super) source: usize,
    pub(super) rows: RowRange,
    /// Where the first frame starts.
    pub(super) position: u64,
    /// Bytes of the frames.
    pub(super) n_bytes: u64,
}

/// What a segment turned out to have.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) pieces: Vec<Piece>,
    /// Bytes up to the end of the last whole frame.
    pub(super) whole_bytes: u64,
    /// Bytes behind that: of a frame that was not written whole.
    pub(super) torn_bytes: u64,
}

impl Scan {
    /// The number behind the last row of a source that the segment has, or that was there before it.
    pub(super) fn end_of(&self, source: &str) -> Option<u64> {
        let index = self.header.sources.iter().position(|of| of.source == source)?;
        let pieces = self.pieces.iter().filter(|piece| piece.source == index).map(|piece| piece.rows.end);
        Some(pieces.max().unwrap_or(0).max(self.header.sources[index].next_row))
    }

    /// The number behind the last row of each source that the segment has rows of.
    pub(super) fn ends(&self) -> Vec<(usize, u64)> {
        let end = |source| self.pieces.iter().filter(|piece| piece.source == source).map(|piece| piece.rows.end).max();
        (0..self.header.sources.len()).filter_map(|source| Some((source, end(source)?))).collect()
    }
}

/// Reads frames of a segment.
pub(super) struct SegmentReader {
    path: PathBuf,
    name: String,
    input: BufReader<File>,
    n_sources: usize,
    /// Where the next frame starts.
    pub(super) position: u64,
    n_bytes: u64,
}

/// Why there is no frame at a place.
pub(super) enum NoFrame {
    /// The file ends there.
    End,
    /// What is there is no frame.
    Bad,
}

impl SegmentReader {
    /// Reads from the first frame on.
    ///
    /// # Errors
    ///
    /// What cannot be read; within, what is wrong with the beginning.
    fn open(path: &Path, number: u64) -> Result<Result<(Self, SegmentHeader), Damage>, LogError> {
        let mut reader = Self::unplaced(path, number, 0)?;
        let mut start = Vec::new();
        let failed = || LogError::storage(path, "read");
        (&mut reader.input).take(record::START_BYTES).read_to_end(&mut start).map_err(failed())?;
        let n_bytes = record::bytes_of_start(&start).unwrap_or(0).min(reader.n_bytes);
        let missing = n_bytes.saturating_sub(start.len() as u64);
        (&mut reader.input).take(missing).read_to_end(&mut start).map_err(failed())?;
        reader.position = start.len() as u64;
        let read = record::decode(Kind::Wal, &reader.name, &start[..start.len().min(n_bytes as usize)]);
        let read = read.and_then(|payload| {
            serde_json::from_slice(payload).map_err(|error| Damage::Content { what: error.to_string() })
        });
        let header: SegmentHeader = match read {
            Ok(header) => header,
            Err(damage) => return Ok(Err(damage)),
        };
        reader.n_sources = header.sources.len();
        reader.go_to(n_bytes)?;
        Ok(Ok((reader, header)))
    }

    /// Reads from a frame on.
    pub(super) fn at(path: &Path, number: u64, n_sources: usize, position: u64) -> Result<Self, LogError> {
        let mut reader = Self::unplaced(path, number, n_sources)?;
        reader.go_to(position)?;
        Ok(reader)
    }

    fn unplaced(path: &Path, number: u64, n_sources: usize) -> Result<Self, LogError> {
        let failed = || LogError::storage(path, "read");
        let file = File::open(path).map_err(failed())?;
        let n_bytes = file.metadata().map_err(failed())?.len();
        let input = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { path: path.to_owned(), name: record_name(number), input, n_sources, position: 0, n_bytes })
    }

    /// Goes to where a frame starts.
    pub(super) fn go_to(&mut self, position: u64) -> Result<(), LogError> {
        // Files are smaller than 2^63 bytes.
        let distance = position as i64 - self.position as i64;
        self.input.seek_relative(distance).map_err(LogError::storage(&self.path, "read"))?;
        self.position = position;
        Ok(())
    }

    /// Reads the header of the next frame, and stays where it is.
    pub(super) fn peek(&mut self) -> Result<Result<FrameHeader, NoFrame>, LogError> {
        let left = self.n_bytes.saturating_sub(self.position);
        if left == 0 {
            return Ok(Err(NoFrame::End));
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Err(NoFrame::Bad));
        }
        let mut bytes = [0; HEADER_BYTES];
        self.fill(&mut bytes)?;
        let position = self.position;
        self.position += HEADER_BYTES as u64;
        self.go_to(position)?;
        let header = FrameHeader::decode(&bytes, seed(&self.name, position));
        let fits = |header: &FrameHeader| header.frame_bytes() <= left && (header.source as usize) < self.n_sources;
        Ok(header.filter(fits).ok_or(NoFrame::Bad))
    }

    /// Passes over the frame whose header was read.
    pub(super) fn pass_over(&mut self, header: &FrameHeader) -> Result<(), LogError> {
        self.go_to(self.position + header.frame_bytes())
    }

    /// Reads the payload of the frame whose header was read, and goes behind it; `None`: it is not what was written.
    pub(super) fn payload(&mut self, header: &FrameHeader) -> Result<Option<Vec<u8>>, LogError> {
        let start = self.position;
        self.go_to(start + HEADER_BYTES as u64)?;
        // It was seen to be no larger than the file.
        let mut payload = vec![0; header.payload_bytes as usize];
        self.fill(&mut payload)?;
        self.position = start + header.frame_bytes();
        Ok((payload_sum(&payload) == header.payload_sum).then_some(payload))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LogError> {
        self.input.read_exact(bytes).map_err(LogError::storage(&self.path, "read"))
    }

    /// Whether a frame behind `position` says that it was on the disk.
    fn was_on_disk(&mut self, position: u64) -> Result<bool, LogError> {
        let failed = || LogError::storage(&self.path, "read");
        // Only after a crash or damage, and no more than one segment.
        let mut rest = Vec::new();
        let mut file = File::open(&self.path).map_err(failed())?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(position)).map_err(failed())?;
        file.read_to_end(&mut rest).map_err(failed())?;
        Ok(memchr::memmem::find_iter(&rest, &MAGIC).any(|at| {
            let bytes = rest[at..].first_chunk::<HEADER_BYTES>();
            let header = bytes.and_then(|bytes| FrameHeader::decode(bytes, seed(&self.name, position + at as u64)));
            header.is_some_and(|header| header.synced_bytes > position)
        }))
    }
}

/// Reads a segment; payloads of frames are looked at where `verifies` says so, by the name of the source and the frame's rows. In the
/// last segment all are. `None`: the last segment has not even a header, because the process ended while it was made.
///
/// # Errors
///
/// Damage, with its place; what cannot be read.
pub(super) fn scan(
    path: &Path,
    number: u64,
    is_last: bool,
    verifies: impl Fn(&str, RowRange) -> bool,
) -> Result<Option<Scan>, LogError> {
    let (mut reader, header) = match SegmentReader::open(path, number)? {
        Ok(reader) => reader,
        Err(damage) => {
            let is_torn = is_last && matches!(damage, Damage::Foreign | Damage::Length { .. });
            // A whole header is brought to the disk before the first frame is written: where there are frames, it is damaged.
            let has_frames =
                is_torn && std::fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, &MAGIC).is_some());
            if is_torn && !has_frames {
                return Ok(None);
            }
            return Err(LogError::Damaged { path: path.to_owned(), source: damage });
        }
    };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut newest: Vec<Option<usize>> = vec![None; header.sources.len()];
    let is_bad = loop {
        let position = reader.position;
        let frame = match reader.peek()? {
            Ok(frame) => frame,
            Err(NoFrame::End) => break false,
            Err(NoFrame::Bad) => break true,
        };
        let source = frame.source as usize;
        let rows = RowRange { start: frame.first_row, end: frame.end_row() };
        if is_last || verifies(&header.sources[source].source, rows) {
            if reader.payload(&frame)?.is_none() {
                reader.position = position;
                break true;
            }
        } else {
            reader.pass_over(&frame)?;
        }
        let open = newest[source].map(|index| &mut pieces[index]);
        match open
            .filter(|piece| piece.rows.end == rows.start && piece.n_bytes + frame.frame_bytes() <= PIECE_BYTES_MAX)
        {
            Some(piece) => {
                piece.rows.end = rows.end;
                piece.n_bytes += frame.frame_bytes();
            }
            None => {
                newest[source] = Some(pieces.len());
                pieces.push(Piece { source, rows, position, n_bytes: frame.frame_bytes() });
            }
        }
    };
    let whole_bytes = reader.position;
    if is_bad && (!is_last || reader.was_on_disk(whole_bytes)?) {
        let lost = lost_rows(&header, &pieces);
        return Err(LogError::DamagedFrame { path: path.to_owned(), position: whole_bytes, lost });
    }
    let torn_bytes = reader.n_bytes - whole_bytes;
    let path = path.to_owned();
    Ok(Some(Scan { number, path, header, pieces, whole_bytes, torn_bytes }))
}

/// In words, from which row on each source's rows of a segment cannot be read.
fn lost_rows(header: &SegmentHeader, pieces: &[Piece]) -> String {
    let of_source = |(index, source): (usize, &SegmentSource)| {
        let end = pieces.iter().filter(|piece| piece.source == index).map(|piece| piece.rows.end).max();
        format!("`{}` from row {}", source.source, end.unwrap_or(source.next_row))
    };
    let sources: Vec<String> = header.sources.iter().enumerate().map(of_source).collect();
    format!("what it has of {} on cannot be read", sources.join(", of "))
}

/// The segments in a folder, the oldest first; none when it is not there.
///
/// # Errors
///
/// What cannot be listed, or is none of the log's.
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LogError::storage(directory, "listed")(error)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let name = entry.map_err(LogError::storage(directory, "listed"))?.file_name().to_string_lossy().into_owned();
        match number_of(&name) {
            Some(number) => segments.push((number, directory.join(&name))),
            None if name == crate::checkpoint::LOCK_NAME || name == END_NAME || is_temporary(&name) => {}
            None => return Err(LogError::Foreign { directory: directory.to_owned(), example: name }),
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
