//! The text of an aggregate: `function(column)`.

use crate::step::keyed::nearest;

/// A built-in aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `count(*)`: rows. `count(column)`: rows where the column is not null.
    Count,
    /// `sum(column)`.
    Sum,
    /// `min(column)`.
    Min,
    /// `max(column)`.
    Max,
    /// `avg(column)`.
    Avg,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 5] = [Function::Count, Function::Sum, Function::Min, Function::Max, Function::Avg];

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Min => "min",
            Function::Max => "max",
            Function::Avg => "avg",
        }
    }
}

/// What an expression says, before columns are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) function: Function,
    /// `None` for `*`.
    pub(crate) column: Option<String>,
}

/// What is wrong with an expression: message and hint.
pub(crate) type ExpressionProblem = (String, Option<String>);

/// Reads `function(column)`. Functions are told apart without regard to case; a column that is not made of letters,
/// digits and `_` alone stands in double quotes, and a quote in it is doubled.
pub(crate) fn parse(text: &str) -> Result<Expression, ExpressionProblem> {
    let text = text.trim();
    let name_ends = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_ends);
    let names = || Function::ALL.into_iter().map(Function::name);
    let Some(function) = Function::ALL.into_iter().find(|function| function.name().eq_ignore_ascii_case(name)) else {
        let hint = match nearest(name, names()) {
            Some(nearest) => format!("Did you mean `{nearest}`?"),
            None => "Write `count(*)`, or `count`, `sum`, `min`, `max` or `avg` of a column.".into(),
        };
        return Err(if name.is_empty() {
            (format!("`{text}` is not an aggregate"), Some(hint))
        } else {
            (format!("there is no aggregate `{name}`"), Some(hint))
        });
    };
    let example = if function == Function::Count { "count(*)".into() } else { format!("{}(column)", function.name()) };
    let malformed = |what: &str| (format!("`{text}` {what}"), Some(format!("Write it as in `{example}`.")));
    let rest = rest.trim_start().strip_prefix('(').ok_or_else(|| malformed("has no argument in parentheses"))?;
    let (column, rest) = parse_argument(rest.trim_start()).map_err(malformed)?;
    match rest.trim_start().strip_prefix(')') {
        None => return Err(malformed("has no `)` after its argument")),
        Some(rest) if !rest.trim().is_empty() => return Err(malformed("goes on after its `)`")),
        Some(_) => {}
    }
    if column.is_none() && function != Function::Count {
        return Err((format!("`{text}` needs a column: only `count` takes `*`"), None));
    }
    Ok(Expression { function, column })
}

/// The column, or `None` for `*`; and what follows it.
fn parse_argument(text: &str) -> Result<(Option<String>, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((None, rest));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let mut column = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('"').ok_or("has a quote that is not closed")?;
            column.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    column.push('"');
                    rest = after;
                }
                None => return Ok((Some(column), after)),
            }
        }
    }
    let ends = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (column, rest) = text.split_at(ends);
    if column.is_empty() {
        return Err("names no column");
    }
    Ok((Some(column.into()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Function, Option<&str>), &str>) {
        let parsed = parse(text);
        let parsed = parsed.as_ref().map(|it| (it.function, it.column.as_deref())).map_err(|it| it.0.as_str());
        assert_eq!(parsed, expected, "of `{text}`");
    }

    #[test]
    fn expressions_are_read() {
        check("count(*)", Ok((Function::Count, None)));
        check(" COUNT ( * ) ", Ok((Function::Count, None)));
        check("count(word)", Ok((Function::Count, Some("word"))));
        check("Sum( größe_2 )", Ok((Function::Sum, Some("größe_2"))));
        check(r#"min("two ""words""")"#, Ok((Function::Min, Some(r#"two "words""#))));
        check(r#"max("")"#, Ok((Function::Max, Some(""))));
        check("avg(n)", Ok((Function::Avg, Some("n"))));
    }

    #[test]
    fn mistakes_are_named() {
        check("", Err("`` is not an aggregate"));
        check("*", Err("`*` is not an aggregate"));
        check("cuont(*)", Err("there is no aggregate `cuont`"));
        check("count", Err("`count` has no argument in parentheses"));
        check("count()", Err("`count()` names no column"));
        check("count(*", Err("`count(*` has no `)` after its argument"));
        check("sum(a, b)", Err("`sum(a, b)` has no `)` after its argument"));
        check("sum(a) + 1", Err("`sum(a) + 1` goes on after its `)`"));
        check("sum(*)", Err("`sum(*)` needs a column: only `count` takes `*`"));
        check(r#"sum("a)"#, Err(r#"`sum("a)` has a quote that is not closed"#));
        let (_, hint) = parse("cuont(*)").expect_err("there is none");
        assert_eq!(hint.as_deref(), Some("Did you mean `count`?"));
    }
}
