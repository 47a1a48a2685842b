//! Syntax, sections, `[job]`, `[limits]`, `[state]`, `[spill]`, sources and sinks.

use std::time::Duration;

use super::{check, job};
use crate::job::{Durability, LostRows, MissedBatches, Settings, Trigger};
use crate::operator::{JobLimits, Limits};
use crate::spill::SpillSettings;
use crate::state::{Backend, StateSettings};

/// A job without steps, to put lines in front of.
const PLAIN: &str = "
[[source]]
name = 'in'
type = 'stdin'
[[sink]]
from = 'in'
type = 'console'
";

#[track_caller]
fn check_before(lines: &str, expected: &str) {
    check(&format!("{lines}{PLAIN}"), expected);
}

#[test]
fn an_empty_file_has_no_source_and_no_sink() {
    check(
        "",
        "file the job has no source: no rows come in; Add a `[[source]]` table.
file the job has no sink: nothing comes out; Add a `[[sink]]` table.
",
    );
}

#[test]
fn mistakes_of_syntax_come_alone() {
    check(
        "[job]\nname = word\nnmae = 'x'\npartitions = \n",
        "2:8 string values must be quoted, expected literal string\n4:14 string values must be quoted, expected literal string\n",
    );
    check("a = 1\na = 2\n", "2:1 duplicate key\n");
}

#[test]
fn sections_have_names() {
    check_before("[jbo]", "1:2 unknown section `jbo`; Did you mean `job`?\n");
    check_before(
        "[settings]",
        "1:2 unknown section `settings`; Sections: `job`, `limits`, `state`, `spill`, `source`, `table`, `step`, `sink`.\n",
    );
    check_before("[[steps]]\nname = 'x'", "1:3 unknown section `steps`; Write `[[step]]` once for each.\n");
    check_before("[[job]]", "1:1 `job` must be one table, not a list; Write `[job]`.\n");
    check_before("[step]", "1:1 `step` must be a list of tables, not a table; Write `[[step]]`, with two brackets.\n");
    check_before("step = [1]", "1:9 a step must be a table, not a whole number\n");
    check_before("limits = 5", "1:10 `limits` must be one table, not a whole number; Write `[limits]`.\n");
}

#[test]
fn job_keys_are_read() {
    let text = format!(
        "[job]
name = 'word count'
batch-interval = '250ms'
trigger = 'available-now'
partitions = 8
worker-threads = 2
memory = '1GiB'
max-rows-per-call = 1000
max-bytes-per-call = '1MiB'
log-level = 'info,tidemill::plugin=debug'
stop-timeout = '5s'
checkpoint = 'kept'
checkpoint-batches = 3
attempts = 2
missed-batches = 'run'
durability = 'batch'
wal-segment = '1MiB'
lost-rows = 'skip'
wal-directory = 'rows'
{PLAIN}"
    );
    let expected = Settings {
        checkpoint: None,
        checkpoint_lease: Duration::from_secs(15),
        checkpoint_batches: 3,
        durability: Some(Durability::Batch),
        wal_directory: None,
        wal_segment_bytes: 1 << 20,
        lost_rows: LostRows::Skip,
        attempts: 2,
        name: "word count".into(),
        batch_interval: Duration::from_millis(250),
        trigger: Trigger::AvailableNow,
        missed_batches: MissedBatches::Run,
        partitions: 8,
        worker_threads: 2,
        memory_bytes: 1 << 30,
        rows_per_call: 1000,
        bytes_per_call: 1 << 20,
        limits: Limits::default(),
        job_limits: JobLimits::default(),
        state: StateSettings::default(),
        spill: SpillSettings::default(),
        log_level: "info,tidemill::plugin=debug".into(),
        stop_timeout: Duration::from_secs(5),
    };
    let found = job(&text, &[]).settings;
    let folder = found.checkpoint.as_ref().and_then(|place| place.directory());
    assert!(folder.is_some_and(|path| path.ends_with("kept")), "{:?}", found.checkpoint);
    assert!(found.wal_directory.as_ref().is_some_and(|path| path.ends_with("rows")), "{:?}", found.wal_directory);
    assert_eq!(Settings { checkpoint: None, wal_directory: None, ..found }, expected);
    assert_eq!(job(PLAIN, &[]).settings, Settings::default());
}

#[test]
fn a_checkpoint_may_be_in_an_object_store() {
    let text = "[job]
checkpoint = 's3://bucket/jobs/a/'
checkpoint-lease = '30s'
checkpoint-options = { region = 'eu-west-1', allow-http = true, timeout = '2s' }
";
    let found = job(&format!("{text}{PLAIN}"), &[]).settings;
    let place = found.checkpoint.expect("a place");
    assert_eq!((place.to_string().as_str(), place.directory()), ("s3://bucket/jobs/a", None));
    assert_eq!(found.checkpoint_lease, Duration::from_secs(30));
    check_before(
        "job.checkpoint = 's3://key:secret@bucket/a'",
        "1:18 `checkpoint` holds credentials, which would be seen in messages; Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write \
         `access-key-id = \"${NAME}\"` in `[job.checkpoint-options]`.\n",
    );
    check_before(
        "job.checkpoint = 'gs://bucket/a'",
        "1:18 `checkpoint` is a URL of kind `gs:`, which keeps no checkpoints; Write `s3://bucket/folder`, or the path of a folder.\n",
    );
    check_before(
        "job.checkpoint = 's3://bucket/a'\njob.checkpoint-lease = '10ms'",
        "2:24 `checkpoint-lease` must be between 1s and 1h\n",
    );
    check_before(
        "job.checkpoint = 's3://bucket/a'\njob.checkpoint-options = { acess-key-id = 'x', allow-http = 'x', timeout = 5 }",
        "2:28 unknown key `acess-key-id` in `checkpoint-options`; Did you mean `access-key-id`?\n\
         2:61 `allow-http` must be true or false, not a text\n\
         2:76 `timeout` must be a duration with a unit; Write it with its unit, as in `timeout = \"5s\"`.\n",
    );
    let of_store = "is for a `checkpoint` in an object store, as in `s3://bucket/folder`; A folder is locked by the system, and needs \
                    neither lease nor options.";
    check_before("job.checkpoint = 'a'\njob.checkpoint-lease = '5s'", &format!("2:24 `checkpoint-lease` {of_store}\n"));
    check_before("job.checkpoint-options = { }", &format!("1:26 `checkpoint-options` {of_store}\n"));
}

#[test]
fn job_keys_are_checked() {
    check_before("job.durability = 'rows'", "1:18 `durability` cannot be `rows`; Did you mean `row`?\n");
    check_before(
        "job.wal-directory = 'rows'",
        "1:21 `wal-directory` needs a `checkpoint`: its rows are those of its batches; Add `checkpoint` to `[job]`, or leave `wal-directory` out.\n",
    );
    check_before("job.wal-segment = '1KiB'", "1:19 `wal-segment` must be between 64KiB and 1TiB\n");
    let unit = "Durations are a number and `us`, `ms`, `s`, `m`, `h` or `d`.";
    check_before("[job]\nnmae = 'x'", "2:1 unknown key `nmae` in `[job]`; Did you mean `name`?\n");
    check_before("job.name = ''", "1:12 `name` is empty\n");
    check_before("job.name = 5", "1:12 `name` must be a text, not a whole number; Put it in quotes.\n");
    check_before("job.name = [1]", "1:12 `name` must be a text, not a list\n");
    check_before(
        "job.batch-interval = 5",
        "1:22 `batch-interval` must be a duration with a unit; Write it with its unit, as in `batch-interval = \"5s\"`.\n",
    );
    check_before("job.batch-interval = 'soon'", &format!("1:22 `soon` is not a duration; {unit}\n"));
    check_before(
        "job.batch-interval = true",
        &format!("1:22 `batch-interval` must be a duration, not true or false; {unit}\n"),
    );
    check_before(
        "job.batch-interval = '10us'",
        "1:22 `batch-interval` must be \"0\" or at least 1ms; Write \"0\" to start a batch as soon as the last has ended and rows wait.\n",
    );
    check_before("job.batch-interval = 0", "");
    check_before(
        "job = { missed-batches = 'run', batch-interval = 0 }",
        "1:26 `missed-batches = \"run\"` needs a `batch-interval`; Without an interval no batch is missed: leave the key out, or give `batch-interval`.\n",
    );
    check_before("job.trigger = 'once'", "1:15 `trigger` cannot be `once`; Choices: `continuous`, `available-now`.\n");
    check_before(
        "job.trigger = 'available_now'",
        "1:15 `trigger` cannot be `available_now`; Did you mean `available-now`?\n",
    );
    check_before(
        "job.trigger = 1",
        "1:15 `trigger` must be one of `continuous`, `available-now`, not a whole number\n",
    );
    check_before("job.partitions = 0", "1:18 `partitions` must be between 1 and 4096\n");
    check_before("job.partitions = -1", "1:18 `partitions` must be between 1 and 4096\n");
    check_before("job.partitions = 99999999999999999999999", "1:18 `partitions` must be between 1 and 4096\n");
    check_before("job.partitions = 2.0", "1:18 `partitions` must be a whole number, not a number\n");
    check_before(
        "job.partitions = '4'",
        "1:18 `partitions` must be a whole number, not a text; Write `partitions = 4`.\n",
    );
    check_before("job.memory = '1B'", "1:14 `memory` must be at least 1MiB\n");
    check_before(
        "job.memory = '64M'",
        "1:14 `64M` is not a size; Sizes are a number and `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.\n",
    );
    check_before(
        "job.memory = 64",
        "1:14 `memory` must be a size with a unit; Write it with its unit, as in `memory = \"64B\"`.\n",
    );
    check_before("job.max-bytes-per-call = '2GiB'", "1:26 `max-bytes-per-call` must be between 1KiB and 1GiB\n");
    check_before(
        "job.log-level = 'verbose'",
        "1:17 `verbose` is not a log level; Levels: `off`, `error`, `warn`, `info`, `debug`, `trace`.\n",
    );
    check_before("job.log-level = 'inf'", "1:17 `inf` is not a log level; Did you mean `info`?\n");
    check_before("job.checkpoint = 5", "1:18 `checkpoint` must be a text, not a whole number; Put it in quotes.\n");
}

#[test]
fn limits_are_read_and_checked() {
    let text = format!(
        "[limits]\nmemory = '128MiB'\ntime-per-call = '1s'\nfuel-per-call = 5\nlog-bytes-per-call = 0\n{PLAIN}"
    );
    let limits = job(&text, &[]).settings.limits;
    assert_eq!(
        limits,
        Limits {
            memory_bytes: 128 << 20,
            time_per_call: Duration::from_secs(1),
            fuel_per_call: Some(5),
            log_bytes_per_call: 0,
            ..Limits::default()
        }
    );
    check_before("limits.memory = '1KiB'", "1:17 `memory` must be at least 64KiB\n");
    check_before("limits.time-per-call = 0", "1:24 `time-per-call` must be at least 1ms\n");
    check_before("limits.output-rows = 0", "1:22 `output-rows` must be between 1 and 2147483647\n");
    check_before("limits.fuel-per-call = 0", "1:24 `fuel-per-call` must be at least 1\n");
    let text = format!("[limits.job]\nmemory = '1GiB'\ninstances = 8\ncpu-time-per-batch = '10s'\n{PLAIN}");
    let expected = JobLimits { memory_bytes: 1 << 30, instances: 8, cpu_time_per_batch: Some(Duration::from_secs(10)) };
    assert_eq!(job(&text, &[]).settings.job_limits, expected);
    check_before("limits.job.memory = '1KiB'", "1:21 `memory` must be at least 64KiB\n");
    check_before("limits.memroy = 0", "1:8 unknown key `memroy` in `[limits]`; Did you mean `memory`?\n");
}

#[test]
fn every_limit_that_messages_name_is_a_key() {
    use crate::operator::Limit;
    for limit in [
        Limit::Memory,
        Limit::Memories,
        Limit::TableElements,
        Limit::Tables,
        Limit::CoreInstances,
        Limit::TimeToOpen,
        Limit::CpuTimeToOpen,
        Limit::TimePerCall,
        Limit::CpuTimePerCall,
        Limit::FuelPerCall,
        Limit::HostCalls,
        Limit::OutputRows,
        Limit::OutputBytes,
        Limit::LogBytesPerCall,
        Limit::LogLinesPerCall,
        Limit::FileBytesPerCall,
        Limit::HttpRequestsPerCall,
        Limit::StateBytesPerKey,
        Limit::StateBytes,
        Limit::PluginBytes,
        Limit::CompileTime,
        Limit::CompileMemory,
        Limit::JobMemory,
        Limit::JobInstances,
        Limit::JobCpuTimePerBatch,
    ] {
        let key = limit.key().expect("a setting");
        let of = if limit.is_of_job() { "limits.job" } else { "limits" };
        let shown = super::mistakes(&format!("{of}.{key} = false{PLAIN}"), &[]);
        assert!(shown.contains(&format!("`{key}` must be")), "{shown}");
    }
}

#[test]
fn spill_is_read_and_checked() {
    let spill = |lines: &str| job(&format!("{lines}{PLAIN}"), &[]).settings.spill;
    let path = Some(std::path::PathBuf::from("/var/lib/spill"));
    assert_eq!(
        spill("[spill]\npath = '/var/lib/spill'\nquota = '1GiB'\nmemory = '64MiB'\nblocks = false"),
        SpillSettings { path, quota_bytes: 1 << 30, memory_bytes: 64 << 20, blocks: false }
    );
    let default = SpillSettings { path: None, quota_bytes: 10 << 30, memory_bytes: 512 << 20, blocks: true };
    assert_eq!(spill(""), default);
    assert_eq!(spill("[spill]\nquota = '0'"), SpillSettings { quota_bytes: 0, ..default });
    check_before("[spill]\nquta = '1GiB'", "2:1 unknown key `quta` in `[spill]`; Did you mean `quota`?\n");
    check_before("spill.memory = '1KiB'", "1:16 `memory` must be at least 1MiB\n");
    check_before(
        "spill.quota = '1KiB'",
        "1:15 `quota` must be \"0\" or at least 1MiB; Write \"0\" to spill nothing: a receiver that has more than `job.memory` \
         waits, and rows of a batch are in memory however many they are.\n",
    );
    check_before("spill.blocks = 'no'", "1:16 `blocks` must be true or false, not a text\n");
    check_before("spill.path = 'words.wasm'", "1:14 `path` must be a folder, and `DIR/words.wasm` is a file\n");
}

#[test]
fn state_is_read_and_checked() {
    let state = |lines: &str| job(&format!("{lines}{PLAIN}"), &[]).settings.state;
    let path = Some(std::path::PathBuf::from("/var/lib/state"));
    assert_eq!(
        state("[state]\nbackend = 'lsm'\nmemory = '64MiB'\npath = '/var/lib/state'"),
        StateSettings { backend: Backend::Lsm, memory_bytes: 64 << 20, path }
    );
    assert_eq!(state("[state]\nbackend = 'memory'").backend, Backend::Memory);
    assert_eq!(state("[state]\nbackend = 'auto'"), StateSettings::default());
    assert_eq!(state(""), StateSettings { backend: Backend::Auto, memory_bytes: 512 << 20, path: None });
    let size = "Sizes are a number and `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.";
    check_before("state = 5", "1:9 `state` must be one table, not a whole number; Write `[state]`.\n");
    check_before("[[state]]", "1:1 `state` must be one table, not a list; Write `[state]`.\n");
    check_before("[state]\nbakend = 'lsm'", "2:1 unknown key `bakend` in `[state]`; Did you mean `backend`?\n");
    check_before("state.backend = 'disk'", "1:17 `backend` cannot be `disk`; Choices: `auto`, `memory`, `lsm`.\n");
    check_before("state.backend = true", "1:17 `backend` must be one of `auto`, `memory`, `lsm`, not true or false\n");
    check_before("state.memory = '1KiB'", "1:16 `memory` must be at least 1MiB\n");
    check_before("state.memory = 'much'", &format!("1:16 `much` is not a size; {size}\n"));
    check_before(
        "state.memory = 64",
        "1:16 `memory` must be a size with a unit; Write it with its unit, as in `memory = \"64B\"`.\n",
    );
    check_before("state.path = 5", "1:14 `path` must be a text, not a whole number; Put it in quotes.\n");
    check_before("state.path = ''", "1:14 `path` is empty; Write `.` for the job file's folder.\n");
    check_before("state.path = 'words.wasm'", "1:14 `path` must be a folder, and `DIR/words.wasm` is a file\n");
    check_before("state.path = 'folder'", "");
    check_before("state.path = 'folder/new'", "");
    check_before(
        "state.path = 's3://bucket/state'",
        "1:14 `path` is a URL of kind `s3:`, and this version reads and writes local files only; \
         Write a path, or a URL that starts with `file:`.\n",
    );
    assert_eq!(job(PLAIN, &["state.backend=lsm", "state.memory=2MiB"]).settings.state.memory_bytes, 2 << 20);
    for key in ["backend", "memory"] {
        let shown = super::mistakes(&format!("state.{key} = '${{SECRET}}'{PLAIN}"), &[]);
        assert!(!shown.contains("hunter2") && !shown.is_empty(), "{shown}");
    }
}

#[test]
fn sources_and_sinks_have_types() {
    check(
        "source = [{ name = 'a' }]\nsink = [{ from = 'a', type = 'consle' }]\n",
        "1:11 `type` is missing in `[[source]]`; Types of sources: TYPES.
2:30 there is no sink of type `consle`; Did you mean `console`?
"
        .replace("TYPES", &crate::job::nearest::list(crate::source::SOURCE_TYPES))
        .as_str(),
    );
    check(
        "source = [{ type = 'sokcet', name = 'a' }]\nsink = [{ from = 'a', type = 1 }]\n",
        "1:20 there is no source of type `sokcet`; Did you mean `socket`?
2:30 `type` must be a text, not a whole number; Put it in quotes.
",
    );
}

#[test]
fn keys_of_sources_and_sinks_are_checked() {
    check(
        "source = [{ type = 'socket', name = 'a', adress = 'x' }]\nsink = [{ from = 'a', type = 'console', row = 5 }]\n",
        "1:11 `address` is missing in `[[source]]`; Write `address = \"…\"`.
1:42 unknown key `adress` in `[[source]]`; Did you mean `address`?
2:41 unknown key `row` in `[[sink]]`; Did you mean `rows`?
",
    );
}

#[test]
fn what_a_file_source_reads_must_be_there() {
    let check_path = |path: &str, expected: &str| {
        check(
            &format!(
                "source = [{{ name = 'a', type = 'file', path = '{path}' }}]\nsink = [{{ from = 'a', type = 'console' }}]\n"
            ),
            expected,
        );
    };
    check_path("folder", "");
    check_path("words.wasm", "");
    check_path("nope-*.txt", "");
    check_path("foldr", "1:47 there is no file or directory `DIR/foldr`; Did you mean `folder`?\n");
    check_path("a/b", "1:47 there is no file or directory `DIR/a/b`\n");
}

#[test]
fn the_environment_is_read_and_not_shown() {
    let with = |text: &str| format!("{text}{PLAIN}");
    assert_eq!(job(&with("job.partitions = '${PARTITIONS}'"), &[]).settings.partitions, 7);
    assert_eq!(job(&with("job.name = 'x-${NOPE:-y}'"), &[]).settings.name, "x-y");
    assert_eq!(job(&with("job.name = '$${PARTITIONS}'"), &[]).settings.name, "${PARTITIONS}");
    check_before(
        "job.name = '${NOPE}'",
        "1:12 the environment variable `NOPE` is not set; Set it, or write `${NOPE:-default}`.\n",
    );
    check_before(
        "job.partitions = '${SECRET}'",
        "1:18 `partitions` must be a whole number, and `${SECRET}` is something else\n",
    );
    check_before(
        "job.trigger = '${SECRET}'",
        "1:15 `trigger` cannot be `${SECRET}`; Choices: `continuous`, `available-now`.\n",
    );
    for key in ["batch-interval", "memory", "worker-threads", "max-bytes-per-call", "trigger", "log-level"] {
        let shown = super::mistakes(&with(&format!("job.{key} = '${{SECRET}}'")), &[]);
        assert!(!shown.contains("hunter2") && !shown.is_empty(), "{shown}");
    }
}
