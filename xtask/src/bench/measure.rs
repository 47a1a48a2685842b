//! Runs a program to its end, and says what it used: wall time, CPU time, peak memory.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What a program used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// From start to end.
    pub(super) wall: Duration,
    /// Of all its threads, in the program and in the kernel.
    pub(super) cpu: Duration,
    /// The most that was resident at once.
    pub(super) peak_bytes: u64,
    /// What it ended with; `None` when a signal ended it.
    pub(super) exit_code: Option<i32>,
}

/// How often an ending is looked for: the error of wall times.
const POLL: Duration = Duration::from_millis(1);

/// Runs a command to its end; what it prints goes to `log`, and a part of that into the error if it fails.
///
/// # Errors
///
/// When it cannot be started, takes longer than `time_max` or does not end well.
pub(super) fn run(mut command: Command, log: &Path, time_max: Duration) -> anyhow::Result<Usage> {
    let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let usage = wait(&mut child, started, time_max).with_context(|| shown_log(log))?;
    if usage.exit_code != Some(0) {
        bail!("{command:?} ended with {:?}; {}", usage.exit_code, shown_log(log));
    }
    Ok(usage)
}

/// Waits for a program that was started then.
///
/// # Errors
///
/// When it takes longer than `time_max`; it is ended then.
pub(super) fn wait(child: &mut Child, started: Instant, time_max: Duration) -> anyhow::Result<Usage> {
    loop {
        if let Some(usage) = try_wait(child, started).context("cannot wait for a program")? {
            return Ok(usage);
        }
        if started.elapsed() > time_max {
            // It may have ended by itself in between.
            let _ = child.kill();
            let _ = child.wait();
            bail!("a program did not end within {} s", time_max.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// What the program used, if it has ended. The child is spent then.
fn try_wait(child: &Child, started: Instant) -> io::Result<Option<Usage>> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: a `rusage` is numbers only, for which zeros are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that wait4 writes; the process is our own child, which
    // nobody else waits for.
    match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(Some(Usage {
            wall: started.elapsed(),
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            // Linux counts in units of 1024 bytes, macOS in bytes.
            peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * if cfg!(target_os = "macos") { 1 } else { 1024 },
            exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        })),
    }
}

fn time(time: libc::timeval) -> Duration {
    // The kernel never counts backwards.
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
        + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

/// The last lines of a log.
fn shown_log(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(15)..];
    format!("the end of `{}`:\n{}", log.display(), tail.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, time_max: Duration) -> anyhow::Result<Usage> {
        let folder =
            std::env::temp_dir().join(format!("tidemill-xtask-measure-{}-{}", std::process::id(), script.len()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let result = run(command, &folder, time_max);
        let _ = std::fs::remove_file(folder);
        result
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_is_measured() {
        let usage = shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", LONG).expect("it ends well");
        assert!(usage.cpu > Duration::from_millis(1) && usage.cpu <= usage.wall * 2, "{usage:?}");
        assert!(usage.peak_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn a_failure_shows_what_was_printed() {
        let error = format!("{:#}", shell("echo broken >&2; exit 3", LONG).expect_err("it exits with 3"));
        assert!(error.contains("Some(3)") && error.ends_with("broken"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let error = format!("{:#}", shell("exec sleep 600", Duration::from_millis(20)).expect_err("it sleeps"));
        assert!(error.contains("did not end within"), "{error}");
    }
}
