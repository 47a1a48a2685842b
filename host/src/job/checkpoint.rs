//! Where the checkpoint of a job is: `checkpoint`, `checkpoint-lease` and `checkpoint-options` of `[job]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Settings;
use super::table::Table;
use super::units::format_duration;
use crate::checkpoint::{OPTIONS, ObjectPlace, OptionKind, Place};

/// What `checkpoint-lease` may be: shorter, and a slow answer of the store ends it; longer, and nobody wants to wait for it.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Reads the keys over `settings`.
pub(super) fn read(table: &mut Table<'_>, settings: &mut Settings) {
    let lease = table.duration("checkpoint-lease");
    let options = table.table("checkpoint-options");
    let url = table.text_if_text("checkpoint").filter(|text| ObjectPlace::is_meant(text));
    let Some(url) = url else {
        if let Some(path) = table.path("checkpoint") {
            // It is made when the job starts, if it is not there.
            if path.exists() && !path.is_dir() {
                let message = format!("`checkpoint` must be a folder, and `{}` is a file", path.display());
                table.problem("checkpoint", message, None);
            }
            settings.checkpoint = Some(Place::Directory(path));
        }
        for key in ["checkpoint-lease", "checkpoint-options"] {
            if !table.has(key) {
                continue;
            }
            let hint = "A folder is locked by the system, and needs neither lease nor options.";
            let message = format!("`{key}` is for a `checkpoint` in an object store, as in `s3://bucket/folder`");
            table.problem(key, message, Some(hint.into()));
        }
        return;
    };
    if let Some(lease) = lease {
        if !LEASE.contains(&lease) {
            let (min, max) = (format_duration(*LEASE.start()), format_duration(*LEASE.end()));
            table.problem("checkpoint-lease", format!("`checkpoint-lease` must be between {min} and {max}"), None);
        }
        settings.checkpoint_lease = lease;
    }
    let options = options.map(read_options);
    match ObjectPlace::parse(&url) {
        Ok(mut place) => {
            options.into_iter().flatten().for_each(|(option, value)| place.set(option, value));
            settings.checkpoint = Some(Place::ObjectStore(place));
        }
        Err(mistake) => table.problem("checkpoint", format!("`checkpoint` {}", mistake.message), mistake.hint),
    }
}

fn read_options(mut table: Table<'_>) -> Vec<(&'static str, String)> {
    let mut options = Vec::new();
    for (option, kind) in OPTIONS {
        let value = match kind {
            OptionKind::Text => table.text(option),
            OptionKind::Boolean => table.boolean(option).map(|value| value.to_string()),
            OptionKind::Duration => table.duration(option).map(|value| format!("{}ms", value.as_millis())),
        };
        options.extend(value.map(|value| (option, value)));
    }
    table.finish();
    options
}
