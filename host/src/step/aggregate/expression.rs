//! The text of an aggregate: `function(column)`, and what else some functions take.
//!
//! ```text
//!  count(*)   sum(price)   count(distinct "two words")   first(price order by time desc ignore nulls)
//!  min_by(name, age)   percentile(ms, 0.5)   approx_percentile(ms, [0.5, 0.99])
//! ```
//!
//! Functions and keywords are told apart without regard to case; a column that is not made of letters, digits and `_`
//! alone stands in double quotes, and a quote in it is doubled.

use super::percentile::Fractions;
use crate::step::keyed::nearest;

macro_rules! functions {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// A built-in aggregate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Function {
            $($(#[$doc])+ $variant,)+
        }

        impl Function {
            /// Every function.
            pub const ALL: &[Function] = &[$(Function::$variant),+];

            /// Its name, in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Function::$variant => $name,)+
                }
            }
        }
    };
}

functions! {
    /// `count(*)`: rows. `count(column)`: rows where the column is not null.
    Count = "count",
    /// `sum(column)`.
    Sum = "sum",
    /// `min(column)`.
    Min = "min",
    /// `max(column)`.
    Max = "max",
    /// `avg(column)`.
    Avg = "avg",
    /// `first(column)`: of the row that came first, or has the smallest value of another column.
    First = "first",
    /// `last(column)`: of the row that came last, or has the greatest value of another column.
    Last = "last",
    /// `any_value(column)`: one that is not null.
    AnyValue = "any_value",
    /// `min_by(column, other)`: of the row with the smallest value of the other column.
    MinBy = "min_by",
    /// `max_by(column, other)`: of the row with the greatest value of the other column.
    MaxBy = "max_by",
    /// `bool_and(column)`: whether all are true.
    BoolAnd = "bool_and",
    /// `bool_or(column)`: whether one is true.
    BoolOr = "bool_or",
    /// `stddev(column)`: the standard deviation of a sample.
    Stddev = "stddev",
    /// `stddev_pop(column)`: the standard deviation.
    StddevPop = "stddev_pop",
    /// `variance(column)`: the variance of a sample.
    Variance = "variance",
    /// `var_pop(column)`: the variance.
    VarPop = "var_pop",
    /// `percentile(column, fraction)`: exactly.
    Percentile = "percentile",
    /// `approx_percentile(column, fraction)`: nearly, in little memory.
    ApproxPercentile = "approx_percentile",
    /// `approx_distinct(column)`: how many different values there are, nearly, in little memory.
    ApproxDistinct = "approx_distinct",
    /// `collect_list(column)`: the values.
    CollectList = "collect_list",
    /// `collect_set(column)`: the different values.
    CollectSet = "collect_set",
}

/// What stands between the parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A column, perhaps `distinct`.
    Distinct,
    /// A column.
    Column,
    /// A column, perhaps `order by` and `ignore nulls`.
    Ordered,
    /// Two columns.
    Two,
    /// A column, and a fraction or several.
    Fraction,
}

impl Function {
    fn form(self) -> Form {
        match self {
            Function::Count | Function::Sum | Function::Avg => Form::Distinct,
            Function::First | Function::Last => Form::Ordered,
            Function::MinBy | Function::MaxBy => Form::Two,
            Function::Percentile | Function::ApproxPercentile => Form::Fraction,
            _ => Form::Column,
        }
    }

    /// How it is written.
    fn example(self) -> String {
        let name = self.name();
        match self.form() {
            Form::Distinct if self == Function::Count => "count(*)".into(),
            Form::Distinct | Form::Column => format!("{name}(column)"),
            Form::Ordered => format!("{name}(column order by time ignore nulls)"),
            Form::Two => format!("{name}(column, other)"),
            Form::Fraction => format!("{name}(column, 0.5)"),
        }
    }
}

/// What an expression says, before columns are looked up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression {
    pub(crate) function: Function,
    /// `None` for `*`.
    pub(crate) column: Option<String>,
    /// Whether equal values count once.
    pub(crate) is_distinct: bool,
    /// The column that the choice of a row goes by.
    pub(crate) by: Option<String>,
    /// Whether it goes by it downwards.
    pub(crate) is_descending: bool,
    /// Whether rows where the column is null are left out; other functions always leave them out.
    pub(crate) ignores_nulls: bool,
    /// Of percentiles; for other functions there are none.
    pub(crate) fractions: Fractions,
}

/// Of which column of the input a column of the output has values of single rows, when it is made by these keys and aggregates.
pub(crate) fn value_of(name: &str, by: &[String], select: &[(String, String)]) -> Option<String> {
    let Some((_, text)) = select.iter().find(|(column, _)| column == name) else {
        return by.iter().find(|key| *key == name).cloned();
    };
    let Expression { function, column, .. } = parse(text).ok()?;
    use Function::{AnyValue, First, Last, Max, MaxBy, Min, MinBy};
    matches!(function, Min | Max | First | Last | AnyValue | MinBy | MaxBy).then_some(column).flatten()
}

/// What is wrong with an expression: message and hint.
pub(crate) type ExpressionProblem = (String, Option<String>);

/// Reads an aggregate.
pub(crate) fn parse(text: &str) -> Result<Expression, ExpressionProblem> {
    let text = text.trim();
    let mut cursor = Cursor(text);
    let name = cursor.word();
    let names = || Function::ALL.iter().map(|function| function.name());
    let Some(&function) = Function::ALL.iter().find(|function| function.name().eq_ignore_ascii_case(name)) else {
        let hint = match nearest(name, names()) {
            Some(nearest) => format!("Did you mean `{nearest}`?"),
            None => {
                let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
                format!("Write `count(*)`, or one of these of a column: {}.", names.join(", "))
            }
        };
        return Err(if name.is_empty() {
            (format!("`{text}` is not an aggregate"), Some(hint))
        } else {
            (format!("there is no aggregate `{name}`"), Some(hint))
        });
    };
    let malformed =
        |what: String| (format!("`{text}` {what}"), Some(format!("Write it as in `{}`.", function.example())));
    if !cursor.eat('(') {
        return Err(malformed("has no argument in parentheses".into()));
    }
    if let Some(computed) = computed_argument(cursor.0) {
        // A name that a quote in the expression does not end.
        let quote = if computed.contains('"') { '\'' } else { '"' };
        return Err((
            format!("`{text}` computes its argument, and that must be a column"),
            Some(format!(
                "Make the column in a step before, as in `with = {{ value = {quote}{computed}{quote} }}`, and write \
                 `{name}(value)`."
            )),
        ));
    }
    let expression = cursor.arguments(function).map_err(malformed)?;
    if !cursor.eat(')') {
        return Err(malformed("has no `)` after its argument".into()));
    }
    if !cursor.0.trim().is_empty() {
        return Err(malformed("goes on after its `)`".into()));
    }
    Ok(expression)
}

/// The first argument when it is an expression, and no column; `rest` stands behind the opening parenthesis.
fn computed_argument(rest: &str) -> Option<&str> {
    let (mut depth, mut is_quoted, mut is_computed) = (0_u32, false, false);
    let end = rest.find(|letter: char| {
        match letter {
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            ',' | ')' if depth == 0 => return true,
            '(' => (depth, is_computed) = (depth + 1, true),
            ')' => depth -= 1,
            '+' | '-' | '*' | '/' | '%' | '|' | '<' | '>' | '=' | '!' | '\'' => is_computed = true,
            _ => {}
        }
        false
    })?;
    let argument = rest[..end].trim();
    let mut cursor = Cursor(argument);
    let argument = if cursor.eat_words(&["distinct"]) { cursor.0.trim() } else { argument };
    let is_case = Cursor(argument).eat_words(&["case", "when"]);
    // `first(column order by other)` is something else, and `*` is for `count`.
    let has_order = || argument.to_lowercase().contains(" order by ");
    ((is_computed || is_case) && argument != "*" && !has_order()).then_some(argument)
}

/// What has not been read yet.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// Letters, digits and `_`; may be none.
    fn word(&mut self) -> &'a str {
        let text = self.0.trim_start();
        let ends = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (word, rest) = text.split_at(ends);
        self.0 = rest;
        word
    }

    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Reads these words if they come next.
    fn eat_words(&mut self, wanted: &[&str]) -> bool {
        let mut ahead = Cursor(self.0);
        let come_next = wanted.iter().all(|wanted| ahead.word().eq_ignore_ascii_case(wanted));
        if come_next {
            self.0 = ahead.0;
        }
        come_next
    }

    fn arguments(&mut self, function: Function) -> Result<Expression, String> {
        let mut expression = Expression {
            function,
            column: None,
            is_distinct: false,
            by: None,
            is_descending: false,
            ignores_nulls: function == Function::AnyValue,
            fractions: Fractions::List(Vec::new()),
        };
        if self.eat('*') {
            let is_right = function == Function::Count;
            return if is_right { Ok(expression) } else { Err("needs a column: only `count` takes `*`".into()) };
        }
        // A column may be called `distinct`.
        let mut ahead = Cursor(self.0);
        if ahead.eat_words(&["distinct"]) && !ahead.0.trim_start().starts_with([')', ',']) {
            if function.form() != Form::Distinct {
                return Err("cannot have `distinct`: only `count`, `sum` and `avg` can".into());
            }
            expression.is_distinct = true;
            self.0 = ahead.0;
        }
        expression.column = Some(self.column()?);
        match function.form() {
            Form::Column | Form::Distinct => {}
            Form::Ordered => self.clauses(&mut expression)?,
            Form::Two => {
                if !self.eat(',') {
                    return Err("has no second column, which it goes by".into());
                }
                expression.by = Some(self.column()?);
            }
            Form::Fraction => {
                if !self.eat(',') {
                    return Err("does not say which percentile: a fraction from 0 to 1".into());
                }
                expression.fractions = self.fractions()?;
            }
        }
        Ok(expression)
    }

    fn column(&mut self) -> Result<String, String> {
        if !self.eat('"') {
            let column = self.word();
            return if column.is_empty() { Err("names no column".into()) } else { Ok(column.into()) };
        }
        let mut column = String::new();
        loop {
            let (part, after) = self.0.split_once('"').ok_or("has a quote that is not closed")?;
            column.push_str(part);
            self.0 = after;
            match after.strip_prefix('"') {
                Some(after) => {
                    column.push('"');
                    self.0 = after;
                }
                None => return Ok(column),
            }
        }
    }

    /// `order by` and `ignore nulls`, as they stand in SQL.
    fn clauses(&mut self, expression: &mut Expression) -> Result<(), String> {
        if self.eat_words(&["order", "by"]) {
            expression.by = Some(self.column()?);
            expression.is_descending = self.eat_words(&["desc"]);
            if !expression.is_descending {
                self.eat_words(&["asc"]);
            }
        }
        expression.ignores_nulls = self.eat_words(&["ignore", "nulls"]);
        if !expression.ignores_nulls {
            self.eat_words(&["respect", "nulls"]);
        }
        Ok(())
    }

    /// `0.5`, or `[0.5, 0.9]`, which may stand after `array` as in SQL.
    fn fractions(&mut self) -> Result<Fractions, String> {
        let is_array = self.eat_words(&["array"]);
        let closing = if self.eat('[') {
            ']'
        } else if is_array && self.eat('(') {
            ')'
        } else {
            return Ok(Fractions::One(self.fraction()?));
        };
        let mut fractions = vec![self.fraction()?];
        while self.eat(',') {
            fractions.push(self.fraction()?);
        }
        if self.eat(closing) {
            Ok(Fractions::List(fractions))
        } else {
            Err(format!("has no `{closing}` after its fractions"))
        }
    }

    fn fraction(&mut self) -> Result<f64, String> {
        let text = self.0.trim_start();
        let ends = text.find([',', ')', ']']).unwrap_or(text.len());
        let (number, rest) = text.split_at(ends);
        self.0 = rest;
        let number = number.trim();
        let fraction = number.parse::<f64>().ok().filter(|fraction| (0.0..=1.0).contains(fraction));
        fraction.ok_or_else(|| format!("has `{number}` where a fraction from 0 to 1 has to stand"))
    }
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

    #[track_caller]
    fn check_all(text: &str, expected: impl FnOnce(&mut Expression)) {
        let parsed = parse(text).expect("it is right");
        let mut plain = Expression {
            function: parsed.function,
            column: Some("c".into()),
            is_distinct: false,
            by: None,
            is_descending: false,
            ignores_nulls: false,
            fractions: Fractions::List(Vec::new()),
        };
        expected(&mut plain);
        assert_eq!(parsed, plain, "of `{text}`");
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
        check("count(distinct)", Ok((Function::Count, Some("distinct"))));
        check("min_by(order, by)", Ok((Function::MinBy, Some("order"))));
        check(r#"count( distinct "a b" )"#, Ok((Function::Count, Some("a b"))));
    }

    #[test]
    fn what_stands_beside_the_column_is_read() {
        check_all("sum(Distinct c)", |it| it.is_distinct = true);
        check_all("first(c)", |_| ());
        check_all("first(c respect nulls)", |_| ());
        check_all("last(c ignore nulls)", |it| it.ignores_nulls = true);
        check_all("any_value(c)", |it| it.ignores_nulls = true);
        check_all("first(c ORDER BY t)", |it| it.by = Some("t".into()));
        check_all("first(c order by t asc)", |it| it.by = Some("t".into()));
        check_all(r#"last(c order by "a b" desc ignore nulls)"#, |it| {
            (it.by, it.is_descending, it.ignores_nulls) = (Some("a b".into()), true, true);
        });
        check_all("max_by(c, t)", |it| it.by = Some("t".into()));
        check_all("percentile(c, 0.25)", |it| it.fractions = Fractions::One(0.25));
        for list in ["[0, 5e-1,1 ]", "array[0, .5, 1.0]", "ARRAY (0, 0.5, 1)"] {
            let fractions = Fractions::List(vec![0.0, 0.5, 1.0]);
            check_all(&format!("approx_percentile(c, {list})"), |it| it.fractions = fractions);
        }
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
        for text in ["sum(i+1)", "sum(-i)", "avg(abs(i))", "sum(case when a then b end)", "percentile(i * 2, 0.5)"] {
            check(text, Err(&format!("`{text}` computes its argument, and that must be a column")));
        }
        check("sum(*)", Err("`sum(*)` needs a column: only `count` takes `*`"));
        check(r#"sum("a)"#, Err(r#"`sum("a)` has a quote that is not closed"#));
        check("min(distinct a)", Err("`min(distinct a)` cannot have `distinct`: only `count`, `sum` and `avg` can"));
        check("sum(a order by b)", Err("`sum(a order by b)` has no `)` after its argument"));
        check("first(a order by)", Err("`first(a order by)` names no column"));
        check("first(a order)", Err("`first(a order)` has no `)` after its argument"));
        check("min_by(a)", Err("`min_by(a)` has no second column, which it goes by"));
        check("percentile(a)", Err("`percentile(a)` does not say which percentile: a fraction from 0 to 1"));
        check("percentile(a, 50)", Err("`percentile(a, 50)` has `50` where a fraction from 0 to 1 has to stand"));
        check("percentile(a, [])", Err("`percentile(a, [])` has `` where a fraction from 0 to 1 has to stand"));
        check("percentile(a, nan)", Err("`percentile(a, nan)` has `nan` where a fraction from 0 to 1 has to stand"));
        check("percentile(a, [0.5)", Err("`percentile(a, [0.5)` has no `]` after its fractions"));
    }

    #[test]
    fn hints_say_what_would_be_right() {
        let hint = |text| parse(text).expect_err("it is wrong").1.expect("there is a hint");
        assert_eq!(hint("cuont(*)"), "Did you mean `count`?");
        assert_eq!(hint("collect_lst(a)"), "Did you mean `collect_list`?");
        assert_eq!(hint("first(a) ignore nulls"), "Write it as in `first(column order by time ignore nulls)`.");
        assert_eq!(hint("percentile(a)"), "Write it as in `percentile(column, 0.5)`.");
        assert_eq!(
            hint("sum(i + 1)"),
            "Make the column in a step before, as in `with = { value = \"i + 1\" }`, and write `sum(value)`."
        );
        assert_eq!(
            hint("count(distinct \"a b\" || c)"),
            "Make the column in a step before, as in `with = { value = '\"a b\" || c' }`, and write `count(value)`."
        );
        assert!(hint("median(a)").starts_with("Write `count(*)`, or one of these of a column: `count`, `sum`, "));
    }
}
