//! Looks into a log without changing it, also while a job has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::end::{LogEnd, lost_rows};
use super::error::LogError;
use super::retention::RowRange;
use super::segment::{Scan, file_name, list, scan};

/// What a log has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogInspection {
    /// Its files.
    pub files: u64,
    /// Bytes of them, but for what was not written whole.
    pub bytes: u64,
    /// The sources that it has, or has had, rows of.
    pub sources: Vec<SourceInspection>,
    /// The name of its last file, when that is gone.
    pub missing_file: Option<String>,
    /// What was noted of its end.
    #[serde(skip)]
    end: Option<LogEnd>,
}

/// The rows of a source in a log, by their numbers: the first row that was ever received of it is row 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceInspection {
    /// The source's name.
    pub source: String,
    /// The first row that is still there.
    pub first_row: u64,
    /// The number behind the last that is known of: how many were received in all.
    pub end_row: u64,
    /// Rows that are in no batch and are not there any more, as far as that is known.
    pub lost_rows: u64,
    /// The number behind the last that was found, or that a file says were there before it.
    #[serde(skip)]
    found_end: u64,
    /// The rows that were found.
    #[serde(skip)]
    found: Vec<RowRange>,
}

impl SourceInspection {
    /// Whether all of these rows are there: from `start` on, up to the one before `end`.
    pub(crate) fn has(&self, start: u64, end: u64) -> bool {
        lost_rows(self.found.iter().copied().filter(|rows| rows.start < end), start, end, 0).is_empty()
    }

    /// Whether it is known that there were rows behind the last that was found.
    pub(crate) fn lacks_its_end(&self) -> bool {
        self.end_row > self.found_end
    }
}

impl LogInspection {
    /// Compares the rows of a source with what batches say: rows up to `on_disk` have been there, those before `taken` batches have had. For a
    /// log that a job writes to, `on_disk` is from before it was looked into, and `taken` from after that.
    pub(crate) fn compare(&mut self, source: &str, on_disk: u64, taken: u64) {
        let end = self.end.as_ref();
        let (noted, given_up) = end.map_or((0, 0), |end| (end.end_row(source), end.given_up(source)));
        let known_end = on_disk.max(noted);
        let known = match self.sources.iter_mut().find(|known| known.source == source) {
            Some(known) => known,
            None if known_end == 0 => return,
            None => self.sources.push_mut(SourceInspection {
                source: source.to_owned(),
                first_row: known_end,
                end_row: 0,
                lost_rows: 0,
                found_end: 0,
                found: Vec::new(),
            }),
        };
        known.end_row = known.end_row.max(known_end);
        known.found_end = known.found_end.max(given_up);
        let lost = lost_rows(known.found.iter().copied(), taken, known.end_row, given_up);
        known.lost_rows = lost.iter().map(|rows| rows.end - rows.start).sum();
    }
}

/// Looks into the log in a folder; it need not be there.
///
/// # Errors
///
/// What cannot be read, or is damaged where the frames of the last file or the heads of the others say what there is.
pub fn inspect(directory: &Path) -> Result<LogInspection, LogError> {
    let mut damage = Vec::new();
    let inspection = read(directory, false, &mut damage)?;
    damage.pop().map_or(Ok(inspection), Err)
}

/// Reads every frame of the log in a folder, and says what is damaged.
///
/// # Errors
///
/// What cannot be read at all.
pub fn verify(directory: &Path) -> Result<(LogInspection, Vec<LogError>), LogError> {
    let mut damage = Vec::new();
    let inspection = read(directory, true, &mut damage)?;
    Ok((inspection, damage))
}

fn read(directory: &Path, verifies: bool, damage: &mut Vec<LogError>) -> Result<LogInspection, LogError> {
    // Before the files: a job may write to it, and what is noted then is there.
    let end = match LogEnd::read(directory) {
        Err(error @ LogError::Damaged { .. }) => {
            damage.push(error);
            None
        }
        end => end?,
    };
    let mut inspection = LogInspection::default();
    let mut rows: BTreeMap<String, (Vec<RowRange>, u64)> = BTreeMap::new();
    let mut newest = None;
    let segments = list(directory)?;
    for (at, (number, path)) in segments.iter().enumerate() {
        let scanned = match scan(path, *number, at + 1 == segments.len(), |_, _| verifies) {
            // A job that has it may have deleted it meanwhile.
            Err(LogError::Storage { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error @ (LogError::Damaged { .. } | LogError::DamagedFrame { .. })) => {
                damage.push(error);
                continue;
            }
            scanned => scanned?,
        };
        let Some(Scan { header, pieces, whole_bytes, .. }) = scanned else { continue };
        newest = Some(*number);
        inspection.files += 1;
        inspection.bytes += whole_bytes;
        for source in &header.sources {
            let known = rows.entry(source.source.clone()).or_default();
            known.1 = known.1.max(source.next_row);
        }
        for piece in &pieces {
            if let Some((found, end)) = rows.get_mut(&header.sources[piece.source].source) {
                found.push(piece.rows);
                *end = piece.rows.end.max(*end);
            }
        }
    }
    let sources = rows.into_iter().filter(|(_, (_, end))| *end > 0);
    inspection.sources = sources
        .map(|(source, (found, end_row))| SourceInspection {
            source,
            first_row: found.first().map_or(end_row, |rows| rows.start),
            end_row,
            lost_rows: 0,
            found_end: end_row,
            found,
        })
        .collect();
    inspection.missing_file = end.as_ref().and_then(|end| end.missing_segment(newest)).map(file_name);
    let noted = end.iter().flat_map(|end| &end.sources).map(|of| of.source.clone()).collect::<Vec<_>>();
    inspection.end = end;
    // What batches have had of them is not known here.
    noted.iter().for_each(|source| inspection.compare(source, 0, u64::MAX));
    Ok(inspection)
}
