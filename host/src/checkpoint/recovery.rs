//! Where a job goes on: decided from what there is in its checkpoint. Pure.
//!
//! | the job ended | what is there of batch n | what a restart does |
//! | --- | --- | --- |
//! | before `offsets/n` was written | nothing | makes batch n of what there is by then |
//! | after `offsets/n` | what it reads | runs batch n over the same rows |
//! | after the sinks have published some or all of it | the same | runs batch n over the same rows; sinks show it once |
//! | after `state/n-n` | the same, and state that no commit names | the same, and writes the state again |
//! | after `commits/n` | all | makes batch n + 1 |
//! | while files of a batch were deleted | `offsets/n` without a commit, older than the last commit | deletes it |
//!
//! Of batches in a row that have changed nothing the last two are kept, for as long as those around them: each says where the row begins, so the
//! files that are missing before it are missed by nobody. Going back behind a damaged commit leads to it, or to the last batch that has changed something.

use std::collections::BTreeSet;

/// What there is of a checkpoint's logs, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Batches of which it is said what they read.
    pub(crate) offsets: Vec<u64>,
    /// Batches that are done.
    pub(crate) commits: Vec<u64>,
}

/// Where a job goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The last batch that is done: its commit says what the state is. `None`: none is.
    pub(crate) committed: Option<u64>,
    /// Batches that were begun, and are run again first, in order.
    pub(crate) pending: Vec<u64>,
    /// The first batch that is new.
    pub(crate) next: u64,
}

/// Why a job cannot go on from what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// What a batch between others reads is gone.
    #[error("batch {missing} was begun after batch {before} and before batch {after}, and nothing says what it reads")]
    Offsets {
        /// The last batch that is known.
        before: u64,
        /// What is missing.
        missing: u64,
        /// A batch behind it.
        after: u64,
    },
    /// Batches were begun, and the first is none of them.
    #[error("batch {first} was begun, and nothing is left of the batches before it")]
    Begin {
        /// The first batch that is there.
        first: u64,
    },
}

/// Decides where a job goes on.
///
/// # Errors
///
/// When there is a gap: a file was deleted that is needed.
pub(crate) fn resume(found: &Found) -> Result<Resume, Gap> {
    let committed = found.commits.iter().max().copied();
    let first = committed.map_or(0, |batch| batch + 1);
    let mut pending: Vec<u64> = found.offsets.iter().copied().filter(|&batch| batch >= first).collect();
    pending.sort_unstable();
    pending.dedup();
    for (expected, &batch) in (first..).zip(&pending) {
        if batch != expected {
            return Err(match expected.checked_sub(1) {
                Some(before) => Gap::Offsets { before, missing: expected, after: batch },
                None => Gap::Begin { first: batch },
            });
        }
    }
    Ok(Resume { committed, next: first + pending.len() as u64, pending })
}

/// The batches of which nothing needs to be kept any more, when as many of the last commits that have changed something are kept as `retain`
/// says: of those that are done, older than these, and than any that runs; and those that have changed nothing, when neither have the
/// next two. `is_idle` says which have not.
pub(crate) fn expired(found: &Found, is_idle: impl Fn(u64) -> bool, retain: u64) -> Vec<u64> {
    // The last one says what the state is.
    let Some(&committed) = found.commits.iter().max() else { return Vec::new() };
    let done: BTreeSet<u64> = found.commits.iter().copied().collect();
    let retain = usize::try_from(retain.max(1)).unwrap_or(usize::MAX);
    let first_kept = done.iter().rev().filter(|&&batch| !is_idle(batch)).nth(retain - 1).copied().unwrap_or(0);
    // By two, so that behind the last of a row there is one to go back to.
    let is_followed = |batch: u64| (batch + 1..=batch + 2).all(|next| done.contains(&next) && is_idle(next));
    let may_go = |&batch: &u64| {
        batch < committed && (batch < first_kept || done.contains(&batch) && is_idle(batch) && is_followed(batch))
    };
    let mut expired: Vec<u64> = found.offsets.iter().chain(&found.commits).copied().filter(may_go).collect();
    expired.sort_unstable();
    expired.dedup();
    expired
}

/// What is missing among the batches of which all is kept: those from the first commit on, which are deleted from the oldest on. A job may go on
/// without it, and cannot go back behind it, nor run these batches again. `idle` are batches that have changed nothing, with where their row begins:
/// of those before them nothing is kept.
pub(crate) fn missing(found: &Found, idle: &[(u64, u64)]) -> Found {
    let Some((&first, &last_done)) = found.commits.iter().min().zip(found.commits.iter().max()) else {
        return Found::default();
    };
    let last_begun = found.offsets.iter().max().map_or(last_done, |&begun| begun.max(last_done));
    let lacks = |batches: &[u64], last: u64| {
        let known: BTreeSet<u64> = batches.iter().copied().collect();
        let is_left_out = |batch: u64| idle.iter().any(|&(from, last)| (from..last).contains(&batch));
        (first..=last).filter(|&batch| !known.contains(&batch) && !is_left_out(batch)).collect()
    };
    Found { offsets: lacks(&found.offsets, last_begun), commits: lacks(&found.commits, last_done) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(offsets: &[u64], commits: &[u64], expected: Result<(Option<u64>, &[u64], u64), Gap>) {
        let found = Found { offsets: offsets.into(), commits: commits.into() };
        let resumed = resume(&found);
        let expected = expected.map(|(committed, pending, next)| Resume { committed, pending: pending.into(), next });
        assert_eq!(resumed, expected);
    }

    #[test]
    fn a_job_goes_on_behind_the_last_batch_that_is_done() {
        check(&[], &[], Ok((None, &[], 0)));
        check(&[0], &[], Ok((None, &[0], 1)));
        check(&[0, 1, 2], &[], Ok((None, &[0, 1, 2], 3)));
        check(&[0], &[0], Ok((Some(0), &[], 1)));
        check(&[0, 1], &[0], Ok((Some(0), &[1], 2)));
        // Old files may be gone.
        check(&[7, 8, 9], &[6, 7], Ok((Some(7), &[8, 9], 10)));
        check(&[], &[7], Ok((Some(7), &[], 8)));
        // A hole is not jumped over.
        check(&[1], &[], Err(Gap::Begin { first: 1 }));
        check(&[9], &[7], Err(Gap::Offsets { before: 7, missing: 8, after: 9 }));
        check(&[8, 10], &[7], Err(Gap::Offsets { before: 8, missing: 9, after: 10 }));
    }

    #[test]
    fn what_is_missing_between_batches_that_are_kept_is_named() {
        let check = |offsets: &[u64], commits: &[u64], expected: (&[u64], &[u64])| {
            let missing = missing(&Found { offsets: offsets.into(), commits: commits.into() }, &[(11, 13), (20, 20)]);
            assert_eq!((&*missing.offsets, &*missing.commits), expected);
        };
        check(&[], &[], (&[], &[]));
        check(&[0, 1], &[], (&[], &[]));
        check(&[5, 6, 7, 8], &[5, 6, 7], (&[], &[]));
        // What was deleted by half: the commit goes first.
        check(&[4, 5, 6], &[5, 6], (&[], &[]));
        check(&[5, 7, 8, 10], &[5, 8], (&[6, 9], &[6, 7]));
        check(&[], &[7], (&[7], &[]));
        // Those that have changed nothing, but for the last of them.
        check(&[10, 13, 14], &[10, 13, 14], (&[], &[]));
        check(&[10, 14], &[10, 14], (&[13], &[13]));
    }

    #[test]
    fn batches_that_have_changed_nothing_do_not_crowd_out_others() {
        let check = |commits: &[u64], idle: &[u64], retain: u64, expected: &[u64]| {
            let found = Found { offsets: commits.into(), commits: commits.into() };
            assert_eq!(expired(&found, |batch| idle.contains(&batch), retain), expected);
        };
        check(&[0, 1, 2, 3], &[], 2, &[0, 1]);
        check(&[0, 1, 2, 3], &[], 1, &[0, 1, 2]);
        check(&[0, 1, 2, 3], &[], 9, &[]);
        // Of a row the last two stay, also before batches that count.
        check(&[0, 1, 2, 3], &[1, 2, 3], 2, &[1]);
        check(&[0, 1, 2, 3, 4, 5], &[1, 2, 3, 4], 2, &[1, 2]);
        check(&[0, 1, 3, 4], &[3, 4], 1, &[0]);
        check(&[0, 1, 2, 3], &[1, 2], 2, &[]);
        check(&[0, 2, 3], &[2], 2, &[]);
        check(&[0, 2, 3], &[2], 1, &[0, 2]);
        // Nothing has ever been changed.
        check(&[0, 1, 2], &[0, 1, 2], 3, &[0]);
        // The next of the row is not done yet.
        let found = Found { offsets: vec![0, 1, 2], commits: vec![0, 1] };
        assert_eq!(expired(&found, |batch| batch > 0, 1), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn whenever_a_job_is_cut_off_every_batch_is_done_once(
            kills in proptest::collection::vec((0usize..12, 1u64..4), 1..20), idle in proptest::collection::vec(any::<bool>(), 130),
        ) {
            let is_idle = |batch: u64| idle.get(batch as usize).copied().unwrap_or(false);
            // Batches are begun up to some ahead, and are done in order.
            let mut found = Found::default();
            let mut done: Vec<u64> = Vec::new();
            let (mut next, mut running) = (0, std::collections::VecDeque::new());
            for (n_writes, ahead) in kills {
                for write in 0..n_writes {
                    if (running.len() as u64) < ahead && write % 2 == 0 {
                        found.offsets.push(next);
                        running.push_back(next);
                        next += 1;
                    } else if let Some(batch) = running.pop_front() {
                        found.commits.push(batch);
                        done.push(batch);
                    }
                    for batch in expired(&found, is_idle, 3) {
                        found.offsets.retain(|&other| other != batch);
                        found.commits.retain(|&other| other != batch);
                    }
                }
                // The process is gone.
                let resumed = resume(&found).expect("nothing is missing");
                prop_assert_eq!(resumed.committed, done.last().copied());
                running = resumed.pending.into();
                next = resumed.next;
                found.offsets.sort_unstable();
                found.offsets.dedup();
            }
            prop_assert_eq!(&done, &(0..done.len() as u64).collect::<Vec<_>>());
            // What a job needs to go back behind its last commits, and no more.
            let changed: Vec<u64> = done.iter().copied().filter(|&batch| !is_idle(batch)).collect();
            let kept = &changed[changed.len().saturating_sub(3)..];
            prop_assert!(kept.iter().all(|batch| found.commits.contains(batch)));
            prop_assert!(found.commits.len() <= 11, "{:?}", found.commits);
            // Also without the last commit there is one to go on from.
            if let Some(&last) = found.commits.iter().max().filter(|_| found.commits.len() > 1) {
                let without = Found { commits: found.commits.iter().copied().filter(|&batch| batch != last).collect(), ..found.clone() };
                let gone_back = resume(&without).expect("nothing is missing");
                prop_assert_eq!((gone_back.committed, gone_back.pending[0]), (Some(last - 1), last));
            }
        }
    }
}
