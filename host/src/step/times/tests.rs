//! What is accepted is in time, and what is known follows its columns.

use arrow::datatypes::{DataType, Field, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::step::windowed::Panes;

fn times(names: &[&str]) -> Schema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Schema::new(names.iter().map(|name| Field::new(*name, time.clone(), true)).collect::<Vec<_>>())
}

fn windows(shape: TimeShape, lateness_us: i64) -> WindowsBefore {
    WindowsBefore { step: "before".into(), shape, lateness_us }
}

fn is_safe(time: WindowTime, before: &WindowsBefore, usage: TimeUse) -> bool {
    before.refusal(time, "window_start", usage).is_none()
}

fn shape() -> impl Strategy<Value = TimeShape> {
    let panes = |(size, slide, offset)| TimeShape::Panes(Panes::new(size, slide, offset));
    prop_oneof![
        (1i64..12, 1i64..12, 0i64..12).prop_map(panes),
        (1i64..5, 1i64..4, 0i64..12).prop_map(|(size, n, offset)| TimeShape::Panes(Panes::new(size * n, size, offset))),
        (1i64..12).prop_map(TimeShape::Sessions),
    ]
}

proptest! {
    /// The law: what is accepted is never late, and never in a window that holds only a part of its own.
    #[test]
    fn what_is_accepted_is_in_time(
        (before, lateness) in (shape(), 0i64..6), (here, own) in (shape(), 0i64..6), at in -50i64..50, length in 0i64..20,
    ) {
        let start_and_end = match before {
            TimeShape::Panes(panes) => (panes.last_window(at), panes.last_window(at) + panes.size()),
            TimeShape::Sessions(gap_us) => (at, at + length + gap_us),
        };
        let windows = windows(before, lateness);
        // The row comes in a batch before which the watermark had not passed the end.
        let late_us = start_and_end.1 + lateness - 1;
        for (time, us) in [(WindowTime::Start, start_and_end.0), (WindowTime::End, start_and_end.1)] {
            if is_safe(time, &windows, TimeUse::Windows(here, own)) {
                match here {
                    TimeShape::Panes(panes) => {
                        // One that is in no window is not late.
                        let is_outside = panes.windows_of(us).next().is_none();
                        prop_assert!(is_outside || us >= panes.first_open(late_us - own));
                        prop_assert!(time == WindowTime::Start && panes.windows_of(us).all(|here| start_and_end.1 <= here + panes.size()));
                    }
                    TimeShape::Sessions(gap_us) => prop_assert!(us > late_us - own - gap_us),
                }
            }
            if is_safe(time, &windows, TimeUse::Instant) {
                prop_assert!(us > late_us);
            }
        }
    }
}

proptest! {
    /// The same of times that are computed: of a row that is in time itself.
    #[test]
    fn what_is_computed_and_accepted_is_in_time(
        at in -50i64..50, ahead in 0i64..30, shift in -12i64..12, first in any::<bool>(),
        (size, offset) in (1i64..12, 0i64..12), (here, own) in (shape(), 0i64..25),
    ) {
        // The watermark had not passed the row before its batch.
        let late_us = at - ahead;
        let cut = |us: i64| (us - offset).div_euclid(size) * size + offset;
        let (column, cut_to) = (Box::new(TimeOrigin::column(0, "at")), Cut::even(size, offset));
        let (origin, us) = match first {
            true => (TimeOrigin::Shifted(Box::new(TimeOrigin::Cut(column, cut_to)), shift), cut(at) + shift),
            false => (TimeOrigin::Cut(Box::new(TimeOrigin::Shifted(column, shift)), cut_to), cut(at + shift)),
        };
        let source = TimeColumns::of_event_time(&times(&["at"]), "at");
        let known = TimeColumns::computed(&[&source], &times(&["x"]), |_| origin.clone());
        if known.refusal("x", TimeUse::Windows(here, own)).is_none() {
            match here {
                TimeShape::Panes(panes) => {
                    let is_outside = panes.windows_of(us).next().is_none();
                    prop_assert!(is_outside || us >= panes.first_open(late_us - own));
                }
                TimeShape::Sessions(gap_us) => prop_assert!(us > late_us - own - gap_us),
            }
        }
        if known.refusal("x", TimeUse::Instant).is_none() {
            prop_assert!(us >= late_us);
        }
        // What is not behind is not refused.
        if !first && size == 1 && shift >= 0 {
            prop_assert_eq!(known.refusal("x", TimeUse::Instant), None);
        }
    }
}

#[test]
fn what_waits_is_known_by_the_column_it_waits_for() {
    let schema = times(&["at", "same", "later", "seen"]);
    let source = TimeColumns::of_event_time(&times(&["at", "seen"]), "at");
    let source = TimeColumns::computed(&[&source], &schema, |name| match name {
        "same" => TimeOrigin::column(0, "at"),
        "later" => TimeOrigin::Shifted(Box::new(TimeOrigin::column(0, "at")), 5),
        name => TimeOrigin::column(0, name),
    });
    let day = windows(TimeShape::Panes(Panes::new(60, 60, 0)), 0);
    let held = source.held_by(&day, "at");
    let within = TimeColumn::OfWindow(WindowTime::Within, day);
    assert_eq!([held.get("at"), held.get("same")], [[within.clone()], [within.clone()]]);
    assert_eq!((held.get("later"), held.get("seen")), (&[TimeColumn::Unknown][..], source.get("seen")));
    let held = source.waiting("later", &within);
    assert_eq!([held.get("later"), held.get("at")], [[within], [TimeColumn::Unknown]]);

    let minutes = TimeUse::Windows(TimeShape::Panes(Panes::new(60, 60, 0)), 5);
    let late = source.late("at", minutes);
    let longer = TimeUse::Windows(TimeShape::Panes(Panes::new(60, 60, 0)), 6);
    assert!(late.refusal("at", minutes).is_some() && late.refusal("at", TimeUse::Instant).is_some());
    assert_eq!(late.refusal("at", longer), None);
    // Of rows of a stream without event time nothing is known, whatever they are united with.
    let united = TimeColumns::united([&source, &TimeColumns::default()].into_iter());
    assert!(united.refusal("at", TimeUse::Instant).is_some());
}

#[test]
fn windows_are_made_of_whole_ones() {
    let panes = |size, slide, offset| TimeShape::Panes(Panes::new(size, slide, offset));
    let check = |before, lateness, here, own, expected| {
        let before = windows(before, lateness);
        assert_eq!(is_safe(WindowTime::Start, &before, TimeUse::Windows(here, own)), expected);
        assert_eq!(is_safe(WindowTime::Within, &before, TimeUse::Windows(here, own)), expected);
    };
    check(panes(10, 10, 0), 0, panes(60, 60, 0), 0, true);
    check(panes(10, 10, 0), 0, panes(60, 20, 0), 0, true);
    check(panes(10, 10, 5), 0, panes(60, 60, 0), 0, false);
    check(panes(10, 10, 5), 0, panes(60, 60, 5), 0, true);
    check(panes(10, 10, 0), 0, panes(25, 25, 0), 0, false);
    check(panes(10, 10, 0), 0, panes(25, 25, 0), 50, false);
    check(panes(10, 5, 0), 0, panes(60, 60, 0), 0, false);
    check(panes(10, 20, 0), 0, panes(30, 20, 0), 0, true);
    check(panes(10, 10, 0), 5, panes(60, 60, 0), 0, false);
    check(panes(10, 10, 0), 5, panes(60, 60, 0), 5, true);
    check(TimeShape::Sessions(10), 0, panes(60, 60, 0), 0, false);
    check(panes(10, 10, 0), 0, TimeShape::Sessions(10), 0, true);
    check(panes(10, 10, 0), 0, TimeShape::Sessions(9), 0, false);
}

#[test]
fn what_is_known_goes_through_steps_with_its_columns() {
    let source = TimeColumns::of_event_time(&times(&["at", "seen"]), "at");
    let same = |name: &str| Some(name.to_owned());
    assert_eq!(source.through(&times(&["at", "seen"]), same), source);
    let refused = |known: &TimeColumns, column: &str| known.refusal(column, TimeUse::Instant).is_some();
    assert!(!refused(&source, "at") && refused(&source, "seen") && refused(&source, "computed"));

    let renamed = source.through(&times(&["then", "seen"]), |name| Some(name.replace("then", "at")));
    assert_eq!(renamed.get("then"), [TimeColumn::EventTime]);
    assert_eq!(renamed.get("seen"), [TimeColumn::Other { event_time: Some("then".into()) }]);
    let dropped = source.through(&times(&["seen"]), same);
    assert_eq!(dropped.get("seen"), [TimeColumn::Other { event_time: None }]);

    let other = TimeColumns::of_event_time(&times(&["at", "seen"]), "seen");
    // Of rows of several streams some would be late.
    let both = TimeColumns::united([&source, &other].into_iter());
    assert!(refused(&both, "at") && refused(&both, "seen"));
    let panes = |size| TimeShape::Panes(Panes::new(size, size, 0));
    let [one, same] = ["w", "x"].map(|step| {
        let windows = WindowsBefore { step: step.into(), shape: panes(60), lateness_us: 0 };
        TimeColumns::default().with_windows(["window_start", "window_end"], Some(windows))
    });
    let windows = TimeColumns::united([&one, &same].into_iter());
    assert!(windows.refusal("window_start", TimeUse::Windows(panes(90), 0)).is_some());
    assert!(windows.refusal("window_start", TimeUse::Windows(panes(120), 0)).is_none());
    assert_eq!(TimeColumns::united([&source, &source].into_iter()), source);
}
