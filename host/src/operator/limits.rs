//! What an operator may use: of one call, of one instance, and of all instances of a job together.

use std::time::Duration;

/// What an instance of an operator may use. Native operators are trusted and not limited, except in what they return and keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of all linear memories of an instance together.
    pub memory_bytes: u64,
    /// Linear memories of an instance.
    pub memories: u64,
    /// Elements of all tables of an instance together.
    pub table_elements: u64,
    /// Tables of an instance.
    pub tables: u64,
    /// Core modules that an instance is made of, each counted as often as it is instantiated.
    pub core_instances: u64,
    /// How long `open` may take.
    pub time_to_open: Duration,
    /// Processor time of `open`.
    pub cpu_time_to_open: Duration,
    /// How long one call may take, what it waits for included.
    pub time_per_call: Duration,
    /// Processor time of one call.
    pub cpu_time_per_call: Duration,
    /// Instructions of one call, in wasmtime's fuel units; `None` does not count them.
    pub fuel_per_call: Option<u64>,
    /// Functions of the host that one call may call, each as often as it is called.
    pub host_calls: u64,
    /// Rows one call may return.
    pub output_rows: u64,
    /// Bytes one call may return.
    pub output_bytes: u64,
    /// Bytes one call may write to the log, standard error and standard output together.
    pub log_bytes_per_call: u64,
    /// Lines one call may write to the log.
    pub log_lines_per_call: u64,
    /// Bytes one call may write to files of directories that it was granted.
    pub file_bytes_per_call: u64,
    /// Requests one call may send to hosts that it was granted.
    pub http_requests_per_call: u64,
    /// Bytes of the state of one key, as the host keeps it.
    pub state_bytes_per_key: u64,
    /// Bytes of the states of all keys of a step, as the host keeps them.
    pub state_bytes: u64,
    /// Bytes of a plugin's file.
    pub plugin_bytes: u64,
    /// Processor time of compiling a plugin.
    pub compile_time: Duration,
    /// Bytes of memory that compiling a plugin may take.
    pub compile_memory_bytes: u64,
}

impl Default for Limits {
    /// | limit | default | reason |
    /// | --- | --- | --- |
    /// | memory | 64 MiB | a 4 MiB call, its output, and ten times that for the guest |
    /// | memories | 50 | each reserves 4 GiB of addresses; a composed component has ten or so |
    /// | table elements | 100,000 | ten times what a large guest has functions |
    /// | tables, core instances | 500 | a composed component has ten or so |
    /// | processor time to open, of a call | 5 s | an interpreter may have to start; a thousand times a usual call |
    /// | time to open, of a call | 30 s | six times as much: a busy machine, or a slow server, is not the plugin's fault |
    /// | fuel | not counted | it costs a fifth more; time is enough unless replays must fail alike |
    /// | host calls | 1,000,000 | fifteen for each row of a full call of 65,536 |
    /// | output rows | 4,194,304 | 64 rows for each of a full call of 65,536 |
    /// | output bytes | 32 MiB | eight times a full call of 4 MiB |
    /// | log bytes, lines | 64 KiB, 1,000 | more is not read by anyone |
    /// | file bytes | 64 MiB | twice what a call may return |
    /// | HTTP requests | 1,000 | one by one they take as long as a call may |
    /// | state of a key | 1 MiB | a quarter of a full call, in which it crosses each time that the key has rows |
    /// | state of a step | 64 GiB | a disk; what is in memory is `[state]`'s to say |
    /// | plugin size | 128 MiB | seven times a Python interpreter with its library |
    /// | compile time | 5 min | ten times what that interpreter takes |
    /// | compile memory | 2 GiB | five times what that interpreter takes |
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            memories: 50,
            table_elements: 100_000,
            tables: 500,
            core_instances: 500,
            time_to_open: Duration::from_secs(30),
            cpu_time_to_open: Duration::from_secs(5),
            time_per_call: Duration::from_secs(30),
            cpu_time_per_call: Duration::from_secs(5),
            fuel_per_call: None,
            host_calls: 1_000_000,
            output_rows: 4 << 20,
            output_bytes: 32 << 20,
            log_bytes_per_call: 64 << 10,
            log_lines_per_call: 1_000,
            file_bytes_per_call: 64 << 20,
            http_requests_per_call: 1_000,
            state_bytes_per_key: 1 << 20,
            state_bytes: 64 << 30,
            plugin_bytes: 128 << 20,
            compile_time: Duration::from_secs(300),
            compile_memory_bytes: 2 << 30,
        }
    }
}

/// What all instances of all plugins of a job may use together.
#[derive(Debug, Clone, PartialEq)]
pub struct JobLimits {
    /// Bytes of all linear memories.
    pub memory_bytes: u64,
    /// Instances: one a step and partition that it works on.
    pub instances: u64,
    /// Processor time of all calls of one batch; `None` does not count it.
    pub cpu_time_per_batch: Option<Duration>,
}

impl Default for JobLimits {
    /// | limit | default | reason |
    /// | --- | --- | --- |
    /// | memory | 4 GiB | 64 instances that use all they may |
    /// | instances | 4,096 | as many as a step may have partitions |
    /// | processor time of a batch | not counted | each call is limited, and asking twice a call costs a microsecond, more than a call without rows |
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, instances: 4_096, cpu_time_per_batch: None }
    }
}

/// A limit of [`Limits`] or [`JobLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `limits.memory`.
    Memory,
    /// `limits.memories`.
    Memories,
    /// `limits.table-elements`.
    TableElements,
    /// `limits.tables`.
    Tables,
    /// `limits.core-instances`.
    CoreInstances,
    /// `limits.time-to-open`.
    TimeToOpen,
    /// `limits.cpu-time-to-open`.
    CpuTimeToOpen,
    /// `limits.time-per-call`.
    TimePerCall,
    /// `limits.cpu-time-per-call`.
    CpuTimePerCall,
    /// `limits.fuel-per-call`.
    FuelPerCall,
    /// The stack; the host's, not a setting.
    Stack,
    /// `limits.host-calls`.
    HostCalls,
    /// `limits.output-rows`.
    OutputRows,
    /// `limits.output-bytes`.
    OutputBytes,
    /// `limits.log-bytes-per-call`.
    LogBytesPerCall,
    /// `limits.log-lines-per-call`.
    LogLinesPerCall,
    /// `limits.file-bytes-per-call`.
    FileBytesPerCall,
    /// `limits.http-requests-per-call`.
    HttpRequestsPerCall,
    /// `limits.state-per-key`.
    StateBytesPerKey,
    /// `limits.state`.
    StateBytes,
    /// `limits.plugin-size`.
    PluginBytes,
    /// `limits.compile-time`.
    CompileTime,
    /// `limits.compile-memory`.
    CompileMemory,
    /// `limits.job.memory`.
    JobMemory,
    /// `limits.job.instances`.
    JobInstances,
    /// `limits.job.cpu-time-per-batch`.
    JobCpuTimePerBatch,
}

impl Limit {
    /// The key in a job file's `[limits]` table, or in `[limits.job]`, if it is a setting.
    #[must_use]
    pub fn key(self) -> Option<&'static str> {
        Some(match self {
            Limit::Memory | Limit::JobMemory => "memory",
            Limit::Memories => "memories",
            Limit::TableElements => "table-elements",
            Limit::Tables => "tables",
            Limit::CoreInstances => "core-instances",
            Limit::TimeToOpen => "time-to-open",
            Limit::CpuTimeToOpen => "cpu-time-to-open",
            Limit::TimePerCall => "time-per-call",
            Limit::CpuTimePerCall => "cpu-time-per-call",
            Limit::FuelPerCall => "fuel-per-call",
            Limit::HostCalls => "host-calls",
            Limit::OutputRows => "output-rows",
            Limit::OutputBytes => "output-bytes",
            Limit::LogBytesPerCall => "log-bytes-per-call",
            Limit::LogLinesPerCall => "log-lines-per-call",
            Limit::FileBytesPerCall => "file-bytes-per-call",
            Limit::HttpRequestsPerCall => "http-requests-per-call",
            Limit::StateBytesPerKey => "state-per-key",
            Limit::StateBytes => "state",
            Limit::PluginBytes => "plugin-size",
            Limit::CompileTime => "compile-time",
            Limit::CompileMemory => "compile-memory",
            Limit::JobInstances => "instances",
            Limit::JobCpuTimePerBatch => "cpu-time-per-batch",
            Limit::Stack => return None,
        })
    }

    /// Whether it is a limit on all instances of a job together.
    #[must_use]
    pub fn is_of_job(self) -> bool {
        matches!(self, Limit::JobMemory | Limit::JobInstances | Limit::JobCpuTimePerBatch)
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::Memories => "memories",
            Limit::TableElements => "table elements",
            Limit::Tables => "tables",
            Limit::CoreInstances => "core instances",
            Limit::TimeToOpen => "time to open",
            Limit::CpuTimeToOpen => "processor time to open",
            Limit::TimePerCall => "time per call",
            Limit::CpuTimePerCall => "processor time per call",
            Limit::FuelPerCall => "fuel per call",
            Limit::Stack => "stack",
            Limit::HostCalls => "host calls per call",
            Limit::OutputRows => "output rows per call",
            Limit::OutputBytes => "output bytes per call",
            Limit::LogBytesPerCall => "log bytes per call",
            Limit::LogLinesPerCall => "log lines per call",
            Limit::FileBytesPerCall => "bytes written to files per call",
            Limit::HttpRequestsPerCall => "HTTP requests per call",
            Limit::StateBytesPerKey => "state of a key",
            Limit::StateBytes => "state",
            Limit::PluginBytes => "plugin size",
            Limit::CompileTime => "compile time",
            Limit::CompileMemory => "compile memory",
            Limit::JobMemory => "job's memory of plugins",
            Limit::JobInstances => "job's instances of plugins",
            Limit::JobCpuTimePerBatch => "job's processor time of plugins per batch",
        }
    }

    /// Whether a plugin may exceed it once, on a busy machine, and not the next time.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Limit::TimePerCall | Limit::TimeToOpen)
    }
}

/// What to write where, so that a plugin may use more. `step`: where a step's own limits would stand; `None`: that is not known.
pub(crate) fn raise(limit: Limit, step: Option<&str>) -> String {
    let Some(key) = limit.key() else {
        return "This is a bug in the plugin, most likely a recursion without end.".into();
    };
    if limit.is_of_job() {
        return format!("Raise `{key}` in the job's `[limits.job]`, if its plugins are right to need more.");
    }
    let of_step =
        step.map_or_else(|| "the `limits` of the step".to_owned(), |step| format!("the `limits` of step `{step}`"));
    format!("Raise `{key}` in {of_step} or in the job's `[limits]`, if the plugin is right to need more.")
}

/// A size as a job file writes it, rounded to a tenth where it is not even.
pub(crate) fn size(n_bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| n_bytes >= *unit) {
        Some((name, unit)) if n_bytes.is_multiple_of(unit) => format!("{}{name}", n_bytes / unit),
        // Rounded up: what is over a limit must not look as if it were the limit.
        Some((name, unit)) => format!("{:.1}{name}", (n_bytes as f64 / unit as f64 * 10.0).ceil() / 10.0),
        None => format!("{n_bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(n_bytes: u64, expected: &str) {
        assert_eq!(size(n_bytes), expected);
    }

    #[test]
    fn sizes_are_written_as_in_a_job_file() {
        check(0, "0B");
        check(1023, "1023B");
        check(1024, "1KiB");
        check(64 << 20, "64MiB");
        check((64 << 20) + 1, "64.1MiB");
        check((64 << 20) + (1 << 19), "64.5MiB");
        check(3 << 30, "3GiB");
    }

    #[test]
    fn what_is_of_the_job_is_raised_there() {
        assert_eq!(
            raise(Limit::JobMemory, Some("s")),
            "Raise `memory` in the job's `[limits.job]`, if its plugins are right to need more."
        );
        assert_eq!(
            raise(Limit::HostCalls, Some("s")),
            "Raise `host-calls` in the `limits` of step `s` or in the job's `[limits]`, if the plugin is right to need more."
        );
    }
}
