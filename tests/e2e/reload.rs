//! Plugins that are loaded anew while a job runs, and those before that come back when they fail.

use std::path::Path;

use tidemill_tests::{Running, folder, plugin, wait_for, written_lines};

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
