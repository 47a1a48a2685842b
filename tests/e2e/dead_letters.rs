//! Rows that break a plugin or an expression are found, and set aside; the others go on.

use std::path::Path;

use serde_json::Value;
use tidemill_tests::{Ended, folder, plugin, run};

/// Runs a job over 600 rows of JSON, `{"n": 0}` and so on, with these steps and sinks of files for these streams.
#[track_caller]
fn job(place: &Path, steps: &str, sinks: &[&str]) -> Ended {
    std::fs::create_dir_all(place.join("in")).expect("a new folder");
    let rows: String = (0..600).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(place.join("in/rows.jsonl"), rows).expect("a new file");
    let mut text = "[job]\nname = 'aside'\ntrigger = 'available-now'\npartitions = 1\n\n[[source]]\nname = 'rows'\n\
                    type = 'file'\npath = 'in'\nformat = 'json'\nschema = { n = 'int64' }\n"
        .to_owned();
    text.push_str(steps);
    for sink in sinks {
        text.push_str(&format!("\n[[sink]]\nname = '{sink}'\nfrom = '{sink}'\ntype = 'file'\npath = '{sink}'\n"));
    }
    std::fs::write(place.join("job.toml"), text).expect("a new file");
    run(place, &["run", "job.toml", "--format", "json"])
}

/// The rows of a sink, in the order in which its only batch and partition has them; none when it has no file.
fn written(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("batch-0000000000-part-0000.jsonl")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn json(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// A step that lets a hostile plugin misbehave for rows that hold a word.
fn hostile(name: &str, from: &str, deed: &str, word: &str) -> String {
    format!(
        "
[[step]]
name = '{name}'
from = '{from}'
transform = '{}'
config = {{ do = '{deed}', when = '{word}' }}
limits = {{ time-per-call = '100ms', memory = '16MiB' }}
on-error = 'dead-letter'
dead-letter = 'bad-{name}'
",
        plugin("hostile").display()
    )
}

#[test]
fn plugins_that_trap_loop_and_fill_memory_lose_only_the_rows_that_make_them() {
    let place = folder();
    let mut steps =
        "\n[[step]]\nname = 'lines'\nfrom = 'rows'\nselect = { value = \"'row ' || cast(n as text) || '.'\" }\n"
            .to_owned();
    steps += &hostile("traps", "lines", "panic", "row 7");
    steps += &hostile("loops", "traps", "endless-loop", "row 333.");
    steps += &hostile("fills", "loops", "memory-bomb", "44.");
    steps += &hostile("lies", "fills", "bad-utf8", "row 599.");
    let ended = job(place.path(), &steps, &["lies", "bad-traps", "bad-loops", "bad-fills", "bad-lies"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let is_bad = |n: &usize| n.to_string().starts_with('7') || *n == 333 || n.to_string().ends_with("44") || *n == 599;
    let good: Vec<String> = (0..600).filter(|n| !is_bad(n)).map(|n| format!("{{\"value\":\"row {n}.\"}}")).collect();
    assert!(written(&place.path().join("lies")) == good, "{}", ended.stderr);

    let letters = |name: &str| json(&written(&place.path().join(name)));
    let traps = letters("bad-traps");
    assert_eq!(traps.len(), 11, "{traps:?}");
    assert_eq!(
        traps[0],
        serde_json::json!({
            "step": "traps", "plugin": traps[0]["plugin"], "batch": 0, "partition": 0, "position": 7,
            "reason": traps[0]["reason"], "value": "{\"value\":\"row 7.\"}",
        })
    );
    // Its words are logged once, and counted, however many calls it took to find these rows.
    let said = ended.stderr.lines().filter(|line| line.contains("process was asked to panic")).collect::<Vec<_>>();
    let counted =
        said.iter().filter(|line| line.contains("more calls broke down as the one that was logged before")).count();
    assert_eq!((said.len(), counted), (3, 1), "{said:#?}");
    let inspected = run(place.path(), &["plugin", "inspect", &plugin("hostile").display().to_string()]);
    let sha256 = traps[0]["plugin"].as_str().unwrap_or_default();
    assert!(sha256.len() == 64 && inspected.stdout.contains(sha256), "{sha256}: {}", inspected.stdout);
    let reason = |letters: &[Value]| letters[0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason(&traps).starts_with("crashed: it aborted; it wrote: "), "{}", reason(&traps));
    let loops = letters("bad-loops");
    assert_eq!(reason(&loops), "exceeded its time per call: the limit is 100ms, the call had not ended by then");
    // The position is one among the rows that this step was given.
    assert_eq!((loops.len(), &loops[0]["position"]), (1, &Value::from(333 - 11)));
    let fills = letters("bad-fills");
    assert!(reason(&fills).starts_with("exceeded its memory: the limit is 16MiB"), "{}", reason(&fills));
    assert_eq!(
        fills.iter().map(|letter| letter["value"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        [
            "{\"value\":\"row 44.\"}",
            "{\"value\":\"row 144.\"}",
            "{\"value\":\"row 244.\"}",
            "{\"value\":\"row 344.\"}",
            "{\"value\":\"row 444.\"}",
            "{\"value\":\"row 544.\"}",
        ]
    );
    let lies = letters("bad-lies");
    assert_eq!(lies.len(), 1);
    assert!(reason(&lies).starts_with("returned a batch against the contract: "), "{}", reason(&lies));
    // Programs are told how many; a person too, once a step.
    let events = json(&ended.stderr.lines().map(str::to_owned).collect::<Vec<_>>());
    let completed = events.iter().find(|event| event["event"] == "batch-completed");
    assert!(completed.is_some_and(|event| event["rows_dead_lettered"] == 19), "{completed:?}");
    let ended_event =
        events.iter().find(|event| event["event"] == "ended").unwrap_or_else(|| panic!("{}", ended.stderr));
    let dead: Vec<u64> = ended_event["summary"]["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .take(5)
        .map(|step| step["rows_dead_lettered"].as_u64().unwrap_or(0))
        .collect();
    assert_eq!(dead, [0, 11, 1, 6, 1], "{ended_event}");
}

#[test]
fn expressions_without_a_value_lose_only_the_rows_that_have_none() {
    let place = folder();
    let steps = "
[[step]]
name = 'shares'
from = 'rows'
with = { share = '600 / (n % 200)' }
on-error = 'dead-letter'
dead-letter = 'without-share'

[[step]]
name = 'few'
from = 'shares'
filter = 'share < 4'

[[step]]
name = 'again'
from = 'without-share'
select = { at = 'position', why = 'reason', row = 'value' }
";
    let ended = job(place.path(), steps, &["few", "again"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let few: Vec<String> = (0..600).filter(|n| n % 200 > 150).map(|n| format!("{{\"n\":{n},\"share\":3}}")).collect();
    assert_eq!(written(&place.path().join("few")), few, "{}", ended.stderr);
    let again: Vec<(i64, String)> = json(&written(&place.path().join("again")))
        .iter()
        .map(|letter| (letter["at"].as_i64().unwrap_or(-1), letter["row"].as_str().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(again, [(0, "{\"n\":0}".into()), (200, "{\"n\":200}".into()), (400, "{\"n\":400}".into())]);
}

#[test]
fn too_many_bad_rows_end_the_job_with_what_to_raise() {
    let place = folder();
    let steps = "
[[step]]
name = 'shares'
from = 'rows'
select = { share = '1 / (n % 2)' }
on-error = 'dead-letter'
dead-letter = 'bad'
dead-letter-rate = 0.25
dead-letter-min-rows = 20
";
    let ended = job(place.path(), steps, &["shares", "bad"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let said = "step `shares` cannot process 151 of the first 600 rows of partition 0 in batch 0, and its `dead-letter-rate` is 0.25";
    assert!(
        ended.stderr.contains(said) && ended.stderr.contains("raise `dead-letter-rate` of step `shares`"),
        "{}",
        ended.stderr
    );
    assert!(written(&place.path().join("bad")).is_empty() && written(&place.path().join("shares")).is_empty());
}

#[test]
fn values_without_a_form_in_another_type_lose_only_their_rows() {
    let place = folder();
    let steps = "
[[step]]
name = 'texts'
from = 'rows'
select = { n = 'n', text = \"case when n % 250 = 3 then 'three' else cast(n as text) end\" }

[[step]]
name = 'typed'
from = 'texts'
cast = { text = 'int64' }
on-error = 'dead-letter'
dead-letter = 'untyped'
";
    let ended = job(place.path(), steps, &["typed", "untyped"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let good: Vec<String> = (0..600).filter(|n| n % 250 != 3).map(|n| format!("{{\"n\":{n},\"text\":{n}}}")).collect();
    assert!(written(&place.path().join("typed")) == good, "{}", ended.stderr);
    let letters = json(&written(&place.path().join("untyped")));
    let letter = |at: usize| {
        serde_json::json!({
            "step": "typed", "batch": 0, "partition": 0, "position": at,
            "reason": "`cast of text`: the value cannot be int64", "value": format!("{{\"n\":{at},\"text\":\"three\"}}"),
        })
    };
    assert_eq!(letters, [letter(3), letter(253), letter(503)]);
    // What it had before goes on.
    let text = std::fs::read_to_string(place.path().join("job.toml")).expect("the job");
    let refused = text.replace("on-error = 'dead-letter'\n", "on-error = 'null'\n");
    std::fs::write(place.path().join("job.toml"), refused).expect("the job");
    let ended = run(place.path(), &["check", "job.toml"]);
    assert!(
        ended.code() == 2 && ended.stderr.contains("`dead-letter` needs `on-error = \"dead-letter\"`"),
        "{}",
        ended.stderr
    );
    let skips = text.replace("on-error = 'dead-letter'\ndead-letter = 'untyped'", "on-error = 'skip-batch'");
    let sink = skips.find("\n[[sink]]\nname = 'untyped'").expect("the last sink");
    std::fs::write(place.path().join("job.toml"), skips[..sink].replace("path = 'typed'", "path = 'none'"))
        .expect("the job");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!((ended.code(), written(&place.path().join("none"))), (0, vec![]), "{}", ended.stderr);
}

#[test]
fn keys_that_fail_when_they_time_out_are_set_aside_with_what_they_kept() {
    let place = folder();
    std::fs::create_dir_all(place.path().join("in")).expect("a new folder");
    let event = |state: &str, hour: u32| format!("{{\"state\":\"{state}\",\"at\":\"2026-03-01T{hour:02}:00:00Z\"}}\n");
    // Two sessions of `two` are over at once when nothing comes any more: more rows than the plugin may give in a call.
    let rows = [event("one", 1), event("two", 1), event("two", 9), event("three", 5)].concat();
    std::fs::write(place.path().join("in/events.jsonl"), rows).expect("a new file");
    let text = format!(
        "[job]
name = 'aside'
trigger = 'available-now'
partitions = 1

[[source]]
name = 'events'
type = 'file'
path = 'in'
format = 'json'
schema = {{ state = 'utf8', at = 'timestamp' }}
event-time = {{ column = 'at', delay = '1h' }}

[[step]]
name = 'sessions'
from = 'events'
update-state = {{ by = ['state'], plugin = '{}' }}
config = {{ gap = '30m' }}
limits = {{ output-rows = 1 }}
on-error = 'dead-letter'
dead-letter = 'bad'

[[sink]]
from = 'sessions'
type = 'file'
path = 'sessions'

[[sink]]
from = 'bad'
type = 'file'
path = 'bad'
",
        plugin("sessionise").display()
    );
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let read = |folder: &str| {
        let text = std::fs::read_to_string(place.path().join(folder).join("batch-0000000001-part-0000.jsonl"));
        json(&text.unwrap_or_else(|_| panic!("{}", ended.stderr)).lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let mut states: Vec<_> =
        read("sessions").iter().map(|row| row["state"].as_str().expect("a text").to_owned()).collect();
    states.sort();
    assert_eq!(states, ["one", "three"]);
    let [letter] = read("bad").try_into().expect("one key");
    assert_eq!((&letter["step"], &letter["batch"], &letter["position"]), (&"sessions".into(), &1.into(), &(-1).into()));
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains("output rows")), "{letter}");
    let value: Value = serde_json::from_str(letter["value"].as_str().expect("a text")).expect("JSON");
    let session = |at: &str| serde_json::json!({ "started": at, "ended": at, "events": 1 });
    let sessions = [session("2026-03-01T01:00:00Z"), session("2026-03-01T09:00:00Z")];
    assert_eq!(value, serde_json::json!({ "state": "two", "kept-state": { "sessions": sessions } }));
}
