//! How long the first words take, as a rule and of late; and who is slower than that.

use std::collections::VecDeque;
use std::time::Duration;

/// How many of the last times are kept, for the quantile.
const KEPT: usize = 64;

/// How much of a new time goes into what is usual, and into what is so of late.
const USUAL_SHARE: f64 = 0.05;
const LATELY_SHARE: f64 = 0.3;

/// What is slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyRules {
    /// Of late so many times what is usual is slow.
    pub degraded_at: f64,
    /// And it is well again below so many times.
    pub well_below: f64,
    /// So many times must be known first.
    pub least_calls: u32,
    /// Whatever is usual, this is not slow.
    pub never_slow: Duration,
}

impl Default for LatencyRules {
    fn default() -> Self {
        Self { degraded_at: 3.0, well_below: 1.5, least_calls: 8, never_slow: Duration::from_millis(500) }
    }
}

/// The times of one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    usual: f64,
    lately: f64,
    calls: u32,
    degraded: bool,
    last: VecDeque<f32>,
}

impl Latency {
    /// Another first word, after `took`. What is usual is not learned from who is slow.
    pub fn learn(&mut self, took: Duration, rules: &LatencyRules) {
        let took = took.as_secs_f64();
        self.calls = self.calls.saturating_add(1);
        let early = self.calls <= rules.least_calls;
        // The mean, until enough is known.
        let share = |steady: f64| if early { 1.0 / f64::from(self.calls) } else { steady };
        self.lately += (took - self.lately) * share(LATELY_SHARE);
        let slow = self.lately > (self.usual * rules.degraded_at).max(rules.never_slow.as_secs_f64());
        let well = self.lately < (self.usual * rules.well_below).max(rules.never_slow.as_secs_f64());
        if !early {
            self.degraded = if self.degraded { !well } else { slow };
        }
        if !self.degraded {
            // One that took long makes what is usual a little longer, however long it took.
            let told = if early { took } else { took.min(self.usual * rules.well_below) };
            self.usual += (told - self.usual) * share(USUAL_SHARE);
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a second are enough")]
        self.last.push_back(took as f32);
    }

    /// Whether it is slower than usual by far.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// How long it takes as a rule.
    pub fn usual(&self) -> Option<Duration> {
        (self.calls > 0).then(|| Duration::from_secs_f64(self.usual.max(0.0)))
    }

    /// How long it takes of late.
    pub fn lately(&self) -> Option<Duration> {
        (self.calls > 0).then(|| Duration::from_secs_f64(self.lately.max(0.0)))
    }

    /// What this share of the last times was below; `None` while little is known.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.last.len() < 8 {
            return None;
        }
        let mut sorted: Vec<f32> = self.last.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        let rank = ((sorted.len() - 1) as f64 * share.clamp(0.0, 1.0)).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of at most 64")]
        let at = rank as usize;
        sorted.get(at).map(|seconds| Duration::from_secs_f32(seconds.max(0.0)))
    }

    /// How many times were learned from.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// What outlives a restart: what is usual, and how many times that was learned from.
    pub(super) fn baseline(&self) -> (f64, u32) {
        (self.usual, self.calls)
    }

    pub(super) fn restored((usual, calls): (f64, u32)) -> Self {
        let usual = if usual.is_finite() && usual >= 0.0 { usual } else { 0.0 };
        Self { usual, lately: usual, calls, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(latency: &mut Latency, seconds: f64, times: usize) -> bool {
        for _ in 0..times {
            latency.learn(Duration::from_secs_f64(seconds), &LatencyRules::default());
        }
        latency.is_degraded()
    }

    #[test]
    fn three_times_as_slow_is_degraded_and_it_takes_more_than_a_moment_to_be_well() {
        let mut latency = Latency::default();
        assert!(!after(&mut latency, 1.0, 20));
        assert!(!after(&mut latency, 4.0, 1), "once is nothing");
        assert!(!after(&mut latency, 1.0, 20));
        assert!(after(&mut latency, 5.0, 4));
        let usual = latency.usual().unwrap().as_secs_f64();
        assert!(usual < 1.6, "slowness does not become the rule: {usual}");
        assert!(after(&mut latency, 1.0, 2), "not at once");
        assert!(!after(&mut latency, 1.0, 12));
    }

    #[test]
    fn what_is_quick_is_never_slow_and_what_is_new_neither() {
        let mut latency = Latency::default();
        after(&mut latency, 0.002, 30);
        assert!(!after(&mut latency, 0.1, 30));
        let mut fresh = Latency::default();
        assert!(!after(&mut fresh, 0.2, 3) && !after(&mut fresh, 9.0, 5));
    }

    #[test]
    fn a_quantile_is_one_of_the_last_times() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.9), None);
        for nth in 1..=100 {
            latency.learn(Duration::from_secs(nth), &LatencyRules::default());
        }
        assert_eq!(latency.quantile(1.0), Some(Duration::from_secs(100)));
        assert_eq!(latency.quantile(0.0), Some(Duration::from_secs(37)));
    }
}
