//! Too many failures among the last calls, though each of them was made good by another try.

use super::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// The pieces that the time looked back at is counted in.
const PIECES: u32 = 6;

/// When too many of the last calls failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerRules {
    /// How far back is looked.
    pub over: Duration,
    /// Fewer calls than that say nothing.
    pub least_calls: u32,
    /// The share that failed, or was too slow, from which on it is left alone.
    pub share: f64,
    /// A first word that takes longer is as bad as a failure; `None`: it is not.
    pub slow: Option<Duration>,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self { over: Duration::from_mins(1), least_calls: 10, share: 0.5, slow: None }
    }
}

/// Counts calls and failures of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// Oldest first: the number of the piece, calls, failures.
    pieces: VecDeque<(u64, u32, u32)>,
}

impl Breaker {
    /// Counts a call. Whether it breaks: then the count begins anew.
    pub(super) fn count(&mut self, now: Moment, failed: bool, rules: &BreakerRules) -> bool {
        let piece = now.0 / piece_millis(rules);
        if self.pieces.back().is_none_or(|(last, ..)| *last != piece) {
            self.pieces.push_back((piece, 0, 0));
        }
        if let Some((_, calls, failures)) = self.pieces.back_mut() {
            *calls += 1;
            *failures += u32::from(failed);
        }
        self.pieces.retain(|(nth, ..)| nth + u64::from(PIECES) > piece);
        let broken = failed && self.is_over(rules);
        if broken {
            self.pieces.clear();
        }
        broken
    }

    fn is_over(&self, rules: &BreakerRules) -> bool {
        let (calls, failures) = self.totals();
        calls >= rules.least_calls.max(1) && f64::from(failures) >= rules.share * f64::from(calls)
    }

    fn totals(&self) -> (u32, u32) {
        self.pieces.iter().fold((0, 0), |(all, bad), (_, calls, failures)| (all + calls, bad + failures))
    }

    /// The share of failures of late.
    pub(super) fn share(&self) -> f64 {
        let (calls, failures) = self.totals();
        if calls == 0 { 0.0 } else { f64::from(failures) / f64::from(calls) }
    }
}

fn piece_millis(rules: &BreakerRules) -> u64 {
    super::millis(rules.over / PIECES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_ten_in_a_minute_are_too_many_and_older_ones_are_forgotten() {
        let rules = BreakerRules::default();
        let mut breaker = Breaker::default();
        let broken: Vec<bool> =
            (0..10).map(|nth| breaker.count(Moment(nth * 1000), nth % 2 == 1, &rules)).collect();
        assert_eq!(broken.iter().position(|broken| *broken), Some(9));
        assert!(breaker.share() < 0.01, "it begins anew");

        for nth in 0..9 {
            assert!(!breaker.count(Moment(100_000 + nth), true, &rules), "too few");
        }
        let mut later = breaker.clone();
        assert!(breaker.count(Moment(150_000), true, &rules));
        assert!(!later.count(Moment(170_000), true, &rules));
        assert!(breaker.pieces.len() <= PIECES as usize);
    }

    #[test]
    fn an_answer_never_breaks_it() {
        let rules = BreakerRules { least_calls: 1, share: 0.0, ..BreakerRules::default() };
        assert!(!Breaker::default().count(Moment(1), false, &rules));
    }
}
