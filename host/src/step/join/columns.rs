//! The columns of a join: which are keys, and which columns of both sides stand in its rows.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

use super::JoinType;
use crate::plan::describe_type;
use crate::shuffle::key_encoding::{is_key_type, plain, plain_type};
use crate::source::schema::UTC;
use crate::step::keyed::{SpecProblem, batch_of, column_hint, plain_field};

/// The columns that say in which window a row is.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// A column of the left side.
    Left(usize),
    /// A column of the right side.
    Right(usize),
    /// A key that both sides have by the same name: of the left row, or the right one where there is no left.
    Either(usize, usize),
    /// The start of the window.
    WindowStart,
    /// Its end.
    WindowEnd,
}

/// The columns of a join that fits.
#[derive(Debug, Clone)]
pub(crate) struct JoinColumns {
    /// The schema of what it gives.
    pub(crate) schema: SchemaRef,
    /// Where each of its columns comes from.
    pub(crate) columns: Vec<Column>,
    /// The schemas of both sides, of plain types.
    pub(crate) sides: [SchemaRef; 2],
    /// The key columns of both sides.
    pub(crate) keys: [Vec<usize>; 2],
}

/// What a job says of the columns.
pub(crate) struct ColumnOptions<'a> {
    /// Left column = right column.
    pub(crate) on: &'a [(String, String)],
    /// Stands before the name of a right column that the left side has too.
    pub(crate) prefix: Option<&'a str>,
    /// The type.
    pub(crate) join_type: JoinType,
    /// Whether rows say their window.
    pub(crate) windowed: bool,
    /// What the sides are called.
    pub(crate) names: [String; 2],
    /// Whether the right side is a table.
    pub(crate) with_table: bool,
}

impl JoinColumns {
    /// Finds the keys and names the columns of the output; `None`: the mistakes are in `problems`.
    pub(crate) fn resolve(
        inputs: [&Schema; 2],
        options: &ColumnOptions<'_>,
        problems: &mut Vec<SpecProblem>,
    ) -> Option<Self> {
        let n_before = problems.len();
        let keys = resolve_keys(inputs, options, problems);
        let sides = inputs.map(|schema| {
            Arc::new(Schema::new(schema.fields().iter().map(|field| plain_field(field)).collect::<Vec<_>>()))
        });
        let (columns, fields) = output_columns([&sides[0], &sides[1]], options, &keys, problems);
        (problems.len() == n_before).then(|| Self { schema: Arc::new(Schema::new(fields)), columns, sides, keys })
    }

    /// The types of the keys.
    pub(crate) fn key_types(&self) -> Vec<DataType> {
        self.keys[0].iter().map(|&index| self.sides[0].field(index).data_type().clone()).collect()
    }

    /// A schema of the keys alone.
    pub(crate) fn key_schema(&self) -> SchemaRef {
        let keys = self.keys[0].iter().map(|&index| self.sides[0].field(index).clone().with_nullable(true));
        Arc::new(Schema::new(keys.collect::<Vec<_>>()))
    }

    /// Rows of a side as they are joined: dictionaries and the like as the values they stand for.
    pub(crate) fn plain_rows(&self, side: usize, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = rows.columns().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        batch_of(self.sides[side].clone(), columns, rows.num_rows())
    }

    /// The key columns of rows of a side.
    pub(crate) fn keys_of(&self, side: usize, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys[side].iter().map(|&index| rows.column(index).clone()).collect()
    }

    /// Which rows of a side have all keys; `None`: every one. Rows without match nothing.
    pub(crate) fn has_keys(&self, side: usize, rows: &RecordBatch) -> Option<NullBuffer> {
        let nulls = self.keys[side].iter().filter_map(|&index| rows.column(index).logical_nulls());
        nulls
            .filter(|nulls| nulls.null_count() > 0)
            .fold(None, |all, nulls| NullBuffer::union(all.as_ref(), Some(&nulls)))
    }
}

/// The keys of both sides, as far as they are right.
fn resolve_keys(inputs: [&Schema; 2], options: &ColumnOptions<'_>, problems: &mut Vec<SpecProblem>) -> [Vec<usize>; 2] {
    let mut problem = |message, hint| problems.push(SpecProblem { key: "join.on".into(), message, hint });
    let mut keys = [Vec::new(), Vec::new()];
    for (left, right) in options.on {
        let found = [(0, left), (1, right)].map(|(side, name)| {
            let found = inputs[side].column_with_name(name);
            if found.is_none() {
                let message = format!("`{}` has no column `{name}`", options.names[side]);
                problem(message, Some(column_hint(inputs[side], name)));
            }
            found
        });
        let [Some((left_index, left_field)), Some((right_index, right_field))] = found else { continue };
        let types = [left_field, right_field].map(|field| plain_type(field.data_type()));
        if let Some(side) = (0..2).find(|&side| !is_key_type(types[side])) {
            let message = format!(
                "column `{}` of `{}` has type {}, which cannot be a key",
                [left, right][side],
                options.names[side],
                describe_type(types[side])
            );
            let hint = "Keys may be numbers, text, bytes, booleans, dates and times, and lists and structs of them.";
            problem(message, Some(hint.into()));
        } else if types[0] != types[1] {
            let message = format!(
                "`{}.{left}` has type {} and `{}.{right}` has type {}, and values of different types are not equal",
                options.names[0],
                describe_type(types[0]),
                options.names[1],
                describe_type(types[1])
            );
            let hint = if options.with_table {
                let cast = format!("`cast = {{ {left} = \"{}\" }}`", describe_type(types[1]));
                format!("Give the column another type in the table's `schema`, or make a step before with {cast}.")
            } else {
                let cast = format!("`cast = {{ {right} = \"{}\" }}`", describe_type(types[0]));
                format!("Make them alike in a step after `{}`: {cast}.", options.names[1])
            };
            problem(message, Some(hint));
        } else {
            keys[0].push(left_index);
            keys[1].push(right_index);
        }
    }
    keys
}

fn output_columns(
    sides: [&Schema; 2],
    options: &ColumnOptions<'_>,
    keys: &[Vec<usize>; 2],
    problems: &mut Vec<SpecProblem>,
) -> (Vec<Column>, Vec<Field>) {
    let (mut columns, mut fields) = (Vec::new(), Vec::<Field>::new());
    // A key of one name on both sides is one column.
    let shared = |left: usize| {
        let place = keys[0].iter().position(|&key| key == left)?;
        let right = keys[1][place];
        (sides[0].field(left).name() == sides[1].field(right).name()).then_some(right)
    };
    for (index, field) in sides[0].fields().iter().enumerate() {
        let mut field = field.as_ref().clone();
        let is_outer = options.join_type.gives_unmatched(1);
        match shared(index).filter(|_| options.join_type.has_right_columns()) {
            Some(right) => {
                field.set_nullable(field.is_nullable() || is_outer && sides[1].field(right).is_nullable());
                columns.push(Column::Either(index, right));
            }
            None => {
                field.set_nullable(field.is_nullable() || is_outer);
                columns.push(Column::Left(index));
            }
        }
        fields.push(field);
    }
    if options.join_type.has_right_columns() {
        let is_outer = options.join_type.gives_unmatched(0);
        let is_shared = |right: usize| (0..sides[0].fields().len()).any(|left| shared(left) == Some(right));
        for (index, field) in sides[1].fields().iter().enumerate().filter(|(index, _)| !is_shared(*index)) {
            let name = field.name();
            let clashes = |name: &str| sides[0].column_with_name(name).is_some();
            let name = match options.prefix {
                Some(prefix) if clashes(name) => format!("{prefix}{name}"),
                _ => name.clone(),
            };
            // A key of this name whose types differ has been told.
            let is_key = options.on.iter().any(|(left, right)| left == right && right == field.name());
            if !is_key && fields.iter().any(|field| *field.name() == name) {
                let message = format!("both `{}` and `{}` have a column `{name}`", options.names[0], options.names[1]);
                let (key, hint) = match options.prefix {
                    None => {
                        ("join", format!("Write `prefix = \"{}_\"`, or rename one in a step before.", options.names[1]))
                    }
                    Some(prefix) => ("join.prefix", format!("Choose another prefix than `{prefix}`.")),
                };
                problems.push(SpecProblem { key: key.into(), message, hint: Some(hint) });
            }
            fields.push(field.as_ref().clone().with_name(name).with_nullable(field.is_nullable() || is_outer));
            columns.push(Column::Right(index));
        }
    }
    if options.windowed {
        for (name, column) in WINDOW_COLUMNS.into_iter().zip([Column::WindowStart, Column::WindowEnd]) {
            if fields.iter().any(|field| field.name() == name) {
                let message = format!("there already is a column `{name}`, which the join adds");
                let hint = Some("Rename it in a step before.".into());
                problems.push(SpecProblem { key: "join.window".into(), message, hint });
            }
            fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false));
            columns.push(column);
        }
    }
    (columns, fields)
}
