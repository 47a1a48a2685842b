//! The configuration.

use serde::Deserialize;
use tidemill_guest::diagnostics::{self, Level};
use tidemill_guest::{Failure, Refusal, Step};

/// Which of the SDK's views is used.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum View {
    #[default]
    Columns,
    Rows,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Refuse {
    Config,
    Schema,
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Fail {
    Retry,
    Fatal,
}

/// What timeouts are held against.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeoutsOf {
    #[default]
    Never,
    BatchTime,
    EventTime,
}

/// All keys; each role looks at its own.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[derive(Default)]
struct Keys {
    refuse: Option<Refuse>,
    fail: Option<Fail>,
    reject_every: Option<u64>,
    by: Option<View>,
    diagnostics: Option<bool>,
    repeat: Option<u32>,
    carry: Option<bool>,
    invertible: Option<bool>,
    every_key: Option<bool>,
    timeouts: Option<TimeoutsOf>,
    timeout_us: Option<i64>,
    remove_at: Option<i64>,
}

/// What the step says, defaults put in.
pub(crate) struct Config {
    fail: Option<Fail>,
    reject_every: u64,
    diagnostics: bool,
    pub(crate) by: View,
    pub(crate) repeat: u32,
    pub(crate) carry: bool,
    pub(crate) invertible: bool,
    pub(crate) every_key: bool,
    pub(crate) timeouts: TimeoutsOf,
    pub(crate) timeout_us: Option<i64>,
    pub(crate) remove_at: Option<i64>,
}

impl Config {
    /// Reads the configuration, and refuses what it asks to refuse.
    pub(crate) fn open(step: &Step) -> Result<Self, Refusal> {
        let keys: Keys = step.config()?;
        let text = || "refused as asked".to_owned();
        match keys.refuse {
            Some(Refuse::Config) => return Err(Refusal::Config(text())),
            Some(Refuse::Schema) => return Err(Refusal::Schema(text())),
            Some(Refuse::Other) => return Err(Refusal::Other(text())),
            None => {}
        }
        Ok(Self {
            fail: keys.fail,
            reject_every: keys.reject_every.unwrap_or(0),
            diagnostics: keys.diagnostics.unwrap_or(false),
            by: keys.by.unwrap_or_default(),
            repeat: keys.repeat.unwrap_or(1),
            carry: keys.carry.unwrap_or(false),
            invertible: keys.invertible.unwrap_or(false),
            every_key: keys.every_key.unwrap_or(false),
            timeouts: keys.timeouts.unwrap_or_default(),
            timeout_us: keys.timeout_us,
            remove_at: keys.remove_at,
        })
    }

    /// The configuration of a role that rejects nothing.
    pub(crate) fn without_rejections(step: &Step) -> Result<Self, Refusal> {
        match Self::open(step)? {
            config if config.reject_every == 0 => Ok(config),
            _ => Err(Refusal::Config("`reject-every` is for roles that reject rows".into())),
        }
    }

    /// Whether the row of this number is rejected.
    pub(crate) fn rejects(&self, number: u64) -> bool {
        self.reject_every > 0 && number % self.reject_every == self.reject_every - 1
    }

    /// Tells of a call, and fails it if that is asked for.
    pub(crate) fn begin_call(&self, n_rows: usize) -> Result<(), Failure> {
        if self.diagnostics {
            diagnostics::log(Level::Info, &format!("conform: {n_rows} rows"));
            diagnostics::count("conform_rows", n_rows as u64);
            diagnostics::gauge("conform_last", n_rows as f64);
        }
        match self.fail {
            Some(Fail::Retry) => Err(Failure::Retry("failed as asked".into())),
            Some(Fail::Fatal) => Err(Failure::Fatal("failed as asked".into())),
            None => Ok(()),
        }
    }
}
