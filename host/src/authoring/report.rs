//! What is found out about a plugin: one line a check.

use std::fmt::Write as _;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed {
        /// What is different, or what broke: lines.
        what: String,
        /// What it may mean, or how it is mended.
        hint: Option<String>,
    },
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, which runs it alone.
    pub name: String,
    /// What it says, in a few words.
    pub about: String,
    /// How it ended.
    pub outcome: Outcome,
}

impl Check {
    /// Whether it holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }
}

/// All that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was done.
    pub checks: Vec<Check>,
}

impl Report {
    /// Adds a check: what it found, and what that may mean.
    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        about: impl Into<String>,
        found: Result<(), (String, Option<String>)>,
    ) {
        let outcome = match found {
            Ok(()) => Outcome::Passed,
            Err((what, hint)) => Outcome::Failed { what, hint },
        };
        self.checks.push(Check { name: name.into(), about: about.into(), outcome });
    }

    /// Whether every check holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(Check::passed)
    }

    /// The report for people. `again` says with which command a check is run alone: the name is put behind it.
    #[must_use]
    pub fn in_words(&self, again: &str) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Check { name, about, outcome } in &self.checks {
            // Writing to a String cannot fail.
            let _ = match outcome {
                Outcome::Passed => writeln!(text, "  ok    {name:width$}  {about}"),
                Outcome::Failed { what, hint } => {
                    let what = what.replace('\n', "\n        ");
                    let hint = hint.as_ref().map(|hint| format!("\n        hint: {hint}")).unwrap_or_default();
                    writeln!(text, "  FAIL  {name:width$}  {about}\n        {what}{hint}\n        again: {again}{name}")
                }
            };
        }
        let n_failed = self.checks.iter().filter(|check| !check.passed()).count();
        let _ = writeln!(text, "{} passed, {n_failed} failed", self.checks.len() - n_failed);
        text
    }

    /// The report for programs.
    #[must_use]
    pub fn as_json(&self) -> serde_json::Value {
        let check = |check: &Check| match &check.outcome {
            Outcome::Passed => serde_json::json!({ "name": check.name, "about": check.about, "passed": true }),
            Outcome::Failed { what, hint } => serde_json::json!({
                "name": check.name, "about": check.about, "passed": false, "what": what, "hint": hint,
            }),
        };
        serde_json::json!({ "passed": self.passed(), "checks": self.checks.iter().map(check).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_line_a_check() {
        let mut report = Report::default();
        report.add("twice", "the same again", Ok(()));
        assert!(report.passed());
        report.add("empty", "no rows", Err(("it crashed\nbadly".into(), Some("mend it".into()))));
        assert_eq!(
            report.in_words("tidemill plugin test --only "),
            "  ok    twice  the same again\n  FAIL  empty  no rows\n        it crashed\n        badly\n        \
             hint: mend it\n        again: tidemill plugin test --only empty\n1 passed, 1 failed\n"
        );
        assert_eq!(report.as_json()["checks"][1]["what"], "it crashed\nbadly");
    }
}
