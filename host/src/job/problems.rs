//! What is wrong with a job file: every mistake, each with its place.

use std::ops::Range;

/// One mistake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: starts small, ends without a full stop, literals in backticks.
    pub message: String,
    /// Where, in bytes of the file, or of [`argument`](Self::argument) when there is one; `None`: the whole file.
    pub span: Option<Range<usize>>,
    /// What to write instead, in a sentence or two.
    pub hint: Option<String>,
    /// The `--set key=value` that the mistake stands in, when it does not stand in the file.
    pub argument: Option<String>,
}

impl Problem {
    /// A mistake without a place.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The mistake, at a place of the file.
    #[must_use]
    pub fn at(mut self, span: Option<Range<usize>>) -> Self {
        self.span = span;
        self
    }

    /// The mistake, with what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// Everything wrong with a job file, collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    /// No mistakes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake; one that is already there is not added again. Its hint becomes a sentence, whoever wrote it.
    pub fn push(&mut self, mut problem: Problem) {
        problem.hint = problem.hint.map(sentence);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many mistakes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// The mistakes, in the order they were found or, after [`sort`](Self::sort), of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// Puts the mistakes in the order of the file; those of `--set` arguments first, those without a place last.
    pub fn sort(&mut self) {
        self.problems.sort_by_key(|problem| match (&problem.argument, &problem.span) {
            (Some(_), span) => (0, span.as_ref().map_or(0, |span| span.start)),
            (None, Some(span)) => (1, span.start),
            (None, None) => (2, 0),
        });
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.problems.iter()
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        for problem in problems {
            self.push(problem);
        }
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        let mut all = Self::new();
        all.extend(problems);
        all
    }
}

/// A text that starts large and ends with a stop.
fn sentence(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !text.is_empty() && !text.ends_with(['.', '?', '!', ':', '…']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(sentence(text.into()), expected);
    }

    #[test]
    fn hints_are_sentences() {
        check("", "");
        check("did you mean `a`?", "Did you mean `a`?");
        check("keys: `a`, `b`", "Keys: `a`, `b`.");
        check("Write it.", "Write it.");
        check("`a` is enough", "`a` is enough.");
        check("été", "été.");
    }

    #[test]
    fn the_same_mistake_is_told_once_and_in_the_order_of_the_file() {
        let mut problems: Problems =
            [30..31, 10..11, 30..31].into_iter().map(|span| Problem::new("x").at(Some(span))).collect();
        problems.push(Problem::new("no place"));
        problems.push(Problem { argument: Some("a=1".into()), ..Problem::new("y").at(Some(99..100)) });
        problems.sort();
        let spans: Vec<_> = problems.iter().map(|problem| problem.span.clone().map(|span| span.start)).collect();
        assert_eq!(spans, [Some(99), Some(10), Some(30), None]);
    }
}
