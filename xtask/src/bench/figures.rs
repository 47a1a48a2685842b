//! What was measured: figures, what they should be, and how they are shown and written down.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::shell::Shell;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// What it is, as in `cpu time against native`.
    pub(super) name: String,
    /// How much.
    pub(super) value: f64,
    /// Of what: `ms`, `x`, `rows/s`.
    pub(super) unit: String,
    /// What it should be.
    pub(super) goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// A figure without a goal.
    pub(super) fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.into(), goal: None }
    }

    /// The figure with a goal.
    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Reads a line like `{"name":"empty call","value":130,"unit":"ns","at_most":1000}`.
    pub(super) fn parse(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("`{line}` is no figure"))?;
        let goal = value["at_most"].as_f64().map(Goal::AtMost).or(value["at_least"].as_f64().map(Goal::AtLeast));
        Ok(Self {
            name: value["name"].as_str().with_context(|| format!("`{line}` has no name"))?.into(),
            value: value["value"].as_f64().with_context(|| format!("`{line}` has no value"))?,
            unit: value["unit"].as_str().unwrap_or_default().into(),
            goal,
        })
    }

    /// Whether it is as it should be; `None` if nothing is asked of it.
    fn is_met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::AtMost(limit) => self.value <= limit,
            Goal::AtLeast(limit) => self.value >= limit,
        })
    }

    fn shown(&self) -> String {
        let value = format!("{} {}", rounded(self.value), self.unit);
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(limit)) => format!("at most {}", rounded(limit)),
            Some(Goal::AtLeast(limit)) => format!("at least {}", rounded(limit)),
        };
        let mark = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        format!("  {:<44} {value:>20}   {goal:<18} {mark}", self.name).trim_end().to_owned()
    }

    fn to_json(&self) -> Value {
        let mut value = json!({ "name": self.name, "value": self.value, "unit": self.unit });
        match self.goal {
            None => {}
            Some(Goal::AtMost(limit)) => value["at_most"] = json!(limit),
            Some(Goal::AtLeast(limit)) => value["at_least"] = json!(limit),
        }
        value
    }
}

/// Three digits that mean something; thousands are kept apart.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        v if v < 0.1 => 4,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// The figures of a run, with what they were measured on.
pub(super) struct Results {
    machine: Value,
    benchmarks: Vec<(String, Vec<Figure>)>,
}

impl Results {
    /// No figures yet.
    pub(super) fn of_this_machine() -> Self {
        let read = |program: &str, arguments: &[&str]| {
            let text = Shell::new(program, arguments).read().unwrap_or_default();
            text.trim().to_owned()
        };
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = json!({
            "cpu": cpu,
            "cores": cores,
            "rustc": read("rustc", &["--version"]),
            "commit": read("git", &["describe", "--always", "--dirty"]),
        });
        Self { machine, benchmarks: Vec::new() }
    }

    /// Shows the figures of a benchmark and keeps them.
    pub(super) fn show_and_add(&mut self, benchmark: &str, figures: Vec<Figure>) {
        for figure in &figures {
            println!("{}", figure.shown());
        }
        self.benchmarks.push((benchmark.to_owned(), figures));
    }

    /// Writes everything down as JSON.
    pub(super) fn write(&self, path: &str) -> anyhow::Result<()> {
        let benchmarks: serde_json::Map<String, Value> = self
            .benchmarks
            .iter()
            .map(|(name, figures)| (name.clone(), figures.iter().map(Figure::to_json).collect()))
            .collect();
        let text = serde_json::to_string_pretty(&json!({ "machine": self.machine, "benchmarks": benchmarks }))?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write `{path}`"))
    }
}

/// The value that half of the values do not exceed.
pub(super) fn median(values: &[f64]) -> anyhow::Result<f64> {
    percentile(values, 50.0)
}

/// The value that so many per cent of the values do not exceed, as the nearest rank.
pub(super) fn percentile(values: &[f64], percent: f64) -> anyhow::Result<f64> {
    ensure!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    Ok(sorted[rank.clamp(1, sorted.len()) - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], percent: f64, expected: f64) {
        assert_eq!(percentile(values, percent).expect("there are values").to_bits(), expected.to_bits());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        check(&[3.0, 1.0, 2.0], 50.0, 2.0);
        check(&[1.0], 99.0, 1.0);
        check(&(1..=100).map(f64::from).collect::<Vec<_>>(), 99.0, 99.0);
        check(&[1.0, 2.0], 0.0, 1.0);
        assert!(median(&[]).is_err());
    }

    #[test]
    fn numbers_are_readable() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0123, "0.0123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1_234_567.8, "1,234,568"),
            (999.0, "999"),
        ] {
            assert_eq!(rounded(value), expected);
        }
        assert_eq!(rounded(-123.0), "-123");
    }

    #[test]
    fn figures_are_read_shown_and_judged() {
        let figure = Figure::parse(r#"{"name":"empty call","value":1300,"unit":"ns","at_most":1000}"#).expect("whole");
        assert_eq!(figure, Figure::new("empty call", 1300.0, "ns").goal(Goal::AtMost(1000.0)));
        assert!(figure.shown().ends_with("at most 1,000      MISSED"), "{}", figure.shown());
        assert_eq!(Figure::new("a", 2.0, "x").goal(Goal::AtLeast(2.0)).is_met(), Some(true));
        assert_eq!(Figure::new("a", 2.0, "x").is_met(), None);
        assert!(Figure::parse("{}").is_err() && Figure::parse("x").is_err());
    }
}
