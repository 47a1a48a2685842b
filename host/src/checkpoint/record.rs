//! What every file of a checkpoint looks like: a line that says what it is, then what it holds.
//!
//! ```text
//! tidemill-checkpoint offsets 1 211 8c7c1f0b21d4a9e3\n{"batch_id":12,…}
//!                     │       │ │   └ xxh3 of what follows the line, seeded with that of the file's name, 64 bits, hexadecimal
//!                     │       │ └ bytes that follow the line
//!                     │       └ version of the format
//!                     └ kind
//! ```
//!
//! A file is written whole and then given its name, so one that is torn or changed was damaged afterwards, or has another's name: it is
//! refused by name.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The first word of every file.
const MAGIC: &str = "tidemill-checkpoint";

/// The version of the format that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;

/// The first line is shorter than this.
const LINE_BYTES_MAX: usize = 128;

/// The line and what follows it are in the first so many bytes, or it can be told from them how many there are.
pub(crate) const START_BYTES: u64 = LINE_BYTES_MAX as u64;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the job was when it last started.
    Job,
    /// What a batch reads.
    Offsets,
    /// That a batch is done, and what the state is then.
    Commit,
    /// Changes of state.
    State,
    /// The beginning of a segment of the write-ahead log.
    Wal,
    /// How far the write-ahead log has come.
    WalEnd,
    /// Who has the checkpoint.
    Lease,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Job => "job",
            Kind::Offsets => "offsets",
            Kind::Commit => "commit",
            Kind::State => "state",
            Kind::Wal => "wal",
            Kind::WalEnd => "wal-end",
            Kind::Lease => "lease",
        }
    }
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is something else.
    #[error("it is no file of a checkpoint")]
    Foreign,
    /// It is another file of a checkpoint.
    #[error("it holds `{found}` where `{expected}` belongs")]
    OtherKind {
        /// What it should be.
        expected: &'static str,
        /// What it says it is.
        found: String,
    },
    /// It was written by a newer Tidemill.
    #[error("it has version {found} of the format, and this Tidemill reads up to version {known}")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest that is read.
        known: u32,
    },
    /// It has more or fewer bytes than it was written with.
    #[error("it was written with {expected} bytes and has {found}")]
    Length {
        /// As it was written.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Its bytes are others.
    #[error("its bytes are not those that were written: their checksum is {found:016x} and should be {expected:016x}")]
    Checksum {
        /// As it was written.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Its bytes are those that were written, and mean nothing.
    #[error("it cannot be understood: {what}")]
    Content {
        /// What is wrong.
        what: String,
    },
}

fn checksum(name: &str, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64(name.as_bytes()))
}

/// A file of this kind and name.
pub(crate) fn encode(kind: Kind, name: &str, payload: &[u8]) -> Vec<u8> {
    let line = format!("{MAGIC} {} {VERSION} {} {:016x}\n", kind.word(), payload.len(), checksum(name, payload));
    let mut bytes = Vec::with_capacity(line.len() + payload.len());
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a file of this kind and name holds.
pub(crate) fn decode<'b>(kind: Kind, name: &str, bytes: &'b [u8]) -> Result<&'b [u8], Damage> {
    let end = bytes.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n').ok_or(Damage::Foreign)?;
    let (line, payload) = (&bytes[..end], &bytes[end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| Damage::Foreign)?;
    let words: Vec<&str> = line.split(' ').collect();
    let [MAGIC, found, version, rest @ ..] = words.as_slice() else { return Err(Damage::Foreign) };
    let version: u32 = version.parse().map_err(|_| Damage::Foreign)?;
    // The first version is 1: nobody has written another one that is older.
    if version == 0 {
        return Err(Damage::Foreign);
    }
    if version > VERSION {
        return Err(Damage::Newer { found: version, known: VERSION });
    }
    let [n_bytes, written] = rest else { return Err(Damage::Foreign) };
    let expected: u64 = n_bytes.parse().map_err(|_| Damage::Foreign)?;
    let written = u64::from_str_radix(written, 16).map_err(|_| Damage::Foreign)?;
    if payload.len() as u64 != expected {
        return Err(Damage::Length { expected, found: payload.len() as u64 });
    }
    let found_sum = checksum(name, payload);
    if found_sum != written {
        return Err(Damage::Checksum { expected: written, found: found_sum });
    }
    if *found != kind.word() {
        return Err(Damage::OtherKind { expected: kind.word(), found: (*found).to_owned() });
    }
    Ok(payload)
}

/// How many bytes of a file that goes on behind what it starts with are that, told from the first [`START_BYTES`]; the others are
/// not [`decode`]d. `None`: it does not start with a line that says it.
pub(crate) fn bytes_of_start(start: &[u8]) -> Option<u64> {
    let line_end = start.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n')?;
    let n_bytes: u64 = std::str::from_utf8(&start[..line_end]).ok()?.split(' ').nth(3)?.parse().ok()?;
    n_bytes.checked_add(line_end as u64 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_says_what_it_is() {
        let file = encode(Kind::Offsets, "offsets/1", b"{}");
        assert_eq!(file, b"tidemill-checkpoint offsets 1 2 0135c3c15722180f\n{}", "{}", String::from_utf8_lossy(&file));
        assert_eq!(decode(Kind::Offsets, "offsets/1", &file), Ok(&b"{}"[..]));
        assert_eq!(
            decode(Kind::Commit, "offsets/1", &file),
            Err(Damage::OtherKind { expected: "commit", found: "offsets".into() })
        );
        // A file under the name of another one.
        assert!(matches!(decode(Kind::Offsets, "offsets/2", &file), Err(Damage::Checksum { .. })));
        let newer = String::from_utf8_lossy(&file).replace("offsets 1", "offsets 7");
        assert_eq!(
            decode(Kind::Offsets, "offsets/1", newer.as_bytes()),
            Err(Damage::Newer { found: 7, known: VERSION })
        );
        let older = String::from_utf8_lossy(&file).replace("offsets 1", "offsets 0");
        assert_eq!(decode(Kind::Offsets, "offsets/1", older.as_bytes()), Err(Damage::Foreign));
        assert_eq!(bytes_of_start(&[file.as_slice(), b"more"].concat()), Some(file.len() as u64));
        assert_eq!(bytes_of_start(b"tidemill-checkpoint wal 1"), None);
        for foreign in [&b""[..], b"{}", b"PAR1\n", b"tidemill-checkpoint\n", b"tidemill-checkpoint offsets x 1 2\n"] {
            assert_eq!(decode(Kind::Offsets, "offsets/1", foreign), Err(Damage::Foreign));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_changed_of_a_file_is_seen(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<proptest::sample::Index>(),
            bit in 0u8..8,
            cut in any::<proptest::sample::Index>(),
        ) {
            let file = encode(Kind::State, "state/1", &payload);
            prop_assert_eq!(decode(Kind::State, "state/1", &file), Ok(&payload[..]));
            let mut flipped = file.clone();
            flipped[at.index(file.len())] ^= 1 << bit;
            // A digit of the checksum may be written large: it is the same number.
            prop_assert!(decode(Kind::State, "state/1", &flipped) != Ok(&payload[..]) || flipped.eq_ignore_ascii_case(&file));
            prop_assert!(decode(Kind::State, "state/1", &file[..cut.index(file.len())]).is_err());
        }
    }
}
