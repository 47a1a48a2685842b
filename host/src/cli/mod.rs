//! The command line: one file a command, and the only place that prints.

mod check;
mod checkpoint;
mod compile;
mod export_state;
mod logging;
mod new;
mod output;
mod plugin;
mod progress;
mod replay;
mod requests;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidemill::job::file::{JobFile, JobFileError, read_job};
use tidemill::plan::{Part, PlanErrors};
use tidemill::plugin::{Runtime, RuntimeConfig};

use output::{fail, print_error, print_mistakes, use_color};

/// The job ended well.
const ENDED_WELL: u8 = 0;

/// The job failed, or was stopped at once.
const JOB_FAILED: u8 = 1;

/// The command line or the job file is wrong.
const WRONG: u8 = 2;

/// A micro-batch stream processor whose operators are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job until it ends, `stop` is typed, or Ctrl-C (graceful; a second: at once).
    Run(run::RunArguments),
    /// Type-check a job and print its plan: stages, schemas, plugins, limits, grants.
    Check(check::CheckArguments),
    /// Make a project for a plugin, that builds, tests and runs at once.
    New(new::NewArguments),
    /// Build a plugin, look into it, and try it out.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Look into a checkpoint.
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Compile a plugin from standard input to standard output: for the process that starts this one.
    #[command(hide = true)]
    CompilePlugin(compile::CompileArguments),
}

/// Which job.
#[derive(Debug, Args)]
struct JobArguments {
    /// The job file.
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,

    /// Override a key of the job file, as in `job.partitions=8` or `source.lines.address=127.0.0.1:9000`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// How things are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
enum Format {
    /// Words for people.
    #[default]
    Human,
    /// Lines of JSON for programs.
    Json,
}

/// Runs the command line that the process was started with.
pub(crate) fn main() -> ExitCode {
    tidemill::sql::silence_guarded_panics();
    // clap writes its own message and ends with code 2 when the command line is wrong.
    let code = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::New(arguments) => new::new(&arguments),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Checkpoint(command) => checkpoint::checkpoint(&command),
        Command::CompilePlugin(arguments) => compile::compile(&arguments),
    };
    ExitCode::from(code)
}

/// Reads a job file; its mistakes are printed.
fn read(arguments: &JobArguments, more: &[String], format: Format) -> Result<JobFile, u8> {
    let overrides = [arguments.set.as_slice(), more].concat();
    read_job(&arguments.job, &overrides).map_err(|error| {
        match &error {
            JobFileError::Mistakes { name, text, problems } => print_mistakes(format, problems, text, name),
            other => print_error(format, &other.to_string(), || other.render(use_color())),
        }
        WRONG
    })
}

/// Makes a plugin runtime; what is wrong is printed.
fn runtime(format: Format) -> Result<Runtime, u8> {
    let config = RuntimeConfig { compiler: compile::this_program(), ..RuntimeConfig::default() };
    Runtime::new(config).map_err(|error| {
        fail(format, &error.into());
        JOB_FAILED
    })
}

/// Prints what does not fit together, each mistake at its place in the file.
fn print_plan_errors(file: &JobFile, errors: &PlanErrors, format: Format) {
    use tidemill::job::problems::{Problem, Problems};
    let problems = errors.0.iter().map(|problem| {
        let place = &problem.place;
        let spans = match place.part {
            Part::Source => file.source_spans(&place.name),
            Part::Table => file.table_spans(&place.name),
            Part::Step => file.step_spans(&place.name),
            Part::Sink => file.sink_spans(&place.name),
            Part::Job => Some(&file.spans),
        };
        let span = spans.and_then(|spans| match &place.part_of_text {
            Some(part) => spans.nearest_part(&place.key, part, &file.text),
            None => spans.nearest(&place.key),
        });
        Problem::new(problem.message.clone()).at(span).hint(problem.hint.clone())
    });
    let mut problems: Problems = problems.collect();
    problems.sort();
    print_mistakes(format, &problems, &file.text, &file.name);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
