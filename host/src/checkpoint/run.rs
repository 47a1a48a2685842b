//! Runs: what some batches in a row have changed of the state, in files that are read from the first byte to the last.
//!
//! ```text
//!  batch 41 ── changes, as they were said ──▶ run 41..=41 ┐
//!  batch 42 ─────────────────────────────────▶ run 42..=42 ┼── merge, in the background ──▶ run 40..=43, sorted
//!  …                                                       ┘
//!  state after batch 43 = every run in turn, from the oldest
//! ```
//!
//! A merge keeps the last word on every key, and the oldest run forgets what is gone: it is a snapshot. It is the scheme of a
//! log-structured merge tree (O'Neil et al., 1996).
//!
//! A part is a list of sections, each of one table of one partition of one step:
//!
//! ```text
//! section := step, partition, table, bytes of what follows, operation…
//! operation := 0 slot key | 1 slot key value | 2 first slot, last slot      removed, put, slots dropped
//! ```
//!
//! Numbers are LEB128, signed ones zigzag; bytes have their length before them.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use super::record::Damage;
use crate::state::{Change, Changes};

/// A part is closed when it is larger than this, so that no more than a few of these are in memory while runs are read.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Fewer runs than this are not merged.
const MERGE_RUNS: usize = 8;

/// A run as small as this is merged whatever the others are: what that costs is little beside the files it saves.
const SMALL_BYTES: u64 = 64 << 10;

/// Which table something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableId {
    pub(crate) step: String,
    pub(crate) partition: u32,
    pub(crate) table: u32,
}

/// An operation on a table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Entry(Entry),
    Drop(RangeInclusive<i64>),
}

/// The value at a slot and key; `None`: it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    slot: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl Entry {
    fn place(&self) -> (i64, &[u8]) {
        (self.slot, &self.key)
    }
}

/// Writes sections to parts.
#[derive(Debug, Default)]
pub(crate) struct RunWriter {
    full: Vec<Vec<u8>>,
    part: Vec<u8>,
    /// The section at work: its table, and where its operations begin in `operations`.
    table: Option<TableId>,
    operations: Vec<u8>,
}

impl RunWriter {
    /// Adds what a batch has changed in a table. Tables come in their order.
    pub(crate) fn changes(&mut self, table: &TableId, changes: &Changes) {
        for change in changes.iter() {
            match change {
                Change::Entry { slot, key, value } => self.entry(table, slot, key, value),
                Change::DropSlots(slots) => self.drop_slots(table, &slots),
            }
        }
    }

    fn begin(&mut self, table: &TableId) {
        if self.table.as_ref() != Some(table) || self.operations.len() >= PART_BYTES {
            self.end_section();
            self.table = Some(table.clone());
        }
    }

    /// Adds the value at a slot and key of a table; `None`: it is gone.
    pub(crate) fn entry(&mut self, table: &TableId, slot: i64, key: &[u8], value: Option<&[u8]>) {
        self.begin(table);
        self.operations.push(u8::from(value.is_some()));
        put_signed(&mut self.operations, slot);
        put_bytes(&mut self.operations, key);
        value.into_iter().for_each(|value| put_bytes(&mut self.operations, value));
    }

    fn drop_slots(&mut self, table: &TableId, slots: &RangeInclusive<i64>) {
        self.begin(table);
        self.operations.push(2);
        put_signed(&mut self.operations, *slots.start());
        put_signed(&mut self.operations, *slots.end());
    }

    fn end_section(&mut self) {
        let Some(table) = self.table.take() else { return };
        put_bytes(&mut self.part, table.step.as_bytes());
        put_number(&mut self.part, u64::from(table.partition));
        put_number(&mut self.part, u64::from(table.table));
        put_number(&mut self.part, self.operations.len() as u64);
        self.part.append(&mut self.operations);
        if self.part.len() >= PART_BYTES {
            self.full.push(std::mem::take(&mut self.part));
        }
    }

    /// The parts that are full.
    pub(crate) fn take_full(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.full)
    }

    /// The parts that have not been taken.
    pub(crate) fn finish(mut self) -> Vec<Vec<u8>> {
        self.end_section();
        if !self.part.is_empty() {
            self.full.push(self.part);
        }
        self.full
    }
}

/// Gives the parts of a run one after the other: `None` after the last.
pub(crate) type NextPart<'a, E> = dyn FnMut() -> Result<Option<Vec<u8>>, E> + 'a;

/// Reads the sections of a run.
pub(crate) struct RunReader<'a, E> {
    next_part: Box<NextPart<'a, E>>,
    part: Vec<u8>,
    at: usize,
    /// The table of the section that comes next or is read, and where the section ends in the part.
    section: Option<(TableId, usize)>,
}

impl<'a, E: From<Damage>> RunReader<'a, E> {
    pub(crate) fn new(next_part: impl FnMut() -> Result<Option<Vec<u8>>, E> + 'a) -> Result<Self, E> {
        let mut reader = Self { next_part: Box::new(next_part), part: Vec::new(), at: 0, section: None };
        reader.find_section()?;
        Ok(reader)
    }

    /// The table whose operations come next; `None`: the run is at its end.
    pub(crate) fn table(&self) -> Option<&TableId> {
        self.section.as_ref().map(|(table, _)| table)
    }

    fn find_section(&mut self) -> Result<(), E> {
        self.section = None;
        while self.at == self.part.len() {
            match (self.next_part)()? {
                Some(part) => (self.part, self.at) = (part, 0),
                None => return Ok(()),
            }
        }
        let mut cursor = Cursor { bytes: &self.part, at: self.at };
        let step = std::str::from_utf8(cursor.bytes()?).map_err(|_| content("a step's name is no text"))?.to_owned();
        let partition = cursor.small_number()?;
        let table = cursor.small_number()?;
        let n_bytes = cursor.length()?;
        self.at = cursor.at;
        self.section = Some((TableId { step, partition, table }, self.at + n_bytes));
        Ok(())
    }

    /// Goes to the next operation on `table`, of this section or those of the same table behind it; false: there is no other.
    fn go_to(&mut self, table: &TableId) -> Result<bool, E> {
        loop {
            match &self.section {
                Some((of, end)) if of == table => {
                    if self.at < *end {
                        return Ok(true);
                    }
                    self.find_section()?;
                }
                _ => return Ok(false),
            }
        }
    }

    /// The next operation on `table`.
    fn next(&mut self, table: &TableId) -> Result<Option<Operation>, E> {
        if !self.go_to(table)? {
            return Ok(None);
        }
        let mut cursor = Cursor { bytes: &self.part, at: self.at };
        let operation = match cursor.operation()? {
            Change::Entry { slot, key, value } => {
                Operation::Entry(Entry { slot, key: key.to_vec(), value: value.map(<[u8]>::to_vec) })
            }
            Change::DropSlots(slots) => Operation::Drop(slots),
        };
        self.at = cursor.at;
        Ok(Some(operation))
    }

    /// The operations of the table that comes next, some thousands at a time, as changes: `None` after the last.
    pub(crate) fn next_changes(&mut self) -> Result<Option<(TableId, Changes)>, E> {
        let Some(table) = self.table().cloned() else { return Ok(None) };
        let mut changes = Changes::default();
        while changes.len() < CHANGES_MAX && self.go_to(&table)? {
            let mut cursor = Cursor { bytes: &self.part, at: self.at };
            match cursor.operation()? {
                Change::Entry { slot, key, value: Some(value) } => changes.put(slot, key, value),
                Change::Entry { slot, key, value: None } => changes.remove(slot, key),
                Change::DropSlots(slots) => changes.drop_slots(slots),
            }
            self.at = cursor.at;
        }
        Ok(Some((table, changes)))
    }
}

/// Changes that are applied together when state is read back.
pub(crate) const CHANGES_MAX: usize = 8192;

/// One run's share in a table that is merged.
struct Share<'r, 'a, E> {
    /// What the run has dropped of older runs.
    drops: Vec<RangeInclusive<i64>>,
    head: Option<Entry>,
    rest: Rest<'r, 'a, E>,
}

/// The entries behind the head, in the order of slots and keys.
enum Rest<'r, 'a, E> {
    /// Of a run of one batch: as they were said, now sorted.
    Sorted(std::collections::btree_map::IntoIter<(i64, Vec<u8>), Option<Vec<u8>>>),
    /// Of a run that was merged before: read as it is needed.
    Read(&'r mut RunReader<'a, E>),
}

impl<'r, 'a, E: From<Damage>> Share<'r, 'a, E> {
    fn new(reader: &'r mut RunReader<'a, E>, table: &TableId, is_sorted: bool) -> Result<Self, E> {
        let mut drops = Vec::new();
        if is_sorted {
            let mut head = None;
            while let Some(operation) = reader.next(table)? {
                match operation {
                    Operation::Drop(slots) => drops.push(slots),
                    Operation::Entry(entry) => {
                        head = Some(entry);
                        break;
                    }
                }
            }
            return Ok(Self { drops, head, rest: Rest::Read(reader) });
        }
        let mut entries = BTreeMap::new();
        while let Some(operation) = reader.next(table)? {
            match operation {
                Operation::Entry(Entry { slot, key, value }) => drop(entries.insert((slot, key), value)),
                Operation::Drop(slots) => {
                    let gone: Vec<(i64, Vec<u8>)> = entries
                        .range((*slots.start(), Vec::new())..)
                        .take_while(|((slot, _), _)| slots.contains(slot))
                        .map(|(place, _)| place.clone())
                        .collect();
                    gone.iter().for_each(|place| drop(entries.remove(place)));
                    drops.push(slots);
                }
            }
        }
        let mut share = Self { drops, head: None, rest: Rest::Sorted(entries.into_iter()) };
        share.advance(table)?;
        Ok(share)
    }

    fn advance(&mut self, table: &TableId) -> Result<(), E> {
        self.head = match &mut self.rest {
            Rest::Sorted(entries) => entries.next().map(|((slot, key), value)| Entry { slot, key, value }),
            Rest::Read(reader) => match reader.next(table)? {
                Some(Operation::Entry(entry)) => Some(entry),
                Some(Operation::Drop(_)) => {
                    return Err(content("slots are dropped after entries of a merged run").into());
                }
                None => None,
            },
        };
        Ok(())
    }
}

/// What merging runs comes to, table by table.
pub(crate) enum Merged<'m> {
    /// Slots of older runs that some of these have dropped. Comes before the table's entries.
    Drop(&'m RangeInclusive<i64>),
    /// The last word on a slot and key, in their order.
    Entry {
        /// The slot.
        slot: i64,
        /// The key.
        key: &'m [u8],
        /// The value; `None`: it is gone.
        value: Option<&'m [u8]>,
    },
}

/// Merges runs, the oldest first, each with whether it was merged before, and gives what it comes to, until that answers `false`.
pub(crate) fn merge_entries<E: From<Damage>>(
    mut runs: Vec<(RunReader<'_, E>, bool)>,
    mut give: impl FnMut(&TableId, Merged<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    while let Some(table) = runs.iter().filter_map(|(run, _)| run.table()).min().cloned() {
        let mut shares = Vec::new();
        for (run, is_sorted) in &mut runs {
            if run.table() == Some(&table) {
                shares.push(Share::new(run, &table, *is_sorted)?);
            }
        }
        for slots in shares.iter().flat_map(|share| &share.drops) {
            if !give(&table, Merged::Drop(slots))? {
                return Ok(());
            }
        }
        loop {
            let heads = shares.iter().enumerate().filter_map(|(run, share)| Some((share.head.as_ref()?.place(), run)));
            // The smallest place, and of those who have it the newest run.
            let Some((_, newest)) = heads.min_by(|(a, run_a), (b, run_b)| a.cmp(b).then(run_b.cmp(run_a))) else {
                break;
            };
            let Some(entry) = shares[newest].head.take() else { break };
            shares[newest].advance(&table)?;
            for share in &mut shares[..newest] {
                if share.head.as_ref().is_some_and(|head| head.place() == entry.place()) {
                    share.advance(&table)?;
                }
            }
            let is_dropped =
                shares[newest + 1..].iter().flat_map(|share| &share.drops).any(|slots| slots.contains(&entry.slot));
            let merged = Merged::Entry { slot: entry.slot, key: &entry.key, value: entry.value.as_deref() };
            if !is_dropped && !give(&table, merged)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Merges runs, the oldest first, each with whether it was merged before. `emit` gets the parts of what comes of it.
///
/// `forgets`: there is nothing older, so what is gone needs no mention.
pub(crate) fn merge<E: From<Damage>>(
    runs: Vec<(RunReader<'_, E>, bool)>,
    forgets: bool,
    mut emit: impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = RunWriter::default();
    merge_entries(runs, |table, merged| {
        match merged {
            Merged::Drop(_) | Merged::Entry { value: None, .. } if forgets => {}
            Merged::Drop(slots) => writer.drop_slots(table, slots),
            Merged::Entry { slot, key, value } => writer.entry(table, slot, key, value),
        }
        writer.take_full().into_iter().try_for_each(&mut emit).map(|()| true)
    })?;
    writer.finish().into_iter().try_for_each(emit)
}

/// Which runs are to be merged, of runs of these sizes, the oldest first: the newest, when there are enough, and the oldest of
/// them is no larger than the others together.
///
/// So what a byte is merged into is at least twice as large as before, and a byte is written again no more often than the size of
/// the state doubles; and runs that are not merged are each larger than all newer ones together, so there are few of them.
pub(crate) fn to_merge(sizes: &[u64]) -> Option<Range<usize>> {
    let mut newer: u64 = 0;
    for (start, &size) in sizes.iter().enumerate().rev() {
        if sizes.len() - start >= MERGE_RUNS && (size <= newer || size <= SMALL_BYTES) {
            return Some(start..sizes.len());
        }
        newer = newer.saturating_add(size);
    }
    None
}

fn content(what: impl Into<String>) -> Damage {
    Damage::Content { what: what.into() }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, ((number << 1) ^ (number >> 63)) as u64);
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    put_number(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

/// Reads what the functions above write.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn byte(&mut self) -> Result<u8, Damage> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| content("it ends within an operation"))?;
        self.at += 1;
        Ok(byte)
    }

    fn operation(&mut self) -> Result<Change<'b>, Damage> {
        Ok(match self.byte()? {
            0 => Change::Entry { slot: self.signed()?, key: self.bytes()?, value: None },
            1 => Change::Entry { slot: self.signed()?, key: self.bytes()?, value: Some(self.bytes()?) },
            2 => Change::DropSlots(self.signed()?..=self.signed()?),
            other => return Err(content(format!("there is no operation {other}"))),
        })
    }

    fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(content("a number has more than 64 bits"))
    }

    fn small_number(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.number()?).map_err(|_| content("a number has more than 32 bits"))
    }

    fn signed(&mut self) -> Result<i64, Damage> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A length of bytes that follow.
    fn length(&mut self) -> Result<usize, Damage> {
        let n_bytes = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if n_bytes > self.bytes.len() - self.at {
            return Err(content("it ends within an operation"));
        }
        Ok(n_bytes)
    }

    fn bytes(&mut self) -> Result<&'b [u8], Damage> {
        let n_bytes = self.length()?;
        let bytes = &self.bytes[self.at..self.at + n_bytes];
        self.at += n_bytes;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<(String, u32, i64, Vec<u8>), Vec<u8>>;

    #[derive(Debug, Clone)]
    enum Said {
        Put(i64, u8, Vec<u8>),
        Remove(i64, u8),
        Drop(i64, i64),
    }

    fn said() -> impl Strategy<Value = Said> {
        prop_oneof![
            6 => (-3i64..3, 0u8..4, proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(slot, key, value)| Said::Put(slot, key, value)),
            2 => (-3i64..3, 0u8..4).prop_map(|(slot, key)| Said::Remove(slot, key)),
            1 => (-3i64..3, 0i64..3).prop_map(|(slot, more)| Said::Drop(slot, slot + more)),
        ]
    }

    fn table(step: usize, partition: u32) -> TableId {
        TableId { step: ["counts", "words"][step].to_owned(), partition, table: 0 }
    }

    /// What a batch says, of each table in turn.
    type Batch = Vec<((usize, u32), Vec<Said>)>;

    fn batch() -> impl Strategy<Value = Batch> {
        let tables =
            proptest::collection::btree_map((0usize..2, 0u32..2), proptest::collection::vec(said(), 0..12), 0..4);
        tables.prop_map(|tables| tables.into_iter().collect())
    }

    fn changes(said: &[Said]) -> Changes {
        let mut changes = Changes::default();
        for said in said {
            match said {
                Said::Put(slot, key, value) => changes.put(*slot, &[*key], value),
                Said::Remove(slot, key) => changes.remove(*slot, &[*key]),
                Said::Drop(first, last) => changes.drop_slots(*first..=*last),
            }
        }
        changes
    }

    fn apply(model: &mut Model, table: &TableId, changes: &Changes) {
        let place = |slot: i64, key: &[u8]| (table.step.clone(), table.partition, slot, key.to_vec());
        for change in changes.iter() {
            match change {
                Change::Entry { slot, key, value: Some(value) } => drop(model.insert(place(slot, key), value.to_vec())),
                Change::Entry { slot, key, value: None } => drop(model.remove(&place(slot, key))),
                Change::DropSlots(slots) => model.retain(|(step, partition, slot, _), _| {
                    !(*step == table.step && *partition == table.partition && slots.contains(slot))
                }),
            }
        }
    }

    fn reader<'a>(parts: &'a [Vec<u8>]) -> RunReader<'a, Damage> {
        let mut parts = parts.iter();
        RunReader::new(move || Ok(parts.next().cloned())).expect("a run")
    }

    fn read(model: &mut Model, parts: &[Vec<u8>]) {
        let mut reader = reader(parts);
        while let Some((table, changes)) = reader.next_changes().expect("a run") {
            apply(model, &table, &changes);
        }
    }

    proptest! {
        #[test]
        fn runs_merged_in_any_way_are_the_state_that_the_batches_made(
            batches in proptest::collection::vec(batch(), 1..12),
            cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 2usize..5), 0..6),
        ) {
            let mut expected = Model::new();
            let mut runs: Vec<(Vec<Vec<u8>>, bool)> = Vec::new();
            for batch in &batches {
                let mut writer = RunWriter::default();
                for ((step, partition), said) in batch {
                    let changes = changes(said);
                    writer.changes(&table(*step, *partition), &changes);
                    apply(&mut expected, &table(*step, *partition), &changes);
                }
                runs.push((writer.finish(), false));
            }
            let state = |runs: &[(Vec<Vec<u8>>, bool)]| {
                let mut model = Model::new();
                runs.iter().for_each(|(parts, _)| read(&mut model, parts));
                model
            };
            prop_assert_eq!(&state(&runs), &expected);
            for (at, n) in cuts {
                let start = at.index(runs.len());
                let end = (start + n).min(runs.len());
                let mut merged = Vec::new();
                let readers = runs[start..end].iter().map(|(parts, is_sorted)| (reader(parts), *is_sorted)).collect();
                merge(readers, start == 0, |part| { merged.push(part); Ok::<(), Damage>(()) }).expect("runs");
                runs.splice(start..end, [(merged, true)]);
                prop_assert_eq!(&state(&runs), &expected);
            }
            // What is merged down to one run holds each key once, and nothing that is gone.
            let mut merged = Vec::new();
            let readers = runs.iter().map(|(parts, is_sorted)| (reader(parts), *is_sorted)).collect();
            merge(readers, true, |part| { merged.push(part); Ok::<(), Damage>(()) }).expect("runs");
            let mut reader = reader(&merged);
            let mut n = 0;
            while let Some((_, changes)) = reader.next_changes().expect("a run") {
                n += changes.len();
            }
            prop_assert_eq!(n, expected.len());
        }

        #[test]
        fn damaged_runs_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let parts = [bytes];
            let mut parts = parts.iter();
            if let Ok(mut reader) = RunReader::<Damage>::new(move || Ok(parts.next().cloned())) {
                while let Ok(Some(_)) = reader.next_changes() {}
            }
        }

        #[test]
        fn there_are_few_runs_and_bytes_are_rarely_written_again(
            sizes in proptest::collection::vec(SMALL_BYTES..(8 << 20), 1..400),
        ) {
            let (mut runs, mut written) = (Vec::new(), 0_u64);
            for &size in &sizes {
                runs.push(size);
                while let Some(range) = to_merge(&runs) {
                    let merged: u64 = runs[range.clone()].iter().sum();
                    written += merged;
                    runs.splice(range, [merged]);
                }
                prop_assert!(runs.len() <= 24, "{} runs", runs.len());
            }
            let total: u64 = sizes.iter().sum();
            prop_assert!(written <= total * 12, "{} times", written as f64 / total as f64);
        }
    }

    #[test]
    fn large_sections_are_cut_into_parts() {
        let mut changes = Changes::default();
        let value = vec![7_u8; 1 << 20];
        (0..20).for_each(|slot| changes.put(slot, b"k", &value));
        let mut writer = RunWriter::default();
        writer.changes(&table(0, 0), &changes);
        let parts = writer.finish();
        assert!(
            parts.len() >= 2 && parts.iter().all(|part| part.len() < PART_BYTES + (2 << 20)),
            "{} parts",
            parts.len()
        );
        let mut model = Model::new();
        read(&mut model, &parts);
        assert_eq!(model.len(), 20);
    }
}
