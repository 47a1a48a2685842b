//! Which plugin is run on which rows: what is said on the command line, and else in the project's `operator.toml`.

use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use clap::Args;
use tidemill::authoring::{ProjectError, TestOptions, read_project};
use tidemill::job::table::read_options;
use tidemill::operator::Role;
use tidemill::source::FileSource;
use tidemill::source::schema::parse_schema;

use super::print_project_error;
use crate::cli::new::role_parser;
use crate::cli::output::{print_error, print_mistakes};
use crate::cli::{Format, WRONG};

/// A plugin and rows.
#[derive(Debug, Args)]
pub(super) struct RowsArguments {
    /// The plugin file; without it, that of the project in this folder.
    #[arg(value_name = "PLUGIN.wasm")]
    plugin: Option<PathBuf>,

    /// The rows: a file of JSON lines (`.json`, `.jsonl`), text (`.txt`), CSV, Parquet or Arrow.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,

    /// The columns of the rows, as in `id: int64, tags: list<utf8>`; without it they are found in the rows.
    #[arg(long, value_name = "COLUMNS", requires = "rows")]
    schema: Option<String>,

    /// The step's `config`, as JSON.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,

    /// The columns that are the key, with commas between.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    by: Vec<String>,

    /// The role to run it in, when it has several.
    #[arg(long, value_parser = role_parser())]
    role: Option<Role>,
}

/// What is run on what.
pub(super) struct Chosen {
    pub(super) plugin: PathBuf,
    pub(super) role: Option<Role>,
    pub(super) rows: FileSource,
    pub(super) config: serde_json::Value,
    pub(super) by: Vec<String>,
    /// What the project expects to come out; only where it says the rows, too.
    pub(super) expected: Option<PathBuf>,
}

impl RowsArguments {
    /// What is said; mistakes are printed.
    pub(super) fn choose(&self, format: Format) -> Result<Chosen, u8> {
        let wrong = |message: &str, hint: &str| {
            print_error(format, message, || format!("error: {message}\n\nhint: {hint}\n"));
            WRONG
        };
        let project = match read_project(Path::new(".")) {
            Ok(project) => Some(project),
            // With a plugin and rows there need be no project.
            Err(ProjectError::Missing { .. }) if self.plugin.is_some() => None,
            Err(error) => return Err(print_project_error(format, error)),
        };
        let plugin = match (&self.plugin, &project) {
            (Some(plugin), _) => plugin.clone(),
            (None, Some(project)) => {
                let plugin = project.plugin();
                let plugin = plugin.strip_prefix(".").unwrap_or(&plugin).to_path_buf();
                if !plugin.exists() {
                    let message = format!("there is no `{}` yet", plugin.display());
                    return Err(wrong(&message, "Build it with `tidemill plugin build`."));
                }
                plugin
            }
            (None, None) => return Err(wrong("no plugin is named", "Name its file.")),
        };
        let role = self.role.or_else(|| match project.as_ref()?.roles.as_slice() {
            [role] if self.plugin.is_none() => Some(*role),
            _ => None,
        });
        let of_project: Option<TestOptions> = project.and_then(|project| project.test);
        let config = match (&self.config, &of_project) {
            (Some(text), _) => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(config) if config.is_object() => config,
                Ok(_) => return Err(wrong("`--config` is no object", "As in `--config '{\"lowercase\": true}'`.")),
                Err(error) => {
                    return Err(wrong(
                        &format!("`--config` is not JSON: {error}"),
                        "As in `--config '{\"lowercase\": true}'`.",
                    ));
                }
            },
            (None, Some(options)) => options.config.clone(),
            (None, None) => serde_json::json!({}),
        };
        let by = match &of_project {
            Some(options) if self.by.is_empty() => options.by.clone(),
            _ => self.by.clone(),
        };
        let (rows, expected) = match (&self.rows, of_project) {
            (Some(path), _) => (self.source(path, format)?, None),
            (None, Some(options)) => {
                let shown = |path: PathBuf| path.strip_prefix(".").map_or(path.clone(), Path::to_path_buf);
                (options.rows, options.expected.map(shown))
            }
            (None, None) => {
                return Err(wrong(
                    "no rows are named",
                    "Name a file with `--rows`, or `rows` in the `[test]` of `operator.toml`.",
                ));
            }
        };
        Ok(Chosen { plugin, role, rows, config, by, expected })
    }

    /// The source of rows that `--rows` and `--schema` name.
    fn source(&self, path: &Path, format: Format) -> Result<FileSource, u8> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let file_format = match ending {
            "txt" | "text" => "text",
            "csv" => "csv",
            "parquet" => "parquet",
            "arrow" | "arrows" | "feather" => "arrow",
            _ => "json",
        };
        // As it would stand in a job file, so that all is read and checked as there.
        let mut options = toml_line("path", &path.display().to_string()) + &toml_line("format", file_format);
        match &self.schema {
            Some(schema) => {
                let columns =
                    columns_of(schema).map(|(name, of_type)| format!("{} = {}", quoted(name), quoted(of_type)));
                options += &format!("schema = {{ {} }}\n", columns.collect::<Vec<_>>().join(", "));
            }
            None if file_format != "text" => options += &toml_line("schema", "infer"),
            None => {}
        }
        let read = read_options(&options, Path::new(""), FileSource::parse);
        read.map_err(|problems| {
            print_mistakes(format, &problems, &options, "--rows");
            WRONG
        })
        // A source whose options are right is one.
        .and_then(|source| source.ok_or(WRONG))
    }
}

/// The columns in `a: int64, b: list<utf8>`: commas within brackets are part of a type.
pub(super) fn columns_of(schema: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut depth = 0_i32;
    let parts = schema.split(move |char| {
        depth += i32::from(matches!(char, '<' | '(')) - i32::from(matches!(char, '>' | ')'));
        char == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).map(|part| {
        let (name, of_type) = part.split_once(':').unwrap_or((part, ""));
        (name.trim(), of_type.trim())
    })
}

/// The schema of these columns.
pub(super) fn schema_of(columns: &str) -> Result<SchemaRef, String> {
    let columns: Vec<_> = columns_of(columns).map(|(name, of_type)| (name.to_owned(), of_type.to_owned())).collect();
    parse_schema(&columns).map_err(|errors| {
        let messages = errors.into_iter().map(|(column, error)| format!("column `{column}`: {error}"));
        messages.collect::<Vec<_>>().join("; ")
    })
}

fn toml_line(key: &str, value: &str) -> String {
    format!("{key} = {}\n", quoted(value))
}

/// A text as TOML writes it; of JSON's escapes it has all.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::columns_of;

    #[test]
    fn columns_are_cut_between_types() {
        let columns: Vec<_> = columns_of("a: int64, b: list<struct<x: utf8, y: decimal(9, 2)>> ,c:utf8").collect();
        assert_eq!(columns, [("a", "int64"), ("b", "list<struct<x: utf8, y: decimal(9, 2)>>"), ("c", "utf8")]);
        assert_eq!(columns_of("").count(), 0);
    }
}
