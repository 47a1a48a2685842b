//! What goes wrong with the built-in sources.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Fault, Retry};
use crate::job::units::format_size;

/// What goes wrong with the built-in sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// An option of the source makes no sense.
    #[error("{message}")]
    Option {
        /// What is wrong with which option.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// Nobody answers at the address.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// The address, as it is written in the job.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The other end closed the connection, and it is to be made again.
    #[error("`{address}` closed the connection")]
    Closed {
        /// The address.
        address: String,
    },
    /// Reading failed.
    #[error("cannot read from {what}")]
    Read {
        /// From where, as in "`data/part-1.txt`".
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The path of a file source is not there.
    #[error("`{path}` does not exist")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A directory cannot be listed.
    #[error("cannot list `{path}`")]
    List {
        /// The directory, the pattern, or what is in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file was there when the batch was planned and is not when it is read.
    #[error("`{path}` vanished after it became part of a batch")]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// Another file took the place of one before it was read.
    #[error("`{path}` was replaced after it became part of a batch")]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A pipe, a device, or a file that the system makes up.
    #[error("`{path}` is not a regular file")]
    Irregular {
        /// Where it is.
        path: PathBuf,
    },
    /// A file is shorter than when the batch was planned.
    #[error("`{path}` shrank to {found_bytes} bytes after {planned_bytes} became part of a batch")]
    Shrank {
        /// The file.
        path: PathBuf,
        /// Bytes that are to be read.
        planned_bytes: u64,
        /// Bytes that are there.
        found_bytes: u64,
    },
    /// A file's name says that it is compressed.
    #[error("`{path}` is compressed, and compressed files are not read in this version")]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// A row cannot be read, and the source is to fail then.
    #[error("the row at {} cannot be read: {}{reason}", place(.object, *.position, *.line),
        .shown.as_ref().map(|shown| format!("`{shown}`: ")).unwrap_or_default())]
    BadRow {
        /// The file or the peer.
        object: String,
        /// Bytes before the row.
        position: u64,
        /// Its line, counted from 1, where that can be told.
        line: Option<u64>,
        /// The start of the row, where it is to be had.
        shown: Option<String>,
        /// Why.
        reason: String,
    },
    /// A file is not what its source reads, or is broken.
    #[error("`{object}` cannot be read: {reason}")]
    BadFile {
        /// The file or the peer.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A schema is to be found in the files, and there is none yet, or none that says it.
    #[error("the schema of `{path}` cannot be told: {reason}")]
    NoSchema {
        /// The path of the source.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The first file has not the columns that are declared.
    #[error("the declared columns are not those of `{object}`: {reason}")]
    OtherColumns {
        /// The file.
        object: String,
        /// Which, and why.
        reason: String,
    },
    /// The rows of a table are more than it may hold.
    #[error("the rows of the table `{path}` take {} after {n_files} of its {n_files_found} files, and its `memory` is {}",
        format_size(*seen_bytes), format_size(*limit_bytes))]
    TableTooLarge {
        /// The path of the table.
        path: PathBuf,
        /// What it may hold.
        limit_bytes: u64,
        /// What its rows took when reading was given up.
        seen_bytes: u64,
        /// Of how many files that is, the last one perhaps in part.
        n_files: usize,
        /// How many files it has.
        n_files_found: usize,
    },
    /// A range of another source, or a broken one.
    #[error("`{object}` has no range from {start} to {end}")]
    Range {
        /// What is to be read.
        object: String,
        /// First offset.
        start: u64,
        /// Exclusive end.
        end: u64,
    },
    /// A range of a generator that had other options, and so other rows.
    #[error("`{object}` was planned with other options than the generator has now")]
    OtherOptions {
        /// What is to be read.
        object: String,
    },
    /// A source of a program has been read in an earlier run, and does not go on.
    #[error("the source cannot go on behind what it gave in an earlier run")]
    NoResume,
    /// The code of a receiver panicked.
    #[error("the receiver panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The thread of a source could not be started.
    #[error("cannot start a thread for the source")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Where a row stands, in words.
fn place(object: &str, position: u64, line: Option<u64>) -> String {
    match line {
        Some(line) => format!("line {line} of `{object}`"),
        None => format!("byte {position} of `{object}`"),
    }
}

impl Explain for SourceError {
    fn fault(&self) -> Fault {
        match self {
            Self::Option { .. }
            | Self::NoSchema { .. }
            | Self::OtherColumns { .. }
            | Self::Missing { .. }
            | Self::Irregular { .. }
            | Self::Compressed { .. }
            | Self::OtherOptions { .. }
            | Self::TableTooLarge { .. }
            | Self::Panicked { .. } => Fault::User,
            Self::Range { .. } => Fault::Host,
            _ => Fault::External,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. }
            | Self::Closed { .. }
            | Self::Read { .. }
            | Self::List { .. }
            | Self::Thread { .. } => Retry::WithBackoff,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Option { hint, .. } => hint.clone(),
            Self::Connect { address, .. } => Some(format!("Is the server at `{address}` up, and does it listen there?")),
            Self::Missing { .. } => {
                Some("Create the directory, or mend `path`; relative paths are relative to the job file.".into())
            }
            Self::Vanished { .. } | Self::Replaced { .. } | Self::Shrank { .. } => Some(
                "Files must not be changed or removed before the batches they are part of have ended. Move whole files \
                 in, and clean up later."
                    .into(),
            ),
            Self::Irregular { .. } => {
                Some("Write `type = \"stdin\"` for a stream, and direct it to the standard input.".into())
            }
            Self::OtherOptions { .. } => {
                Some("Give the source the options back that it had when the batch was planned.".into())
            }
            Self::BadRow { .. } => Some(
                "Mend the row, or write `on-error = \"drop\"` to leave such rows out, or `\"dead-letter\"` to set them aside."
                    .into(),
            ),
            Self::BadFile { .. } => Some(
                "Mend the file or leave it out with a pattern in `path`; or write `on-error = \"drop\"` to leave such files \
                 out, or `\"dead-letter\"` to set the reason aside."
                    .into(),
            ),
            Self::NoSchema { .. } => Some(
                "Write the columns and their types, as in `schema = { word = \"utf8\", n = \"int64\" }`, or put a file there \
                 before the job is checked."
                    .into(),
            ),
            Self::TableTooLarge { .. } => Some(
                "Raise `memory` of its `[[table]]`, if the machine has it twice: the rows of before stay until new ones are read. Or \
                 leave columns out of its `schema`, or join with a stream of the rows by `latest`, whose state may be on disk."
                    .into(),
            ),
            Self::OtherColumns { .. } => Some("Mend `schema`, or let `path` name files that fit it.".into()),
            Self::Compressed { .. } => Some("Decompress it first, or leave it out with a pattern in `path`.".into()),
            _ => None,
        }
    }
}
