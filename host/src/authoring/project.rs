//! A project: a folder with an `operator.toml`, which says what is built and how it is tested.

use std::io;
use std::path::{Path, PathBuf};

use crate::authoring::Language;
use crate::error::{Explain, Fault};
use crate::job::nearest::suggest;
use crate::job::problems::Problems;
use crate::job::render;
use crate::job::table::{Table, read_options};
use crate::operator::Role;
use crate::plugin::Version;
use crate::source::FileSource;

/// The file that makes a folder a project.
pub const PROJECT_FILE: &str = "operator.toml";

/// A project, as its `operator.toml` says.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder that the file stands in.
    pub folder: PathBuf,
    /// The operator's name, and that of the file it is built to.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// The roles it has.
    pub roles: Vec<Role>,
    /// Where its code begins: the file that is compiled, or the module that is loaded.
    pub entry: PathBuf,
    /// What is given to the compiler besides, word by word.
    pub flags: Vec<String>,
    /// What `tidemill plugin test` and `bench` run it on.
    pub test: Option<TestOptions>,
}

impl Project {
    /// The component that a build makes.
    #[must_use]
    pub fn plugin(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.name))
    }

    /// The folder for what a build leaves.
    #[must_use]
    pub fn build_folder(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The folder with the project's copy of the SDK.
    #[must_use]
    pub fn sdk(&self) -> PathBuf {
        self.folder.join("sdk")
    }
}

/// What a plugin is run on, when nothing else is said.
#[derive(Debug, Clone)]
pub struct TestOptions {
    /// Where its rows are: the options of a source of files.
    pub rows: FileSource,
    /// The file with the rows that come out, one a line, as JSON.
    pub expected: Option<PathBuf>,
    /// The step's configuration.
    pub config: serde_json::Value,
    /// The columns that are the key, where the role has one.
    pub by: Vec<String>,
}

/// Why a folder is no project.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// There is no project file in the folder.
    #[error("there is no `{PROJECT_FILE}` in `{}`", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The project file cannot be read.
    #[error("`{name}` could not be read")]
    Unreadable {
        /// What it was called.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
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

impl Explain for ProjectError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        match self {
            ProjectError::Missing { .. } => Some(
                "Go to the project's folder, or make a project with `tidemill new --lang rust --role transform NAME`."
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Reads the project in a folder.
///
/// # Errors
///
/// [`ProjectError`], with all mistakes of its file.
pub fn read_project(folder: &Path) -> Result<Project, ProjectError> {
    let path = folder.join(PROJECT_FILE);
    // In the folder one is in, the file is called by its name alone.
    let name = if folder == Path::new(".") { PROJECT_FILE.to_owned() } else { path.display().to_string() };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ProjectError::Missing { folder: folder.into() });
        }
        Err(source) => return Err(ProjectError::Unreadable { name, source }),
    };
    let read = read_options(&text, folder, |table| read(table, folder));
    match read {
        // What is missing has been recorded as a mistake.
        Ok(project) => project.ok_or(ProjectError::Missing { folder: folder.into() }),
        Err(problems) => Err(ProjectError::Mistakes { name, text, problems }),
    }
}

fn read(table: &mut Table<'_>, folder: &Path) -> Option<Project> {
    let test = table.table("test").map(read_test);
    let flags = table.table("build").map(|mut build| {
        let flags = build.texts("flags");
        build.finish();
        flags.unwrap_or_default()
    });
    let Some(mut operator) = table.table("operator") else {
        if !table.has("operator") {
            table.missing("operator", Some("write `[operator]` with `name`, `language`, `role` and `contract`".into()));
        }
        return None;
    };
    let name = operator.required_text("name");
    if let Some(message) = name.as_deref().and_then(name_mistake) {
        operator.problem("name", message, None);
    }
    let languages = Language::ALL.map(|language| (language.name(), language));
    let language = operator.choice("language", &languages);
    if !operator.has("language") {
        operator.missing("language", None);
    }
    let roles = read_roles(&mut operator);
    check_contract(&mut operator);
    let entry = operator.required_text("entry").map(PathBuf::from);
    operator.finish();
    Some(Project {
        folder: folder.into(),
        name: name?,
        language: language?,
        roles: roles?,
        entry: entry?,
        flags: flags.unwrap_or_default(),
        test: test.flatten(),
    })
}

/// What is wrong with the name of an operator: it is that of files, packages and modules.
pub(super) fn name_mistake(name: &str) -> Option<String> {
    let is_right = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.ends_with('-')
        && !name.contains("--");
    (!is_right).then(|| {
        format!(
            "`{name}` cannot name an operator: it is small letters, digits and single `-`, at most 64, and begins with \
             a letter"
        )
    })
}

fn read_roles(operator: &mut Table<'_>) -> Option<Vec<Role>> {
    if !operator.has("role") {
        operator.missing("role", Some(format!("roles: {}", role_names())));
        return None;
    }
    let names = operator.texts("role")?;
    let mut roles = Vec::new();
    for name in &names {
        match Role::ALL.into_iter().find(|role| role.name() == name) {
            Some(role) if !roles.contains(&role) => roles.push(role),
            Some(_) => operator.problem("role", format!("`role` has `{name}` twice"), None),
            None => {
                let hint = suggest(name, "Roles", Role::ALL.map(Role::name));
                operator.problem("role", format!("`role` cannot be `{name}`"), hint);
            }
        }
    }
    if names.is_empty() {
        operator.problem("role", "`role` is empty", Some(format!("roles: {}", role_names())));
    }
    (roles.len() == names.len() && !roles.is_empty()).then_some(roles)
}

fn role_names() -> String {
    Role::ALL.map(|role| format!("`{role}`")).join(", ")
}

/// Checks that this host speaks the contract that the project was made for.
fn check_contract(operator: &mut Table<'_>) {
    let Some(text) = operator.required_text("contract") else { return };
    let version = Version::parse(&text).or_else(|| Version::parse(&format!("{text}.0")));
    match version {
        Some(version) if version.is_spoken() => {}
        Some(_) => {
            let message = format!("`contract` is {text}, and this host speaks {}", Version::range());
            let hint =
                "Use the release of Tidemill that made the project, or make a new project and copy the code over.";
            operator.problem("contract", message, Some(hint.into()));
        }
        None => operator.problem("contract", format!("`{text}` is no version of a contract, as `0.1` is"), None),
    }
}

fn read_test(mut table: Table<'_>) -> Option<TestOptions> {
    let rows = match table.table("rows") {
        Some(mut rows) => {
            let source = FileSource::parse(&mut rows);
            rows.finish();
            source
        }
        None => {
            if !table.has("rows") {
                table.missing(
                    "rows",
                    Some("write `rows = { path = \"rows.jsonl\", … }`, as in a source of files".into()),
                );
            }
            None
        }
    };
    let expected = table.path("expected");
    let config = table.json("config");
    if config.as_ref().is_some_and(|config| !config.is_object()) {
        table.problem("config", "`config` must be a table", None);
    }
    let by = table.texts("by").unwrap_or_default();
    table.finish();
    Some(TestOptions { rows: rows?, expected, config: config.unwrap_or_else(|| serde_json::json!({})), by })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[operator]
name = "split"
language = "c"
role = ["transform", "reducer"]
contract = "0.1"
entry = "src/split.c"

[build]
flags = ["-O2"]

[test]
rows = { path = "rows.jsonl", format = "json", schema = { value = "utf8" } }
expected = "expected.jsonl"
config = { lowercase = true }
by = ["value"]
"#;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(PROJECT_FILE), text).expect("written");
        let messages: Vec<String> = match read_project(folder.path()) {
            Ok(_) => vec![],
            Err(ProjectError::Mistakes { problems, .. }) => problems.iter().map(|p| p.message.clone()).collect(),
            Err(other) => vec![other.to_string()],
        };
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_project_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(PROJECT_FILE), WHOLE).expect("written");
        let project = read_project(folder.path()).expect("it is right");
        assert_eq!((project.name.as_str(), project.language), ("split", Language::C));
        assert_eq!(project.roles, [Role::Transform, Role::Reducer]);
        assert_eq!(project.plugin(), folder.path().join("split.wasm"));
        assert_eq!((project.entry, project.flags), ("src/split.c".into(), vec!["-O2".to_owned()]));
        let test = project.test.expect("it has a test");
        assert_eq!(test.config, serde_json::json!({ "lowercase": true }));
        assert_eq!(test.rows.path, folder.path().join("rows.jsonl"));
    }

    #[test]
    fn every_mistake_is_told() {
        check("", &["`operator` is missing"]);
        check(
            &WHOLE.replace("\"c\"", "\"cobol\"").replace("reducer", "reduce").replace("0.1", "7.1"),
            &[
                "`language` cannot be `cobol`",
                "`role` cannot be `reduce`",
                "`contract` is 7.1, and this host speaks 0.1.0 to 0.1.0",
            ],
        );
        check(&WHOLE.replace("flags", "flag"), &["unknown key `flag` in `build`"]);
        check(
            &WHOLE.replace("\"split\"", "\"Split It\""),
            &[
                "`Split It` cannot name an operator: it is small letters, digits and single `-`, at most 64, and begins with a letter",
            ],
        );
    }
}
