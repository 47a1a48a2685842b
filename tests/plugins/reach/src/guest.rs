//! The transform.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tidemill_guest::{Emitter, Row, operator};

use crate::http;

/// What to reach for.
#[derive(Row)]
pub struct Asked<'a> {
    value: &'a str,
}

/// What came of it.
#[derive(Row)]
pub struct Seen<'a> {
    value: &'a str,
}

/// What to do with each row.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    #[serde(rename = "do")]
    what: String,
}

/// Does it.
#[operator]
pub fn reach(asked: Asked<'_>, config: &Config, out: &mut Emitter<Seen<'_>>) {
    let seen = seen(&config.what, asked.value);
    out.emit(Seen { value: &seen });
}

fn seen(what: &str, argument: &str) -> String {
    let told = |result: std::io::Result<String>| result.unwrap_or_else(|error| format!("error: {error}"));
    let (first, second) = argument.split_once(' ').unwrap_or((argument, ""));
    match what {
        "read" => told(fs::read_to_string(argument)),
        "write" => told(fs::write(first, second).map(|()| format!("wrote {}", second.len()))),
        "append" => told((|| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(first)?;
            writeln!(file, "{second}")?;
            Ok("appended".into())
        })()),
        "remove" => told(fs::remove_file(argument).map(|()| "removed".into())),
        "rename" => told(fs::rename(first, second).map(|()| "renamed".into())),
        "link" => match wasip2::filesystem::preopens::get_directories().first() {
            Some((directory, _)) => match directory.symlink_at(first, second) {
                Ok(()) => "linked".into(),
                Err(error) => format!("error: {error:?}"),
            },
            None => "error: no directory".into(),
        },
        "list" => told(fs::read_dir(argument).map(|entries| {
            let mut names: Vec<_> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        })),
        "write-for-ever" => told((|| {
            let mut file = fs::File::create(argument)?;
            loop {
                file.write_all(&[b'x'; 4096])?;
            }
        })()),
        "grow" => told(fs::File::create(argument).and_then(|file| file.set_len(1 << 40)).map(|()| "grown".into())),
        "fail-after" => match fs::read_to_string(argument) {
            Ok(text) => text,
            Err(error) => panic!("cannot go on without {argument}: {error}"),
        },
        "variable" => std::env::var(argument).unwrap_or_else(|error| format!("error: {error}")),
        "clock" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.as_micros().to_string()
        }
        "sleep" => {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(argument.parse().unwrap_or(0)));
            format!("slept {}", began.elapsed() >= Duration::from_millis(argument.parse().unwrap_or(0)))
        }
        "random" => wasip2::random::random::get_random_u64().to_string(),
        "request" => http::request(first, second, b""),
        "post" => http::request("POST", first, second.as_bytes()),
        "post-for-ever" => http::post_for_ever(argument),
        "follow" => http::follow(argument),
        "request-for-ever" => loop {
            let _ = http::request("GET", argument, b"");
        },
        "echo" => argument.to_owned(),
        unknown => format!("error: there is nothing to do that is called {unknown}"),
    }
}
