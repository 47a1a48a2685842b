//! Kinds of steps and their keys.

use std::time::Duration;

use super::{AROUND, check, job};
use crate::job::steps::list_of_kinds;
use crate::job::{OnError, OperatorRef, OperatorStep, StepKind};
use crate::operator::Limits;
use crate::plugin::{Access, Grants, HttpGrant, HttpScheme};

/// Checks a step `s` whose keys stand from line 4 on.
#[track_caller]
fn check_step(keys: &str, expected: &str) {
    check(&format!("{AROUND}[[step]]\nname = 's'\nfrom = 'in'\n{keys}\n"), expected);
}

#[track_caller]
fn kind(keys: &str) -> StepKind {
    let mut job = job(&format!("{AROUND}[[step]]\nname = 's'\nfrom = 'in'\n{keys}\n"), &[]);
    job.steps.remove(0).kind
}

#[track_caller]
fn transform(keys: &str) -> OperatorStep {
    match kind(&format!("transform = 'words.wasm'\n{keys}")) {
        StepKind::Transform(operator) => operator,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_has_one_kind() {
    let kinds = format!("One key of a step names its kind: {}.", list_of_kinds());
    assert!(kinds.contains(": `transform`, `aggregate`, `reduce`, "), "{kinds}");
    check_step("", &format!("3:1 step `s` does nothing; {kinds}\n"));
    check_step("config = {}", &format!("3:1 step `s` does nothing; {kinds}\n"));
    check_step(
        "transform = 'words.wasm'\nunion = true",
        "7:9 step `s` has two kinds, `transform` and `union`; Make two steps of it.\n",
    );
    check_step("transfrom = 'words.wasm'", "6:1 unknown key `transfrom` in `[[step]]`; Did you mean `transform`?\n");
}

#[test]
fn a_transform_has_options() {
    let plain = transform("");
    assert_eq!(plain.config, serde_json::json!({}));
    assert_eq!(plain.limits, Limits::default());
    assert_eq!((plain.whole_partition, plain.on_error), (false, OnError::Fail));
    assert!(matches!(&plain.operator, OperatorRef::Plugin { written, path, sha256: None, fresh: false }
        if written == "words.wasm" && path.is_absolute()));

    let full = transform(&format!(
        "config = {{ z = 1, a = [true, 1.5, {{ b = 'x' }}], d = 1979-05-27 }}
limits = {{ memory = '1MiB', time-per-call = '10ms' }}
sha256 = '{}'
instance = 'fresh'
whole-partition = true
on-error = 'skip-batch'",
        "AB".repeat(32)
    ));
    assert_eq!(full.config, serde_json::json!({"z": 1, "a": [true, 1.5, {"b": "x"}], "d": "1979-05-27"}));
    assert_eq!(
        full.limits,
        Limits { memory_bytes: 1 << 20, time_per_call: Duration::from_millis(10), ..Limits::default() }
    );
    assert_eq!((full.whole_partition, full.on_error), (true, OnError::SkipBatch));
    assert!(matches!(&full.operator, OperatorRef::Plugin { sha256: Some(digest), fresh: true, .. }
        if *digest == "ab".repeat(32)));
}

#[test]
fn a_steps_limits_stand_over_the_jobs() {
    let text = format!(
        "{AROUND}limits = {{ memory = '2MiB', output-rows = 5 }}\n[[step]]\nname = 's'\nfrom = 'in'\ntransform = 'words.wasm'\nlimits.memory = '3MiB'\n"
    );
    let StepKind::Transform(operator) = job(&text, &[]).steps.remove(0).kind else { panic!("no transform") };
    assert_eq!(operator.limits, Limits { memory_bytes: 3 << 20, output_rows: 5, ..Limits::default() });
}

#[test]
fn a_step_grants_what_its_plugin_may_reach() {
    let grants = transform(
        "[step.grants]
directories = [{ path = 'folder', as = '/in' }, { path = '.', as = '/out', access = 'write' }]
environment = { REGION = 'eu' }
clock = 'real'
random = 'real'
[[step.grants.http]]
host = 'API.example.com'
[[step.grants.http]]
host = '127.0.0.1'
scheme = 'http'
port = 8080
methods = ['GET', 'POST']
private-addresses = true
connect-timeout = '1s'
timeout = '3s'
request-bytes = '1KiB'
response-bytes = '2KiB'",
    )
    .grants;
    let [read, write] = &grants.directories[..] else { panic!("{grants:?}") };
    assert!(read.path.ends_with("folder") && read.path.is_absolute());
    assert_eq!((read.guest_path.as_str(), read.access), ("/in", Access::Read));
    assert_eq!((write.guest_path.as_str(), write.access), ("/out", Access::Write));
    assert_eq!(grants.environment, [("REGION".to_owned(), "eu".to_owned())]);
    assert!(grants.real_clock && grants.real_random);
    let all = HttpGrant {
        host: "127.0.0.1".into(),
        scheme: HttpScheme::Http,
        port: 8080,
        methods: vec!["GET".into(), "POST".into()],
        private_addresses: true,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        request_bytes: 1 << 10,
        response_bytes: 2 << 10,
    };
    assert_eq!(grants.http, [HttpGrant::get(HttpScheme::Https, "api.example.com"), all]);
    assert_eq!(transform("").grants, Grants::default());
}

#[test]
fn grants_are_checked() {
    let with = |keys: &str, expected: &str| check_step(&format!("transform = 'words.wasm'\n{keys}"), expected);
    with(
        "grants.directories = [{ path = 'foldr', as = '/d' }]",
        "7:32 there is no directory `DIR/foldr`; Did you mean `folder`?\n",
    );
    with("grants.directories = [{ path = 'words.wasm', as = '/d' }]", "7:32 `DIR/words.wasm` is not a directory\n");
    with(
        "grants.directories = [{ path = 'folder' }]",
        "7:23 `as` is missing in `directories[0]`; Write `as = \"/data\"`.\n",
    );
    with(
        "grants.directories = [{ path = 'folder', as = '../up' }]",
        "7:47 `as` is what the plugin calls the directory, and `../up` is no absolute path; Write a path as `/data`.\n",
    );
    with(
        "grants.http = [{ host = 'https://example.com/' }]",
        "7:25 `host` is the name or the address of one server, and `https://example.com/` is not; Write it without scheme, port \
         and path, as in `host = \"api.example.com\"`; `port` and `scheme` are keys.\n",
    );
    with(
        "grants.http = [{ host = 'a.example', methods = ['get'] }]",
        "7:48 `get` is not an HTTP method; Write them in capitals, as in `methods = [\"GET\", \"POST\"]`.\n",
    );
    with("grants.http = 5", "7:15 `http` must be a list of tables, not a whole number; Write `http = [{ … }]`.\n");
    with("grants.clock = 'virtual'", "7:16 `clock` cannot be `virtual`; Choices: `real`.\n");
    with(
        "grants.sockets = true",
        "7:8 unknown key `sockets` in `grants`; Other keys here: `directories`, `environment`, `http`, `clock`, `random`.\n",
    );
    with(
        "limits = { job = { memory = '1GiB' } }",
        "7:18 `job` limits all plugins of the job together, and no step alone; Write it in the job's `[limits.job]`.\n",
    );
    check_step(
        "union = true\ngrants = { clock = 'real' }",
        "7:10 `grants` is for steps that run a plugin, and this `union` does not\n",
    );
}

#[test]
fn plugin_files_must_be_there() {
    check_step("transform = 'word.wasm'", "6:13 there is no file `DIR/word.wasm`; Did you mean `words.wasm`?\n");
    check_step("transform = 'other.wasm'", "6:13 there is no file `DIR/other.wasm`\n");
    check_step("transform = 'folder'", "6:13 `DIR/folder` is not a file\n");
    check_step("transform = ''", "6:13 `transform` is empty\n");
    check_step("transform = true", "6:13 `transform` must be a text, not true or false; Put it in quotes.\n");
    check_step(
        "transform = 'https://example.org/x.wasm'",
        "6:13 `transform` is a URL of kind `https:`, and this version reads and writes local files only; Write a path, or a URL that starts with `file:`.\n",
    );
}

#[test]
fn plugin_options_are_checked() {
    let with = |keys: &str, expected: &str| check_step(&format!("transform = 'words.wasm'\n{keys}"), expected);
    with(
        "sha256 = 'abc'",
        "7:10 `sha256` must be 64 hexadecimal digits; `tidemill plugin inspect` shows a plugin's digest.\n",
    );
    with("instance = 'new'", "7:12 `instance` cannot be `new`; Choices: `kept`, `fresh`.\n");
    let hint = "Write `dead-letter = \"bad-rows\"`: what `from` of a step or sink calls the stream.";
    with("on-error = 'dead-letter'", &format!("3:1 `dead-letter` is missing in `[[step]]`; {hint}\n"));
    let needs = |key: &str| {
        format!("`{key}` needs `on-error = \"dead-letter\"`; Write `on-error = \"dead-letter\"` beside it.\n")
    };
    with("dead-letter-rate = 0.5", &format!("7:20 {}", needs("dead-letter-rate")));
    with("on-error = 'fail'\ndead-letter-min-rows = 5", &format!("8:24 {}", needs("dead-letter-min-rows")));
    let share = "must be between 0 and 1; Write `dead-letter-rate = 0.01` for a hundredth of the rows.";
    let both = format!("7:20 `dead-letter-rate` {share}\n7:20 {}", needs("dead-letter-rate"));
    with("dead-letter-rate = 2", &both);
    with("on-error = 'skip'", "7:12 `on-error` cannot be `skip`; Choices: `fail`, `skip-batch`, `dead-letter`.\n");
    with("config = 5", "7:10 `config` must be a table; Write `config = { key = value }`.\n");
    with("config = { x = nan }", "7:16 the number must be finite: JSON, which plugins get, has no other\n");
    with("config = { x = 99999999999999999999 }", "7:16 the number does not fit into 64 bits\n");
    with("limits.memroy = '1MiB'", "7:8 unknown key `memroy` in `limits`; Did you mean `memory`?\n");
    with(
        "configuration = {}",
        &format!(
            "7:1 unknown key `configuration` in `[[step]]`; Other keys here: {}, `config`, `limits`, `grants`, `sha256`, `instance`, `whole-partition`, `on-error`, `dead-letter`, `dead-letter-rate`, `dead-letter-min-rows`.\n",
            list_of_kinds().trim_start_matches("`transform`, "),
        ),
    );
}

#[test]
fn an_aggregate_keeps_its_order() {
    let StepKind::Aggregate { by, select, partitions } =
        kind("aggregate = { by = ['w', 'a'], select = { z = 'count(*)', a = 'sum(x)' }, partitions = 3 }")
    else {
        panic!("no aggregate")
    };
    assert_eq!(by, ["w", "a"]);
    assert_eq!(select, [("z".into(), "count(*)".into()), ("a".into(), "sum(x)".into())]);
    assert_eq!(partitions, Some(3));
    let StepKind::Aggregate { by, .. } = kind("[step.aggregate.select]\nn = 'count(*)'") else {
        panic!("no aggregate")
    };
    assert!(by.is_empty());
}

#[test]
fn aggregates_are_checked() {
    check_step(
        "aggregate = { by = 'w' }",
        "6:13 `select` is missing in `aggregate`; Write `select = { count = \"count(*)\" }`, or `plugin = \"….wasm\"`.\n",
    );
    check_step("aggregate = { select = {} }", "6:24 `select` is empty; Write `select = { count = \"count(*)\" }`.\n");
    check_step(
        "aggregate = { select = { n = 1, m = [] } }",
        "6:30 `select.n` must be a text, not a whole number; Put it in quotes.\n6:37 `select.m` must be a text, not a list\n",
    );
    check_step(
        "aggregate = { select = { n = 'count(*)' }, plugin = 'words.wasm' }",
        "6:53 `aggregate` has both `select` and `plugin`; Write two steps, or leave one out.\n",
    );
    check_step("aggregate = 'count'", "6:13 `aggregate` must be a table, not a text; Write `aggregate = { … }`.\n");
    check_step(
        "aggregate = { select = { n = 'count(*)' } }\nconfig = {}\nsha256 = 'x'",
        "7:10 `config` is for steps that run a plugin, and this `aggregate` does not
8:10 `sha256` is for steps that run a plugin, and this `aggregate` does not
",
    );
    check_step(
        "aggregate = { plugin = 'words.wasm', config = {} }\nconfig = {}",
        "6:47 `config` is given twice, here and in the step\n",
    );
    check_step(
        "aggregate = { by = 5, select = { n = 'count(*)' } }",
        "6:20 `by` must be a text or a list of texts, not a whole number\n",
    );
    check_step(
        "aggregate = { by = ['a', 5], select = { n = 'count(*)' } }",
        "6:26 `by[…]` must be a text, not a whole number; Put it in quotes.\n",
    );
}

#[test]
fn plugins_aggregate_and_reduce() {
    for config in ["config = { a = 1 } }", "}\nconfig = { a = 1 }"] {
        let comma = if config.starts_with('}') { "" } else { ", " };
        let StepKind::AggregateWith { by, operator, partitions } =
            kind(&format!("aggregate = {{ by = 'w', plugin = 'words.wasm'{comma}{config}"))
        else {
            panic!("no aggregate")
        };
        assert_eq!((by, partitions), (vec!["w".into()], None));
        assert_eq!(operator.config, serde_json::json!({"a": 1}));
    }
    let StepKind::Reduce { by, partitions, .. } =
        kind("reduce = { by = ['w'], plugin = 'words.wasm', partitions = 2 }\ninstance = 'kept'")
    else {
        panic!("no reduce")
    };
    assert_eq!((by, partitions), (vec!["w".into()], Some(2)));
    check_step("reduce = { by = 'w' }", "6:10 `plugin` is missing in `reduce`; Write `plugin = \"…\"`.\n");
    check_step(
        "reduce = { by = 'w', plugin = 'words.wasm', select = {} }",
        "6:45 unknown key `select` in `reduce`; Other keys here: `partitions`, `running`, `window`, `output`, `timeout`, `lateness`, `late`, `config`.\n",
    );
}

#[test]
fn union_and_repartition() {
    assert!(matches!(kind("union = true"), StepKind::Union));
    check_step("union = false", "6:9 `union` can only be true; Leave the key out for another kind of step.\n");
    check_step("union = 'true'", "6:9 `union` must be true or false, not a text; Write `union = true`.\n");
    assert!(
        matches!(kind("repartition = 3"), StepKind::Repartition { partitions: 3, by, range: false } if by.is_empty())
    );
    assert!(
        matches!(kind("repartition = { partitions = 3, by = 'w' }"), StepKind::Repartition { partitions: 3, by, range: false } if by == ["w"])
    );
    check_step("repartition = 0", "6:15 `repartition` must be between 1 and 4096\n");
    check_step("repartition = { by = 'w' }", "6:15 `partitions` is missing in `repartition`; Say how many.\n");
}
