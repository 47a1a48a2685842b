//! What steps keep of rows that can be had once, over a crash: jobs by key, with windows and with joins, over sockets.
//!
//! What is shown by event time does not depend on where batches are cut, so it is what a run without faults shows: of each user the same rows in the
//! same order. So is the state behind it, also where a job has gone on in other numbers of partitions in between.

use std::collections::BTreeMap;

use tidemill_tests::plugin;
use tidemill_tests::s3::S3;

use crate::recovery::{PARTITIONS, Random, SOURCE_KEYS, event, from_environment};
use crate::rescale::{PARTITIONS as RESCALED, RESCALE_POINTS};
use crate::senders::{Place, Way, points, seeded, shown};

/// How often each job is killed in each number of partitions, unless it is said otherwise.
const KILLS: u64 = 6;

/// Rows of a round, of each source.
const ROWS: u64 = 2000;

/// What of the rows of a user is the same, whatever the batches.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Same {
    /// All of them, in their order.
    Rows,
    /// All of them: pairs come when the later row of the two does, and what is not dealt out by user has no order.
    Set,
    /// The last one.
    Last,
}

/// A job: its sources, its steps, and what is the same of its sinks.
#[derive(Debug, Clone)]
struct Case {
    name: &'static str,
    sources: &'static [&'static str],
    steps: String,
    sinks: Vec<(&'static str, Same)>,
}

impl Case {
    fn job(&self, addresses: &[String]) -> String {
        let mut text = "[job]\nname = 'received'\nbatch-interval = '0'\nmemory = '1MiB'\ncheckpoint = 'checkpoint'\n\
                        checkpoint-batches = 3\nwal-segment = '64KiB'\n"
            .to_owned();
        for (source, address) in self.sources.iter().zip(addresses) {
            let keys = SOURCE_KEYS.join("\n");
            text.push_str(&format!(
                "\n[[source]]\nname = '{source}'\ntype = 'socket'\naddress = '{address}'\ndurability = 'row'\n{keys}\n"
            ));
        }
        text.push_str(&self.steps);
        for (sink, _) in &self.sinks {
            text.push_str(&format!("\n[[sink]]\nfrom = '{sink}'\ntype = 'file'\npath = 'out/{sink}'\n"));
        }
        text
    }

    fn place(&self) -> Place {
        let lines = |seed| {
            let mut random = Random(seed);
            (0..ROWS).map(|number| event(&mut random, number)).collect()
        };
        let feeds = self.sources.iter().copied().zip([1, 2].map(lines)).collect();
        Place::new(Way::Socket, feeds, (60, 8), |addresses| self.job(addresses))
    }

    /// What a place has shown of each sink and user.
    fn shown(&self, place: &Place) -> Shown {
        let mut rows = Shown::new();
        for &(sink, same) in &self.sinks {
            for row in shown(place.path(), sink) {
                let user = row["user"].as_str().expect("a text").to_owned();
                let of_user = rows.entry((sink, user)).or_default();
                if same == Same::Last {
                    of_user.clear();
                }
                of_user.push(row.to_string());
                if same == Same::Set {
                    of_user.sort_unstable();
                }
            }
        }
        rows
    }

    /// What its steps keep, wherever it is.
    fn state(&self, place: &Place) -> Vec<String> {
        let mut entries = place.state();
        // When it forgets rows that no row can meet any more depends on its batches.
        entries.retain(|entry| entry["step"] != "latest");
        let mut lines = Vec::new();
        for mut entry in entries {
            let members = entry.as_object_mut().expect("an entry");
            members.remove("partition");
            match members.remove("value") {
                // Rows that are not dealt out by a key: each for itself.
                Some(serde_json::Value::Array(rows)) if !members.contains_key("key") => {
                    lines.extend(rows.iter().map(|row| format!("{entry} {row}")));
                }
                value => lines.push(format!("{entry} {value:?}")),
            }
        }
        lines.sort_unstable();
        lines
    }
}

/// Rows of each sink and user.
type Shown = BTreeMap<(&'static str, String), Vec<String>>;

#[track_caller]
fn check_equal(found: &[String], expected: &[String], what: &str) {
    let n_same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    let (is, should) = (found.get(n_same), expected.get(n_same));
    let (n_found, n_expected) = (found.len(), expected.len());
    assert!(
        is == should,
        "{what}: of {n_found} rows for {n_expected}, number {n_same} is {is:?}, and should be {should:?}"
    );
}

/// Kills a job, in these numbers of partitions: each start draws one, and those of a round that has only one have that.
#[track_caller]
fn check(case: &Case, store: Option<&'static S3>, partitions: &[&[u32]]) {
    let straight = case.place();
    let ended = straight.settle(&[], || false);
    let summary = ended.stderr.lines().rfind(|line| line.contains("\"ended\"")).expect("it has ended");
    let summary: serde_json::Value = serde_json::from_str(summary).expect("JSON");
    let steps = summary["summary"]["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["rows_late"] == 0), "{summary}");
    let (expected, expected_state) = (case.shown(&straight), case.state(&straight));
    for (sink, _) in &case.sinks {
        let n_rows: usize = expected.iter().filter(|((of, _), _)| of == sink).map(|(_, rows)| rows.len()).sum();
        assert!(n_rows >= 40, "{}: `{sink}` shows {n_rows} rows", case.name);
    }

    let points = [&points()[..], if partitions[0].len() > 1 { &RESCALE_POINTS } else { &[] }].concat();
    for partitions in partitions {
        let mut place = case.place();
        if let Some(store) = store {
            place = place.with_store(store, &format!("received/{}/{}", case.name, partitions[0]));
        }
        let (seed, mut random) = seeded(&format!("{}{partitions:?}{}", case.name, store.is_some()));
        let (mut kills, mut rounds) = (0, 0);
        while kills < from_environment("TIDEMILL_KILLS", KILLS) {
            place.start_anew();
            let what = format!("{} in {partitions:?} partitions, seed {seed}, round {rounds}", case.name);
            let start = |random: &mut Random| {
                let n = partitions[random.below(partitions.len() as u64) as usize];
                vec!["--set".to_owned(), format!("job.partitions={n}")]
            };
            kills += place.kill_until_all_is_received(&mut random, &points, start, &what);
            place.settle(&start(&mut random), || case.shown(&place) == expected);
            let found = case.shown(&place);
            for of in expected.keys().chain(found.keys()) {
                let rows = |of_all: &Shown| of_all.get(of).cloned().unwrap_or_default();
                check_equal(&rows(&found), &rows(&expected), &format!("{what}, {of:?}"));
            }
            check_equal(&case.state(&place), &expected_state, &format!("{what}, state"));
            rounds += 1;
        }
    }
}

/// One number of partitions after the other.
const EACH: [&[u32]; 3] = [&[PARTITIONS[0]], &[PARTITIONS[1]], &[PARTITIONS[2]]];

fn keys() -> Case {
    let steps = format!(
        "
[[step]]
name = 'totals'
from = 'left'
aggregate = {{ by = ['user'], select = {{ rows = 'count(*)', total = 'sum(n)', first = 'first(n)', last = 'last(n)' }}, running = true }}

[[step]]
name = 'firsts'
from = 'left'
dedup = {{ by = ['user', 'n'] }}

[[step]]
name = 'counted'
from = 'left'
aggregate = {{ by = ['user'], select = {{ all = 'collect_list(n)' }}, window = {{ count = 7, slide = 3 }} }}

[[step]]
name = 'visits'
from = 'left'
update-state = {{ by = ['user'], plugin = '{}', config = {{ gap = '300ms' }} }}
",
        plugin("sessionise").display()
    );
    let sinks = vec![("totals", Same::Last), ("firsts", Same::Set), ("counted", Same::Rows), ("visits", Same::Rows)];
    Case { name: "keys", sources: &["left"], steps, sinks }
}

fn windows() -> Case {
    let steps = "
[[step]]
name = 'inverted'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, window = { time = 'at', size = '4s', slide = '1s' } }

[[step]]
name = 'blocks'
from = 'left'
aggregate = { by = ['user'], select = { most = 'max(n)', last = 'last(n order by at)' }, window = { time = 'at', size = '4s', slide = '500ms' } }

[[step]]
name = 'sessions'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)' }, window = { time = 'at', gap = '300ms' } }

[[step]]
name = 'held'
from = 'left'
window = { time = 'at', size = '3s', slide = '1s' }
"
    .to_owned();
    let sinks = vec![("inverted", Same::Rows), ("blocks", Same::Rows), ("sessions", Same::Rows), ("held", Same::Set)];
    Case { name: "windows", sources: &["left"], steps, sinks }
}

fn joins() -> Case {
    let steps = "
[[step]]
name = 'near'
from = 'left'
join = { with = 'right', on = ['user'], within = { before = '100ms', after = '100ms' }, time = 'at', type = 'full', prefix = 'r_' }

[[step]]
name = 'latest'
from = 'left'
join = { with = 'right', on = ['user'], latest = true, time = 'at', type = 'left', prefix = 'r_' }

[[step]]
name = 'same-window'
from = 'left'
join = { with = 'right', on = ['user'], window = { time = 'at', size = '200ms' }, type = 'left', prefix = 'r_' }
"
    .to_owned();
    let sinks = vec![("near", Same::Set), ("latest", Same::Set), ("same-window", Same::Set)];
    Case { name: "joins", sources: &["left", "right"], steps, sinks }
}

#[test]
fn keys_of_sockets_go_on() {
    check(&keys(), None, &EACH);
}

#[test]
fn windows_of_sockets_go_on() {
    check(&windows(), None, &EACH);
}

#[test]
fn joins_of_two_sockets_go_on() {
    check(&joins(), None, &EACH);
}

#[test]
fn windows_of_sockets_go_to_other_partitions() {
    check(&windows(), None, &[&RESCALED]);
}

#[test]
fn joined_rows_of_sockets_go_to_other_partitions() {
    check(&joins(), None, &[&RESCALED]);
}

#[test]
fn keys_of_sockets_go_to_other_partitions() {
    check(&keys(), None, &[&RESCALED]);
}

/// All of it in one job, whose rows are in a log on this machine, and whose checkpoint is in a store.
#[test]
fn keys_windows_and_joins_of_sockets_go_on_from_s3() {
    let Some(s3) = S3::shared() else { return };
    let (keys, windows, joins) = (keys(), windows(), joins());
    let all = Case {
        name: "all",
        sources: joins.sources,
        steps: [keys.steps, windows.steps, joins.steps].concat(),
        sinks: [keys.sinks, windows.sinks, joins.sinks].concat(),
    };
    check(&all, Some(s3), &EACH);
}
