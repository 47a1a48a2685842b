//! The job files that benchmarks run: the word count, with another source, interval and sink.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::FOLDER;

/// A word count. Paths are relative to the project's root.
pub(super) struct WordCount<'a> {
    /// What the file is called.
    pub(super) name: &'a str,
    /// Lines of `[job]`.
    pub(super) settings: &'a str,
    /// Lines of `[[source]]`.
    pub(super) source: &'a str,
    /// Lines of `[[sink]]`.
    pub(super) sink: &'a str,
    /// Whether words are counted over all batches, not in each.
    pub(super) running: bool,
}

impl WordCount<'_> {
    /// Writes the job file, and says where it is.
    pub(super) fn write(&self) -> anyhow::Result<PathBuf> {
        let path = Path::new(FOLDER).join(format!("{}.toml", self.name));
        fs::write(&path, self.text()).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    fn text(&self) -> String {
        let Self { name, settings, source, sink, running } = self;
        let running = if *running { ", running = true" } else { "" };
        format!(
            r#"# Made by `cargo xtask bench`.
[job]
name = "{name}"
{settings}

[[source]]
name = "lines"
{source}

[[step]]
name = "words"
from = "lines"
transform = "../plugins/split_words.wasm"

[[step]]
name = "counts"
from = "words"
aggregate = {{ by = ["word"], select = {{ count = "count(*)" }}{running} }}

[[sink]]
name = "out"
from = "counts"
{sink}
"#
        )
    }
}

/// The lines of a console sink that prints every row of a batch as JSON: no text here has as many words.
pub(super) const CONSOLE: &str = "type = \"console\"\nformat = \"json\"\nrows = 1000";

/// The lines of a socket source.
pub(super) fn socket(address: std::net::SocketAddr) -> String {
    format!("type = \"socket\"\naddress = \"{address}\"")
}
