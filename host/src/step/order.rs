//! Orders of rows, as in `["price desc", "at"]`.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::plan::describe_type;
use crate::shuffle::key_encoding::{canonical_floats, plain, plain_type};
use crate::step::keyed::{SpecProblem, column_hint};

/// By which columns rows are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    columns: Vec<usize>,
    fields: Vec<SortField>,
}

impl Order {
    /// Reads terms as in `price desc nulls last`: a column, `asc` (what is meant when nothing is said) or `desc`, and where nulls
    /// go; when nothing is said they are the smallest, as in Spark. `key` is where the terms stand.
    pub(crate) fn resolve(input: &Schema, terms: &[String], key: &str, problems: &mut Vec<SpecProblem>) -> Self {
        let mut order = Self { columns: Vec::new(), fields: Vec::new() };
        for term in terms {
            match resolve_term(input, term) {
                Ok((column, options)) => {
                    let data_type = plain_type(input.field(column).data_type()).clone();
                    let field = SortField::new_with_options(data_type, options);
                    if RowConverter::supports_fields(std::slice::from_ref(&field)) {
                        order.columns.push(column);
                        order.fields.push(field);
                    } else {
                        let name = input.field(column).name();
                        let type_name = describe_type(input.field(column).data_type());
                        let message = format!("column `{name}` has type {type_name}, which has no order");
                        problems.push(SpecProblem { key: key.into(), message, hint: None });
                    }
                }
                Err((message, hint)) => problems.push(SpecProblem { key: key.into(), message, hint: Some(hint) }),
            }
        }
        order
    }

    /// What encodes the order of rows as bytes.
    pub(crate) fn converter(&self) -> Result<RowConverter, ArrowError> {
        RowConverter::new(self.fields.clone())
    }

    /// Each row as bytes that compare as the rows do. As among keys 0 and -0 are equal, and so is every NaN, which is larger
    /// than any number.
    pub(crate) fn encode(&self, converter: &RowConverter, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        let canonical = |&column: &usize| canonical_floats(&plain(rows.column(column))?);
        let columns: Vec<ArrayRef> = self.columns.iter().map(canonical).collect::<Result<_, _>>()?;
        converter.convert_columns(&columns)
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

fn resolve_term(input: &Schema, term: &str) -> Result<(usize, SortOptions), (String, String)> {
    const SHAPE: &str =
        "Write a column, then `asc` or `desc`, then `nulls first` or `nulls last`, as in `price desc nulls last`.";
    let mut words: Vec<&str> = term.split_whitespace().collect();
    // A column may be called anything; only what stands behind it is read.
    let mut ends_with = |ending: &[&str]| {
        let is_there = words.len() > ending.len()
            && words[words.len() - ending.len()..].iter().zip(ending).all(|(word, end)| word.eq_ignore_ascii_case(end));
        if is_there {
            words.truncate(words.len() - ending.len());
        }
        is_there
    };
    let nulls_first = if ends_with(&["nulls", "first"]) {
        Some(true)
    } else if ends_with(&["nulls", "last"]) {
        Some(false)
    } else {
        None
    };
    let descending = ends_with(&["desc"]);
    if !descending {
        ends_with(&["asc"]);
    }
    let name = words.join(" ");
    if name.is_empty() {
        return Err(("a term of the order is empty".into(), SHAPE.into()));
    }
    match input.column_with_name(&name) {
        Some((column, _)) => Ok((column, SortOptions { descending, nulls_first: nulls_first.unwrap_or(!descending) })),
        None if words.len() > 1 => Err((format!("`{term}` is no order"), SHAPE.into())),
        None => Err((format!("the input has no column `{name}`"), column_hint(input, &name))),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[track_caller]
    fn check(term: &str, expected: Result<(usize, bool, bool), &str>) {
        let schema =
            Schema::new(vec![Field::new("price", DataType::Int64, true), Field::new("at", DataType::Int64, true)]);
        let found =
            resolve_term(&schema, term).map(|(column, options)| (column, options.descending, options.nulls_first));
        assert_eq!(found.map_err(|(message, _)| message), expected.map_err(str::to_owned));
    }

    #[test]
    fn terms_say_column_direction_and_nulls() {
        check("price", Ok((0, false, true)));
        check("at asc", Ok((1, false, true)));
        check("price DESC", Ok((0, true, false)));
        check(" price  desc nulls first ", Ok((0, true, true)));
        check("price nulls last", Ok((0, false, false)));
        check("prise", Err("the input has no column `prise`"));
        check("price down", Err("`price down` is no order"));
        check("", Err("a term of the order is empty"));
    }
}
