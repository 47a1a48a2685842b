//! Looks into a log without changing it, also while a job has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::error::LogError;
use super::segment::{Scan, list, scan};

/// What a log has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogInspection {
    /// Its files.
    pub files: u64,
    /// Bytes of them, but for what was not written whole.
    pub bytes: u64,
    /// The sources that it has, or has had, rows of.
    pub sources: Vec<SourceInspection>,
}

/// The rows of a source in a log, by their numbers: the first row that was ever received of it is row 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceInspection {
    /// The source's name.
    pub source: String,
    /// The first row that is still there.
    pub first_row: u64,
    /// The number behind the last: how many were received in all.
    pub end_row: u64,
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
    let mut inspection = LogInspection::default();
    let mut rows: BTreeMap<String, (Option<u64>, u64)> = BTreeMap::new();
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
        inspection.files += 1;
        inspection.bytes += whole_bytes;
        for source in &header.sources {
            let known = rows.entry(source.source.clone()).or_default();
            known.1 = known.1.max(source.next_row);
        }
        for piece in &pieces {
            if let Some((first, end)) = rows.get_mut(&header.sources[piece.source].source) {
                first.get_or_insert(piece.rows.start);
                *end = piece.rows.end.max(*end);
            }
        }
    }
    let sources = rows.into_iter().filter(|(_, (_, end))| *end > 0);
    inspection.sources = sources
        .map(|(source, (first, end_row))| SourceInspection { source, first_row: first.unwrap_or(end_row), end_row })
        .collect();
    Ok(inspection)
}
