//! `tidemill plugin inspect`: looks into a plugin.

use std::path::PathBuf;

use clap::Args;
use tidemill::authoring::schemas::{RoleSchemas, schemas};
use tidemill::plugin::Inspection;

use super::rows::schema_of;
use crate::cli::output::{fail, human_bytes, print_error, put};
use crate::cli::{ENDED_WELL, Format, JOB_FAILED, WRONG, runtime};

/// What `plugin inspect` takes.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The plugin file.
    #[arg(value_name = "PLUGIN.wasm")]
    plugin: PathBuf,

    /// Open it for rows of these columns, as in `id: int64, tags: list<utf8>`, and print what it reads and writes.
    #[arg(long, value_name = "COLUMNS")]
    input: Option<String>,

    /// The columns of `--input` that are the key, with commas between.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', requires = "input")]
    by: Vec<String>,

    /// The step's `config`, as JSON.
    #[arg(long, value_name = "JSON", requires = "input")]
    config: Option<String>,

    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn inspect(arguments: &InspectArguments) -> u8 {
    let format = arguments.format;
    let inspected = || -> Result<u8, u8> {
        let runtime = runtime(format)?;
        let failed = |error: tidemill::error::Error| {
            fail(format, &error);
            WRONG
        };
        let inspection = runtime.inspect(&arguments.plugin).map_err(|error| failed(error.into()))?;
        let opened = match &arguments.input {
            None => None,
            Some(columns) => {
                let wrong = |message: String| {
                    print_error(format, &message, || format!("error: {message}\n"));
                    WRONG
                };
                let input = schema_of(columns).map_err(wrong)?;
                let config = serde_json::from_str(arguments.config.as_deref().unwrap_or("{}"))
                    .map_err(|error| wrong(format!("`--config` is not JSON: {error}")))?;
                Some(schemas(&arguments.plugin, &input, &arguments.by, &config, &runtime).map_err(failed)?)
            }
        };
        let name = arguments.plugin.display().to_string();
        let written = put(&match format {
            Format::Human => in_words(&name, &inspection, opened.as_deref()),
            Format::Json => format!("{}\n", as_json(&inspection, opened.as_deref())),
        });
        let refuses = opened.iter().flatten().any(|role| role.lines.is_err());
        Ok(match written {
            true if refuses => WRONG,
            true => ENDED_WELL,
            false => JOB_FAILED,
        })
    };
    inspected().unwrap_or_else(|code| code)
}

fn in_words(name: &str, inspection: &Inspection, opened: Option<&[RoleSchemas]>) -> String {
    let mut lines = vec![
        format!("plugin    {name}"),
        format!("size      {}", human_bytes(inspection.n_bytes)),
        format!("sha256    {}", inspection.sha256),
        format!("language  {}", inspection.language.as_deref().unwrap_or("not said")),
    ];
    let roles = inspection.roles.iter().map(|export| format!("{} (contract {})", export.role, export.contract));
    lines.push(format!("roles     {}", or_none(roles.collect())));
    if !inspection.other_exports.is_empty() {
        lines.push(format!("exports   {}", inspection.other_exports.join(", ")));
    }
    lines.push("imports".into());
    lines.extend(inspection.imports.iter().map(|import| format!("  {}: {}", import.name, import.standing)));
    match opened {
        None => {
            lines.push("schemas depend on the input and the config: `--input` and `tidemill check` show them".into())
        }
        Some(opened) => lines.extend(opened.iter().flat_map(|RoleSchemas { role, lines }| {
            let told = match lines {
                Ok(lines) => lines.iter().map(|(name, text)| format!("  {name:<8}  {text}")).collect(),
                Err(error) => vec![format!("  {error}")],
            };
            std::iter::once(role.name().to_owned()).chain(told)
        })),
    }
    lines.join("\n") + "\n"
}

fn as_json(inspection: &Inspection, opened: Option<&[RoleSchemas]>) -> serde_json::Value {
    let roles = inspection
        .roles
        .iter()
        .map(|export| serde_json::json!({ "role": export.role.name(), "contract": export.contract.to_string() }));
    let imports = inspection
        .imports
        .iter()
        .map(|import| serde_json::json!({ "name": import.name, "standing": import.standing.to_string() }));
    let schemas = opened.map(|opened| {
        let role = |RoleSchemas { role, lines }: &RoleSchemas| {
            let told = match lines {
                Ok(lines) => lines.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect(),
                Err(error) => serde_json::Map::from_iter([("refused".to_owned(), error.to_string().into())]),
            };
            (role.name().to_owned(), serde_json::Value::Object(told))
        };
        opened.iter().map(role).collect::<serde_json::Map<_, _>>()
    });
    serde_json::json!({
        "size_bytes": inspection.n_bytes,
        "sha256": inspection.sha256.to_string(),
        "language": inspection.language,
        "roles": roles.collect::<Vec<_>>(),
        "other_exports": inspection.other_exports,
        "imports": imports.collect::<Vec<_>>(),
        "schemas": schemas,
    })
}

fn or_none(names: Vec<String>) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
