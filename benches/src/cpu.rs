//! The CPU time of one thread, and how to compare functions by it.

use std::time::Duration;

/// CPU time that the calling thread has used, in the program and in the kernel.
///
/// # Panics
///
/// When the system has no such clock: every Unix has.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the type that clock_gettime writes.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "this system has no clock for the CPU time of a thread");
    // The clock starts at zero and never goes back.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What functions cost that were run in turns.
#[derive(Debug, Clone)]
pub struct Turns {
    /// For each function, CPU nanoseconds of one call, turn by turn.
    pub nanoseconds: Vec<Vec<f64>>,
}

/// Runs functions in turns, so that whatever slows the machine for a while slows all of them, and measures each call.
///
/// The first turn warms up and is not counted. `n_calls` calls are measured together, for what takes less than the clock
/// can see.
///
/// # Errors
///
/// What a function says.
pub fn in_turns(
    n_turns: usize,
    n_calls: u32,
    functions: &mut [&mut dyn FnMut() -> anyhow::Result<()>],
) -> anyhow::Result<Turns> {
    let mut nanoseconds = vec![Vec::with_capacity(n_turns); functions.len()];
    for turn in 0..=n_turns {
        for (function, times) in functions.iter_mut().zip(&mut nanoseconds) {
            let started = thread_time();
            for _ in 0..n_calls {
                function()?;
            }
            let time = thread_time().saturating_sub(started);
            if turn > 0 {
                times.push(time.as_secs_f64() * 1e9 / f64::from(n_calls));
            }
        }
    }
    Ok(Turns { nanoseconds })
}

impl Turns {
    /// The median cost of a call of a function, in nanoseconds.
    #[must_use]
    pub fn of(&self, function: usize) -> f64 {
        median(self.nanoseconds[function].clone())
    }

    /// How many times as much a call of `function` costs as one of `base`: the median over the turns.
    #[must_use]
    pub fn ratio(&self, function: usize, base: usize) -> f64 {
        let turns = self.nanoseconds[function].iter().zip(&self.nanoseconds[base]);
        median(turns.map(|(time, base)| time / base.max(f64::MIN_POSITIVE)).collect())
    }
}

/// The middle value; not a number if there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let started = thread_time();
        let mut sum = 0_u64;
        while thread_time() == started {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_time() > started);
    }

    #[test]
    fn functions_take_turns_and_the_first_is_not_counted() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut note = |name: char| {
            order.borrow_mut().push(name);
            Ok(())
        };
        let note = std::cell::RefCell::new(&mut note);
        let turns = in_turns(2, 1, &mut [&mut || (note.borrow_mut())('a'), &mut || (note.borrow_mut())('b')])
            .expect("nothing fails");
        assert_eq!(order.into_inner(), ['a', 'b', 'a', 'b', 'a', 'b']);
        assert!(turns.nanoseconds.iter().all(|times| times.len() == 2));
    }

    #[test]
    fn ratios_are_of_the_same_turn() {
        let turns = Turns { nanoseconds: vec![vec![2.0, 20.0, 200.0], vec![1.0, 10.0, 100.0]] };
        assert_eq!((turns.of(0), turns.ratio(0, 1)), (20.0, 2.0));
    }
}
