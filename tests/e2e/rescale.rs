//! Jobs that go on with other numbers of partitions, again and again, killed in between: each batch shows the rows that it shows in a run
//! without faults, in one number of partitions.

use std::collections::BTreeMap;
use std::path::Path;

use tidemill_tests::{folder, run};

use crate::recovery::{LIVES_MS, POINTS, Random, attempt, from_environment, job, shown, write_source};

/// What jobs are started with, each time another.
pub(crate) const PARTITIONS: [u32; 5] = [1, 2, 5, 3, 16];

/// The instants that only such a start passes.
pub(crate) const RESCALE_POINTS: [&str; 2] = ["rescaled-part-written", "rescaled-commit-written"];

/// How often each job is killed, unless it is said otherwise.
const KILLS: u64 = 40;

/// The rows of each sink and batch, in the order of their text: which file of a batch has them depends on partitions.
fn rows_shown(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, text) in shown(folder).iter().filter(|(name, _)| !name.contains("_manifest/")) {
        let (batch, _) = name.split_once("-part-").unwrap_or_else(|| panic!("`{name}` is no file of a batch"));
        rows.entry(batch.to_owned()).or_default().extend(text.lines().map(str::to_owned));
    }
    rows.values_mut().for_each(|rows| rows.sort_unstable());
    rows.retain(|_, rows| !rows.is_empty());
    rows
}

#[track_caller]
fn check(name: &str, steps: &str, sinks: &[&str]) {
    let place = folder();
    let folder = place.path();
    write_source(folder, "left", 1);
    write_source(folder, "right", 2);
    std::fs::write(folder.join("job.toml"), job(4, steps, sinks)).expect("a new file");
    let ended = run(folder, &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let expected = rows_shown(folder);
    for sink in sinks {
        let n_rows: usize =
            expected.iter().filter(|(batch, _)| batch.starts_with(sink)).map(|(_, rows)| rows.len()).sum();
        assert!(n_rows > 100, "{name}: `{sink}` shows {n_rows} rows");
    }

    let seed = from_environment("TIDEMILL_SEED", 1);
    let mut random = Random(seed ^ (sinks.len() as u64) << 40);
    let points = [&POINTS[..], &RESCALE_POINTS[..], &RESCALE_POINTS[..]].concat();
    let (mut kills, mut rounds) = (0, 0);
    while kills < from_environment("TIDEMILL_KILLS", KILLS) {
        for gone in ["checkpoint", "out"] {
            std::fs::remove_dir_all(folder.join(gone)).expect("a folder");
        }
        let (before, mut starts) = (kills, Vec::new());
        loop {
            starts.push(PARTITIONS[random.below(PARTITIONS.len() as u64) as usize]);
            let option = format!("job.partitions={}", starts[starts.len() - 1]);
            if attempt(folder, &["--set", &option], (&points, LIVES_MS), &mut random, &Vec::new()) {
                break;
            }
            kills += 1;
            assert!(kills - before < 1000, "{name} comes to no end");
        }
        rounds += 1;
        let found = rows_shown(folder);
        let differing: Vec<&String> =
            expected.keys().chain(found.keys()).filter(|batch| expected.get(*batch) != found.get(*batch)).collect();
        assert!(
            differing.is_empty(),
            "{name}, seed {seed}, round {rounds}, started with {starts:?} partitions: {differing:?} differ"
        );
    }
    // What is kept can be shown, whatever it is.
    let exported = run(folder, &["checkpoint", "export-state", "job.toml"]);
    assert_eq!(exported.code(), 0, "{}", exported.stderr);
    for sink in sinks {
        assert!(exported.stdout.contains(&format!(r#"{{"step":"{sink}","#)), "`{sink}` keeps nothing");
    }
}

#[test]
fn what_is_kept_by_key_goes_with_its_keys() {
    let steps = format!(
        "
[[step]]
name = 'totals'
from = 'left'
aggregate = {{ by = ['user'], select = {{ rows = 'count(*)', total = 'sum(n)' }}, running = true }}

[[step]]
name = 'forgotten'
from = 'left'
aggregate = {{ by = ['user', 'n'], select = {{ rows = 'count(*)' }}, running = true, timeout = '10m' }}

[[step]]
name = 'firsts'
from = 'left'
dedup = {{ by = ['user', 'n'], time = 'at', within = '2s' }}

[[step]]
name = 'named'
from = 'left'
with = {{ item = 'user', value = 'cast(n as double)' }}

[[step]]
name = 'best'
from = 'named'
update-state = {{ by = ['user'], plugin = '{}', config = {{ k = 3 }} }}
",
        tidemill_tests::plugin("running_top_k").display()
    );
    check("by key", &steps, &["totals", "forgotten", "firsts", "best"]);
}

#[test]
fn windows_go_to_other_partitions() {
    // Windows that are inverted, windows of blocks, windows of rows, and rows of windows.
    let steps = "
[[step]]
name = 'inverted'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, window = { time = 'at', size = '4s', slide = '1s' } }

[[step]]
name = 'blocks'
from = 'left'
aggregate = { by = ['user'], select = { most = 'max(n)' }, window = { time = 'at', size = '4s', slide = '200ms' } }

[[step]]
name = 'changed'
from = 'left'
aggregate = { by = ['user'], select = { least = 'min(n)' }, window = { time = 'at', size = '4s', slide = '1s' }, output = 'update' }

[[step]]
name = 'sessions'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)' }, window = { time = 'at', gap = '300ms' } }

[[step]]
name = 'counted'
from = 'left'
aggregate = { by = ['user'], select = { total = 'sum(n)' }, window = { count = 7, slide = 3 } }

[[step]]
name = 'held'
from = 'left'
window = { time = 'at', size = '3s', slide = '1s' }
";
    check("windows", steps, &["inverted", "blocks", "changed", "sessions", "counted", "held"]);
}

#[test]
fn joined_rows_go_to_other_partitions() {
    let steps = "
[[step]]
name = 'near'
from = 'left'
join = { with = 'right', on = ['user'], within = { before = '100ms', after = '100ms' }, time = 'at', type = 'full', prefix = 'r_' }

[[step]]
name = 'latest'
from = 'left'
join = { with = 'right', on = ['user'], latest = true, time = 'at', type = 'left', prefix = 'r_' }
";
    check("joins", steps, &["near", "latest"]);
}
