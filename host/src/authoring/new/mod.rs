//! Makes a project: an example operator of a role in a language, its test, a job, and a copy of the SDK.
//!
//! ```text
//!  guest-sdk/template/common, ROLE          the job, the rows, what is expected: the same in every language
//!  guest-sdk/LANG/template/common, ROLE     the code
//!  guest-sdk/LANG, without its templates    the SDK, to `sdk/`
//! ```
//!
//! What is written later stands in the place of what was written before. The SDK is copied, because no registry has it, and
//! because a project stays with the version it was made for. Everything is part of the program: nothing is fetched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::authoring::project::name_mistake;
use crate::authoring::{AuthoringError, Language};
use crate::operator::Role;
use crate::plugin::Version;

/// Every file of the SDKs and templates: its path below `guest-sdk`, and what is in it.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/guest_sdk.rs"));

/// The ending of templates whose name would mean something where they stand: a second manifest, say. It is taken off.
const TEMPLATE_ENDING: &str = ".tmpl";

/// What is to be made.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// The operator's name.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// Its role.
    pub role: Role,
    /// The folder of the project, which is made; an empty one may be there.
    pub folder: PathBuf,
}

impl NewProject {
    /// A project in the folder `path`, whose last part is its name.
    ///
    /// # Errors
    ///
    /// When that is no name for an operator.
    pub fn at(path: &Path, language: Language, role: Role) -> Result<Self, AuthoringError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name_mistake(&name) {
            Some(message) => Err(AuthoringError::Name(message)),
            None => Ok(Self { name, language, role, folder: path.into() }),
        }
    }
}

/// Makes a project; the files that it has, by their paths in it, those of the SDK left out.
///
/// # Errors
///
/// When there are files in its folder, or they cannot be written; or this build of the program has no SDK for the language.
pub fn make(project: &NewProject) -> Result<Vec<String>, AuthoringError> {
    let NewProject { name, language, role, folder } = project;
    let files =
        files_of(name, *language, *role).ok_or(AuthoringError::NoTemplate { language: *language, role: *role })?;
    if is_occupied(folder) {
        return Err(AuthoringError::NotEmpty { folder: folder.clone() });
    }
    for (path, content) in &files {
        let path = folder.join(path);
        let failed = |doing| {
            let path = path.clone();
            move |source| AuthoringError::File { doing, path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("cannot make the folder of"))?;
        }
        fs::write(&path, content).map_err(failed("cannot write"))?;
    }
    Ok(files.into_keys().filter(|path| !path.starts_with("sdk/")).collect())
}

/// The roles that this build of the program can make a project of in a language.
#[must_use]
pub fn roles_of(language: Language) -> Vec<Role> {
    let has = |role: &Role| {
        let (sdk, template) = language.folders();
        let prefix = format!("{sdk}/{template}/{role}/");
        FILES.iter().any(|(path, _)| path.starts_with(&prefix))
    };
    Role::ALL.into_iter().filter(has).collect()
}

/// Whether something is where the project would stand.
fn is_occupied(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The files of a project, by their paths in it; `None` when there is no template.
fn files_of(name: &str, language: Language, role: Role) -> Option<BTreeMap<String, Vec<u8>>> {
    let (sdk, template) = language.folders();
    if !roles_of(language).contains(&role) {
        return None;
    }
    let words = Words::of(name, language, role);
    let mut files = BTreeMap::new();
    let own = format!("{sdk}/");
    for (path, content) in FILES {
        if let Some(path) = path.strip_prefix(&own)
            && !path.starts_with("template")
        {
            files.insert(format!("sdk/{path}"), sdk_file(path, content));
        }
    }
    let layers = [
        "template/common/".to_owned(),
        format!("template/{role}/"),
        format!("{sdk}/{template}/common/"),
        format!("{sdk}/{template}/{role}/"),
    ];
    for layer in &layers {
        for (path, content) in FILES {
            let Some(path) = path.strip_prefix(layer.as_str()) else { continue };
            let path = words.put_into(path.strip_suffix(TEMPLATE_ENDING).unwrap_or(path));
            let content = match std::str::from_utf8(content) {
                Ok(text) => words.put_into(text).into_bytes(),
                Err(_) => content.to_vec(),
            };
            files.insert(path, content);
        }
    }
    Some(files)
}

/// A file of the SDK as it is in a project.
fn sdk_file(path: &str, content: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(content) {
        // A project has no workspace whose lints a crate could have.
        Ok(text) if path.ends_with("Cargo.toml") => text.replace("\n[lints]\nworkspace = true\n", "").into_bytes(),
        _ => content.to_vec(),
    }
}

/// What stands in templates for what differs.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn of(name: &str, language: Language, role: Role) -> Self {
        let type_name = name.split('-').map(|word| {
            let mut chars = word.chars();
            chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
        });
        let unit_tests = match language.unit_test() {
            Some(command) => format!("Unit tests, without WebAssembly: `{command}`."),
            None => format!("Functions of your own are tested as those of any program in {language}."),
        };
        Self(vec![
            ("{{name}}", name.into()),
            ("{{ident}}", name.replace('-', "_")),
            ("{{type}}", type_name.collect()),
            ("{{role}}", role.name().into()),
            ("{{language}}", language.name().into()),
            ("{{language-name}}", language.to_string()),
            ("{{entry}}", language.entry().into()),
            ("{{unit-tests}}", unit_tests),
            ("{{contract}}", Version::newest().into()),
        ])
    }

    fn put_into(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authoring::read_project;

    #[test]
    fn a_project_of_every_role_is_one() {
        let root = tempfile::tempdir().expect("a folder");
        for language in Language::ALL {
            for role in roles_of(language) {
                let folder = root.path().join(language.name()).join(format!("my-{role}"));
                let files = make(&NewProject::at(&folder, language, role).expect("a name")).expect("made");
                let project = read_project(&folder).expect("it is a project");
                assert_eq!((project.language, project.roles.as_slice()), (language, &[role][..]));
                assert!(folder.join(&project.entry).exists(), "{language} {role}: {files:?}");
                let test = project.test.expect("it has a test");
                assert!(crate::source::fingerprint(&test.rows).is_ok_and(|found| found.n_files() > 0));
                assert!(test.expected.is_some_and(|path| path.exists()));
                let job = crate::job::file::read_job(&folder.join("job.toml"), &[]);
                assert!(job.is_err_and(|error| error.to_string().contains("mistake")), "its plugin is not built yet");
                for file in &files {
                    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
                    // Go writes two braces as well, but no word in them.
                    let mut words = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
                    let left =
                        words.find(|(word, _)| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
                    assert!(left.is_none(), "{file}: nothing was put in the place of {left:?}");
                }
                let again = make(&NewProject::at(&folder, language, role).expect("a name"));
                assert!(matches!(again, Err(AuthoringError::NotEmpty { .. })));
            }
        }
        assert_eq!(roles_of(Language::Rust), Role::ALL);
    }

    #[test]
    fn a_name_is_that_of_files_and_packages() {
        let at = |path: &str| NewProject::at(Path::new(path), Language::Rust, Role::Transform).map(|new| new.name);
        assert_eq!(at("a/b/split-words").expect("a name"), "split-words");
        for wrong in ["Split", "split_words", "-a", "a-", "a--b", "1a", "", "..", "a.b", "naïve"] {
            assert!(matches!(at(wrong), Err(AuthoringError::Name(_))), "{wrong}");
        }
    }

    #[test]
    fn words_are_put_into_templates() {
        let words = Words::of("split-words", Language::Cpp, Role::Transform);
        let text = words.put_into("{{name}} {{ident}} {{type}} {{role}} {{language}} {{language-name}} {{contract}}");
        assert_eq!(text, "split-words split_words SplitWords transform cpp C++ 0.1");
    }
}
