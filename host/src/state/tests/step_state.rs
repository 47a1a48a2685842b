//! A batch changes state when it is committed, and else not at all.

use std::sync::Arc;

use super::{Model, check};
use crate::ids::PartitionId;
use crate::state::{StateTask, StepState};

const FIRST: PartitionId = PartitionId(0);

/// A task that writes a value under a key.
fn put(state: &Arc<StepState>, partition: PartitionId, key: &[u8], value: &[u8]) -> StateTask {
    let mut task = state.begin(partition).expect("tables");
    task.changes(0).put(0, key, value);
    task
}

#[track_caller]
fn check_state(state: &Arc<StepState>, partition: PartitionId, expected: &[(&[u8], &[u8])]) {
    let mut model = Model::default();
    model.0.extend(expected.iter().map(|(key, value)| ((0, key.to_vec()), value.to_vec())));
    check(state.begin(partition).expect("tables").table(0), &model);
}

#[test]
fn a_batch_shows_when_it_is_committed() {
    let state = StepState::new("counts", 1, 2);
    let task = put(&state, FIRST, b"a", b"1");
    assert_eq!(task.table(0).n_entries(), 0, "a task does not see what it changes");
    task.finish();
    assert_eq!(state.size().0, 0);
    state.commit(FIRST).expect("a commit");
    check_state(&state, FIRST, &[(b"a", b"1")]);
    check_state(&state, PartitionId(1), &[]);
    assert_eq!(state.size().0, 1);
}

#[test]
fn a_batch_that_failed_leaves_no_trace() {
    let state = StepState::new("counts", 1, 2);
    put(&state, FIRST, b"a", b"1").finish();
    put(&state, PartitionId(1), b"b", b"1").finish();
    state.commit(FIRST).expect("a commit");
    // The other partition was never committed, then the next batch fails as a whole.
    put(&state, FIRST, b"a", b"2").finish();
    state.abort();
    state.commit(FIRST).expect("a commit");
    state.commit(PartitionId(1)).expect("a commit");
    check_state(&state, FIRST, &[(b"a", b"1")]);
    check_state(&state, PartitionId(1), &[]);
}

#[test]
fn a_task_that_does_not_finish_changes_nothing_and_gives_its_tables_back() {
    let state = StepState::new("counts", 1, 1);
    put(&state, FIRST, b"a", b"1").finish();
    state.commit(FIRST).expect("a commit");
    drop(put(&state, FIRST, b"a", b"2"));
    state.commit(FIRST).expect("a commit");
    check_state(&state, FIRST, &[(b"a", b"1")]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _task = put(&state, FIRST, b"a", b"3");
        panic!("a step fails");
    }));
    assert!(panicked.is_err());
    state.commit(FIRST).expect("a commit");
    check_state(&state, FIRST, &[(b"a", b"1")]);
}

#[test]
fn a_task_that_runs_again_forgets_its_first_attempt() {
    let state = StepState::new("counts", 1, 1);
    put(&state, FIRST, b"first", b"1").finish();
    put(&state, FIRST, b"second", b"2").finish();
    state.commit(FIRST).expect("a commit");
    check_state(&state, FIRST, &[(b"second", b"2")]);
    // Committed once, it is not applied again.
    let mut task = state.begin(FIRST).expect("tables");
    task.changes(0).remove(0, b"second");
    task.finish();
    state.commit(FIRST).expect("a commit");
    state.commit(FIRST).expect("a commit");
    check_state(&state, FIRST, &[]);
}
