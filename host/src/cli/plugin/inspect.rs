//! `tidemill plugin inspect`: looks into a plugin.

use std::path::PathBuf;

use clap::Args;
use tidemill::plugin::Inspection;

use crate::cli::output::{fail, human_bytes, put};
use crate::cli::{ENDED_WELL, Format, JOB_FAILED, WRONG, runtime};

/// What `plugin inspect` takes.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The plugin file.
    #[arg(value_name = "PLUGIN.wasm")]
    plugin: PathBuf,

    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn inspect(arguments: &InspectArguments) -> u8 {
    let format = arguments.format;
    let inspected = runtime(format).and_then(|runtime| {
        runtime.inspect(&arguments.plugin).map_err(|error| {
            fail(format, &error.into());
            WRONG
        })
    });
    match inspected {
        Ok(inspection) => {
            let written = put(&match format {
                Format::Human => in_words(&arguments.plugin.display().to_string(), &inspection),
                Format::Json => format!("{}\n", as_json(&inspection)),
            });
            if written { ENDED_WELL } else { JOB_FAILED }
        }
        Err(code) => code,
    }
}

fn in_words(name: &str, inspection: &Inspection) -> String {
    let mut lines = vec![
        format!("plugin  {name}"),
        format!("size    {}", human_bytes(inspection.n_bytes)),
        format!("sha256  {}", inspection.sha256),
    ];
    let roles = inspection.roles.iter().map(|export| format!("{} (contract {})", export.role, export.contract));
    lines.push(format!("roles   {}", or_none(roles.collect())));
    if !inspection.other_exports.is_empty() {
        lines.push(format!("exports {}", inspection.other_exports.join(", ")));
    }
    lines.push("imports".into());
    lines.extend(inspection.imports.iter().map(|import| format!("  {}: {}", import.name, import.standing)));
    lines.push("schemas depend on the input and the config: `tidemill check` shows them for a job".into());
    lines.join("\n") + "\n"
}

fn as_json(inspection: &Inspection) -> serde_json::Value {
    let roles = inspection
        .roles
        .iter()
        .map(|export| serde_json::json!({ "role": export.role.name(), "contract": export.contract.to_string() }));
    let imports = inspection
        .imports
        .iter()
        .map(|import| serde_json::json!({ "name": import.name, "standing": import.standing.to_string() }));
    serde_json::json!({
        "size_bytes": inspection.n_bytes,
        "sha256": inspection.sha256.to_string(),
        "roles": roles.collect::<Vec<_>>(),
        "other_exports": inspection.other_exports,
        "imports": imports.collect::<Vec<_>>(),
    })
}

fn or_none(names: Vec<String>) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
