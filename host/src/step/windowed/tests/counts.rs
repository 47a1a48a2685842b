//! Windows of rows.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn windows_of_rows_are_as_in_the_model(
        what in What::any(), raw in raw_batches(), count in 1u64..9, slide in 1u64..9,
        has_keys in proptest::bool::weighted(0.8), timeout in proptest::option::of(1i64..60), partitions in 1u32..4,
    ) {
        let by: &[&str] = if has_keys { &["key"] } else { &[] };
        let duration = timeout.map(|us| std::time::Duration::from_micros(us as u64));
        let over = Over::Window(Window { timeout: duration, ..Window::count(count, slide) });
        let mut step = Case::new(what, by, over, partitions);
        let (count, slide) = (count as usize, slide as usize);
        // The rows of each key, and when the last came.
        let mut keys: BTreeMap<Option<i32>, (i64, Vec<Sample>)> = BTreeMap::new();
        for batch in batches(&raw, 0, true) {
            let mut expected = Vec::new();
            if let Some(timeout) = timeout {
                keys.retain(|_, (seen, _)| batch.time_us - *seen <= timeout);
            }
            for (key, samples) in by_key(&batch.samples, has_keys) {
                let (seen, kept) = keys.entry(key).or_default();
                *seen = batch.time_us;
                for sample in samples {
                    kept.push(sample.clone());
                    if kept.len().is_multiple_of(slide) {
                        let start = kept.len().saturating_sub(count);
                        let window: Vec<&Sample> = kept[start..].iter().collect();
                        let result = keyed_text(key, has_keys, &what.result(&window));
                        expected.push(format!("{start}|{}|{result}", kept.len()));
                    }
                }
            }
            expected.sort();
            prop_assert_eq!(step.batch(&batch), expected, "in the batch at {}", batch.time_us);
        }
        // A number a key, when it is forgotten, and the panes that a later window needs.
        let width = panes::gcd(count as i64, slide as i64);
        let n_panes = |n: i64| {
            let first = ((n / slide as i64 + 1) * slide as i64 - count as i64).max(0);
            (first..n).step_by(width as usize).count() as u64
        };
        let n_tables = if timeout.is_some() { 2 } else { 1 };
        let n_entries: u64 = keys.values().map(|(_, samples)| n_tables + n_panes(samples.len() as i64)).sum();
        prop_assert_eq!(step.run.state_size().0, n_entries);
    }
}
