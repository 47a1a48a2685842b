//! The `[job]`, `[limits]`, `[state]` and `[spill]` tables.

use std::time::Duration;

use super::nearest::suggest;
use super::table::Table;
use super::{Durability, LostRows, MissedBatches, Settings, Trigger};
use crate::operator::{JobLimits, Limits};
use crate::spill::{self, SpillSettings};
use crate::state::{self, Backend, StateSettings};

/// More partitions than this are a mistake: each costs a task a batch.
pub const PARTITIONS_MAX: u64 = 4096;

/// More threads than this are a mistake.
pub const WORKER_THREADS_MAX: u64 = 1024;

/// The shortest batch interval that is not zero: an empty batch costs less, a batch with rows does not.
pub const BATCH_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The least memory for received rows: one block of a fast receiver.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// The smallest file of a write-ahead log: smaller ones would be made and deleted all the time.
pub const WAL_SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Bytes of one call, at most: offsets of Arrow's texts have 31 bits, and a call grows on its way.
pub const BYTES_PER_CALL_MAX: u64 = 1 << 30;

/// Rows of one call, at most: row numbers of the contract have 32 bits, Arrow's offsets 31.
pub const ROWS_PER_CALL_MAX: u64 = i32::MAX as u64;

/// One page of WebAssembly, the least memory that an instance can have.
pub const PAGE_BYTES: u64 = 64 << 10;

/// More memories, tables or core instances than this are a mistake.
const COUNT_MAX: u64 = 100_000;

/// The levels of the log.
pub const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads `[job]` over `settings`.
pub(super) fn read_settings(mut table: Table<'_>, settings: &mut Settings) {
    if let Some(name) = table.text("name") {
        match job_name_mistake(&name) {
            Some(message) => table.problem("name", message, None),
            None => settings.name = name,
        }
    }
    if let Some(interval) = table.duration("batch-interval") {
        if !interval.is_zero() && interval < BATCH_INTERVAL_MIN {
            let hint = "Write \"0\" to start a batch as soon as the last has ended and rows wait.".into();
            table.problem("batch-interval", "`batch-interval` must be \"0\" or at least 1ms", Some(hint));
        }
        settings.batch_interval = interval;
    }
    let triggers = [("continuous", Trigger::Continuous), ("available-now", Trigger::AvailableNow)];
    set(&mut settings.trigger, table.choice("trigger", &triggers));
    let missed = [("merge", MissedBatches::Merge), ("run", MissedBatches::Run)];
    set(&mut settings.missed_batches, table.choice("missed-batches", &missed));
    if settings.missed_batches == MissedBatches::Run && settings.batch_interval.is_zero() {
        let hint = "Without an interval no batch is missed: leave the key out, or give `batch-interval`.".into();
        table.problem("missed-batches", "`missed-batches = \"run\"` needs a `batch-interval`", Some(hint));
    }
    set(&mut settings.partitions, narrow(table.integer("partitions", 1..=PARTITIONS_MAX)));
    set(&mut settings.worker_threads, narrow(table.integer("worker-threads", 0..=WORKER_THREADS_MAX)));
    set(&mut settings.memory_bytes, size_within(&mut table, "memory", MEMORY_BYTES_MIN, u64::MAX));
    set(&mut settings.rows_per_call, narrow(table.integer("max-rows-per-call", 1..=ROWS_PER_CALL_MAX)));
    set(&mut settings.bytes_per_call, size_within(&mut table, "max-bytes-per-call", 1 << 10, BYTES_PER_CALL_MAX));
    if let Some(level) = table.text("log-level") {
        match log_level_mistake(&level) {
            Some((message, hint)) => table.problem("log-level", message, hint),
            None => settings.log_level = level,
        }
    }
    set(&mut settings.stop_timeout, table.duration("stop-timeout"));
    set(&mut settings.attempts, narrow(table.integer("attempts", 1..=1000)));
    super::checkpoint::read(&mut table, settings);
    set(&mut settings.checkpoint_batches, table.integer("checkpoint-batches", 1..=1_000_000));
    settings.durability = read_durability(&mut table).or(settings.durability);
    if let Some(path) = table.path("wal-directory") {
        if path.exists() && !path.is_dir() {
            let message = format!("`wal-directory` must be a folder, and `{}` is a file", path.display());
            table.problem("wal-directory", message, None);
        }
        if settings.checkpoint.is_none() {
            let hint = Some("Add `checkpoint` to `[job]`, or leave `wal-directory` out.".into());
            table.problem(
                "wal-directory",
                "`wal-directory` needs a `checkpoint`: its rows are those of its batches",
                hint,
            );
        }
        settings.wal_directory = Some(path);
    }
    set(&mut settings.wal_segment_bytes, size_within(&mut table, "wal-segment", WAL_SEGMENT_BYTES_MIN, 1 << 40));
    let lost = [("refuse", LostRows::Refuse), ("skip", LostRows::Skip)];
    set(&mut settings.lost_rows, table.choice("lost-rows", &lost));
    table.finish();
}

/// Reads `durability` of `[job]` or a `[[source]]`.
pub(super) fn read_durability(table: &mut Table<'_>) -> Option<Durability> {
    let all = [Durability::None, Durability::Batch, Durability::Row];
    table.choice("durability", &all.map(|durability| (durability.name(), durability)))
}

/// Reads `[limits]` over `settings`: what holds for each plugin, and in `[limits.job]` for all of them together.
pub(super) fn read_job_limits(mut table: Table<'_>, settings: &mut Settings) {
    if let Some(job) = table.table("job") {
        read_sums(job, &mut settings.job_limits);
    }
    settings.limits = read_limits(table, &settings.limits);
}

/// Reads the `limits` of a step over those that hold without it.
pub(super) fn read_step_limits(mut table: Table<'_>, over: &Limits) -> Limits {
    if table.node("job").is_some() {
        let hint = Some("Write it in the job's `[limits.job]`.".into());
        table.problem("job", "`job` limits all plugins of the job together, and no step alone", hint);
    }
    read_limits(table, over)
}

fn read_limits(mut table: Table<'_>, over: &Limits) -> Limits {
    let mut limits = over.clone();
    set(&mut limits.memory_bytes, size_within(&mut table, "memory", PAGE_BYTES, u64::MAX));
    set(&mut limits.memories, table.integer("memories", 1..=COUNT_MAX));
    set(&mut limits.table_elements, table.integer("table-elements", 1..=u64::from(u32::MAX)));
    set(&mut limits.tables, table.integer("tables", 1..=COUNT_MAX));
    set(&mut limits.core_instances, table.integer("core-instances", 1..=COUNT_MAX));
    set(&mut limits.time_to_open, time(&mut table, "time-to-open"));
    set(&mut limits.cpu_time_to_open, time(&mut table, "cpu-time-to-open"));
    set(&mut limits.time_per_call, time(&mut table, "time-per-call"));
    set(&mut limits.cpu_time_per_call, time(&mut table, "cpu-time-per-call"));
    if let Some(fuel) = table.integer("fuel-per-call", 1..=u64::MAX) {
        limits.fuel_per_call = Some(fuel);
    }
    set(&mut limits.host_calls, table.integer("host-calls", 1..=u64::MAX));
    set(&mut limits.output_rows, table.integer("output-rows", 1..=ROWS_PER_CALL_MAX));
    set(&mut limits.output_bytes, size_within(&mut table, "output-bytes", 1 << 10, u64::MAX));
    set(&mut limits.log_bytes_per_call, table.size("log-bytes-per-call"));
    set(&mut limits.log_lines_per_call, table.integer("log-lines-per-call", 0..=u64::MAX));
    set(&mut limits.file_bytes_per_call, table.size("file-bytes-per-call"));
    set(&mut limits.http_requests_per_call, table.integer("http-requests-per-call", 1..=u64::MAX));
    set(&mut limits.state_bytes_per_key, table.size("state-per-key"));
    set(&mut limits.state_bytes, table.size("state"));
    set(&mut limits.plugin_bytes, size_within(&mut table, "plugin-size", 1 << 10, u64::MAX));
    set(&mut limits.compile_time, time(&mut table, "compile-time"));
    set(&mut limits.compile_memory_bytes, size_within(&mut table, "compile-memory", 1 << 20, u64::MAX));
    table.finish();
    limits
}

fn read_sums(mut table: Table<'_>, limits: &mut JobLimits) {
    set(&mut limits.memory_bytes, size_within(&mut table, "memory", PAGE_BYTES, u64::MAX));
    set(&mut limits.instances, table.integer("instances", 1..=u64::MAX));
    if let Some(cpu_time) = time(&mut table, "cpu-time-per-batch") {
        limits.cpu_time_per_batch = Some(cpu_time);
    }
    table.finish();
}

/// Reads `[state]` over `settings`.
pub(super) fn read_state(mut table: Table<'_>, settings: &mut StateSettings) {
    let backends = [("auto", Backend::Auto), ("memory", Backend::Memory), ("lsm", Backend::Lsm)];
    set(&mut settings.backend, table.choice("backend", &backends));
    set(&mut settings.memory_bytes, size_within(&mut table, "memory", state::MEMORY_BYTES_MIN, u64::MAX));
    if let Some(path) = table.path("path") {
        // It is made when the job starts, if it is not there.
        if path.exists() && !path.is_dir() {
            table.problem("path", format!("`path` must be a folder, and `{}` is a file", path.display()), None);
        }
        settings.path = Some(path);
    }
    table.finish();
}

/// Reads `[spill]` over `settings`.
pub(super) fn read_spill(mut table: Table<'_>, settings: &mut SpillSettings) {
    if let Some(quota) = table.size("quota") {
        if (1..spill::QUOTA_BYTES_MIN).contains(&quota) {
            let hint = "Write \"0\" to spill nothing: a receiver that has more than `job.memory` waits, and rows of a batch are \
                        in memory however many they are.";
            table.problem("quota", "`quota` must be \"0\" or at least 1MiB", Some(hint.into()));
        }
        settings.quota_bytes = quota;
    }
    set(&mut settings.memory_bytes, size_within(&mut table, "memory", spill::MEMORY_BYTES_MIN, u64::MAX));
    set(&mut settings.blocks, table.boolean("blocks"));
    if let Some(path) = table.path("path") {
        // It is made when the job starts, if it is not there.
        if path.exists() && !path.is_dir() {
            table.problem("path", format!("`path` must be a folder, and `{}` is a file", path.display()), None);
        }
        settings.path = Some(path);
    }
    table.finish();
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

/// Every range that is narrowed fits.
fn narrow(value: Option<u64>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value).ok())
}

fn size_within(table: &mut Table<'_>, key: &'static str, min: u64, max: u64) -> Option<u64> {
    use super::units::format_size;
    let size = table.size(key)?;
    if (min..=max).contains(&size) {
        return Some(size);
    }
    let message = match max {
        u64::MAX => format!("`{key}` must be at least {}", format_size(min)),
        max => format!("`{key}` must be between {} and {}", format_size(min), format_size(max)),
    };
    table.problem(key, message, None);
    None
}

/// A time limit: no call ends in less than a millisecond for sure.
fn time(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let time = table.duration(key)?;
    if time < Duration::from_millis(1) {
        table.problem(key, format!("`{key}` must be at least 1ms"), None);
        return None;
    }
    Some(time)
}

/// What is wrong with a job's name.
fn job_name_mistake(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("`name` is empty")
    } else if name.chars().count() > 100 || name.chars().any(char::is_control) {
        Some("`name` must be one line of at most 100 characters")
    } else {
        None
    }
}

/// What is wrong with a log level, and what to write instead: a level, or a filter as in `info,tidemill::plugin=debug`.
#[must_use]
pub fn log_level_mistake(level: &str) -> Option<(String, Option<String>)> {
    for part in level.split(',') {
        let word = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        if !LOG_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            return Some((format!("`{word}` is not a log level"), suggest(word, "Levels", LOG_LEVELS)));
        }
    }
    match tracing_subscriber::EnvFilter::builder().parse(level) {
        Ok(_) => None,
        Err(_) => Some((format!("`{level}` is not a log filter"), Some("Write a level, such as `info`.".into()))),
    }
}
