//! Windows of time.

use super::*;

/// The windows that a time is in.
fn windows_at(at: i64, panes: (i64, i64, i64), on_batch_time: bool) -> Vec<i64> {
    let (size, slide, offset) = panes;
    // A batch belongs to windows that end with it, and windows of batches end at multiples of the slide.
    let (at, offset) = if on_batch_time { (at - 1, offset - size) } else { (at, offset) };
    let last = (at - offset).div_euclid(slide);
    let starts = (last - size / slide - 2..=last + 1).map(|index| index * slide + offset);
    starts.filter(|start| *start <= at && at < start + size).collect()
}

#[derive(Debug, Clone)]
struct TimedCase {
    what: What,
    panes: (i64, i64, i64),
    delay: i64,
    lateness: i64,
    output: WindowOutput,
    on_batch_time: bool,
    has_keys: bool,
    partitions: u32,
}

fn timed_case() -> impl Strategy<Value = TimedCase> {
    // Panes of some width, so that they are not all of 1.
    let panes = (1i64..14, 1i64..8, 1i64..6, 0i64..20)
        .prop_map(|(size, slide, width, offset)| (size * width, slide * width, offset));
    let output = prop_oneof![3 => Just(WindowOutput::Append), 1 => Just(WindowOutput::Update), 1 => Just(WindowOutput::Complete)];
    let bits = (any::<bool>(), proptest::bool::weighted(0.8));
    (What::any(), panes, 0i64..15, 0i64..15, output, bits, 1u32..4).prop_map(
        |(what, panes, delay, lateness, output, (on_batch_time, has_keys), partitions)| {
            let lateness = if on_batch_time { 0 } else { lateness };
            TimedCase { what, panes, delay, lateness, output, on_batch_time, has_keys, partitions }
        },
    )
}

/// Runs the batches through the step and through the model; gives how many rows were late.
fn check(case: &TimedCase, batches: &[SampleBatch]) {
    let TimedCase { what, panes, lateness, output, on_batch_time, has_keys, .. } = *case;
    let (size, slide, offset) = panes;
    let us = |us: i64| std::time::Duration::from_micros(us as u64);
    let window = Window {
        shape: Shape::Time { size: us(size), slide: us(slide), offset: us(offset) },
        time: (!on_batch_time).then(|| "ts".to_owned()),
        output,
        lateness: us(lateness),
        timeout: None,
    };
    let by: &[&str] = if has_keys { &["key"] } else { &[] };
    let mut step = Case::new(what, by, Over::Window(window), case.partitions);

    let width = panes::gcd(size, slide);
    // Rows that were taken in, by window, with their place: pane, then arrival.
    type Placed = ((i64, usize), Sample);
    let mut taken: BTreeMap<i64, Vec<Placed>> = BTreeMap::new();
    let (mut n_late, mut arrival) = (0, 0);
    let mut before = None;
    for batch in batches {
        let (late, now) = if on_batch_time {
            let now = if batch.closes { i64::MAX } else { batch.time_us };
            (before, Some(now))
        } else {
            (batch.watermark.late_us, batch.watermark.now_us)
        };
        before = now;
        let closed_by = |reading: Option<i64>, start: i64| reading.is_some_and(|us| start + size + lateness <= us);
        let mut changed: Vec<(i64, Option<i32>)> = Vec::new();
        for sample in &batch.samples {
            arrival += 1;
            let Some(at) = sample.at else {
                n_late += 1;
                continue;
            };
            let windows = windows_at(at, panes, on_batch_time);
            let open: Vec<i64> = windows.iter().copied().filter(|start| !closed_by(late, *start)).collect();
            if open.is_empty() && !windows.is_empty() {
                n_late += 1;
            }
            let pane = (at - i64::from(on_batch_time) - offset).div_euclid(width);
            for start in open {
                taken.entry(start).or_default().push(((pane, arrival), sample.clone()));
                changed.push((start, if has_keys { sample.key } else { None }));
            }
        }
        taken.values_mut().for_each(|samples| samples.sort_by_key(|(place, _)| *place));
        let mut expected = Vec::new();
        for (start, samples) in &taken {
            for (key, samples) in by_key(samples.iter().map(|(_, sample)| sample), has_keys) {
                let is_given = match output {
                    WindowOutput::Append => closed_by(now, *start),
                    WindowOutput::Update => changed.contains(&(*start, key)),
                    WindowOutput::Complete => true,
                };
                if is_given {
                    let result = keyed_text(key, has_keys, &what.result(&samples));
                    expected.push(format!("{start}|{}|{result}", start + size));
                }
            }
        }
        taken.retain(|start, _| !closed_by(now, *start));
        expected.sort();
        assert_eq!(step.batch(batch), expected, "in the batch at {}", batch.time_us);
    }
    assert_eq!(step.run.meter.rows_late.get(), n_late, "each late row is counted once, whatever failed");
    let (n_entries, _) = step.run.state_size();
    assert!(n_entries <= u64::from(case.partitions), "nothing but positions is left: {n_entries}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn windows_are_as_in_the_model(case in timed_case(), raw in raw_batches()) {
        check(&case, &batches(&raw, case.delay, case.on_batch_time));
    }
}

fn tumbling_of_ten(output: WindowOutput) -> Case {
    let ten = std::time::Duration::from_micros(10);
    Case::new(What::Sums { floats: false }, &["key"], Over::Window(Window::tumbling(ten).on("ts").output(output)), 1)
}

fn batch_at(times: &[i64], late_us: Option<i64>, now_us: Option<i64>) -> SampleBatch {
    let samples = times.iter().map(|&at| Sample { key: Some(1), n: Some(1), letter: b'a', at: Some(at) }).collect();
    let watermark = Watermark { late_us, now_us };
    SampleBatch { time_us: 0, samples, watermark, closes: false, cuts: vec![1], n_tasks: 1, fails_first: false }
}

#[test]
fn windows_are_half_open() {
    let mut step = tumbling_of_ten(WindowOutput::Append);
    assert_eq!(step.batch(&batch_at(&[-1, 0, 9, 10], None, None)), Vec::<String>::new());
    assert_eq!(step.batch(&batch_at(&[], None, Some(9))), ["-10|0|1|1|1"]);
    // Complete in this batch: its rows are still taken in.
    assert_eq!(step.batch(&batch_at(&[3], Some(9), Some(10))), ["0|10|1|3|3"]);
    assert_eq!(step.batch(&batch_at(&[3], Some(10), Some(10))), Vec::<String>::new());
    assert_eq!(step.run.meter.rows_late.get(), 1);
}

#[test]
fn times_that_cannot_be_reckoned_with_are_late() {
    let mut step = tumbling_of_ten(WindowOutput::Update);
    let given = step.batch(&batch_at(&[i64::MIN, i64::MAX, 5], None, Some(i64::MIN)));
    assert_eq!(given, ["0|10|1|1|1"]);
    assert_eq!(step.run.meter.rows_late.get(), 2);
}

#[test]
fn a_sliding_window_of_many_panes_advances_at_the_cost_of_what_moves() {
    use crate::state::{StateError, StateTable, Visit};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A table that counts what is read from it.
    struct Counting(crate::state::MemoryTable, Arc<AtomicU64>);
    impl StateTable for Counting {
        fn get(&self, slot: i64, key: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>, StateError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get(slot, key)
        }
        fn scan(&self, slots: std::ops::RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError> {
            self.0.scan(slots, &mut |slot, key, value| {
                self.1.fetch_add(1, Ordering::Relaxed);
                visit(slot, key, value)
            })
        }
        fn first_slot(&self) -> Result<Option<i64>, StateError> {
            self.0.first_slot()
        }
        fn apply(&mut self, changes: &crate::state::Changes) -> Result<(), StateError> {
            self.0.apply(changes)
        }
        fn n_entries(&self) -> u64 {
            self.0.n_entries()
        }
        fn n_bytes(&self) -> u64 {
            self.0.n_bytes()
        }
    }

    let us = std::time::Duration::from_micros;
    let reads_of = |what: What, n_panes: u64| {
        let window = Window::sliding(us(n_panes), us(1)).on("ts");
        let mut step = Case::new(what, &["key"], Over::Window(window), 1);
        let reads = Arc::new(AtomicU64::new(0));
        if let crate::step::definition::Body::Gather(gather) = &step.run.built.body {
            let reads = reads.clone();
            let open = move |_: &str, _: usize, _: u32| {
                Ok(Box::new(Counting(crate::state::MemoryTable::default(), reads.clone())) as Box<dyn StateTable>)
            };
            gather.state.as_ref().expect("it keeps panes").open_with(Arc::new(open));
        }
        let n_panes = n_panes as i64;
        step.batch(&batch_at(&(0..n_panes).collect::<Vec<_>>(), None, None));
        step.batch(&batch_at(&[n_panes], None, Some(n_panes)));
        reads.store(0, Ordering::Relaxed);
        let given = step.batch(&batch_at(&[n_panes + 1], Some(n_panes), Some(n_panes + 1)));
        let result = if what == What::Extremes { "1|a".to_owned() } else { n_panes.to_string() };
        assert_eq!(given, [format!("1|{}|1|{n_panes}|{result}", n_panes + 1)]);
        reads.load(Ordering::Relaxed)
    };
    let sums = What::Sums { floats: false };
    assert_eq!(reads_of(sums, 3_600), reads_of(sums, 10));
    // What cannot be inverted is made of blocks of √n panes: at most as many blocks, and panes at both ends.
    let n_reads = reads_of(What::Extremes, 3_600);
    assert!(n_reads <= 3 * 60 + 10, "{n_reads} entries are read for a window of 3600 panes");
}
