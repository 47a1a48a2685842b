//! The job file: reads every section into a [`Job`], and reports all mistakes at once.
//!
//! ```text
//!  text ── tree::parse ──▶ tree ── overrides (--set) ── environment (${NAME}) ──▶ tables ──▶ Job ── graph ──▶ checked
//! ```

use std::io::Read;
use std::path::Path;

use super::nearest::{list, suggest};
use super::problems::{Problem, Problems};
use super::table::{Reader, Table};
use super::tree::{self, Entry, Node, Place, Value};
use super::{Job, NamedTable, Settings, Sink, Source, Spans, environment, graph, overrides, render, settings, steps};
use crate::error::{Explain, Fault};
use crate::source::table::TableSource;

/// The largest job file: a thousand steps with comments are a tenth of it, and whatever is larger is something else.
pub const JOB_FILE_BYTES_MAX: u64 = 4 << 20;

/// A job that was read from a file, with the text that its spans point into.
#[derive(Debug, Clone)]
pub struct JobFile {
    /// What messages call the file.
    pub name: String,
    /// What stands in it.
    pub text: String,
    /// The job.
    pub job: Job,
    /// Where the `[job]` table stands.
    pub spans: Spans,
}

impl JobFile {
    /// Where a source of the job stands.
    #[must_use]
    pub fn source_spans(&self, name: &str) -> Option<&Spans> {
        self.job.sources.iter().find(|source| source.name == name).map(|source| &source.spans)
    }

    /// Where a table of the job stands.
    #[must_use]
    pub fn table_spans(&self, name: &str) -> Option<&Spans> {
        self.job.tables.iter().find(|table| table.name == name).map(|table| &table.spans)
    }

    /// Where a step of the job stands.
    #[must_use]
    pub fn step_spans(&self, name: &str) -> Option<&Spans> {
        self.job.steps.iter().find(|step| step.name == name).map(|step| &step.spans)
    }

    /// Where a sink of the job stands.
    #[must_use]
    pub fn sink_spans(&self, name: &str) -> Option<&Spans> {
        self.job.sinks.iter().find(|sink| sink.name == name).map(|sink| &sink.spans)
    }

    /// Mistakes found after the file was read (in schemas, by plugins), as text for people.
    #[must_use]
    pub fn render(&self, problems: &Problems, color: bool) -> String {
        render::render(problems, &self.text, &self.name, color)
    }
}

/// Why a job file is no job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobFileError {
    /// It could not be read.
    #[error("the job file `{name}` could not be read")]
    Unreadable {
        /// What it was called.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no text, or too large to be a job file.
    #[error("`{name}` is not a job file: {reason}")]
    NotText {
        /// What it was called.
        name: String,
        /// Why.
        reason: String,
    },
    /// It has mistakes.
    #[error("{}", render::summary(problems, name))]
    Mistakes {
        /// What it was called.
        name: String,
        /// What stands in it.
        text: String,
        /// All of them, in the order of the file.
        problems: Problems,
    },
}

impl JobFileError {
    /// The whole error as text for people: every mistake with its line.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        match self {
            JobFileError::Mistakes { name, text, problems } => render::render(problems, text, name, color),
            JobFileError::Unreadable { source, .. } => {
                let hint = self.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
                format!("error: {self}\n  caused by: {source}\n{hint}")
            }
            JobFileError::NotText { .. } => format!("error: {self}\n"),
        }
    }
}

impl Explain for JobFileError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        match self {
            JobFileError::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("Check the path: it is relative to the folder the command runs in.".into())
            }
            _ => None,
        }
    }
}

/// Reads a job file.
///
/// `overrides` are `key=value` texts, as `--set` takes them; they win over the file.
///
/// # Errors
///
/// [`JobFileError`], with all mistakes of the file. Nothing has been opened by then.
pub fn read_job(path: &Path, overrides: &[String]) -> Result<JobFile, JobFileError> {
    let name = path.display().to_string();
    let unreadable = |source| JobFileError::Unreadable { name: name.clone(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too large.
    file.take(JOB_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let not_text = |reason| JobFileError::NotText { name: name.clone(), reason };
    if bytes.len() as u64 > JOB_FILE_BYTES_MAX {
        return Err(not_text(format!("it is larger than {} MiB", JOB_FILE_BYTES_MAX >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        not_text(format!("line {} is not UTF-8", line + 1))
    })?;
    let base_dir = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse_job(text, name, base_dir, overrides)
}

/// Reads the text of a job file called `name`, whose relative paths are relative to `base_dir`.
///
/// # Errors
///
/// [`JobFileError::Mistakes`], with all of them.
pub fn parse_job(
    text: impl Into<String>,
    name: impl Into<String>,
    base_dir: &Path,
    overrides: &[String],
) -> Result<JobFile, JobFileError> {
    parse_with(text.into(), name.into(), base_dir, overrides, &|name| std::env::var(name))
}

/// The names of the steps of a job file that have a plugin; none when it cannot be read.
#[must_use]
pub fn plugin_steps(text: &str) -> Vec<String> {
    let has_plugin = |entries: &&Vec<Entry>| {
        let mut keys = Vec::new();
        find_plugins(entries, "", &mut keys);
        !keys.is_empty()
    };
    step_tables(text).iter().filter(has_plugin).filter_map(|entries| name_of(entries).map(str::to_owned)).collect()
}

/// The tables of a job file's steps; none when it cannot be read.
fn step_tables(text: &str) -> Vec<Vec<Entry>> {
    let Ok(entries) = tree::parse(text, &Reader::new(Path::new("."), &[])) else { return Vec::new() };
    let steps = entries.into_iter().find(|entry| entry.key == "step").map(|entry| entry.node.value);
    let Some(Value::List(steps)) = steps else { return Vec::new() };
    let table = |step: Node| match step.value {
        Value::Table(entries) => Some(entries),
        _ => None,
    };
    steps.into_iter().filter_map(table).collect()
}

fn name_of(entries: &[Entry]) -> Option<&str> {
    let name = entries.iter().find(|entry| entry.key == "name")?;
    if let Value::Text(text) = &name.node.value { Some(&text.value) } else { None }
}

/// The keys of a step of a job file under which a plugin is named, dotted and from the step on, as in `update-state.plugin`; empty when the file
/// has no such step, or cannot be read.
#[must_use]
pub fn plugin_keys(text: &str, step: &str) -> Vec<String> {
    let mut keys = Vec::new();
    if let Some(entries) = step_tables(text).iter().find(|entries| name_of(entries) == Some(step)) {
        find_plugins(entries, "", &mut keys);
    }
    keys
}

fn find_plugins(entries: &[Entry], above: &str, keys: &mut Vec<String>) {
    for entry in entries {
        let key = format!("{above}{}", entry.key);
        match &entry.node.value {
            Value::Text(_) if entry.key == "plugin" || key == "transform" => keys.push(key),
            // A configuration is the plugin's own.
            Value::Table(entries) if entry.key != "config" => find_plugins(entries, &format!("{key}."), keys),
            _ => {}
        }
    }
}

/// [`parse_job`] with an environment.
pub(super) fn parse_with(
    text: String,
    name: String,
    base_dir: &Path,
    overrides: &[String],
    lookup: environment::Lookup<'_>,
) -> Result<JobFile, JobFileError> {
    let reader = Reader::new(base_dir, overrides);
    let read = tree::parse(&text, &reader).map(|mut entries| {
        overrides::apply(&mut entries, &reader);
        environment::substitute(&mut entries, &reader, lookup);
        read_sections(&reader, &entries, &name)
    });
    let mut problems = reader.problems.into_inner();
    match read {
        Ok((job, spans)) if problems.is_empty() => return Ok(JobFile { name, text, job, spans }),
        Ok(_) => {}
        Err(syntax) => problems.extend(syntax.iter().cloned()),
    }
    problems.sort();
    Err(JobFileError::Mistakes { name, text, problems })
}

/// The sections of a job file.
const SECTIONS: [&str; 8] = ["job", "limits", "state", "spill", "source", "table", "step", "sink"];

fn read_sections(reader: &Reader, entries: &[Entry], file_name: &str) -> (Job, Spans) {
    let section = |name: &str| entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node);
    for entry in entries.iter().filter(|entry| !SECTIONS.contains(&entry.key.as_str())) {
        let hint = match entry.key.as_str() {
            "sources" | "tables" | "steps" | "sinks" => {
                let singular = entry.key.trim_end_matches('s');
                Some(format!("Write `[[{singular}]]` once for each."))
            }
            key => suggest(key, "Sections", SECTIONS),
        };
        reader.problem(&entry.place, format!("unknown section `{}`", entry.key), hint);
    }
    let table = |name: &'static str| {
        let node = section(name)?;
        match &node.value {
            Value::Table(entries) => Some(Table::new(reader, entries, node.place.clone(), format!("`[{name}]`"))),
            other => {
                let message = format!("`{name}` must be one table, not {}", other.kind());
                reader.problem(&node.place, message, Some(format!("Write `[{name}]`.")));
                None
            }
        }
    };
    let mut job = Job {
        settings: Settings {
            name: Path::new(file_name).file_stem().map_or("job".into(), |stem| stem.to_string_lossy().into_owned()),
            ..Settings::default()
        },
        ..Job::default()
    };
    if let Some(table) = table("limits") {
        settings::read_job_limits(table, &mut job.settings);
    }
    if let Some(table) = table("state") {
        settings::read_state(table, &mut job.settings.state);
    }
    if let Some(table) = table("spill") {
        settings::read_spill(table, &mut job.settings.spill);
    }
    let mut spans = Spans::default();
    if let Some(table) = table("job") {
        spans = table.spans();
        settings::read_settings(table, &mut job.settings);
    }

    let mut names = graph::Names::default();
    for (table, place) in elements(reader, section("source"), "source") {
        read_source(table, &place, &mut names, &mut job);
    }
    for (table, place) in elements(reader, section("table"), "table") {
        read_table(table, &place, &mut names, &mut job);
    }
    for (table, place) in elements(reader, section("step"), "step") {
        let job_limits = job.settings.limits.clone();
        steps::read_step(table, &place, &job_limits, &mut names, &mut job.steps);
    }
    for (index, (table, place)) in elements(reader, section("sink"), "sink").into_iter().enumerate() {
        read_sink(table, &place, index, &mut names, &mut job);
    }
    for (section, what) in [("source", "no rows come in"), ("sink", "nothing comes out")] {
        if entries.iter().all(|entry| entry.key.trim_end_matches('s') != section) {
            reader.push(
                Problem::new(format!("the job has no {section}: {what}"))
                    .hint(Some(format!("Add a `[[{section}]]` table."))),
            );
        }
    }
    names.check(reader);
    (job, spans)
}

/// The tables of a section that is written `[[name]]`.
fn elements<'a>(reader: &'a Reader, node: Option<&'a Node>, section: &'static str) -> Vec<(Table<'a>, Place)> {
    let Some(node) = node else { return Vec::new() };
    let Value::List(items) = &node.value else {
        let message = format!("`{section}` must be a list of tables, not {}", node.value.kind());
        reader.problem(&node.place, message, Some(format!("Write `[[{section}]]`, with two brackets.")));
        return Vec::new();
    };
    let mut tables = Vec::new();
    for item in items {
        match &item.value {
            Value::Table(entries) => {
                let table = Table::new(reader, entries, item.place.clone(), format!("`[[{section}]]`"));
                tables.push((table, item.place.clone()));
            }
            other => {
                reader.problem(&item.place, format!("a {section} must be a table, not {}", other.kind()), None);
            }
        }
    }
    tables
}

fn read_source(mut table: Table<'_>, place: &Place, names: &mut graph::Names, job: &mut Job) {
    let name = table.name();
    if let Some(name) = &name {
        names.add_source(table.reader(), name, table.place("name"), place.clone());
    }
    let spans = table.spans();
    // Known also when the rest is wrong, so that who reads from it is not wrong too. Sources without the key do not know it.
    if crate::source::may_have_dead_letter(&mut table)
        && let Some(dead_letter) = table.name_at("dead-letter")
    {
        names.add_dead_letter(table.reader(), &dead_letter, None, table.place("dead-letter"));
    }
    let definition = read_type(&mut table, "source", crate::source::SOURCE_TYPES).map(|type_name| {
        let definition = crate::source::parse_definition(&type_name, &mut table);
        if type_name == "file" {
            table.check_path("path");
        }
        definition
    });
    // The keys of a source of unknown type are unknown, not wrong.
    let Some(definition) = definition else { return };
    let event_time = table.table("event-time").and_then(crate::step::watermark::read_event_time);
    let durability = settings::read_durability(&mut table);
    table.finish();
    if let (Some(name), Some(definition)) = (name, definition) {
        job.sources.push(Source { name, definition, event_time, durability, spans });
    }
}

fn read_table(mut table: Table<'_>, place: &Place, names: &mut graph::Names, job: &mut Job) {
    let name = table.name();
    match &name {
        Some(name) => names.add_table(table.reader(), name, table.place("name"), place.clone()),
        None => names.add_nameless(),
    }
    let spans = table.spans();
    let source = TableSource::parse(&mut table);
    table.check_path("path");
    table.finish();
    if let (Some(name), Some(source)) = (name, source) {
        job.tables.push(NamedTable { name, source, spans });
    }
}

fn read_sink(mut table: Table<'_>, place: &Place, index: usize, names: &mut graph::Names, job: &mut Job) {
    let name = if table.has("name") { table.name() } else { Some(format!("sink-{}", index + 1)) };
    // Known also when it is absent, so that it can be the nearest right name.
    let _ = table.node("name");
    let from = table.from(names);
    let label = name.clone().unwrap_or_else(|| format!("sink-{}", index + 1));
    names.add_sink(table.reader(), &label, &from, table.place("name"), place.clone());
    let spans = table.spans();
    let definition = read_type(&mut table, "sink", crate::sink::SINK_TYPES)
        .map(|type_name| crate::sink::parse_definition(&type_name, &mut table));
    let Some(definition) = definition else { return };
    table.finish();
    if let (Some(name), Some(definition)) = (name, definition) {
        let from = from.into_iter().map(|input| input.name).collect();
        job.sinks.push(Sink { name, from, definition, spans });
    }
}

/// The `type` of a source or sink, if it is one of those there are.
fn read_type(table: &mut Table<'_>, what: &str, types: &[&str]) -> Option<String> {
    if !table.has("type") {
        table.missing("type", Some(format!("Types of {what}s: {}.", list(types))));
    }
    let type_name = table.text("type")?;
    if types.contains(&type_name.as_str()) {
        return Some(type_name);
    }
    let hint = suggest(&type_name, &format!("Types of {what}s"), types.iter().copied());
    table.problem("type", format!("there is no {what} of type `{type_name}`"), hint);
    None
}
