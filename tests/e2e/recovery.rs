//! Jobs that are killed, again and again, and started again: what sinks show in the end is what a run without faults shows.
//!
//! Where a process dies is drawn from a seed, which a failure prints. `TIDEMILL_KILLS=2000` kills each job so often in each number of partitions,
//! `TIDEMILL_SEED=7` draws other instants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tidemill_tests::s3::{BUCKET, S3};
use tidemill_tests::{Running, binary, folder, run, wait_for};

/// The instants that a process can be told to die at. A job passes each of them.
pub(crate) const POINTS: [&str; 9] = [
    "offsets-written",
    "rows-prepared",
    "file-published",
    "manifest-written",
    "rows-published",
    "state-written",
    "commit-written",
    "old-commit-deleted",
    "merged-part-written",
];

/// How often each job is killed, unless it is said otherwise.
const KILLS: u64 = 100;

/// Files of each source, and rows of each of them.
const FILES: u64 = 24;
const ROWS: u64 = 200;

/// SplitMix64 (Steele et al., 2014): numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A line with a row of some user, a hundredth of a second after the one before, give or take 400 ms: [`SOURCE_KEYS`] know them.
pub(crate) fn event(random: &mut Random, number: u64) -> String {
    let at = number * 10_000 + random.below(400_000);
    let (user, n) = (random.below(40), random.below(1000));
    format!("{{\"user\":\"u{user}\",\"n\":{n},\"at\":{at}}}\n")
}

/// What a source of such rows says of them.
pub(crate) const SOURCE_KEYS: [&str; 3] = [
    "format = 'json'",
    "schema = { user = 'utf8', n = 'int64', at = 'timestamp' }",
    "event-time = { column = 'at', delay = '500ms' }",
];

/// Writes the files of a source: rows of some users, in the order of their times.
pub(crate) fn write_source(folder: &Path, name: &str, seed: u64) {
    write_files(folder, name, seed, (FILES, ROWS));
}

/// The same, so many files of so many rows.
fn write_files(folder: &Path, name: &str, seed: u64, (files, rows): (u64, u64)) {
    let mut random = Random(seed);
    std::fs::create_dir_all(folder.join(name)).expect("a new folder");
    for file in 0..files {
        let lines: String = (file * rows..(file + 1) * rows).map(|number| event(&mut random, number)).collect();
        std::fs::write(folder.join(name).join(format!("{file:04}.jsonl")), lines).expect("a new file");
    }
}

/// A job over two sources of files, one file a batch, with a sink for each of these steps.
pub(crate) fn job(partitions: u32, steps: &str, sinks: &[&str]) -> String {
    let mut text = format!(
        "[job]\nname = 'killed'\nbatch-interval = '0'\ntrigger = 'available-now'\npartitions = {partitions}\n\
         checkpoint = 'checkpoint'\ncheckpoint-batches = 3\n"
    );
    for source in ["left", "right"] {
        let read = if steps.contains(&format!("'{source}'")) { "" } else { "#" };
        for line in [
            "[[source]]".to_owned(),
            format!("name = '{source}'"),
            "type = 'file'".to_owned(),
            format!("path = '{source}'"),
            "max-files-per-batch = 1".to_owned(),
        ]
        .into_iter()
        .chain(SOURCE_KEYS.map(str::to_owned))
        {
            writeln!(text, "{read}{line}").expect("room");
        }
    }
    text.push_str(steps);
    for sink in sinks {
        write!(text, "\n[[sink]]\nfrom = '{sink}'\ntype = 'file'\npath = 'out/{sink}'\n").expect("room");
    }
    text
}

/// Batches of a sink that have a manifest, while a job is at work.
pub(crate) fn n_published(folder: &Path, sink: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder.join("out").join(sink).join("_manifest")) else { return 0 };
    entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
}

/// Every visible file of the sinks, by name; what is no text, a letter a byte. Manifests are left without times, which differ.
pub(crate) fn shown(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let out = folder.join("out");
    let mut folders = vec![out.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(&out).expect("within").to_string_lossy().into_owned();
            let bytes = std::fs::read(entry.path()).expect("a file");
            let text = if name.contains("_manifest/") {
                let line: serde_json::Value = serde_json::from_slice(&bytes).expect("one batch a file: there are few");
                format!("{} {}", line["batch_id"], line["files"])
            } else {
                String::from_utf8(bytes)
                    .unwrap_or_else(|error| error.as_bytes().iter().map(|&byte| char::from(byte)).collect())
            };
            files.insert(name, text);
        }
    }
    check_manifests(&files);
    files
}

/// What a reader of manifests sees is there, and whole.
fn check_manifests(files: &BTreeMap<String, String>) {
    for (name, manifest) in files.iter().filter(|(name, _)| name.contains("_manifest/")) {
        let (sink, _) = name.split_once('/').expect("the folder of a sink");
        let (_, named) = manifest.split_once(' ').expect("a batch and its files");
        let named: Vec<serde_json::Value> = serde_json::from_str(named).expect("a list");
        for file in named {
            let path = format!("{sink}/{}", file["path"].as_str().expect("a text"));
            let content = files.get(&path).unwrap_or_else(|| panic!("`{path}` of `{name}` is not there"));
            // What is text is as long in bytes; the others have a letter a byte.
            let bytes = if path.ends_with(".parquet") { content.chars().count() } else { content.len() };
            assert_eq!(file["bytes"], bytes, "{path}");
        }
    }
}

/// What the environment tells the job.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// Until when a process is killed that is not told where to die, unless it is said otherwise: most jobs take longer.
pub(crate) const LIVES_MS: u64 = 400;

/// Starts the job; it dies at one of these points, or within so many milliseconds, or comes to its end: then gives `true`.
pub(crate) fn attempt(
    folder: &Path,
    options: &[&str],
    (points, lives_ms): (&[&str], u64),
    random: &mut Random,
    environment: &Environment,
) -> bool {
    let mut command = Command::new(binary());
    command.args(["run", "job.toml"]).args(options).current_dir(folder).envs(environment.iter().cloned());
    let is_told = random.below(2) == 0;
    let what = if is_told {
        let point = points[random.below(points.len() as u64) as usize];
        let death = format!("{point}:{}", 1 + random.below(8));
        command.env("TIDEMILL_DIE_AT", &death);
        death
    } else {
        format!("{} ms", random.below(lives_ms))
    };
    let running = Running::spawn(command);
    if let Some(ms) = what.strip_suffix(" ms") {
        std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
        running.signal("KILL");
    }
    let ended = running.wait();
    match ended.status.code() {
        Some(0) => true,
        None => false,
        Some(code) => {
            panic!("it dies at {what}, and the next start ends with {code}\n{}\n{}", ended.stdout, ended.stderr)
        }
    }
}

/// How many partitions each job has, one after the other.
pub(crate) const PARTITIONS: [u32; 3] = [1, 2, 5];

#[track_caller]
fn check(name: &str, steps: &str, sinks: &[&str]) {
    for partitions in PARTITIONS {
        check_on(None, KILLS / PARTITIONS.len() as u64 + 1, name, partitions, steps, sinks);
    }
}

/// The same, with the checkpoint in a directory, or in an S3 server.
#[track_caller]
pub(crate) fn check_on(store: Option<&S3>, kills_max: u64, name: &str, partitions: u32, steps: &str, sinks: &[&str]) {
    Killed { store, kills_max, ..Killed::new(name, partitions, steps, sinks) }.check(|_, _| {});
}

/// A job over files that is killed, until what it shows is what a run without faults shows.
pub(crate) struct Killed<'a> {
    /// For messages, and folders of the store.
    pub(crate) name: &'a str,
    pub(crate) partitions: u32,
    /// Steps and other tables.
    pub(crate) steps: &'a str,
    /// Each has a sink.
    pub(crate) sinks: &'a [&'a str],
    /// Files of each source, and rows of each of them.
    pub(crate) rows: (u64, u64),
    /// Where the checkpoint is instead of in a directory.
    pub(crate) store: Option<&'a S3>,
    /// Where it may die.
    pub(crate) points: &'a [&'a str],
    /// Until when it is killed where it is not told where to die.
    pub(crate) lives_ms: u64,
    /// How often it is killed, unless it is said otherwise.
    pub(crate) kills_max: u64,
}

impl<'a> Killed<'a> {
    pub(crate) fn new(name: &'a str, partitions: u32, steps: &'a str, sinks: &'a [&'a str]) -> Self {
        let kills_max = KILLS / PARTITIONS.len() as u64 + 1;
        let (rows, points) = ((FILES, ROWS), &POINTS);
        Self { name, partitions, steps, sinks, rows, store: None, points, lives_ms: LIVES_MS, kills_max }
    }

    /// Kills it. `after` is given its folder after each death, and after each end: then with `true`. Gives what a run without faults shows.
    #[track_caller]
    pub(crate) fn check(&self, mut after: impl FnMut(&Path, bool)) -> BTreeMap<String, String> {
        let Self { name, partitions, steps, sinks, store, .. } = *self;
        let environment = store.map_or_else(Vec::new, |store| store.environment(&store.address()));
        let checkpoint = |round: u64| match store {
            Some(_) => format!("checkpoint = 's3://{BUCKET}/kills/{name}-{partitions}/{round}'"),
            None => "checkpoint = 'checkpoint'".to_owned(),
        };
        let place = folder();
        let folder = place.path();
        write_files(folder, "left", 1, self.rows);
        write_files(folder, "right", 2, self.rows);
        std::fs::write(folder.join("job.toml"), job(partitions, steps, sinks)).expect("a new file");
        let ended = run(folder, &["run", "job.toml"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        std::fs::remove_dir_all(folder.join("checkpoint")).expect("a folder");
        let expected = shown(folder);
        assert!(expected.values().map(|text| text.lines().count()).sum::<usize>() > 100, "{name} shows too little");

        let seed = from_environment("TIDEMILL_SEED", 1);
        let mut random = Random(seed ^ (u64::from(partitions) << 32) ^ sinks.len() as u64);
        let (mut kills, mut rounds) = (0, 0);
        while kills < from_environment("TIDEMILL_KILLS", self.kills_max) {
            std::fs::remove_dir_all(folder.join("out")).expect("a folder");
            // Each round begins with another checkpoint.
            let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
            let text = job(partitions, steps, sinks).replace("checkpoint = 'checkpoint'", &checkpoint(rounds));
            std::fs::write(folder.join("job.toml"), text).expect("the job");
            let before = kills;
            while !attempt(folder, &[], (self.points, self.lives_ms), &mut random, &environment) {
                kills += 1;
                assert!(kills - before < 1000, "{name} comes to no end");
                after(folder, false);
            }
            after(folder, true);
            rounds += 1;
            let found = shown(folder);
            let differing: Vec<&String> =
                expected.keys().chain(found.keys()).filter(|file| expected.get(*file) != found.get(*file)).collect();
            assert!(differing.is_empty(), "{name}, seed {seed}, round {rounds}: {differing:?} differ");
        }
        expected
    }
}

#[test]
fn rows_that_are_filtered_are_shown_once() {
    let steps = "
[[step]]
name = 'large'
from = 'left'
filter = 'n > 400'
";
    check("stateless", steps, &["large"]);
}

#[test]
fn running_totals_go_on() {
    let steps = "
[[step]]
name = 'totals'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)', mean = 'avg(n)' }, running = true }

[[step]]
name = 'firsts'
from = 'left'
dedup = { by = ['user', 'n'] }
";
    check("keyed", steps, &["totals", "firsts"]);
}

#[test]
fn windows_go_on() {
    let steps = "
[[step]]
name = 'sliding'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', most = 'max(n)' }, window = { time = 'at', size = '4s', slide = '1s' } }

[[step]]
name = 'sessions'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)' }, window = { time = 'at', gap = '300ms' } }
";
    check("windows", steps, &["sliding", "sessions"]);
}

#[test]
fn joins_go_on() {
    let steps = "
[[step]]
name = 'pairs'
from = 'left'
join = { with = 'right', on = ['user'], within = { before = '100ms', after = '100ms' }, time = 'at', type = 'left', prefix = 'r_' }
";
    check("joins", steps, &["pairs"]);
}

#[test]
fn the_state_of_plugins_goes_on() {
    let steps = format!(
        "
[[step]]
name = 'best'
from = 'left'
with = {{ item = 'user', value = 'cast(n as double)' }}

[[step]]
name = 'sessions'
from = 'best'
update-state = {{ by = ['user'], plugin = '{}', config = {{ k = 3 }} }}
",
        tidemill_tests::plugin("running_top_k").display()
    );
    check("plugins", &steps, &["sessions"]);
}

#[test]
fn rows_that_break_a_plugin_are_set_aside_once() {
    let steps = format!(
        "
[[step]]
name = 'shares'
from = 'left'
with = {{ value = \"user || ' ' || cast(100 / (n % 30) as text) || ' ' || cast(n as text)\" }}
on-error = 'dead-letter'
dead-letter = 'without-share'

[[step]]
name = 'checked'
from = 'shares'
transform = '{}'
config = {{ do = 'panic', when = ' 77' }}
on-error = 'dead-letter'
dead-letter = 'unchecked'
",
        tidemill_tests::plugin("hostile").display()
    );
    check("dead letters", &steps, &["checked", "without-share", "unchecked"]);
}

/// What is set aside of a key: all rows that it has in a batch when the plugin fails for it, and single ones that the plugin rejects.
#[test]
fn keys_that_break_a_plugin_are_set_aside_once() {
    let aside = "on-error = 'dead-letter'\ndead-letter-rate = 1.0";
    let steps = format!(
        "
[[step]]
name = 'orders'
from = 'left'
with = {{ \"order\" = \"user || ' ' || cast(n as text) || ' ' || cast(at as text)\", amount = 'cast(n as double)' }}

[[step]]
name = 'customers'
from = 'right'
with = {{ name = 'user', tier = 'cast(n as text)' }}

[[step]]
name = 'enriched'
from = 'orders'
cogroup = {{ by = ['user'], with = 'customers', plugin = '{}' }}
limits = {{ output-rows = 6 }}
{aside}
dead-letter = 'too-many'

[[step]]
name = 'values'
from = 'orders'
with = {{ item = '\"order\"', value = \"case when n % 50 = 0 then cast('NaN' as double) else amount end\" }}

[[step]]
name = 'best'
from = 'values'
update-state = {{ by = ['user'], plugin = '{}', config = {{ k = 1000 }} }}
limits = {{ output-rows = 30 }}
{aside}
dead-letter = 'too-long'
",
        tidemill_tests::plugin("enrich").display(),
        tidemill_tests::plugin("running_top_k").display()
    );
    for partitions in PARTITIONS {
        let sinks = ["enriched", "too-many", "best", "too-long"];
        let (rows, kills_max) = ((12, 200), KILLS / 12);
        let killed = Killed { rows, kills_max, ..Killed::new("keyed dead letters", partitions, &steps, &sinks) };
        let shown = killed.check(|_, _| {});
        let rows_of = |sink: &str| -> Vec<serde_json::Value> {
            let files = shown.iter().filter(|(name, _)| name.starts_with(&format!("{sink}/batch-")));
            files.flat_map(|(_, text)| text.lines()).map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let in_letters = |sink: &str| -> Vec<String> {
            let row = |letter: &serde_json::Value| serde_json::from_str::<serde_json::Value>(&text(&letter["value"]));
            // Of a cogroup, those of the other side are set aside with them.
            let order = |letter| row(letter).expect("JSON").get("order").map(&text);
            rows_of(sink).iter().filter_map(order).collect()
        };
        let check_each_once = |what: &str, good: Vec<String>, bad: Vec<String>| {
            assert!(good.len() > 300 && bad.len() > 300, "{what}: {} and {}", good.len(), bad.len());
            let mut all = [good, bad].concat();
            all.sort_unstable();
            let n_all = all.len() as u64;
            all.dedup();
            assert_eq!((n_all, all.len() as u64), (rows.0 * rows.1, rows.0 * rows.1), "{what}: each row once");
        };
        let enriched = rows_of("enriched").iter().map(|row| text(&row["order"])).collect();
        check_each_once("cogroup", enriched, in_letters("too-many"));
        // The last list of each user has all that came before.
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in rows_of("best") {
            let list = lists.entry(text(&row["user"])).or_default();
            if row["rank"] == 1 {
                list.clear();
            }
            list.push(text(&row["item"]));
        }
        check_each_once("update-state", lists.into_values().flatten().collect(), in_letters("too-long"));
    }
}

/// Batches that memory has no room for, in files that go with the process or with the next one.
#[test]
fn what_was_spilled_is_gone_after_a_kill_and_the_rows_are_there() {
    let steps = "
[spill]
path = 'spill'
memory = '1MiB'

[[step]]
name = 'totals'
from = 'left'
aggregate = { by = ['user', 'n'], select = { rows = 'count(*)', times = 'collect_list(at)' } }

[[step]]
name = 'running'
from = 'left'
aggregate = { by = ['user', 'n'], select = { rows = 'count(*)', last = 'max(at)' }, running = true }

[[step]]
name = 'sorted'
from = 'left'
sort = { by = ['n desc', 'at', 'user'], partitions = 2 }
";
    let points = [&POINTS[..], &["rows-spilled"; 4]].concat();
    for partitions in PARTITIONS {
        let mut n_spilled = 0;
        let killed = Killed {
            rows: (3, 9_000),
            points: &points,
            lives_ms: 1500,
            kills_max: KILLS / 16,
            ..Killed::new("spilled", partitions, steps, &["totals", "running", "sorted"])
        };
        killed.check(|folder, has_ended| {
            let entries = || std::fs::read_dir(folder.join("spill")).into_iter().flatten().flatten();
            if has_ended {
                assert_eq!(entries().count(), 0, "nothing is left: {:?}", entries().collect::<Vec<_>>());
            } else {
                let files = entries().flat_map(|entry| std::fs::read_dir(entry.path()).expect("a folder").flatten());
                n_spilled += u64::from(files.into_iter().any(|file| file.file_name() != "lock"));
            }
        });
        assert!(n_spilled > 0, "it was never killed while rows were on disk");
    }
}

#[test]
fn files_by_value_and_size_are_shown_once() {
    let steps = "
[[step]]
name = 'large'
from = 'left'
with = { kind = 'n % 4', half = 'n % 2' }

[[sink]]
from = 'large'
type = 'file'
path = 'out/parquet'
format = 'parquet'
partition-by = ['kind', 'half']
max-file-size = '1KiB'

[[sink]]
from = 'large'
type = 'file'
path = 'out/csv'
format = 'csv'
partition-by = 'half'
max-file-size = '2KiB'
";
    check("by value", steps, &[]);
}

#[test]
fn a_console_says_which_batch_it_repeats() {
    let place = folder();
    write_source(place.path(), "left", 1);
    let steps = "\n[[step]]\nname = 'few'\nfrom = 'left'\nlimit = 1\n\n[[sink]]\nfrom = 'few'\ntype = 'console'\n";
    std::fs::write(place.path().join("job.toml"), job(1, steps, &[])).expect("a new file");
    let mut command = Command::new(binary());
    command.args(["run", "job.toml"]).current_dir(place.path()).env("TIDEMILL_DIE_AT", "rows-published:3");
    let died = Running::spawn(command).wait();
    assert!(died.status.code().is_none() && died.stdout.contains("batch 2 · "), "{}", died.stdout);
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let repeated: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("again after a restart")).collect();
    let [repeated] = repeated.as_slice() else { panic!("one batch: {repeated:?}") };
    assert!(repeated.starts_with("batch 2 · ") && repeated.ends_with(" · 1 row · again after a restart"), "{repeated}");
    assert!(ended.stdout.contains("batch 23 · "), "{}", ended.stdout);
}

#[test]
fn what_a_sink_publishes_another_job_reads() {
    let place = folder();
    write_source(place.path(), "left", 1);
    let steps = "
[[step]]
name = 'all'
from = 'left'
with = { kind = 'n % 4' }

[[sink]]
from = 'all'
type = 'file'
path = 'out/all'
format = 'parquet'
partition-by = 'kind'
";
    std::fs::write(place.path().join("job.toml"), job(2, steps, &[])).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    // Not published: a copy of a file, under a name that a batch would have.
    let published = place.path().join("out/all/kind=0/batch-0000000003-part-0000.parquet");
    std::fs::copy(&published, published.with_file_name("batch-0000000099-part-0000.parquet")).expect("it is there");
    let reader = "[job]\nname = 'reader'\ntrigger = 'available-now'\n\n[[source]]\nname = 'all'\ntype = 'file'\n\
                  path = 'out/all'\nformat = 'parquet'\n\n[[sink]]\nfrom = 'all'\ntype = 'file'\npath = 'read'\n";
    std::fs::write(place.path().join("reader.toml"), reader).expect("a new file");
    let ended = run(place.path(), &["run", "reader.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let n_rows = tidemill_tests::written_lines(&place.path().join("read")).len() as u64;
    assert_eq!(n_rows, FILES * ROWS);
}

#[test]
fn state_that_has_outgrown_its_memory_is_not_read_back_into_it() {
    let place = folder();
    std::fs::create_dir_all(place.path().join("left")).expect("a new folder");
    let keys: String =
        (0..60_000).map(|n| format!("{{\"user\":\"user number {n}\",\"n\":{n},\"at\":{n}}}\n")).collect();
    std::fs::write(place.path().join("left/0000.jsonl"), keys).expect("a new file");
    let steps = "
[state]
memory = '1MiB'

[[step]]
name = 'firsts'
from = 'left'
dedup = { by = ['user'] }
";
    std::fs::write(place.path().join("job.toml"), job(2, steps, &["firsts"])).expect("a new file");
    for n_batches in ["1 batch", "0 batches"] {
        let ended = run(place.path(), &["run", "job.toml"]);
        assert!(ended.code() == 0 && ended.stderr.contains(n_batches), "{}", ended.stderr);
        // The second time nothing is read but the checkpoint.
        assert!(ended.stderr.contains("state moved to disk"), "{n_batches}: {}", ended.stderr);
    }
    let again = std::fs::read_to_string(place.path().join("left/0000.jsonl")).expect("text");
    std::fs::write(place.path().join("left/0001.jsonl"), again).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(ended.code() == 0 && ended.stderr.contains("60000 rows in, 0 rows out"), "{}", ended.stderr);
}

/// A job that has run, with its folder.
fn ran() -> tempfile::TempDir {
    let place = folder();
    write_source(place.path(), "left", 1);
    let steps = "
[[step]]
name = 'totals'
from = 'left'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, running = true }
";
    std::fs::write(place.path().join("job.toml"), job(2, steps, &["totals"])).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    place
}

fn edit(folder: &Path, from: &str, to: &str) {
    let job = std::fs::read_to_string(folder.join("job.toml")).expect("the job");
    assert!(job.contains(from), "{job}");
    std::fs::write(folder.join("job.toml"), job.replace(from, to)).expect("the job");
}

#[track_caller]
fn check_refused(change: impl FnOnce(&Path), expected: &str) {
    let place = ran();
    let before = shown(place.path());
    change(place.path());
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert_eq!(ended.stderr.replace("\n\n", "\n").trim(), expected.trim());
    assert_eq!(shown(place.path()), before, "what was shown stays");
}

/// The newest file of a folder of the checkpoint.
fn newest(folder: &Path, of: &str) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder.join("checkpoint").join(of)).expect("a folder");
    files.flatten().map(|file| file.path()).max().expect("a file")
}

#[test]
fn a_job_that_has_run_goes_on_with_what_is_new() {
    let place = ran();
    let before = shown(place.path());
    let again = run(place.path(), &["run", "job.toml"]);
    assert_eq!((again.code(), shown(place.path()) == before), (0, true), "{}", again.stderr);
    std::fs::write(place.path().join("left/9999.jsonl"), "{\"user\":\"u1\",\"n\":5,\"at\":1}\n").expect("a new file");
    // A filter between, other limits and another interval are no other job.
    edit(place.path(), "batch-interval = '0'", "batch-interval = '5ms'");
    let more = run(place.path(), &["run", "job.toml"]);
    assert_eq!(more.code(), 0, "{}", more.stderr);
    let now = shown(place.path());
    let new: Vec<(&String, &String)> = now.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    let [_, (name, row)] = new.as_slice() else { panic!("a manifest and a file: {new:?}") };
    assert!(name.starts_with("totals/batch-0000000024-"), "{name}");
    let of_before =
        before.iter().rev().flat_map(|(_, text)| text.lines()).find(|line| line.contains("\"u1\"")).expect("u1");
    let rows = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["rows"].as_u64();
    assert_eq!(rows(row), rows(of_before).map(|rows| rows + 1), "{row} after {of_before}");
}

#[track_caller]
fn check_other_job(edits: &[(&str, &str)], what: &str, hint: &str) {
    check_refused(
        |folder| edits.iter().for_each(|(from, to)| edit(folder, from, to)),
        &format!(
            "error: the job cannot go on from its checkpoint\n  caused by: the job does not fit its checkpoint `./checkpoint`: \
             {what}\nhint: {hint}, or start anew with another `checkpoint`."
        ),
    );
}

#[test]
fn a_checkpoint_of_another_job_is_refused_with_what_differs() {
    check_other_job(
        &[("name = 'totals'", "name = 'sums'"), ("from = 'totals'", "from = 'sums'")],
        "step `totals` has state in it, and the job has no such step with state",
        "Give the step its name back",
    );
    check_other_job(
        &[("sum(n)", "max(n)")],
        "step `totals` kept count(*), sum(n) (as utf8, int64, decimal(38, 0), int64) by {user: utf8?} of all rows, and keeps count(*), max(n) \
         (as utf8, int64, int64) by {user: utf8?} of all rows now",
        "Undo the change",
    );
    check_other_job(
        &[("n = 'int64'", "n = 'float64'")],
        "step `totals` kept count(*), sum(n) (as utf8, int64, decimal(38, 0), int64) by {user: utf8?} of all rows, and keeps count(*), sum(n) \
         (as utf8, int64, float64, int64) by {user: utf8?} of all rows now",
        "Undo the change",
    );
    check_other_job(
        &[("name = 'left'", "name = 'west'"), ("from = 'left'", "from = 'west'")],
        "source `left` has been read, and the job has no such source",
        "Give the source its name back",
    );
}

#[test]
fn a_damaged_checkpoint_is_named_or_gone_back_behind() {
    // The last commit: the batch before it is as good, and the last one is run again.
    let place = ran();
    let before = shown(place.path());
    let commit = newest(place.path(), "commits");
    std::fs::write(&commit, "tidemill-checkpoint commit 1 5 0000000000000000\nhello").expect("a file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!((ended.code(), shown(place.path()) == before), (0, true), "{}", ended.stderr);
    assert!(ended.stderr.contains("the job goes on from the one before it"), "{}", ended.stderr);
    // A checkpoint of a newer Tidemill.
    let place = ran();
    let job = place.path().join("checkpoint/job");
    let text = std::fs::read_to_string(&job).expect("text");
    std::fs::write(&job, text.replacen("job 1", "job 2", 1)).expect("a file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(ended.code() == 1 && ended.stderr.contains("it has version 2 of the format"), "{}", ended.stderr);
}

#[test]
fn a_checkpoint_can_be_looked_into() {
    let place = ran();
    let inspected = run(place.path(), &["checkpoint", "inspect", "checkpoint"]);
    assert_eq!(inspected.code(), 0, "{}", inspected.stderr);
    let step = "step     totals, 2 partitions: count(*), sum(n) (as utf8, int64, decimal(38, 0), int64) by {user: utf8?} of all rows\n";
    assert!(inspected.stdout.contains(step), "{}", inspected.stdout);
    assert!(inspected.stdout.contains(": 200 rows in, 40 out\n           left: "), "{}", inspected.stdout);
    let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
    assert!(verified.code() == 0 && verified.stdout.contains("state    totals: 40 entries"), "{}", verified.stdout);
    assert!(
        verified.stdout.contains("state    source:left: 24 entries") && verified.stdout.ends_with("damage   none\n")
    );
    // Between others, a batch that is begun or done no more.
    for (folder, index) in [("offsets", 1), ("commits", 1)] {
        let files = std::fs::read_dir(place.path().join("checkpoint").join(folder)).expect("a folder");
        let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
        files.sort();
        let bytes = std::fs::read(&files[index]).expect("a file");
        std::fs::remove_file(&files[index]).expect("a file");
        let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
        let name = files[index].file_name().expect("a name").to_string_lossy();
        let line = format!("damage   checkpoint `checkpoint`: `{folder}/{name}` is missing\n");
        assert!(verified.code() == 1 && verified.stdout.contains(&line), "{}", verified.stdout);
        std::fs::write(&files[index], bytes).expect("a file");
    }
    let state = newest(place.path(), "state");
    let bytes = std::fs::read(&state).expect("a file");
    std::fs::write(&state, &bytes[..bytes.len() - 1]).expect("a file");
    let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
    assert!(verified.code() == 1 && verified.stdout.contains("is damaged: it was written with"), "{}", verified.stdout);
    let none = run(place.path(), &["checkpoint", "verify", "left"]);
    assert!(
        none.code() == 1 && none.stderr.starts_with("error: there is no checkpoint in `left`\n"),
        "{}",
        none.stderr
    );
    edit(place.path(), "checkpoint = 'checkpoint'", "checkpoint = 'left'");
    let foreign = run(place.path(), &["run", "job.toml"]);
    assert!(foreign.stderr.contains("`./left` is no checkpoint, and not empty: `00"), "{}", foreign.stderr);
}

#[test]
fn one_process_has_a_checkpoint() {
    let place = ran();
    edit(place.path(), "trigger = 'available-now'", "");
    let first = Running::start(place.path(), &["run", "job.toml"]);
    let lock = place.path().join("checkpoint/lock");
    wait_for("the first to have it", || {
        std::fs::File::options().write(true).open(&lock).ok()?.try_lock().is_err().then_some(())
    });
    let second = run(place.path(), &["run", "job.toml"]);
    assert!(second.code() == 1 && second.stderr.contains("is in use by another process"), "{}", second.stderr);
    drop(first);
}
