//! Sessions.

use super::*;

/// A session of the model: first time, last time, rows.
type Session = (i64, i64, Vec<Sample>);

/// Joins two sessions that overlap, until none do.
fn join(sessions: &mut Vec<Session>, gap: i64) {
    loop {
        let mut pairs = (0..sessions.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let overlap = |&(a, b): &(usize, usize)| {
            let (a, b) = (&sessions[a], &sessions[b]);
            a.0 < b.1 + gap && b.0 < a.1 + gap
        };
        let Some((a, b)) = pairs.find(overlap) else { return };
        let (first, last, samples) = sessions.remove(a);
        let into = &mut sessions[b];
        (into.0, into.1) = (into.0.min(first), into.1.max(last));
        into.2.extend(samples);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn sessions_are_as_in_the_model(
        what in prop_oneof![any::<bool>().prop_map(|floats| What::Sums { floats }), Just(What::Extremes)],
        raw in raw_batches(), gap in 1i64..30, delay in 0i64..15, lateness in 0i64..15,
        output in prop_oneof![Just(WindowOutput::Append), Just(WindowOutput::Update), Just(WindowOutput::Complete)],
        on_batch_time in proptest::bool::weighted(0.3), has_keys in proptest::bool::weighted(0.8), partitions in 1u32..4,
    ) {
        let lateness = if on_batch_time { 0 } else { lateness };
        let us = |us: i64| std::time::Duration::from_micros(us as u64);
        let mut window = Window::session(us(gap)).output(output).lateness(us(lateness));
        if !on_batch_time {
            window = window.on("ts");
        }
        let by: &[&str] = if has_keys { &["key"] } else { &[] };
        let mut step = Case::new(what, by, Over::Window(window), partitions);
        let mut open: BTreeMap<Option<i32>, Vec<Session>> = BTreeMap::new();
        for batch in batches(&raw, delay, on_batch_time) {
            let (late, now) = match (on_batch_time, batch.closes) {
                (true, false) => (None, Some(batch.time_us)),
                (true, true) => (None, Some(i64::MAX)),
                (false, _) => (batch.watermark.late_us, batch.watermark.now_us),
            };
            let closed_by = |reading: Option<i64>, last: i64| reading.is_some_and(|us| last + gap + lateness <= us);
            let mut new: Vec<(Option<i32>, i64)> = Vec::new();
            for sample in &batch.samples {
                let Some(at) = sample.at.filter(|at| !closed_by(late, *at)) else { continue };
                let key = if has_keys { sample.key } else { None };
                open.entry(key).or_default().push((at, at, vec![sample.clone()]));
                new.push((key, at));
            }
            let mut expected = Vec::new();
            for (key, sessions) in &mut open {
                join(sessions, gap);
                for (first, last, samples) in sessions.iter() {
                    let is_given = match output {
                        WindowOutput::Append => closed_by(now, *last),
                        WindowOutput::Update => new.iter().any(|(of, at)| of == key && first <= at && at <= last),
                        WindowOutput::Complete => true,
                    };
                    if is_given {
                        let result = keyed_text(*key, has_keys, &what.result(&samples.iter().collect::<Vec<_>>()));
                        expected.push(format!("{first}|{}|{result}", last + gap));
                    }
                }
                sessions.retain(|(_, last, _)| !closed_by(now, *last));
            }
            expected.sort();
            prop_assert_eq!(step.batch(&batch), expected, "in the batch at {}", batch.time_us);
            let n_sessions: usize = open.values().map(Vec::len).sum();
            let n_keys = open.values().filter(|sessions| !sessions.is_empty()).count();
            prop_assert_eq!(step.run.state_size().0, (n_sessions + n_keys) as u64, "sessions' ends and keys");
        }
    }
}

#[test]
fn one_row_joins_several_sessions() {
    let ten = std::time::Duration::from_micros(10);
    let over = Over::Window(Window::session(ten).on("ts").output(WindowOutput::Update));
    let mut step = Case::new(What::Sums { floats: false }, &[], over, 1);
    let mut batch = |times: &[i64]| {
        let sample = |&at| Sample { key: None, n: Some(1), letter: b'a', at: Some(at) };
        step.batch(&SampleBatch {
            time_us: 0,
            samples: times.iter().map(sample).collect(),
            watermark: Watermark::default(),
            closes: false,
            cuts: vec![1],
            n_tasks: 1,
            fails_first: true,
        })
    };
    assert_eq!(batch(&[0, 18, 27, 40]), ["0|10|1|1", "18|37|2|2", "40|50|1|1"]);
    assert_eq!(batch(&[9, 31]), ["0|50|6|6"]);
    // At its very end another one begins.
    assert_eq!(batch(&[50]), ["50|60|1|1"]);
}
