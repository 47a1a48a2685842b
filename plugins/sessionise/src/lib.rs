//! Sessions: the events of a key, cut where nothing happened for a while. In event time, on any keys.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `at` | timestamp | read: when the event was |
//! | `started` | timestamp | written: the first event of the session |
//! | `ended` | timestamp | written: its last event |
//! | `events` | int64 | written: how many there were |
//!
//! ```toml
//! config = { gap = "30m" }
//! ```
//!
//! Two events are of one session when less than `gap` lies between them. A session comes out when the watermark is `gap`
//! behind its last event, so that no event can belong to it any more. Events may come in any order: one that comes between
//! two sessions makes them one. An event that comes later than the watermark allows is a session of its own.

use serde::Deserialize;
use tidemill_guest::{
    AnyKey, DurationUs, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, Timeouts, TimestampUs, Update,
    operator,
};

/// Where sessions end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// How long nothing has to happen.
    gap: DurationUs,
}

/// What is read of an event.
#[derive(Row)]
pub struct Event {
    at: TimestampUs,
}

/// A session.
#[derive(Row, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    started: TimestampUs,
    ended: TimestampUs,
    events: i64,
}

/// What is kept of a key: sessions to which events may still come, in order, at least the gap between them.
#[derive(Row, Debug, Clone, PartialEq, Eq)]
pub struct Open {
    sessions: Vec<Session>,
}

/// Cuts events into sessions.
pub struct Sessionise {
    gap_us: i64,
}

impl Sessionise {
    /// When a session is over.
    fn over(&self, session: &Session) -> i64 {
        session.ended.0.saturating_add(self.gap_us)
    }

    /// Adds an event to the session that it is of, or makes it one of its own.
    fn add(&self, sessions: &mut Vec<Session>, at: TimestampUs) {
        // Those that end so long before the event that they are not its own; after them at most two touch it.
        let first = sessions.partition_point(|session| self.over(session) <= at.0);
        let touches = |session: &&Session| session.started.0.saturating_sub(self.gap_us) < at.0;
        let n_touched = sessions[first..].iter().take_while(touches).count();
        let mut merged = Session { started: at, ended: at, events: 1 };
        for session in sessions.drain(first..first + n_touched) {
            merged.started = merged.started.min(session.started);
            merged.ended = merged.ended.max(session.ended);
            merged.events += session.events;
        }
        sessions.insert(first, merged);
    }
}

#[operator]
impl Update for Sessionise {
    type Key<'a> = AnyKey;
    type Input<'a> = Event;
    type State = Open;
    type Output = Session;

    const TIMEOUTS: Timeouts = Timeouts::EventTime;

    fn open(step: &Step) -> Result<Self, Refusal> {
        let config: Config = step.config()?;
        match config.gap.0 {
            0 => Err(Refusal::Config("`gap` must be more than 0".into())),
            gap_us => Ok(Self { gap_us }),
        }
    }

    fn update(
        &mut self,
        _: AnyKey,
        rows: GroupRows<'_, Event>,
        state: &mut StateHandle<Open>,
        out: &mut GroupEmitter<Session>,
    ) {
        let mut sessions = state.take().map_or_else(Vec::new, |open| open.sessions);
        rows.for_each(|event| self.add(&mut sessions, event.at));
        let watermark = state.watermark().map_or(i64::MIN, |watermark| watermark.0);
        let n_over = sessions.iter().take_while(|session| self.over(session) <= watermark).count();
        sessions.drain(..n_over).for_each(|session| out.emit(session));
        // Without a session there is no state, and with it goes the timeout.
        if let Some(next) = sessions.first() {
            state.set_timeout(TimestampUs(self.over(next)));
            state.set(Open { sessions });
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{self, UpdateRan, Updates};

    use super::*;

    #[derive(Row, Clone, PartialEq, Debug)]
    struct User {
        user: i64,
    }

    fn sessionise() -> Updates<User, Event, Open> {
        testing::update(&Sessionise::operator(), r#"{"gap": "10us"}"#).expect("it opens")
    }

    /// Runs a batch with events of one user at these times.
    fn run(batches: &mut Updates<User, Event, Open>, watermark: i64, at: &[i64]) -> Vec<(i64, i64, i64)> {
        let events: Vec<_> = at.iter().map(|at| Event { at: TimestampUs(*at) }).collect();
        let rows = if events.is_empty() { vec![] } else { vec![(User { user: 1 }, events)] };
        sessions(&batches.run(TimestampUs(watermark), rows).expect("it runs"))
    }

    fn sessions(ran: &UpdateRan<User>) -> Vec<(i64, i64, i64)> {
        let times = |name: &str| ran.column::<TimestampUs>(name).into_iter().flatten().map(|time| time.0);
        let events = ran.column::<i64>("events").into_iter().flatten();
        times("started").zip(times("ended")).zip(events).map(|((s, e), n)| (s, e, n)).collect()
    }

    #[test]
    fn a_session_comes_out_when_the_watermark_is_past_its_gap() {
        let mut batches = sessionise();
        assert_eq!(run(&mut batches, 0, &[100, 105]), []);
        assert_eq!(batches.timeout(&User { user: 1 }), Some(TimestampUs(115)));
        assert_eq!(run(&mut batches, 114, &[]), []);
        assert_eq!(run(&mut batches, 115, &[]), [(100, 105, 2)]);
        assert_eq!(batches.keys().count(), 0, "nothing of it is kept");
        assert_eq!(run(&mut batches, 1000, &[]), []);
    }

    #[test]
    fn events_may_come_in_any_order() {
        let mut batches = sessionise();
        assert_eq!(run(&mut batches, 0, &[130, 100]), []);
        assert_eq!(run(&mut batches, 50, &[115]), []);
        assert_eq!(run(&mut batches, 50, &[109, 122, 150]), []);
        let session =
            |started, ended, events| Session { started: TimestampUs(started), ended: TimestampUs(ended), events };
        let open = batches.state(&User { user: 1 }).expect("it has state");
        assert_eq!(open.sessions, [session(100, 130, 5), session(150, 150, 1)]);
        assert_eq!(run(&mut batches, 160, &[]), [(100, 130, 5), (150, 150, 1)]);
    }

    #[test]
    fn the_gap_itself_divides() {
        let mut batches = sessionise();
        run(&mut batches, 0, &[100, 110, 119]);
        assert_eq!(run(&mut batches, 500, &[]), [(100, 100, 1), (110, 119, 2)]);
    }

    #[test]
    fn an_event_that_is_too_late_is_a_session_of_its_own() {
        let mut batches = sessionise();
        assert_eq!(run(&mut batches, 500, &[100, 495]), [(100, 100, 1)]);
        assert_eq!(batches.timeout(&User { user: 1 }), Some(TimestampUs(505)));
    }

    /// Every event is in one session, whatever the batches: the same as cutting all of them at once.
    #[test]
    fn batches_do_not_matter() {
        let times: Vec<i64> = (0..200).map(|n| (n * 7919) % 1000).collect();
        let whole = {
            let mut batches = sessionise();
            run(&mut batches, i64::MIN, &times);
            run(&mut batches, 5000, &[])
        };
        let mut batches = sessionise();
        times.chunks(7).for_each(|times| assert_eq!(run(&mut batches, i64::MIN, times), []));
        assert_eq!(run(&mut batches, 5000, &[]), whole);
        assert_eq!(whole.iter().map(|session| session.2).sum::<i64>(), 200);
        assert!(whole.windows(2).all(|pair| pair[1].0 - pair[0].1 >= 10));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |config: &str, expected: &str| {
            let refused = testing::update::<User, Event, Open>(&Sessionise::operator(), config);
            assert_eq!(refused.expect_err("it is refused").to_string(), expected);
        };
        check("{}", "missing field `gap`");
        check(r#"{"gap": "0"}"#, "`gap` must be more than 0");
        check(r#"{"gap": "10"}"#, "`10` is not a duration, as `30s` and `1h30m` are");
    }
}
