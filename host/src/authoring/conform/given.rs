//! Makes up what calls are made with: rows, cut into groups, with keys and state.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::call::Given;
use super::expected::{Config, with_columns};
use super::generate::{Dice, Nulls, rows_of};
use crate::authoring::trial::keys_of;
use crate::operator::Role;

/// The columns of a key, where nobody says which.
fn key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key_number", DataType::Int64, false),
        Field::new("key_text", DataType::Utf8, true),
    ]))
}

/// Rows for a call of a role. `config` says which keys an updater may be called for.
pub(super) fn given(
    role: Role,
    schema: &SchemaRef,
    n_rows: usize,
    nulls: Nulls,
    config: &Config,
    dice: &mut Dice,
) -> Given {
    let rows = rows_of(schema, n_rows, nulls, dice);
    let mut given = of_rows(role, rows, config, dice);
    let n_keys = given.ends.len();
    let numbers = Int64Array::from_iter_values((0..n_keys as i64).map(|key| key * 7 - 3));
    let texts = StringArray::from_iter((0..n_keys).map(|key| (key % 3 > 0).then(|| format!("key {key}"))));
    // The columns are those of the schema, and of one length.
    given.keys = RecordBatch::try_new(key_schema(), vec![Arc::new(numbers), Arc::new(texts)])
        .unwrap_or_else(|error| unreachable!("the columns are those of the schema: {error}"));
    if role == Role::Updater {
        let n_states = given.has_state.iter().filter(|has| **has).count();
        let counts = Int64Array::from_iter_values((0..n_states).map(|_| 1 + dice.below(50) as i64));
        given.state =
            Some(with_columns(vec![("rows", Arc::new(counts) as _)], &rows_of(schema, n_states, nulls, dice)));
    }
    given
}

/// Rows with keys of a schema, none of which are equal, and no state.
pub(super) fn given_keys(
    role: Role,
    keys: &SchemaRef,
    values: &SchemaRef,
    n_rows: usize,
    nulls: Nulls,
    dice: &mut Dice,
) -> Given {
    let config = Config::default();
    // More than are needed: of equal ones the first is taken.
    let candidates = rows_of(keys, 4 * n_rows + 4, if nulls == Nulls::All { Nulls::Some } else { nulls }, dice);
    let by: Vec<String> = keys.fields().iter().map(|field| field.name().clone()).collect();
    let mut seen = HashSet::new();
    let texts = keys_of(&candidates, &by).into_iter().enumerate();
    let distinct: Vec<u32> = texts.filter_map(|(index, key)| seen.insert(key).then_some(index as u32)).collect();
    let mut given = of_rows(role, rows_of(values, n_rows, nulls, dice), &config, dice);
    given.has_state.iter_mut().for_each(|has| *has = false);
    if given.ends.len() > distinct.len() {
        // There are not so many keys of these types: the last has all rows that are left.
        given.ends.truncate(distinct.len());
        given.has_state.truncate(distinct.len());
        given.timed_out.truncate(distinct.len());
        if let Some(last) = given.ends.last_mut() {
            *last = n_rows as u32;
        }
    }
    let indices = arrow::array::UInt32Array::from(distinct[..given.ends.len()].to_vec());
    given.keys = take_record_batch(&candidates, &indices).unwrap_or_else(|_| candidates.slice(0, given.ends.len()));
    given
}

/// Rows cut into groups.
fn of_rows(role: Role, rows: RecordBatch, config: &Config, dice: &mut Dice) -> Given {
    let n_rows = rows.num_rows() as u32;
    let (mut ends, mut has_state, mut timed_out) = (Vec::new(), Vec::new(), Vec::new());
    let (may_time_out, every_key) = (config.timeouts.is_some_and(|t| t != "never"), config.every_key == Some(true));
    let mut end = 0;
    while end < n_rows {
        end = (end + 1 + dice.below(5) as u32).min(n_rows);
        ends.push(end);
        has_state.push(dice.once_in(2));
        timed_out.push(false);
        if role == Role::Updater && (may_time_out || every_key) && dice.once_in(2) {
            ends.push(end);
            has_state.push(true);
            timed_out.push(may_time_out && (!every_key || dice.once_in(2)));
        }
    }
    Given {
        rows,
        second: None,
        ends,
        keys: RecordBatch::new_empty(key_schema()),
        has_state,
        timed_out,
        state: None,
        first_row: 0,
    }
}

/// The same, with rows in a second input of the same schema; groups may then have none in the first.
pub(super) fn with_second(mut given: Given, nulls: Nulls, dice: &mut Dice) -> Given {
    let (mut ends, mut end) = (Vec::new(), 0_u32);
    for _ in &given.ends {
        end += dice.below(4) as u32;
        ends.push(end);
    }
    given.second = Some((rows_of(&given.rows.schema(), end as usize, nulls, dice), ends));
    given
}
