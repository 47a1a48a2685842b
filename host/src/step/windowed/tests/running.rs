//! Results over all batches so far.

use super::*;

proptest! {
    #[test]
    fn running_results_are_as_in_the_model(
        what in What::any(), raw in raw_batches(), complete in any::<bool>(), has_keys in proptest::bool::weighted(0.8),
        timeout in proptest::option::of(1i64..60), partitions in 1u32..4,
    ) {
        let duration = timeout.map(|us| std::time::Duration::from_micros(us as u64));
        let by: &[&str] = if has_keys { &["key"] } else { &[] };
        let over = Over::Running(Running { complete, timeout: duration });
        let mut step = Case::new(what, by, over, partitions);
        // The rows of each key, and when the last came.
        let mut keys: BTreeMap<Option<i32>, (i64, Vec<Sample>)> = BTreeMap::new();
        for batch in batches(&raw, 0, true) {
            if let Some(timeout) = timeout {
                keys.retain(|_, (seen, _)| batch.time_us - *seen <= timeout);
            }
            for (key, samples) in by_key(&batch.samples, has_keys) {
                let kept = keys.entry(key).or_default();
                kept.0 = batch.time_us;
                kept.1.extend(samples.into_iter().cloned());
            }
            let given = keys.iter().filter(|(_, (seen, _))| complete || *seen == batch.time_us);
            let mut expected: Vec<_> = given
                .map(|(key, (_, samples))| {
                    keyed_text(*key, has_keys, &what.result(&samples.iter().collect::<Vec<_>>()))
                })
                .collect();
            expected.sort();
            prop_assert_eq!(step.batch(&batch), expected, "in the batch at {}", batch.time_us);
            let n_tables = if timeout.is_some() { 2 } else { 1 };
            prop_assert_eq!(step.run.state_size().0, n_tables * keys.len() as u64, "keys and timers");
        }
    }
}
