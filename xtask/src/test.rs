//! `cargo xtask test`: every check and test, in order, stopping at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::shell::Shell;
use crate::{plugins, tidy, toolchain};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Run this step alone; may be given more than once
    #[arg(long, value_name = "STEP", value_parser = STEPS.map(|step| step.name))]
    only: Vec<String>,
}

/// One step of the chore.
struct Step {
    name: &'static str,
    run: fn(&mut Counts) -> anyhow::Result<()>,
}

/// The steps: what fails fastest first, and each building on what those before it have built.
///
/// `clippy` checks all dependencies, which `doc` uses again. `build` builds every target with the features that `test`
/// wants, so that the dependencies are compiled once.
const STEPS: [Step; 8] = [
    Step { name: "targets", run: |_| toolchain::ensure_target() },
    Step { name: "fmt", run: |_| Shell::cargo(&["fmt", "--all", "--check"]).run() },
    Step { name: "tidy", run: |_| tidy::tidy() },
    Step {
        name: "clippy",
        run: |_| Shell::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run(),
    },
    Step { name: "plugins", run: |_| plugins::build() },
    Step { name: "build", run: |_| Shell::cargo(&["build", "--workspace", "--all-targets"]).run() },
    Step { name: "doc", run: |_| doc() },
    Step { name: "test", run: run_tests },
];

/// Runs the steps asked for, or all.
pub(crate) fn test(options: &Options) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut counts = Counts::default();
    for step in STEPS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == step.name) {
            continue;
        }
        println!("\n==> {}", step.name);
        let started = Instant::now();
        let result = (step.run)(&mut counts);
        let elapsed = started.elapsed();
        println!("<== {} {}: {}", step.name, if result.is_ok() { "passed" } else { "failed" }, shown(elapsed));
        result
            .with_context(|| format!("step `{0}` failed (`cargo xtask test --only {0}` runs it alone)", step.name))?;
        times.push((step.name, elapsed));
    }
    println!();
    for (name, elapsed) in &times {
        println!("{name:<8} {:>8}", shown(*elapsed));
    }
    println!("{:<8} {:>8}", "all", shown(times.iter().map(|(_, elapsed)| *elapsed).sum()));
    if counts.seen {
        println!("\ntests: {} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.ignored);
    }
    Ok(())
}

/// Builds the documentation of what others program against; a broken link is an error.
fn doc() -> anyhow::Result<()> {
    let packages = ["--package", "tidemill", "--package", "tidemill-guest", "--package", "tidemill-guest-macros"];
    let command = Shell::cargo(&["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    packages.iter().fold(command, |command, word| command.arg(*word)).run()
}

/// Runs every test of the workspace: unit, property, doc, end to end.
fn run_tests(counts: &mut Counts) -> anyhow::Result<()> {
    Shell::cargo(&["test", "--workspace"]).run_watched(|line| counts.add(line))?;
    if counts.passed == 0 {
        bail!("`cargo test` ran no test");
    }
    Ok(())
}

/// What the closing lines of the test programs add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    seen: bool,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`; any other is
    /// none of ours.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        self.seen = true;
        let Some((_, counts)) = result.split_once(". ") else { return };
        for count in counts.split("; ") {
            let Some((number, word)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The time as people say it: `7.3 s`, `2 min 05 s`.
fn shown(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, passed: u64, failed: u64, ignored: u64) {
        let mut counts = Counts::default();
        lines.lines().for_each(|line| counts.add(line));
        assert_eq!(counts, Counts { seen: lines.contains("test result"), passed, failed, ignored });
    }

    #[test]
    fn closing_lines_are_added_up() {
        check("", 0, 0, 0);
        check("test a ... ok\n3 passed\n", 0, 0, 0);
        check(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            5,
            1,
            1,
        );
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(shown(Duration::from_millis(7_340)), "7.3 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 min 05 s");
    }
}
