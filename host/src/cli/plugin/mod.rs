//! `tidemill plugin`: what the author of a plugin does with it.

mod bench;
mod build;
mod conform;
mod inspect;
mod rows;
mod test;

use std::path::PathBuf;

use clap::Subcommand;
use tidemill::authoring::{Project, ProjectError, read_project};
use tidemill::error::{Error, Fault};
use tidemill::operator::CallError;

use super::output::{fail, print_mistakes};
use super::{Format, JOB_FAILED, WRONG};

/// What can be done with a plugin.
#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Build the plugin of the project in this folder.
    Build(build::BuildArguments),
    /// Run it on rows in every way in which a job may run it, and compare what comes out.
    Test(test::TestArguments),
    /// Time it.
    Bench(bench::BenchArguments),
    /// Hold it against the contract, with rows that are made up.
    Conform(conform::ConformArguments),
    /// Print its roles, imports, size and digest. It is neither compiled nor run.
    Inspect(inspect::InspectArguments),
}

pub(super) fn plugin(command: &PluginCommand) -> u8 {
    match command {
        PluginCommand::Build(arguments) => build::build(arguments),
        PluginCommand::Test(arguments) => test::test(arguments),
        PluginCommand::Bench(arguments) => bench::bench(arguments),
        PluginCommand::Conform(arguments) => conform::conform(arguments),
        PluginCommand::Inspect(arguments) => inspect::inspect(arguments),
    }
}

/// Which project.
#[derive(Debug, clap::Args)]
struct ProjectArguments {
    /// The project's folder, which has an `operator.toml`.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    project: PathBuf,
}

impl ProjectArguments {
    /// Reads the project; its mistakes are printed.
    fn read(&self, format: Format) -> Result<Project, u8> {
        read_project(&self.project).map_err(|error| print_project_error(format, error))
    }
}

/// Prints why a folder is no project.
fn print_project_error(format: Format, error: ProjectError) -> u8 {
    match error {
        ProjectError::Mistakes { name, text, problems } => print_mistakes(format, &problems, &text, &name),
        other => fail(format, &other.into()),
    }
    WRONG
}

/// How the program ends that could not run a plugin: what it was given is wrong, or the plugin failed.
fn code_of(error: &Error) -> u8 {
    let has_failed = error.downcast_ref::<CallError>().is_some();
    if error.fault() == Fault::User && !has_failed { WRONG } else { JOB_FAILED }
}

/// This command, with room for the name of a check.
fn again() -> String {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--only") {
        words.drain(at..(at + 2).min(words.len()));
    }
    words.retain(|word| word != "--update" && !word.starts_with("--only="));
    let quoted = words.iter().map(|word| match word.contains([' ', '"', '{']) {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    format!("tidemill {} --only ", quoted.collect::<Vec<_>>().join(" "))
}
