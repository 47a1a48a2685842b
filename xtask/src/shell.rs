//! Runs commands, shows them as one would type them, and says on failure which one to repeat.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A command that can be run and shown.
pub(crate) struct Shell {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Shell {
    /// A command of a program on the path.
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
        }
    }

    /// A command of cargo.
    pub(crate) fn cargo(arguments: &[&str]) -> Self {
        Self::new("cargo", arguments)
    }

    /// The same command with one more argument.
    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The same command with an environment variable set.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The command as one would type it.
    pub(crate) fn shown(&self) -> String {
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.program).chain(&self.arguments).map(|word| quoted(word));
        environment.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// The command, to be run by the caller.
    pub(crate) fn command(&self) -> Command {
        // The very cargo that runs us, which the path need not have.
        let cargo = std::env::var("CARGO").ok().filter(|_| self.program == "cargo");
        let mut command = Command::new(cargo.as_deref().unwrap_or(&self.program));
        command.args(&self.arguments);
        // What `cargo run` tells us about ourselves is wrong for whatever we run.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&*name);
            }
        }
        if self.environment.iter().any(|(name, _)| name == "RUSTFLAGS") {
            // It would win over ours.
            command.env_remove("CARGO_ENCODED_RUSTFLAGS");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the command to its end; it prints where we print.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        println!("$ {}", self.shown());
        let status = self.command().status().with_context(|| format!("cannot run `{}`", self.program))?;
        self.check(status)
    }

    /// Runs the command and gives each line of its standard output to `see`; the line is printed too.
    pub(crate) fn run_watched(&self, mut see: impl FnMut(&str)) -> anyhow::Result<()> {
        println!("$ {}", self.shown());
        let mut child =
            self.command().stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{}`", self.program))?;
        let output = child.stdout.take().context("the command has no standard output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read what the command prints")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            see(&line);
        }
        self.check(child.wait()?)
    }

    /// Runs the command and returns what it prints.
    pub(crate) fn read(&self) -> anyhow::Result<String> {
        let output = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run `{}`", self.program))?;
        self.check(output.status)?;
        String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", self.shown()))
    }

    fn check(&self, status: std::process::ExitStatus) -> anyhow::Result<()> {
        if !status.success() {
            bail!("the last command failed ({status}); to repeat it:\n\n    {}", self.shown());
        }
        Ok(())
    }
}

/// The word as a shell needs it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shell: &Shell, expected: &str) {
        assert_eq!(shell.shown(), expected);
    }

    #[test]
    fn commands_are_shown_as_they_are_typed() {
        check(&Shell::cargo(&["fmt", "--check"]), "cargo fmt --check");
        check(
            &Shell::cargo(&["doc"]).env("RUSTDOCFLAGS", "-D warnings").arg("it's"),
            r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s'",
        );
        check(&Shell::new("sh", &[""]), "sh ''");
    }

    #[test]
    fn a_failure_says_what_to_repeat() {
        let error = Shell::new("sh", &["-c", "exit 3"]).run().expect_err("it exits with 3");
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 3") && text.ends_with("    sh -c 'exit 3'"), "{text}");
    }

    #[test]
    fn watched_lines_are_seen_in_order() {
        let mut lines = Vec::new();
        Shell::new("sh", &["-c", "echo a; echo b"])
            .run_watched(|line| lines.push(line.to_owned()))
            .expect("it succeeds");
        assert_eq!(lines, ["a", "b"]);
    }
}
