//! Sessions: rows of a key that lie less than a gap apart.
//!
//! ```text
//!  rows        x  x     x            x  x
//!  sessions    [--------x--gap--)    [--x--gap--)
//! ```
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 0 | 0 | the key | its open sessions, in order: first time, last time, length of the partial (8, 8, 4 bytes), partial |
//! | 1 | a session's end | the key | |
//!
//! A session is from its first row to a gap after its last one, half open: a row at its very end begins another. Rows of
//! one key whose sessions overlap make one of them, however many there are. A batch costs the rows it brings, the sessions
//! of their keys, and the sessions that end.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::WindowOutput;
use super::partial_rows::{ByteRows, Label, PartialCodec};
use super::spec::{Outbox, Spec};
use crate::clock::describe_time;
use crate::error::Error;
use crate::state::{Changes, Slots, StateError, TableLayout};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// What its tables hold.
pub(crate) fn layouts(codec: &PartialCodec) -> Vec<TableLayout> {
    let show = codec.shows();
    let sessions = TableLayout::shown(codec.by_key(), Slots::One, move |value| {
        let sessions = sessions_in(value, "").ok()?.into_iter().map(|((start, last), partial)| {
            Some(serde_json::json!({ "start": describe_time(start), "last": describe_time(last), "partial": show(partial)? }))
        });
        sessions.collect::<Option<Vec<_>>>().map(Into::into)
    });
    vec![sessions, TableLayout::hidden(codec.by_key())]
}

/// Behind the shuffle.
#[derive(Debug)]
pub(crate) struct SessionsFactory {
    pub(crate) spec: Arc<Spec>,
    pub(crate) gap_us: i64,
    pub(crate) output: WindowOutput,
}

impl StepFactory for SessionsFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let Self { ref spec, gap_us, output } = *self;
        Ok(Box::new(Sessions { spec: spec.clone(), gap_us, output, task: task.clone(), partials: Vec::new() }))
    }
}

struct Sessions {
    spec: Arc<Spec>,
    gap_us: i64,
    output: WindowOutput,
    task: TaskContext,
    partials: Vec<RecordBatch>,
}

/// Joins sessions of one key, in the order of their starts, that overlap: what each becomes a part of.
fn joined(sessions: &[Label], gap_us: i64) -> Vec<Label> {
    let mut joined: Vec<Label> = Vec::with_capacity(sessions.len());
    let mut of_one: Option<(Label, usize)> = None;
    for &(start, last) in sessions {
        of_one = match of_one {
            Some(((open, open_last), n)) if start < open_last.saturating_add(gap_us) => {
                Some(((open, open_last.max(last)), n + 1))
            }
            ended => {
                joined.extend(ended.into_iter().flat_map(|(session, n)| std::iter::repeat_n(session, n)));
                Some(((start, last), 1))
            }
        };
    }
    joined.extend(of_one.into_iter().flat_map(|(session, n)| std::iter::repeat_n(session, n)));
    joined
}

/// The sessions in a value of table 0.
fn sessions_in<'a>(value: &'a [u8], step: &str) -> Result<Vec<(Label, &'a [u8])>, StateError> {
    let mut sessions = Vec::new();
    let mut rest = value;
    let mut take = |n_bytes: usize| {
        let taken = rest.split_at_checked(n_bytes);
        taken.map(|(taken, left)| {
            rest = left;
            taken
        })
    };
    let number = |bytes: &[u8]| bytes.first_chunk().copied().map(i64::from_be_bytes);
    while let Some(head) = take(20) {
        let length = head[16..].first_chunk().copied().map(u32::from_be_bytes);
        let session = number(head).zip(number(&head[8..])).zip(length.and_then(|length| take(length as usize)));
        let Some(session) = session else {
            return Err(StateError::Damaged { step: step.to_owned(), what: "a key's sessions".into() });
        };
        sessions.push(session);
    }
    Ok(sessions)
}

fn add_session(value: &mut Vec<u8>, (start, last): Label, partial: &[u8]) {
    value.extend_from_slice(&start.to_be_bytes());
    value.extend_from_slice(&last.to_be_bytes());
    value.extend_from_slice(&(partial.len() as u32).to_be_bytes());
    value.extend_from_slice(partial);
}

impl PipelineStep for Sessions {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.partials.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let spec = self.spec.clone();
        let (mut ops, mut state) = spec.begin(&self.task)?;
        let ops = &mut *ops;
        let gap_us = self.gap_us;
        let end_of = |(_, last): Label| last.saturating_add(gap_us);
        let cut = spec.cut(&self.task);
        let is_complete = |session: Label| cut.is_some_and(|cut| end_of(session) <= cut);

        // What the batch brings, by key and time, each key's with the sessions that it had.
        let fresh = ops.merge(&std::mem::take(&mut self.partials))?;
        let labels = spec.codec.labels_of(&fresh);
        let keys = spec.codec.keys_of(&fresh)?;
        let values = spec.codec.values_of(&fresh)?;
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_unstable_by_key(|&row| (keys.row(row), labels[row]));
        let mut rows = ByteRows::default();
        let mut old_ends: Vec<BTreeSet<i64>> = Vec::new();
        // Sessions with rows of this batch, by the number of the key.
        let mut changed: HashSet<(usize, Label)> = HashSet::new();
        let mut touched: Vec<&[u8]> = Vec::new();
        for of_key in order.chunk_by(|&a, &b| keys.row(a) == keys.row(b)) {
            let key = keys.row(of_key[0]);
            let kept = state.table(0).get(0, key)?;
            let kept = kept.as_deref().map_or(Ok(Vec::new()), |value| sessions_in(value, &spec.step))?;
            old_ends.push(kept.iter().map(|(session, _)| end_of(*session)).collect());
            let mut sessions: Vec<(Label, bool, &[u8])> =
                kept.iter().map(|(label, value)| (*label, false, *value)).collect();
            sessions.extend(of_key.iter().map(|&row| (labels[row], true, values.row(row))));
            // By start; what was kept before what is new.
            sessions.sort_by_key(|(label, is_new, _)| (label.0, *is_new, label.1));
            let starts: Vec<Label> = sessions.iter().map(|(label, ..)| *label).collect();
            for (session, (_, is_new, value)) in joined(&starts, gap_us).into_iter().zip(&sessions) {
                rows.push(session, key, value);
                if *is_new {
                    changed.insert((touched.len(), session));
                }
            }
            touched.push(key);
        }

        // One partial a session; those of a key stand together, in order.
        let merged = if rows.is_empty() { fresh.clone() } else { ops.merge(&[spec.codec.decode(&rows)?])? };
        let labels = spec.codec.labels_of(&merged);
        let values = spec.codec.values_of(&merged)?;
        let merged_keys = spec.codec.keys_of(&merged)?;
        let mut out = Outbox::new(&spec, emit, false);
        let mut changes = [Changes::default(), Changes::default()];
        let mut row = 0;
        for (number, key) in touched.iter().enumerate() {
            let mut value = Vec::new();
            let mut ends = BTreeSet::new();
            while row < labels.len() && merged_keys.row(row) == *key {
                let session = labels[row];
                let is_given = match self.output {
                    WindowOutput::Append => is_complete(session),
                    WindowOutput::Update => changed.contains(&(number, session)),
                    WindowOutput::Complete => true,
                };
                if is_given {
                    out.push(session, key, values.row(row));
                }
                if !is_complete(session) {
                    add_session(&mut value, session, values.row(row));
                    ends.insert(end_of(session));
                }
                row += 1;
            }
            match (value.is_empty(), old_ends[number].is_empty()) {
                (false, _) => changes[0].put(0, key, &value),
                (true, false) => changes[0].remove(0, key),
                (true, true) => {}
            }
            // What has ended is dropped with its slot.
            for end in old_ends[number].difference(&ends).filter(|end| cut.is_none_or(|cut| **end > cut)) {
                changes[1].remove(*end, key);
            }
            for end in ends.difference(&old_ends[number]) {
                changes[1].put(*end, key, &[]);
            }
            out.may_flush(ops)?;
        }
        debug_assert_eq!(row, labels.len(), "every session is of a key of the batch");

        // What ends without rows of this batch.
        let touched: HashSet<&[u8]> = touched.into_iter().collect();
        let mut ending: BTreeSet<Box<[u8]>> = BTreeSet::new();
        if let Some(cut) = cut {
            state.table(1).scan(i64::MIN..=cut, &mut |_, key, _| {
                if !touched.contains(key) {
                    ending.insert(key.into());
                }
                Ok(true)
            })?;
        }
        for key in &ending {
            let kept = state.table(0).get(0, key)?.unwrap_or_default();
            let mut value = Vec::new();
            for (session, partial) in sessions_in(&kept, &spec.step)? {
                let is_given = match self.output {
                    WindowOutput::Append => is_complete(session),
                    WindowOutput::Update => false,
                    WindowOutput::Complete => true,
                };
                if is_given {
                    out.push(session, key, partial);
                }
                if !is_complete(session) {
                    add_session(&mut value, session, partial);
                }
            }
            if value.is_empty() {
                changes[0].remove(0, key);
            } else {
                changes[0].put(0, key, &value);
            }
            out.may_flush(ops)?;
        }
        if self.output == WindowOutput::Complete {
            let mut stopped = None;
            state.table(0).scan(0..=0, &mut |_, key, value| {
                if touched.contains(key) || ending.contains(key) {
                    return Ok(true);
                }
                for (session, partial) in sessions_in(value, &spec.step)? {
                    out.push(session, key, partial);
                }
                Ok(out.may_flush(ops).map_err(|error| stopped = Some(error)).is_ok())
            })?;
            if let Some(error) = stopped {
                return Err(error);
            }
        }
        out.flush(ops)?;

        if let Some(cut) = cut
            && state.table(1).first_slot()?.is_some_and(|end| end <= cut)
        {
            changes[1].drop_slots(i64::MIN..=cut);
        }
        for (table, changes) in changes.into_iter().enumerate() {
            *state.changes(table) = changes;
        }
        state.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sessions: &[Label], expected: &[Label]) {
        assert_eq!(joined(sessions, 10), expected);
    }

    #[test]
    fn sessions_that_overlap_are_joined() {
        check(&[], &[]);
        check(&[(0, 0), (10, 10)], &[(0, 0), (10, 10)]);
        check(&[(0, 0), (9, 9)], &[(0, 9), (0, 9)]);
        check(&[(0, 3), (12, 20), (29, 29), (40, 41)], &[(0, 29), (0, 29), (0, 29), (40, 41)]);
        // One within another.
        check(&[(0, 50), (5, 7), (55, 56), (70, 70)], &[(0, 56), (0, 56), (0, 56), (70, 70)]);
    }

    #[test]
    fn a_list_of_sessions_reads_back_and_a_torn_one_is_damaged() {
        let mut value = Vec::new();
        add_session(&mut value, (-5, i64::MAX), b"one");
        add_session(&mut value, (7, 8), b"");
        assert_eq!(sessions_in(&value, "s").expect("it is whole"), [((-5, i64::MAX), &b"one"[..]), ((7, 8), b"")]);
        let torn = sessions_in(&value[..21], "s").expect_err("it is torn");
        assert_eq!(torn.to_string(), "the state of step `s` is damaged: a key's sessions");
    }
}
