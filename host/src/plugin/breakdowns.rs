//! What calls write when they break down: logged once a batch for each way of doing so, and counted, however many calls do.
//!
//! Where bad rows are looked for by halving, a plugin that panics does so call after call, with the same words each time. What the first
//! call writes is logged as it comes; once one has broken down, what later calls of the batch write to standard error waits until they end.
//! The reason is in the error of each call, whether it is logged or not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::BatchId;

/// Ways of breaking down that are logged of a step in one batch. More are a flood too: words with the row in them are new for each row.
const WAYS_MAX: usize = 8;

/// How the calls of a step have broken down in the batch that runs.
#[derive(Debug, Default)]
pub(crate) struct Breakdowns {
    /// A mutex: it is taken twice a call, for as long as it takes to compare some texts.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batch: Option<BatchId>,
    ways: Vec<Way>,
    /// Calls that broke down in ways that were not logged.
    n_others: u64,
}

/// A way of breaking down.
#[derive(Debug)]
struct Way {
    words: String,
    /// Calls that broke down so, and were not logged.
    n_more: u64,
}

/// What is to be told of a batch that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    /// How often calls broke down in a way that was logged before, with what they wrote last.
    pub(crate) more: Vec<(String, u64)>,
    /// How often they did in ways that were not logged.
    pub(crate) n_others: u64,
}

impl Breakdowns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether calls of a batch have broken down.
    pub(crate) fn has_any(&self, batch: BatchId) -> bool {
        let state = self.lock();
        state.batch == Some(batch) && !state.ways.is_empty()
    }

    /// Notes that a call broke down, with what it wrote last. Says whether that is to be logged.
    pub(crate) fn is_news(&self, batch: BatchId, words: &str) -> bool {
        let mut state = self.lock();
        if state.batch != Some(batch) {
            *state = State { batch: Some(batch), ..State::default() };
        }
        if let Some(way) = state.ways.iter_mut().find(|way| way.words == words) {
            way.n_more += 1;
            return false;
        }
        if state.ways.len() == WAYS_MAX {
            state.n_others += 1;
            return false;
        }
        state.ways.push(Way { words: words.to_owned(), n_more: 0 });
        true
    }

    /// A batch has ended: gives what was not logged of it, once, and forgets it.
    pub(crate) fn end_batch(&self) -> Untold {
        let State { ways, n_others, .. } = std::mem::take(&mut *self.lock());
        let more = ways.into_iter().filter(|way| way.n_more > 0).map(|way| (way.words, way.n_more));
        Untold { more: more.collect(), n_others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_news_once_a_batch_and_the_others_are_counted() {
        let breakdowns = Breakdowns::default();
        let batch = BatchId(7);
        assert!(!breakdowns.has_any(batch));
        let news: Vec<bool> = ["a", "b", "a", "a"].map(|words| breakdowns.is_news(batch, words)).into();
        assert_eq!(news, [true, true, false, false]);
        assert!(breakdowns.has_any(batch) && !breakdowns.has_any(BatchId(8)));
        let n_news = (0..20).filter(|row| breakdowns.is_news(batch, &format!("row {row}"))).count();
        assert_eq!(n_news, WAYS_MAX - 2);
        let n_others = 20 - n_news as u64;
        assert_eq!(breakdowns.end_batch(), Untold { more: vec![("a".into(), 2)], n_others });
        assert_eq!(breakdowns.end_batch(), Untold { more: vec![], n_others: 0 });
        // In the next batch they are news again.
        assert!(breakdowns.is_news(BatchId(8), "a"));
        assert!(breakdowns.is_news(BatchId(9), "a"), "nobody said that the one before had ended");
    }
}
