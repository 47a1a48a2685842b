//! Job files and what is said about them: each case is a text and the mistakes it has.

use std::env::VarError;
use std::path::Path;

use super::Job;
use super::file::{JobFile, JobFileError, parse_with};
use super::render::position;

mod documentation;
mod names;
mod overrides;
mod sections;
mod steps;
mod whole;
mod windows;

/// A folder with a plugin file, for job files to name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    std::fs::write(folder.path().join("words.wasm"), b"").expect("a file in it");
    std::fs::create_dir(folder.path().join("folder")).expect("a folder in it");
    folder
}

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "ADDRESS" => Ok("localhost:9999".into()),
        "PARTITIONS" => Ok("7".into()),
        "SECRET" => Ok("hunter2".into()),
        _ => Err(VarError::NotPresent),
    }
}

fn parse_in(folder: &Path, text: &str, overrides: &[&str]) -> Result<JobFile, JobFileError> {
    let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
    parse_with(text.into(), "job.toml".into(), folder, &overrides, &environment)
}

/// The job of a text that has no mistakes.
#[track_caller]
fn job(text: &str, overrides: &[&str]) -> Job {
    match parse_in(folder().path(), text, overrides) {
        Ok(file) => file.job,
        Err(error) => panic!("{}", error.render(false)),
    }
}

/// Every mistake of a text as `LINE:COLUMN message; Hint`, one a line..
fn mistakes(text: &str, overrides: &[&str]) -> String {
    let folder = folder();
    let problems = match parse_in(folder.path(), text, overrides) {
        Ok(_) => return String::new(),
        Err(JobFileError::Mistakes { problems, .. }) => problems,
        Err(other) => return other.to_string(),
    };
    let mut shown = String::new();
    for problem in &problems {
        let source = problem.argument.as_deref().unwrap_or(text);
        let place = match (&problem.span, &problem.argument) {
            (None, _) => "file".into(),
            (Some(span), None) => {
                let (line, column) = position(source, span.start);
                format!("{line}:{column}")
            }
            (Some(span), Some(argument)) => format!("--set {argument}:{}", position(source, span.start).1),
        };
        shown.push_str(&format!("{place} {}", problem.message));
        if let Some(hint) = &problem.hint {
            shown.push_str(&format!("; {hint}"));
        }
        shown.push('\n');
    }
    // The folder has another name each time.
    shown.replace(&folder.path().display().to_string(), "DIR")
}

/// Checks the mistakes of a whole job file.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(mistakes(text, &[]), expected, "in\n{text}");
}

/// Source and sink around a step `s`, on lines before the ones under test.
const AROUND: &str = "source = [{ name = 'in', type = 'stdin' }]
sink = [{ from = 's', type = 'console' }]
";
