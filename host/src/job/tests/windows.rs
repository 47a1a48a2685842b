//! Running results and windows: options and mistakes.

use std::time::Duration;

use super::{AROUND, check, job};
use crate::job::StepKind;
use crate::step::windowed::{Over, Running, Shape, Window, WindowOutput};

/// Checks a step `s` whose keys of `aggregate` stand from line 8 on.
#[track_caller]
fn check_keys(keys: &str, expected: &str) {
    check(&step(keys), expected);
}

fn step(keys: &str) -> String {
    format!("{AROUND}[[step]]\nname = 's'\nfrom = 'in'\n[step.aggregate]\nselect = {{ n = 'count(*)' }}\n{keys}\n")
}

/// What a step says, by its definition as it is shown to programmers.
fn over(keys: &str) -> String {
    let StepKind::Built(definition) = job(&step(keys), &[]).steps.remove(0).kind else { panic!("it is built in") };
    format!("{definition:?}")
}

#[track_caller]
fn says(keys: &str, expected: impl Into<Over>) {
    let shown = over(keys);
    let expected: Over = expected.into();
    assert!(shown.ends_with(&format!("over: {expected:?} }}")), "{shown}");
}

#[test]
fn running_results_and_windows_are_read() {
    assert!(matches!(job(&step("running = false"), &[]).steps[0].kind, StepKind::Aggregate { .. }));
    says("running = true", Running::default());
    let timeout = Some(Duration::from_secs(3600));
    says("running = true\noutput = 'complete'\ntimeout = '1h'", Running { complete: true, timeout });
    let seconds = Duration::from_secs;
    says("window = { size = '1m' }", Window::tumbling(seconds(60)));
    says(
        "window = { size = '1m', slide = '10s', time = 'ts' }\noutput = 'update'\nlateness = '5s'",
        Window::sliding(seconds(60), seconds(10)).on("ts").output(WindowOutput::Update).lateness(seconds(5)),
    );
    let shape = Shape::Time { size: seconds(60), slide: seconds(60), offset: seconds(5) };
    says("window = { size = '1m', offset = '5s' }", Window { shape, ..Window::tumbling(seconds(60)) });
    says("window = { gap = '10m', time = 'ts' }", Window::session(seconds(600)).on("ts"));
    says("window = { count = 100 }", Window::count(100, 100));
    says("window = { count = 100, slide = 10 }", Window::count(100, 10));
    says("window = { count = 100 }\ntimeout = '1h'", Window::count(100, 100).timeout(seconds(3600)));
}

#[test]
fn late_rows_have_a_name_of_their_own() {
    let read = |keys: &str| step(keys).replace("from = 's'", "from = ['s', 'behind']");
    let late = read("window = { size = '1m', time = 'ts' }\nlate = 'behind'");
    let names: Vec<String> = job(&late, &[]).steps.into_iter().map(|step| step.name).collect();
    assert_eq!(names, ["behind", "s"]);
    // Known also when the window is wrong, so that nobody is told that it is missing.
    check(
        &read("window = { size = 'x', time = 'ts' }\nlate = 'behind'"),
        "8:19 `x` is not a duration; Durations are a number and `us`, `ms`, `s`, `m`, `h` or `d`.\n",
    );
}

#[test]
fn late_rows_that_nobody_reads_are_told_where_they_are_named() {
    check_keys(
        "window = { size = '1m', time = 'ts' }\nlate = 'zz'",
        "9:8 nothing reads from the stream of late rows `zz`; Read it, as in `from = \"zz\"` of a step or a sink, or \
         remove the key: late rows are then left out and counted.\n",
    );
}

#[test]
fn mistakes_of_running_results_and_windows() {
    check_keys(
        "running = true\noutput = 'append'",
        "9:10 running results change with every batch, and `append` gives what never changes; Use `output = \"update\"`: the keys that changed, with their new values.\n",
    );
    check_keys(
        "running = true\nwindow = { size = '1m' }",
        "8:11 a step has either `running` or `window`; A window's results are running ones with `output = \"update\"`.\n",
    );
    check_keys(
        "running = true\ntimeout = '0'",
        "9:11 `timeout` must be longer than 0; Leave it out to remember keys for ever.\n",
    );
    check_keys(
        "window = { count = 5 }\ntimeout = '0'",
        "9:11 `timeout` must be longer than 0; Leave it out to remember keys for ever.\n",
    );
    check_keys(
        "output = 'update'\nlate = 'x'",
        "8:10 `output` is for results that live from batch to batch; Write `running = true` beside it, or leave it out.
9:8 `late` is for windows on event time; Write `window = { size = \"1m\", time = \"…\" }` beside it, or leave it out.\n",
    );
    check_keys(
        "output = 'all'\nrunning = true",
        "8:10 `output` cannot be `all`; Choices: `append`, `update`, `complete`.\n",
    );
    check_keys(
        "window = { size = '1m' }\ntimeout = '1h'",
        "9:11 `timeout` is for `running = true` and windows of rows; Windows of time end by themselves. Leave it out.\n",
    );
    check_keys(
        "window = { size = '1m' }\nlateness = '1s'",
        "9:12 no row is late on batch time; Name the column of event time, as in `window = { time = \"…\", … }`.\n",
    );
    check_keys(
        "window = {}",
        "8:10 `size` is missing in `window`; Write `size = \"1m\"`, `gap = \"10m\"` for sessions, or `count = 100` for windows of rows.\n",
    );
    check_keys("window = { size = '1m', gap = '1s' }", "8:31 a window has either `size` or `gap`; Leave one out.\n");
    check_keys("window = { gap = '1s', slide = '1s' }", "8:32 sessions have no `slide`; Leave it out.\n");
    check_keys("window = { count = 5, time = 'ts' }", "8:30 windows of rows have no `time`; Leave it out.\n");
    check_keys(
        "window = { count = 5 }\noutput = 'update'",
        "9:10 windows of rows have `output = \"append\"` alone; Windows of rows are given when they are full. Leave it out.\n",
    );
    check_keys("window = { count = 0 }", "8:20 `count` must be between 1 and 4294967296\n");
    check_keys("window = { count = 5, slide = '1s' }", "8:31 `slide` must be a whole number, not a text\n");
    check_keys(
        "window = { size = '1m', slied = '1s' }",
        "8:25 unknown key `slied` in `window`; Did you mean `slide`?\n",
    );
}
