//! Plugins that are loaded anew while a job runs, and those before that come back when they fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tidemill_tests::{Running, binary, folder, plugin, wait_for, written_lines};

use crate::recovery::{PARTITIONS, POINTS, Random, from_environment};
use crate::senders::{seeded, shown as shown_rows};

/// The plugin that passes rows on, or with another word in it another one: see `BY_DEFAULT` of the hostile plugin.
fn variant(word: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(plugin("hostile")).expect("a plugin");
    let (default, word) = (b"by default: passes", format!("by default: {word}"));
    assert_eq!(default.len(), word.len());
    let places: Vec<usize> =
        bytes.windows(default.len()).enumerate().filter(|(_, found)| found == default).map(|(at, _)| at).collect();
    let [place] = places.as_slice() else { panic!("the word is in the plugin once, not {} times", places.len()) };
    bytes[*place..place + word.len()].copy_from_slice(word.as_bytes());
    bytes
}

/// Replaces a file as a whole, as one should.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let new = folder.join(".new");
    std::fs::write(&new, bytes).expect("a new file");
    std::fs::rename(new, folder.join(name)).expect("a file");
}

fn shown(folder: &Path, sink: &str, expected: &str) {
    wait_for(expected, || written_lines(&folder.join(sink)).iter().any(|line| line == expected).then_some(()));
}

fn said(running: &Running, n: usize, expected: &str) {
    wait_for(expected, || (running.stderr().matches(expected).count() == n).then_some(()));
}

#[test]
fn plugins_are_loaded_anew_between_batches_and_come_back_when_they_fail() {
    let place = folder();
    let folder = place.path();
    std::fs::create_dir(folder.join("lines")).expect("a new folder");
    put(folder, "p.wasm", &variant("passes"));
    let job = "[job]\nname = 'reloaded'\nbatch-interval = '20ms'\ncheckpoint = 'checkpoint'\n\
               [[source]]\nname = 'lines'\ntype = 'file'\npath = 'lines'\n\
               [[step]]\nname = 'passed'\nfrom = 'lines'\ntransform = 'p.wasm'\n\
               [[step]]\nname = 'counts'\nfrom = 'passed'\naggregate = { by = 'value', select = { n = 'count(*)' }, running = true }\n\
               [[sink]]\nfrom = 'passed'\ntype = 'file'\npath = 'passed'\nformat = 'text'\n\
               [[sink]]\nfrom = 'counts'\ntype = 'file'\npath = 'counts'\n";
    std::fs::write(folder.join("job.toml"), job).expect("a new file");
    let mut running = Running::start(folder, &["run", "job.toml", "--format", "json"]);
    put(folder, "lines/0.txt", b"one\nX\n");
    shown(folder, "passed", "one");

    put(folder, "p.wasm", &variant("shouts"));
    running.type_in("reload\n");
    said(&running, 1, "the plugins of `passed` run anew from the next batch on");
    put(folder, "lines/1.txt", b"two\nX\n");
    shown(folder, "passed", "TWO");
    // What steps keep goes on.
    shown(folder, "counts", r#"{"value":"X","n":2}"#);
    assert!(running.stderr().contains(r#""event":"plugins-reloaded""#), "{}", running.stderr());

    // One that fails its first batch is taken back, and nothing of the batch is lost.
    put(folder, "p.wasm", &variant("panics"));
    running.signal("HUP");
    said(&running, 2, "the plugins of `passed` run anew from the next batch on");
    put(folder, "lines/2.txt", b"three\nX\n");
    shown(folder, "passed", "THREE");
    shown(folder, "counts", r#"{"value":"X","n":3}"#);
    said(&running, 1, r#""event":"reload-undone""#);
    assert!(running.stderr().contains("process was asked to panic"), "{}", running.stderr());

    // What cannot be opened, or does not fit, changes nothing.
    for (bytes, expected) in [
        (b"no component".to_vec(), "the plugins could not be loaded anew"),
        (std::fs::read(plugin("split_words")).expect("a plugin"), "has no column `value`"),
    ] {
        put(folder, "p.wasm", &bytes);
        running.type_in("reload\n");
        said(&running, 1, expected);
    }
    put(folder, "p.wasm", &variant("shouts"));
    running.type_in("reload\n");
    said(&running, 1, "no plugin has changed: nothing is loaded anew");
    put(folder, "lines/3.txt", b"four\n");
    shown(folder, "passed", "FOUR");

    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let mut lines = written_lines(&folder.join("passed"));
    lines.sort();
    assert_eq!(lines, ["FOUR", "THREE", "TWO", "X", "X", "X", "one"], "each row once");
}

#[test]
fn a_plugin_that_gives_other_columns_is_not_loaded_anew() {
    let place = folder();
    let folder = place.path();
    std::fs::create_dir(folder.join("lines")).expect("a new folder");
    put(folder, "p.wasm", &variant("passes"));
    let job = "[job]\nname = 'reloaded'\nbatch-interval = '20ms'\n[[source]]\nname = 'lines'\ntype = 'file'\npath = 'lines'\n\
               [[step]]\nname = 'passed'\nfrom = 'lines'\ntransform = 'p.wasm'\n\
               [[sink]]\nfrom = 'passed'\ntype = 'file'\npath = 'passed'\nformat = 'text'\n";
    std::fs::write(folder.join("job.toml"), job).expect("a new file");
    let mut running = Running::start(folder, &["run", "job.toml"]);
    put(folder, "lines/0.txt", b"one two\n");
    shown(folder, "passed", "one two");
    put(folder, "p.wasm", &std::fs::read(plugin("split_words")).expect("a plugin"));
    running.type_in("reload\n");
    said(&running, 1, "sink `sink-1` gets {value: utf8?}, and would get {word: utf8}");
    said(&running, 1, "the job goes on with the plugins that it has");
    put(folder, "lines/1.txt", b"three four\n");
    shown(folder, "passed", "three four");
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

/// How often a job is killed while its plugins are loaded anew, unless it is said otherwise.
const KILLS: u64 = 7;

/// Files of the source, and rows of each of them.
const FILES: u64 = 60;
const ROWS: u64 = 20;

/// Keys that rows are counted by.
const KEYS: u64 = 30;

/// Starts the job, and loads plugins anew until it dies or comes to its end: those that pass rows on, shout, and panic. Gives what it said, and
/// whether it came to its end.
fn reload_until_it_dies(folder: &Path, random: &mut Random, variants: &[Vec<u8>; 3]) -> (String, bool) {
    let points = [&POINTS[..], &["plugins-replaced", "reload-undone"].repeat(2)].concat();
    // Whoever starts has a plugin that works: there is none before it.
    put(folder, "p.wasm", &variants[random.below(2) as usize]);
    let mut command = Command::new(binary());
    command.args(["run", "job.toml", "--format", "json"]).current_dir(folder);
    if random.below(2) == 0 {
        let point = points[random.below(points.len() as u64) as usize];
        command.env("TIDEMILL_DIE_AT", format!("{point}:{}", 1 + random.below(4)));
    }
    let lives = Duration::from_millis(200 + random.below(1500));
    let mut running = Running::spawn(command);
    let started = Instant::now();
    while running.is_running() && started.elapsed() < lives {
        // Until then it has not opened its plugin.
        if running.stderr().contains("\"event\"") {
            put(folder, "p.wasm", &variants[random.below(3) as usize]);
            if random.below(2) == 0 { running.type_in("reload\n") } else { running.signal("HUP") }
        }
        std::thread::sleep(Duration::from_millis(random.below(40)));
    }
    if running.is_running() {
        running.signal("KILL");
    }
    let ended = running.wait();
    assert!(matches!(ended.status.code(), None | Some(0)), "{}", ended.stderr);
    (ended.stderr, ended.status.code().is_some())
}

#[test]
fn a_job_that_is_killed_while_plugins_are_loaded_anew_shows_each_row_once() {
    let variants = ["passes", "shouts", "panics"].map(variant);
    let (mut n_reloaded, mut n_undone) = (0, 0);
    for partitions in PARTITIONS {
        let place = folder();
        let folder = place.path();
        std::fs::create_dir(folder.join("lines")).expect("a new folder");
        for file in 0..FILES {
            let lines: String = (0..ROWS).map(|row| format!("row {}\n", file * ROWS + row)).collect();
            std::fs::write(folder.join(format!("lines/{file:04}.txt")), lines).expect("a new file");
        }
        let key = format!("cast(cast(substr(value, 5) as bigint) % {KEYS} as text)");
        let job = format!(
            "[job]\nname = 'reloaded'\nbatch-interval = '0'\ntrigger = 'available-now'\npartitions = {partitions}\n\
             checkpoint = 'checkpoint'\ncheckpoint-batches = 3\n\
             [[source]]\nname = 'lines'\ntype = 'file'\npath = 'lines'\nmax-files-per-batch = 1\n\
             [[step]]\nname = 'passed'\nfrom = 'lines'\ntransform = 'p.wasm'\n\
             [[step]]\nname = 'keyed'\nfrom = 'passed'\nwith = {{ key = \"{key}\" }}\n\
             [[step]]\nname = 'counts'\nfrom = 'keyed'\naggregate = {{ by = 'key', select = {{ n = 'count(*)' }}, running = true }}\n\
             [[sink]]\nfrom = 'passed'\ntype = 'file'\npath = 'out/passed'\n\
             [[sink]]\nfrom = 'counts'\ntype = 'file'\npath = 'out/counts'\n"
        );
        std::fs::write(folder.join("job.toml"), job).expect("a new file");
        let (seed, mut random) = seeded(&format!("reload in {partitions}"));
        let (mut kills, mut rounds) = (0, 0);
        while kills < from_environment("TIDEMILL_KILLS", KILLS) {
            for gone in ["checkpoint", "out"] {
                // In the first round nothing is there.
                let _ = std::fs::remove_dir_all(folder.join(gone));
            }
            loop {
                let (said, has_ended) = reload_until_it_dies(folder, &mut random, &variants);
                n_reloaded += said.matches(r#""event":"plugins-reloaded""#).count();
                n_undone += said.matches(r#""event":"reload-undone""#).count();
                if has_ended {
                    break;
                }
                kills += 1;
                assert!(kills < 100_000, "it comes to no end");
            }
            let what = format!("{partitions} partitions, seed {seed}, round {rounds}");
            let passed: Vec<String> =
                shown_rows(folder, "passed").iter().map(|row| row["value"].as_str().expect("a text").into()).collect();
            let rows: Vec<String> = (0..FILES * ROWS).map(|row| format!("row {row}")).collect();
            assert_eq!(passed.iter().map(|row| row.to_lowercase()).collect::<Vec<_>>(), rows, "{what}: each row once");
            for batch in passed.chunks(ROWS as usize) {
                let n_shouted = batch.iter().filter(|row| row.starts_with('R')).count();
                assert!([0, batch.len()].contains(&n_shouted), "{what}: one plugin had {n_shouted} rows of {batch:?}");
            }
            let counts: BTreeMap<String, u64> = shown_rows(folder, "counts")
                .iter()
                .map(|row| (row["key"].as_str().expect("a text").into(), row["n"].as_u64().expect("a number")))
                .collect();
            let expected = (0..KEYS).map(|key| (key.to_string(), FILES * ROWS / KEYS)).collect();
            assert_eq!(counts, expected, "{what}");
            rounds += 1;
        }
    }
    assert!(n_reloaded > 0 && n_undone > 0, "it was loaded anew {n_reloaded} times, and taken back {n_undone} times");
}
