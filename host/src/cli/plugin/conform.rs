//! `tidemill plugin conform`: holds a plugin against the contract.

use std::path::{Path, PathBuf};

use clap::Args;
use tidemill::authoring::conform::{ConformRequest, conform as run_conform};
use tidemill::authoring::read_project;
use tidemill::operator::Role;
use tidemill::source::SourceDefinition;

use super::rows::schema_of;
use crate::cli::new::role_parser;
use crate::cli::output::{fail, print_error, put};
use crate::cli::progress::Progress;
use crate::cli::{ENDED_WELL, Format, JOB_FAILED, WRONG, runtime};

/// What `plugin conform` takes.
#[derive(Debug, Args)]
pub(crate) struct ConformArguments {
    /// The plugin file; without it, that of the project in this folder.
    #[arg(value_name = "PLUGIN.wasm")]
    plugin: Option<PathBuf>,

    /// It is the conformance operator of an SDK: see docs/conformance.md.
    #[arg(long, conflicts_with_all = ["input", "config", "by"])]
    sdk: bool,

    /// Columns that it accepts, as in `id: int64, tags: list<utf8>`; without it, those of the project's test.
    #[arg(long, value_name = "COLUMNS")]
    input: Option<String>,

    /// The columns that are the key, with commas between.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    by: Vec<String>,

    /// The step's `config`, as JSON.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,

    /// Check this role alone.
    #[arg(long, value_parser = role_parser())]
    role: Option<Role>,

    /// What rows are made up from.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Run this check alone, as in `transform/types`.
    #[arg(long, value_name = "CHECK")]
    only: Option<String>,

    /// How the result is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn conform(arguments: &ConformArguments) -> u8 {
    let format = arguments.format;
    let wrong = |message: String, hint: &str| {
        print_error(format, &message, || format!("error: {message}\n\nhint: {hint}\n"));
        WRONG
    };
    let checked = || -> Result<u8, u8> {
        let project = match read_project(Path::new(".")) {
            Ok(project) => Some(project),
            Err(_) if arguments.plugin.is_some() => None,
            Err(error) => return Err(super::print_project_error(format, error)),
        };
        let plugin = arguments.plugin.clone().or_else(|| project.as_ref().map(|project| project.plugin()));
        // One of the two is there.
        let plugin = plugin.unwrap_or_default();
        let plugin = plugin.strip_prefix(".").unwrap_or(&plugin).to_path_buf();
        let of_project = project.and_then(|project| project.test);
        let input = match (&arguments.input, &of_project) {
            (Some(columns), _) => Some(
                schema_of(columns)
                    .map_err(|message| wrong(message, "As in `--input \"id: int64, tags: list<utf8>\"`."))?,
            ),
            (None, Some(options)) if !arguments.sdk => Some(options.rows.schema().map_err(|error| {
                fail(format, &error);
                WRONG
            })?),
            _ => None,
        };
        let config = match (&arguments.config, &of_project) {
            (Some(text), _) => serde_json::from_str(text)
                .map_err(|error| wrong(format!("`--config` is not JSON: {error}"), "As in `--config '{\"n\": 1}'`."))?,
            (None, Some(options)) if arguments.input.is_none() => options.config.clone(),
            _ => serde_json::json!({}),
        };
        let by = match &of_project {
            Some(options) if arguments.by.is_empty() && arguments.input.is_none() => options.by.clone(),
            _ => arguments.by.clone(),
        };
        let request = ConformRequest {
            plugin,
            sdk: arguments.sdk,
            seed: arguments.seed,
            role: arguments.role,
            input,
            by,
            config,
            only: arguments.only.clone(),
        };
        let runtime = runtime(format)?;
        let waiting = Progress::new(format == Format::Human).wait_for("checking");
        let report = run_conform(&request, &runtime);
        drop(waiting);
        let report = report.map_err(|error| {
            fail(format, &error);
            WRONG
        })?;
        let written = put(&match format {
            Format::Human => report.in_words(&super::again()),
            Format::Json => format!("{}\n", report.as_json()),
        });
        Ok(if written && report.passed() { ENDED_WELL } else { JOB_FAILED })
    };
    checked().unwrap_or_else(|code| code)
}
