//! `tidemill new`: makes the project of a plugin.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tidemill::authoring::new::{NewProject, make};
use tidemill::authoring::{AuthoringError, Language};
use tidemill::operator::Role;

use super::output::{fail, put};
use super::{ENDED_WELL, Format, JOB_FAILED, WRONG};

/// What `new` takes.
#[derive(Debug, Args)]
pub(super) struct NewArguments {
    /// What the operator is written in.
    #[arg(long, value_parser = language_parser())]
    lang: Language,

    /// What it does: rows in, rows out; combine rows of a key; aggregate a key; see all rows of a key; keep state of a key.
    #[arg(long, value_parser = role_parser(), default_value = "transform")]
    role: Role,

    /// The folder to make; its last part is the operator's name.
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

fn language_parser() -> impl TypedValueParser<Value = Language> {
    // Every value that is possible is the name of a language.
    PossibleValuesParser::new(Language::ALL.map(Language::name))
        .map(|name| Language::named(&name).unwrap_or(Language::Rust))
}

/// Reads the name of a role.
pub(super) fn role_parser() -> impl TypedValueParser<Value = Role> {
    // Every value that is possible is the name of a role.
    PossibleValuesParser::new(Role::ALL.map(Role::name))
        .map(|name| Role::ALL.into_iter().find(|role| role.name() == name).unwrap_or(Role::Transform))
}

pub(super) fn new(arguments: &NewArguments) -> u8 {
    let made = NewProject::at(&arguments.name, arguments.lang, arguments.role)
        .and_then(|project| make(&project).map(|files| (project, files)));
    match made {
        Ok((project, files)) => {
            if put(&in_words(&project, &files)) {
                ENDED_WELL
            } else {
                JOB_FAILED
            }
        }
        Err(error) => {
            let code = if matches!(error, AuthoringError::File { .. }) { JOB_FAILED } else { WRONG };
            fail(Format::Human, &error.into());
            code
        }
    }
}

fn in_words(project: &NewProject, files: &[String]) -> String {
    let NewProject { name, language, role, folder } = project;
    let folder = folder.display();
    format!(
        "made `{folder}`, a {role} in {language}: {}, and the SDK in sdk/\n\n    \
         cd {folder}\n    \
         tidemill plugin build     # makes {name}.wasm\n    \
         tidemill plugin test      # runs it on its rows as jobs do\n    \
         tidemill run job.toml     # the job that it is a step of\n",
        files.join(", ")
    )
}
