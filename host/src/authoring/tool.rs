//! Programs that a build runs: found on the `PATH`, run in the project's folder, what they write shown when they fail.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::authoring::AuthoringError;

/// Characters of a failed program's output that are shown: a screen or two, of its end.
const OUTPUT_CHARS_MAX: usize = 16 << 10;

/// The program of this name on the `PATH`.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| is_program(program))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// A program and what it is given.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    folder: PathBuf,
}

impl Tool {
    /// A program, run in a folder.
    pub(super) fn new(program: impl Into<PathBuf>, folder: &Path) -> Self {
        Self { program: program.into(), arguments: Vec::new(), environment: Vec::new(), folder: folder.into() }
    }

    /// With one more argument.
    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// With more arguments.
    pub(super) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// With a variable of the environment.
    pub(super) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().into()));
        self
    }

    /// Whether it runs and ends well: for finding out what is there.
    pub(super) fn works(&self) -> bool {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Runs it; what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails, with what it wrote.
    pub(super) fn run(&self) -> Result<String, AuthoringError> {
        let done =
            self.command().output().map_err(|source| AuthoringError::NotStarted { command: self.written(), source })?;
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        if done.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&done.stderr);
        // What a program says of its failure is on standard error; some say it on the other.
        let said = if stderr.trim().is_empty() { &stdout } else { &*stderr };
        let output = last_chars(said.trim_end(), OUTPUT_CHARS_MAX);
        Err(AuthoringError::Failed { command: self.written(), status: done.status.to_string(), output })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// As it would be typed.
    fn written(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        let words = std::iter::once(program).chain(self.arguments.iter().map(OsString::as_os_str));
        let quoted = words.map(|word| {
            let word = word.to_string_lossy();
            if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// The end of a text, from a line on.
fn last_chars(text: &str, chars_max: usize) -> String {
    let Some((at, _)) = text.char_indices().rev().nth(chars_max) else { return text.to_owned() };
    let rest = &text[at..];
    let rest = rest.find('\n').map_or(rest, |end| &rest[end + 1..]);
    format!("…\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_end_of_what_was_written() {
        assert_eq!(last_chars("a\nb\nc", 10), "a\nb\nc");
        assert_eq!(last_chars("aaa\nbbb\nccc", 6), "…\nccc");
    }

    #[test]
    #[cfg(unix)]
    fn a_program_that_fails_is_shown_with_its_words() {
        let shell = find("sh").expect("there is a shell");
        let folder = std::env::temp_dir();
        let tool = Tool::new(&shell, &folder).args(["-c", "echo why >&2; exit 3"]);
        let error = tool.run().expect_err("it fails").to_string();
        assert_eq!(error, "`sh -c 'echo why >&2; exit 3'` failed (exit status: 3)\n\nwhy");
        assert!(!tool.works());
        let hello = Tool::new(shell, &folder).args(["-c", "echo $WORD"]).env("WORD", "hello");
        assert_eq!(hello.run().expect("it runs"), "hello\n");
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
