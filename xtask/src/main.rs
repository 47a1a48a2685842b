//! Every chore of the project, for people and for CI: `cargo xtask --help`.

mod audit;
mod bench;
mod demo;
mod plugins;
mod shell;
mod test;
mod tidy;
mod toolchain;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Every chore of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Sets everything up, then shows a word count live
    Demo(demo::Options),
    /// Runs every check and test, as CI does
    Test(test::Options),
    /// Builds every plugin to target/plugins/NAME.wasm
    Plugins,
    /// Measures Tidemill, against a native program and against Spark
    Bench(bench::Options),
    /// Checks the project's own rules
    Tidy,
    /// Checks licences, sources and advisories of the dependencies
    Audit,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    // Everything below names files relative to the project's root.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    std::env::set_current_dir(root).with_context(|| format!("cannot enter `{}`", root.display()))?;
    match chore {
        Chore::Demo(options) => demo::demo(&options),
        Chore::Test(options) => test::test(&options),
        Chore::Plugins => plugins::build(),
        Chore::Bench(options) => bench::bench(&options),
        Chore::Tidy => tidy::tidy(),
        Chore::Audit => audit::audit(),
    }
}
