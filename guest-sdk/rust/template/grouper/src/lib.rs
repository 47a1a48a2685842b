//! The path of a visitor: the pages in the order of their times, each with how long after the one before it was.

use tidemill_guest::{AnyKey, Group, GroupEmitter, GroupRows, Refusal, Row, Step, operator};

/// What is read of a row.
#[derive(Row)]
pub struct Visit {
    at: i64,
    page: Option<String>,
}

/// What is written, behind the key.
#[derive(Row)]
pub struct Stop {
    at: i64,
    page: Option<String>,
    since: Option<i64>,
}

/// Puts the visits of a key in order.
pub struct Path;

#[operator]
impl Group for Path {
    type Key<'a> = AnyKey;
    type Input<'a> = Visit;
    type Output = Stop;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(Path)
    }

    fn group(&mut self, _: AnyKey, rows: GroupRows<'_, Visit>, out: &mut GroupEmitter<Stop>) {
        let mut visits: Vec<_> = rows.collect();
        // Of equal times the one that came first stays first.
        visits.sort_by_key(|visit| visit.at);
        let mut before = None;
        for Visit { at, page } in visits {
            out.emit(Stop { at, page, since: before.map(|before| at - before) });
            before = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_guest::testing;

    #[test]
    fn visits_are_put_in_order() {
        let visit = |at| Visit { at, page: None };
        let groups = [(AnyKey, vec![visit(30), visit(10)]), (AnyKey, vec![visit(7)])];
        let ran = testing::group(&Path::operator(), "{}", groups).unwrap();
        assert_eq!(ran.column::<i64>("at"), [Some(10), Some(30), Some(7)]);
        assert_eq!(ran.column::<i64>("since"), [None, Some(20), None]);
    }
}
