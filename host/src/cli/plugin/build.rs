//! `tidemill plugin build`: builds the plugin of a project with the tools of its language.

use clap::Args;
use tidemill::authoring::build::{BuiltPlugin, build as build_project};

use super::ProjectArguments;
use crate::cli::output::{fail, human_bytes, put};
use crate::cli::progress::Progress;
use crate::cli::{ENDED_WELL, Format, JOB_FAILED, runtime};

/// What `plugin build` takes.
#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    #[command(flatten)]
    project: ProjectArguments,

    /// How the result is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn build(arguments: &BuildArguments) -> u8 {
    let format = arguments.format;
    let built = || -> Result<u8, u8> {
        let project = arguments.project.read(format)?;
        let runtime = runtime(format)?;
        let waiting = Progress::new(format == Format::Human).wait_for("building");
        let built = build_project(&project, &runtime);
        drop(waiting);
        let built = built.map_err(|error| {
            fail(format, &error.into());
            JOB_FAILED
        })?;
        let written = put(&match format {
            Format::Human => in_words(&built),
            Format::Json => format!("{}\n", as_json(&built)),
        });
        Ok(if written { ENDED_WELL } else { JOB_FAILED })
    };
    built().unwrap_or_else(|code| code)
}

fn in_words(built: &BuiltPlugin) -> String {
    let roles: Vec<_> = built.inspection.roles.iter().map(|export| export.role.name()).collect();
    let size = human_bytes(built.inspection.n_bytes);
    let unchanged = if built.is_changed { "" } else { ", unchanged" };
    format!("built {}: {}, {size}{unchanged}\n", shown(built), roles.join(", "))
}

/// The file's path, as one would write it in the folder that one is in.
fn shown(built: &BuiltPlugin) -> String {
    built.path.strip_prefix(".").unwrap_or(&built.path).display().to_string()
}

fn as_json(built: &BuiltPlugin) -> serde_json::Value {
    let roles: Vec<_> = built.inspection.roles.iter().map(|export| export.role.name()).collect();
    serde_json::json!({
        "plugin": shown(built),
        "roles": roles,
        "size_bytes": built.inspection.n_bytes,
        "sha256": built.inspection.sha256.to_string(),
        "changed": built.is_changed,
    })
}
