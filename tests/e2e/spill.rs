//! Rows that memory has no room for: on disk, back from there as they were, and gone in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tidemill_tests::{Ended, Running, Sender, folder, run, wait_for, written_lines};

/// Every file under a folder, locks left out, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let below = self::files(&entry.path());
            files.extend(below.into_iter().map(|(path, bytes)| (Path::new(&name).join(path), bytes)));
        } else if name != "lock" {
            // It may have been removed in between.
            files.insert(name.into(), std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    files
}

/// The numbers of the summary that a job has written as its last event.
fn spilled(ended: &Ended) -> serde_json::Value {
    let mut events = ended.stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let last = events.find(|event| event["event"] == "ended");
    last.unwrap_or_else(|| panic!("no event of the end: {}", ended.stderr))["summary"]["spill"].clone()
}

/// Orders of customers, of whom most have some.
fn write_orders(path: &Path, n_rows: u64) {
    let mut lines = String::new();
    for n in 0..n_rows {
        let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (customer, amount) = (hash % (n_rows / 3), (hash >> 7) % 100_000);
        writeln!(lines, r#"{{"customer":"c{customer}","order":"o{n}","amount":{amount}}}"#).expect("room");
    }
    std::fs::write(path, lines).expect("a new file");
}

const STEPS: [(&str, &str); 6] = [
    (
        "totals",
        "aggregate = { by = ['customer'], select = { n = 'count(*)', total = 'sum(amount)', largest = 'max(amount)', \
         orders = 'collect_list(order)' } }",
    ),
    ("sorted", "sort = { by = ['amount desc', 'order'], partitions = 3 }"),
    ("in-one", "sort = ['customer']"),
    ("firsts", "distinct = ['customer']"),
    ("largest", "top-k = { by = ['customer'], order = ['amount desc'], k = 2 }"),
    ("dealt", "repartition = { partitions = 5, by = ['order'] }"),
];

/// A job that does all of that with one batch of orders.
fn orders_job(memory: &str) -> String {
    let mut text = format!(
        "[job]\nname = 'orders'\nbatch-interval = '0'\ntrigger = 'available-now'\npartitions = 4\nworker-threads = 2\n\
         [spill]\npath = 'spill'\n{memory}\n\
         [[source]]\nname = 'orders'\ntype = 'file'\npath = 'in'\nformat = 'json'\n\
         schema = {{ customer = 'utf8', order = 'utf8', amount = 'int64' }}\n"
    );
    for (name, step) in STEPS {
        write!(text, "[[step]]\nname = '{name}'\nfrom = 'orders'\n{step}\n").expect("room");
        write!(text, "[[sink]]\nfrom = '{name}'\ntype = 'file'\npath = 'out/{name}'\n").expect("room");
    }
    text
}

#[test]
fn a_batch_that_memory_has_no_room_for_gives_the_same_bytes() {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    write_orders(&place.path().join("in/orders.jsonl"), 60_000);
    let mut shown = Vec::new();
    for memory in ["quota = '0'", "memory = '2MiB'"] {
        std::fs::write(place.path().join("job.toml"), orders_job(memory)).expect("a new file");
        let ended = run(place.path(), &["run", "job.toml", "--format", "json"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let spilled = spilled(&ended);
        let out = place.path().join("out");
        let mut files = files(&out);
        // Manifests have times.
        files.retain(|path, _| !path.to_string_lossy().contains("_manifest"));
        shown.push(files);
        std::fs::remove_dir_all(out).expect("it is ours");
        if memory.starts_with("quota") {
            assert_eq!(spilled["rows_total"], 0, "{spilled}");
            continue;
        }
        assert!(spilled["rows_total"].as_u64().is_some_and(|n_rows| n_rows > 300_000), "{spilled}");
        assert!(spilled["memory_bytes_peak"].as_u64().is_some_and(|n_bytes| n_bytes <= 2 << 20), "{spilled}");
        assert_eq!((&spilled["rows"], &spilled["disk_bytes"]), (&0.into(), &0.into()));
        assert_eq!(std::fs::read_dir(place.path().join("spill")).expect("a folder").count(), 0);
    }
    assert!(shown[0].len() >= STEPS.len());
    for (path, bytes) in &shown[0] {
        assert!(shown[1].get(path) == Some(bytes), "{} differs", path.display());
    }
    assert_eq!(shown[0].len(), shown[1].len());
}

/// A job that counts the lines it receives, in the batches of an interval.
fn lines_job(address: &str, interval: &str, settings: &str, spill: &str) -> String {
    format!(
        "[job]\nname = 'lines'\nbatch-interval = '{interval}'\nmemory = '1MiB'\n{settings}\n[spill]\npath = 'spill'\n{spill}\n\
         [[source]]\nname = 'lines'\ntype = 'socket'\naddress = '{address}'\nreconnect = false\n\
         [[step]]\nname = 'counts'\nfrom = 'lines'\naggregate = {{ by = ['value'], select = {{ count = 'count(*)' }} }}\n\
         [[sink]]\nfrom = 'counts'\ntype = 'file'\npath = 'out'\nformat = 'json'\n"
    )
}

/// Lines that do not compress, all different but for their first letter.
fn noise(n_lines: u64) -> String {
    let mut text = String::new();
    for n in 0..n_lines {
        let hash = |salt: u64| {
            (n * 4 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        writeln!(text, "{:016x}{:016x}{:016x}{:016x}", hash(0), hash(1), hash(2), hash(3)).expect("room");
    }
    text
}

/// How often each line was counted, in all batches together.
fn counted(place: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in written_lines(&place.join("out")) {
        let row: serde_json::Value = serde_json::from_str(&line).expect("a row");
        let value = row["value"].as_str().expect("a line").to_owned();
        *counts.entry(value).or_default() += row["count"].as_u64().expect("a count");
    }
    counts
}

fn each_once(text: &str) -> BTreeMap<String, u64> {
    text.lines().map(|line| (line.to_owned(), 1)).collect()
}

#[test]
fn what_is_received_beyond_memory_waits_on_disk_and_is_counted_once() {
    let place = folder();
    let sender = Sender::listen();
    let text = lines_job(&sender.address(), "1h", "", "");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let mut running = Running::start(place.path(), &["run", "job.toml", "--format", "json"]);
    let lines = noise(100_000);
    let mut stream = sender.accept();
    // No batch runs: all of it must have a place.
    stream.write_all(lines.as_bytes()).expect("a connection");
    drop(stream);
    wait_for("the end of the source", || running.stderr().contains("source-ended").then_some(()));
    let n_bytes: usize = files(&place.path().join("spill")).values().map(Vec::len).sum();
    assert!(n_bytes > 4 << 20, "most of it on disk: {n_bytes}");
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(counted(place.path()) == each_once(&lines), "each line once");
    assert!(spilled(&ended)["rows_total"].as_u64().is_some_and(|n_rows| n_rows > 50_000), "{}", spilled(&ended));
    assert_eq!(std::fs::read_dir(place.path().join("spill")).expect("a folder").count(), 0);
}

#[test]
fn a_spent_quota_holds_the_sender_back_and_loses_nothing() {
    let place = folder();
    let sender = Sender::listen();
    let text = lines_job(&sender.address(), "200ms", "", "quota = '1MiB'");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml", "--format", "json"]);
    let lines = noise(150_000);
    let mut stream = sender.accept();
    stream.write_all(lines.as_bytes()).expect("a connection");
    drop(stream);
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(counted(place.path()) == each_once(&lines), "each line once");
    assert!(ended.stderr.contains("sources are held back"), "{}", ended.stderr);
    assert!(ended.stderr.contains("half of the `spill.quota` of 1MiB"), "{}", ended.stderr);
    assert!(spilled(&ended)["disk_bytes_peak"].as_u64().is_some_and(|n_bytes| n_bytes <= 1 << 20));
}

#[test]
fn what_a_killed_job_left_is_removed_by_the_next() {
    let place = folder();
    let sender = Sender::listen();
    let text = lines_job(&sender.address(), "1h", "", "");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    let mut stream = sender.accept();
    stream.write_all(noise(50_000).as_bytes()).expect("a connection");
    let spill = place.path().join("spill");
    wait_for("rows on disk", || (!files(&spill).is_empty()).then_some(()));
    running.signal("KILL");
    assert_ne!(running.wait().code(), 0);
    assert!(!files(&spill).is_empty(), "it could not clean up");

    std::fs::write(place.path().join("in.txt"), "a\n").expect("a new file");
    let next = "[job]\ntrigger = 'available-now'\n[spill]\npath = 'spill'\n[[source]]\nname = 'in'\ntype = 'file'\n\
                path = 'in.txt'\nformat = 'text'\n[[sink]]\nfrom = 'in'\ntype = 'console'\n";
    std::fs::write(place.path().join("next.toml"), next).expect("a new file");
    let ended = run(place.path(), &["run", "next.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("what a dead process left was removed"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(&spill).expect("a folder").count(), 0);
}

#[test]
fn a_folder_is_removed_whenever_its_process_died() {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    write_orders(&place.path().join("in/orders.jsonl"), 30_000);
    let text = orders_job("memory = '1MiB'").replacen("[job]", "[job]\ncheckpoint = 'checkpoint'", 1);
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let left = || -> Vec<Vec<String>> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).expect("a folder").flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let folders = std::fs::read_dir(place.path().join("spill")).expect("a folder").flatten();
        folders.map(|folder| names(&folder.path())).collect()
    };
    let check_dies = |point: &str, expected: &[&[&str]]| {
        let mut command = std::process::Command::new(tidemill_tests::binary());
        command.args(["run", "job.toml"]).current_dir(place.path()).env("TIDEMILL_DIE_AT", point);
        assert!(Running::spawn(command).wait().status.code().is_none(), "it dies at {point}");
        assert_eq!(left(), expected, "{point}");
    };
    // Before its lock was there, and when only its lock was.
    check_dies("job-folder-made:1", &[&[]]);
    check_dies("job-folder-emptied:1", &[&["lock"]]);
    // What the one before left is removed first, and that is not all there is to it either.
    check_dies("job-folder-emptied:1", &[&["lock"]]);
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(left(), Vec::<Vec<String>>::new());
}

#[test]
fn damaged_rows_are_an_error_and_never_other_rows() {
    let place = folder();
    let sender = Sender::listen();
    let text = lines_job(&sender.address(), "1h", "attempts = 2", "");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    let mut stream = sender.accept();
    stream.write_all(noise(60_000).as_bytes()).expect("a connection");
    drop(stream);
    let spill = place.path().join("spill");
    // A file that is begun is at least half as large before all has come.
    wait_for("rows on disk", || (files(&spill).values().map(Vec::len).sum::<usize>() > 2 << 20).then_some(()));
    for (path, mut bytes) in files(&spill) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        let file = std::fs::OpenOptions::new().write(true).open(spill.join(path)).expect("it is ours");
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[middle..=middle], middle as u64).expect("it is ours");
    }
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("error: spilled rows are damaged: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("a batch failed in a way that may pass, and is run again"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: Check the disk of `"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(&spill).expect("a folder").count(), 0, "it is removed all the same");
}

#[test]
fn a_batch_that_the_quota_has_no_room_for_fails_and_says_what_to_change() {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    write_orders(&place.path().join("in/orders.jsonl"), 60_000);
    let text = orders_job("memory = '1MiB'\nquota = '1MiB'").replace("[job]", "[job]\nattempts = 1");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let expected =
        ["error: spilled rows of the job in `", " more exceed the `spill.quota` of 1MiB", "hint: Raise `spill.quota`"];
    assert!(expected.iter().all(|text| ended.stderr.contains(text)), "{}", ended.stderr);
    assert!(STEPS.iter().all(|(name, _)| written_lines(&place.path().join("out").join(name)).is_empty()));
    assert_eq!(std::fs::read_dir(place.path().join("spill")).expect("a folder").count(), 0);
}

#[test]
fn a_check_says_where_rows_are_spilled_to() {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    std::fs::write(place.path().join("job.toml"), orders_job("memory = '2MiB'")).expect("a new file");
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let line = ended.stdout.lines().find(|line| line.starts_with("  spills ")).expect("a line");
    let (before, after) = line.split_once("spill: ").expect("the folder");
    assert!(before.starts_with("  spills up to 10GiB to "), "{line}");
    assert_eq!(after, "rows of a batch beyond 2MiB, received rows beyond 256MiB");
    let ended = run(place.path(), &["check", "job.toml", "--set", "spill.quota=0"]);
    assert!(!ended.stdout.contains("spills"), "{}", ended.stdout);
}

/// Runs a job whose spill folder is a file system of two megabytes of its own, full at first: `filler` is removed when the file
/// `go` appears. `None`: the system does not let a test do so.
fn start_on_a_full_disk(place: &Path) -> Option<Running> {
    let may = std::process::Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    std::fs::create_dir(place.join("spill")).expect("a new folder");
    let script = "mount -t tmpfs -o size=2m none spill && { cat /dev/zero > spill/filler 2> /dev/null; \
                  (until [ -e go ]; do sleep 0.05; done; rm spill/filler) & exec \"$0\" run job.toml --format json; }";
    let mut command = std::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(tidemill_tests::binary()).current_dir(place);
    Some(Running::spawn(command))
}

#[test]
fn receivers_wait_for_a_full_disk_and_go_on() {
    let place = folder();
    let sender = Sender::listen();
    let text = lines_job(&sender.address(), "1h", "", "");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let Some(mut running) = start_on_a_full_disk(place.path()) else { return };
    let lines = noise(25_000);
    let mut stream = sender.accept();
    stream.write_all(lines.as_bytes()).expect("a connection");
    drop(stream);
    wait_for("a word on it", || running.stderr().contains("sources are held back").then_some(()));
    assert!(running.stderr().contains("has no room for") && running.stderr().contains("spill.path"));
    std::fs::write(place.path().join("go"), "").expect("a new file");
    wait_for("a word on it", || running.stderr().contains("have room on disk again").then_some(()));
    wait_for("the end of the source", || running.stderr().contains("source-ended").then_some(()));
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(counted(place.path()) == each_once(&lines), "each line once");
}

#[test]
fn a_batch_waits_for_a_full_disk_and_goes_on() {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    write_orders(&place.path().join("in/orders.jsonl"), 20_000);
    let text = orders_job("memory = '1MiB'").replace("[job]", "[job]\nattempts = 1");
    let (text, _) = text.split_once("[[step]]").expect("steps");
    let text = format!(
        "{text}[[step]]\nname = 'sorted'\nfrom = 'orders'\nsort = ['order']\n\
         [[sink]]\nfrom = 'sorted'\ntype = 'file'\npath = 'out'\n"
    );
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let Some(running) = start_on_a_full_disk(place.path()) else { return };
    wait_for("a word on it", || running.stderr().contains("is run again").then_some(()));
    assert!(running.stderr().contains("has no room for"), "{}", running.stderr());
    std::fs::write(place.path().join("go"), "").expect("a new file");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(written_lines(&place.path().join("out")).len(), 20_000);
    assert!(spilled(&ended)["rows_total"].as_u64().is_some_and(|n_rows| n_rows > 0), "{}", spilled(&ended));
}
