//! Shows mistakes as a compiler does: the message, the line with a caret under the mistake, a hint.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::problems::{Problem, Problems};

/// Mistakes as text for people, each with line, column and hint, ended by a summary line.
///
/// `text` is what stands in the file and `file_name` what to call it; `color` writes terminal colours.
///
/// # Examples
///
/// ```
/// use tidemill::job::problems::{Problem, Problems};
/// use tidemill::job::render::render;
///
/// let problem = Problem::new("unknown key `nmae`").at(Some(6..10)).hint(Some("Did you mean `name`?".into()));
/// let shown = render(&Problems::from_iter([problem]), "[job]\nnmae = 'x'\n", "job.toml", false);
/// assert_eq!(shown, "\
/// error: unknown key `nmae`
///  --> job.toml:2:1
///   |
/// 2 | nmae = 'x'
///   | ^^^^
///   |
///   = hint: Did you mean `name`?
///
/// job.toml: 1 mistake
/// ");
/// ```
#[must_use]
pub fn render(problems: &Problems, text: &str, file_name: &str, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut shown = String::new();
    for problem in problems {
        shown.push_str(&render_one(problem, text, file_name, &renderer));
        shown.push_str("\n\n");
    }
    shown.push_str(&summary(problems, file_name));
    shown.push('\n');
    shown
}

/// The line that says how many mistakes there are, as in `job.toml: 3 mistakes`.
#[must_use]
pub fn summary(problems: &Problems, file_name: &str) -> String {
    match problems.len() {
        0 => format!("{file_name}: no mistakes"),
        1 => format!("{file_name}: 1 mistake"),
        n => format!("{file_name}: {n} mistakes"),
    }
}

/// Where byte `offset` of a text stands: line and column, in characters, both from 1.
#[must_use]
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..floor(text, offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn render_one(problem: &Problem, text: &str, file_name: &str, renderer: &Renderer) -> String {
    let message = visible(&problem.message);
    let hint = problem.hint.as_deref().map(visible);
    let argument = problem.argument.as_deref();
    let (text, origin) = argument.map_or((text, file_name), |argument| (argument, "--set"));
    // One group: the title, the snippet, the hint. A mistake without a place still names the file.
    let mut group = annotate_snippets::Group::with_title(Level::ERROR.primary_title(message));
    match &problem.span {
        Some(span) => {
            let span = one_line(text, span);
            group = group.element(Snippet::source(text).path(origin).annotation(AnnotationKind::Primary.span(span)));
        }
        None => group = group.element(annotate_snippets::Origin::path(origin)),
    }
    if let Some(hint) = hint {
        group = group.element(Level::HELP.with_name("hint").message(hint));
    }
    renderer.render(&[group])
}

/// The part of a span that stands on its first line, cut to the text.
fn one_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    let end = floor(text, span.end).max(start);
    let line_end = text[start..end].find(['\n', '\r']).map_or(end, |at| start + at);
    start..line_end
}

/// The nearest place at or before `offset` where a character starts.
fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// A text that cannot control the terminal: names in messages come from files that others wrote.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(problem: Problem, text: &str, expected: &str) {
        assert_eq!(render(&Problems::from_iter([problem]), text, "job.toml", false), expected);
    }

    #[test]
    fn a_mistake_without_a_place_names_the_file() {
        check(
            Problem::new("the job has no sink").hint(Some("Add a `[[sink]]`.".into())),
            "",
            "error: the job has no sink\n--> job.toml\n = hint: Add a `[[sink]]`.\n\njob.toml: 1 mistake\n",
        );
    }

    #[test]
    fn a_mistake_of_an_argument_shows_the_argument() {
        let problem = Problem { argument: Some("a.b=5".into()), ..Problem::new("no such key").at(Some(0..3)) };
        check(problem, "[job]", "error: no such key\n --> --set:1:1\n  |\n1 | a.b=5\n  | ^^^\n\njob.toml: 1 mistake\n");
    }

    #[test]
    fn a_long_value_is_marked_on_its_first_line() {
        check(
            Problem::new("wrong").at(Some(4..17)),
            "a = [\n  1,\n  2,\n]\n",
            "error: wrong\n --> job.toml:1:5\n  |\n1 | a = [\n  |     ^\n\njob.toml: 1 mistake\n",
        );
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("é = 1\nb = é2", 6), (1, 6));
        assert_eq!(position("é = 1\nb = é2", 13), (2, 6));
        assert_eq!(position("a", 99), (1, 2));
    }

    proptest! {
        #[test]
        fn no_text_or_span_makes_it_panic(text in ".{0,40}|[a\n\r\té]{0,20}", start in 0..60usize, len in 0..60usize, color: bool) {
            let problems = Problems::from_iter([
                Problem::new(text.clone()).at(Some(start..start + len)).hint(Some(text.clone())),
                Problem { argument: Some(text.clone()), ..Problem::new("").at(Some(start..start)) },
            ]);
            let _ = render(&problems, &text, "job.toml", color);
            let _ = position(&text, start);
        }
    }
}
