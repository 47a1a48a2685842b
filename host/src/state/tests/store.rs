//! The state of a job: what is made where, what moves when, and that nothing stays.

use std::path::Path;
use std::sync::Arc;

use super::{Model, check, value};
use crate::error::Explain;
use crate::ids::PartitionId;
use crate::state::store::new_folder;
use crate::state::{Backend, LsmStore, StateSettings, StateStore, StepState};

fn settings(backend: Backend, memory_bytes: u64, path: &Path) -> StateSettings {
    StateSettings { backend, memory_bytes, path: Some(path.into()) }
}

/// Writes some entries of 100 bytes to the first table of a partition.
fn fill(state: &Arc<StepState>, partition: u32, n_entries: u64) -> Model {
    let partition = PartitionId(partition);
    let mut task = state.begin(partition).expect("tables");
    for number in 0..n_entries {
        task.changes(0).put(0, &number.to_be_bytes(), &value(number, 100));
    }
    let mut model = Model::default();
    model.apply(task.changes(0));
    task.finish();
    state.commit(partition).expect("a commit");
    model
}

/// Bytes in memory of the first table of a partition.
fn in_memory(state: &Arc<StepState>, partition: u32) -> u64 {
    state.begin(PartitionId(partition)).expect("tables").table(0).memory_bytes()
}

fn n_files(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("a folder").count()
}

#[test]
fn the_largest_tables_move_until_half_of_the_budget_is_free() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let store = StateStore::open(&settings(Backend::Auto, 1 << 20, folder.path())).expect("state");
    let (counts, windows) = (StepState::new("counts", 1, 2), StepState::new("windows", 1, 2));
    store.attach(&counts);
    store.attach(&windows);
    let mut models = vec![fill(&counts, 0, 1000), fill(&counts, 1, 5500)];
    store.maintain().expect("nothing to do");
    assert!(store.memory_bytes() > 600 * 1000 && store.disk_bytes() == 0, "it fits");
    models.push(fill(&windows, 0, 300));
    models.push(fill(&windows, 1, 1500));
    assert!(store.memory_bytes() > 1 << 20, "{}", store.memory_bytes());
    store.maintain().expect("tables move");
    assert!(store.memory_bytes() <= 1 << 19, "{}", store.memory_bytes());
    let places = [(&counts, 0), (&counts, 1), (&windows, 0), (&windows, 1)];
    let moved: Vec<bool> = places.map(|(state, partition)| in_memory(state, partition) == 0).into();
    assert_eq!(moved, [false, true, false, false], "only the largest");
    let sum: u64 = places.map(|(state, partition)| in_memory(state, partition)).into_iter().sum();
    assert_eq!(sum, store.memory_bytes());
    for ((state, partition), model) in places.into_iter().zip(&models) {
        check(state.begin(PartitionId(partition)).expect("tables").table(0), model);
    }
    assert!(store.disk_bytes() > 500_000, "{}", store.disk_bytes());
    // What is on disk grows without moving anything else.
    fill(&counts, 1, 20_000);
    store.maintain().expect("nothing to do");
    assert!(in_memory(&windows, 1) > 0);
}

#[test]
fn a_table_starts_on_disk_when_the_budget_is_exceeded() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let store = StateStore::open(&settings(Backend::Auto, 10_000, folder.path())).expect("state");
    let state = StepState::new("counts", 1, 2);
    store.attach(&state);
    fill(&state, 0, 1000);
    assert_eq!(in_memory(&state, 1), 0);
    let model = fill(&state, 1, 10);
    check(state.begin(PartitionId(1)).expect("tables").table(0), &model);
}

#[test]
fn the_other_backends_stay_where_they_are() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for (backend, is_on_disk) in [(Backend::Memory, false), (Backend::Lsm, true)] {
        let store = StateStore::open(&settings(backend, 1000, folder.path())).expect("state");
        let state = StepState::new("counts", 1, 1);
        store.attach(&state);
        let model = fill(&state, 0, 1000);
        store.maintain().expect("nothing to do");
        assert_eq!((store.memory_bytes(), n_files(folder.path())), (0, usize::from(is_on_disk)));
        check(state.begin(PartitionId(0)).expect("tables").table(0), &model);
        let n_bytes = state.size().1;
        assert!((108_000..250_000).contains(&n_bytes), "{n_bytes}");
    }
}

#[test]
fn the_folder_goes_with_the_job() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("state");
    let state = StepState::new("counts", 1, 2);
    let store = StateStore::open(&settings(Backend::Auto, 1000, &path)).expect("state");
    store.attach(&state);
    fill(&state, 0, 1000);
    store.maintain().expect("tables move");
    assert_eq!(n_files(&path), 1);
    // A task that was given up still has tables when the job ends; the state itself is held by whoever holds the plan.
    fill(&state, 1, 10);
    let task = state.begin(PartitionId(1)).expect("tables");
    drop(store);
    drop(task);
    assert_eq!(n_files(&path), 0);
    assert_eq!(state.size(), (0, 0));
}

#[test]
fn the_folder_goes_when_the_job_panics() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path();
    let panicked = std::panic::catch_unwind(|| {
        let state = StepState::new("counts", 1, 1);
        let store = StateStore::open(&settings(Backend::Lsm, 1000, path)).expect("state");
        store.attach(&state);
        fill(&state, 0, 10);
        assert_eq!(n_files(path), 1);
        panic!("a bug");
    });
    let message = panicked.expect_err("a panic");
    assert_eq!(message.downcast_ref::<&str>(), Some(&"a bug"));
    assert_eq!(n_files(path), 0);
}

#[test]
fn what_the_disk_says_is_told_with_the_step() {
    let parent = tempfile::tempdir().expect("a folder for temporary files");
    let folder = new_folder(parent.path()).expect("a folder");
    std::fs::write(folder.path().join("lsm"), b"in the way").expect("a file");
    let error = LsmStore::open_in(folder, 1 << 20, "counts").expect_err("a file is no store");
    let report = crate::error::Error::from(error).report();
    assert!(report.starts_with("error: the state of step `counts` could not be opened\n  caused by: "), "{report}");
    let hint = format!("\nhint: Check the disk of `{}", parent.path().display());
    assert!(report.contains(&hint), "{report}");
}

#[test]
fn a_path_that_cannot_be_is_said_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("a file");
    for backend in [Backend::Auto, Backend::Lsm] {
        let error = StateStore::open(&settings(backend, 1000, &file.join("x"))).expect_err("a file is no folder");
        assert_eq!(error.hint().as_deref(), Some("Set `state.path` to a folder that can be written."));
    }
    StateStore::open(&settings(Backend::Memory, 1000, &file.join("x"))).expect("memory needs no folder");
}
