//! The law of the boundary: what an identity returns is what it was given, whatever the schema.

use proptest::prelude::*;

use super::*;
use crate::operator::layout::tests::any_batch;

/// Writes what it reads: the schema of the plan is that of the input.
const IDENTITY: &str = "(i32.store (i32.const 1040) (local.get 7)) (i32.store (i32.const 1044) (local.get 8))";

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| plugin(IDENTITY, ""));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_batch_comes_back_from_a_guest_as_it_went(seed: u64, rows in 0_usize..70) {
        let batch = any_batch(seed, rows);
        let mut transform = PLUGIN.open_transform(&step(Limits::default()), batch.schema_ref()).unwrap();
        prop_assert_eq!(&transform.plan().writes, batch.schema_ref());
        let output = transform.process(&call(0), &batch).unwrap();
        prop_assert_eq!(output.rows, batch);
    }
}

#[test]
fn a_type_that_is_not_carried_is_refused_before_anything_runs() {
    let interval = DataType::Interval(arrow::datatypes::IntervalUnit::DayTime);
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("when", interval, true)]));
    let error = PLUGIN.open_transform(&step(limits()), &schema).err().unwrap();
    assert!(matches!(&error, OpenError::UnsupportedType { column, .. } if column == "when"), "{error}");
}
