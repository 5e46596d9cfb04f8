//! What was said already: a peer that is refused asks again twice a second, and one line a minute tells it as well.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a text that was said is not said again.
const PERIOD: Duration = Duration::from_secs(60);
/// Texts that are remembered; a group has fewer nodes that could be refused. One more pushes out the oldest.
const TEXTS_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<VecDeque<(String, Instant)>>);

impl Repeats {
    /// Whether a text has not been said within a minute of `now`; it counts as said from now on if so.
    pub(super) fn is_news(&self, text: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(_, at)| now.saturating_duration_since(*at) < PERIOD);
        if said.iter().any(|(known, _)| known == text) {
            return false;
        }
        if said.len() == TEXTS_MAX {
            said.pop_front();
        }
        said.push_back((text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_said_once_a_minute_and_another_one_at_once() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let said: Vec<u64> = (0..120).filter(|second| repeats.is_news("c was removed", at(*second))).collect();
        assert_eq!(said, [0, 60]);
        assert!(repeats.is_news("c has another folder", at(119)));
        assert!(!repeats.is_news("c was removed", at(119)), "two that alternate are no news either");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..1_000 {
            assert!(repeats.is_news(&number.to_string(), now));
        }
        assert_eq!(repeats.0.lock().unwrap().len(), TEXTS_MAX);
    }
}
