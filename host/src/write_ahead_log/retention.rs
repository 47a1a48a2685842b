//! Which files of the log may go, and which rows a restart reads. Pure.
//!
//! The rows of a source are numbered as they are received, from 0, without gaps, over all runs of the job. `offsets/N` names rows by their
//! numbers; a source's *place* is the number behind the last row that a batch has had.
//!
//! | the process ended | what is there | what a restart does with these rows |
//! | --- | --- | --- |
//! | before a push was written | nothing | nobody has them. With `"row"` the push had not returned |
//! | while it was written | a part of a frame, at the end of the last file | cuts it off. With `"row"` the push had not returned |
//! | after that, before it was on the disk | the frame, unless the machine ended too | they are received: the next batch has them |
//! | after it was on the disk | the frame | the same |
//! | after `offsets/N` was written | frames and their numbers in it | batch N has exactly them, cut as they were |
//! | after `commits/N` | the same | nothing: they lie before the place of the source |
//! | after `offsets/N` and the other batches with rows of a file were removed | the file may be there or not | removes the file |

/// Rows by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowRange {
    pub(super) start: u64,
    /// Behind the last.
    pub(super) end: u64,
}

/// How many of the oldest segments may go: those whose rows all lie before the first that is kept of their source. `ends` has, for each
/// segment, the oldest first, the number behind the last row of each source that it has rows of; `kept_from` the first row that is
/// kept of a source. The last segment is written to, and stays.
pub(super) fn expired(ends: &[Vec<(usize, u64)>], kept_from: &[u64]) -> usize {
    let may_go = |ends: &Vec<(usize, u64)>| ends.iter().all(|&(source, end)| end <= kept_from[source]);
    let closed = &ends[..ends.len().saturating_sub(1)];
    // Those behind one that stays, stay too: what is there has no holes.
    closed.iter().take_while(|ends| may_go(ends)).count()
}

/// What of a log is in no batch: of `frames`, in the order of the log, the rows from `place` on, and those that should be there and are not.
pub(super) fn unread(frames: impl IntoIterator<Item = RowRange>, place: u64) -> (Vec<RowRange>, Vec<RowRange>) {
    let (mut unread, mut lost) = (Vec::new(), Vec::new());
    let mut next = place;
    for frame in frames.into_iter().filter(|frame| frame.end > place) {
        let start = frame.start.max(next);
        if start > next {
            lost.push(RowRange { start: next, end: start });
        }
        if start < frame.end {
            unread.push(RowRange { start, end: frame.end });
            next = frame.end;
        }
    }
    (unread, lost)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_go_when_every_row_of_theirs_is_done() {
        let ends = [vec![(0, 10)], vec![(0, 20), (1, 5)], vec![(1, 9)], vec![(0, 30)]];
        assert_eq!(expired(&ends, &[0, 0]), 0);
        assert_eq!(expired(&ends, &[10, 0]), 1);
        assert_eq!(expired(&ends, &[25, 4]), 1);
        assert_eq!(expired(&ends, &[20, 5]), 2);
        // What is written to stays.
        assert_eq!(expired(&ends, &[99, 99]), 3);
        assert_eq!(expired(&[], &[]), 0);
    }

    #[test]
    fn unread_rows_are_those_behind_the_place() {
        let rows = |start, end| RowRange { start, end };
        let frames = [rows(0, 4), rows(4, 10), rows(10, 12)];
        assert_eq!(unread(frames, 0), (frames.to_vec(), vec![]));
        assert_eq!(unread(frames, 6), (vec![rows(6, 10), rows(10, 12)], vec![]));
        assert_eq!(unread(frames, 12), (vec![], vec![]));
        // A file was moved away.
        assert_eq!(unread([frames[0], frames[2]], 2), (vec![rows(2, 4), rows(10, 12)], vec![rows(4, 10)]));
    }

    /// What happens to a job: rows of a source, a batch is begun, one is done, a new file, the end of the process.
    #[derive(Debug, Clone)]
    enum Event {
        Push(usize, u64),
        Roll,
        Begin,
        Commit,
        Kill,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0usize..2, 1u64..9).prop_map(|(source, n_rows)| Event::Push(source, n_rows)),
            1 => Just(Event::Roll),
            3 => Just(Event::Begin),
            3 => Just(Event::Commit),
            1 => Just(Event::Kill),
        ]
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_batch_in_order_and_is_there_while_it_may_be_read(
            events in proptest::collection::vec(event(), 1..200), retain in 1usize..4,
        ) {
            let mut segments: Vec<Vec<(usize, RowRange)>> = vec![Vec::new()];
            let (mut received, mut done) = ([0_u64; 2], [0_u64; 2]);
            // The rows of each batch; those that are done are kept for a while.
            let mut running: VecDeque<[RowRange; 2]> = VecDeque::new();
            let mut kept: VecDeque<[RowRange; 2]> = VecDeque::new();
            let mut place = [0_u64; 2];
            for event in events {
                match event {
                    Event::Push(source, n_rows) => {
                        let rows = RowRange { start: received[source], end: received[source] + n_rows };
                        received[source] = rows.end;
                        segments.last_mut().expect("one is written to").push((source, rows));
                    }
                    Event::Roll => segments.push(Vec::new()),
                    Event::Begin => {
                        let rows = [0, 1].map(|source| RowRange { start: place[source], end: received[source] });
                        place = received;
                        running.push_back(rows);
                    }
                    Event::Commit => {
                        let Some(rows) = running.pop_front() else { continue };
                        for source in [0, 1] {
                            prop_assert_eq!(rows[source].start, done[source], "in order, each row once");
                            done[source] = rows[source].end;
                        }
                        kept.push_back(rows);
                        if kept.len() > retain {
                            kept.pop_front();
                        }
                        let first = kept.front().expect("one was just done");
                        let kept_from = [0, 1].map(|source| first[source].start);
                        let ends: Vec<Vec<(usize, u64)>> =
                            segments.iter().map(|frames| frames.iter().map(|(source, rows)| (*source, rows.end)).collect()).collect();
                        segments.drain(..expired(&ends, &kept_from));
                    }
                    Event::Kill => {
                        // What batches were begun with is there, and so is what is in none.
                        for source in [0, 1] {
                            let of = |segments: &[Vec<(usize, RowRange)>]| -> Vec<RowRange> {
                                segments.iter().flatten().filter(|(of, _)| *of == source).map(|(_, rows)| *rows).collect()
                            };
                            let (rows, lost) = unread(of(&segments), done[source]);
                            prop_assert!(lost.is_empty());
                            prop_assert_eq!(rows.iter().map(|rows| rows.end - rows.start).sum::<u64>(), received[source] - done[source]);
                            for batch in kept.iter().chain(&running) {
                                let (rows, lost) = unread(of(&segments), batch[source].start);
                                prop_assert!(lost.is_empty() && rows.last().map_or(batch[source].start, |rows| rows.end) >= batch[source].end);
                            }
                        }
                        segments.push(Vec::new());
                    }
                }
            }
        }
    }
}
