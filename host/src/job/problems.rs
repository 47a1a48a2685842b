//! What is wrong with a job file: every mistake, each with its place.

use std::ops::Range;

/// One mistake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong: starts small, ends without a full stop, literals in backticks.
    pub message: String,
    /// Where, in bytes of the file, or of [`argument`](Self::argument) when there is one; `None`: the whole file.
    pub span: Option<Range<usize>>,
    /// What to write instead.
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

    /// Adds a mistake; one that is already there is not added again.
    pub fn push(&mut self, problem: Problem) {
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
