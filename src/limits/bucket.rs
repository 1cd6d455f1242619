//! A token bucket: so much a minute, and a little at once.

use std::time::Duration;

const MINUTE: f64 = 60.0;
/// Which part of a minute's worth may go at once, where nobody says.
const AT_ONCE: f64 = 0.2;

/// How much is left, and how fast it fills. Time is what has passed since a moment that its owner chose.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    capacity: f64,
    left: f64,
    at: Duration,
}

impl Bucket {
    /// Full; a fifth of a minute's worth may go at once.
    pub fn per_minute(rate: f64, now: Duration) -> Self {
        Self::with_burst(rate, rate * AT_ONCE, now)
    }

    /// Full; so much may go at once.
    pub fn with_burst(rate: f64, burst: f64, now: Duration) -> Self {
        let capacity = burst.max(1.0);
        Self { per_second: rate / MINUTE, capacity, left: capacity, at: now }
    }

    /// Whether it is full.
    pub fn is_full(&self, now: Duration) -> bool {
        self.left(now) >= self.capacity
    }

    fn left(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.left + passed * self.per_second).min(self.capacity)
    }

    /// When `amount` may go. What is more than fits in goes when it is full, and leaves a debt.
    pub fn ready_at(&self, now: Duration, amount: f64) -> Duration {
        let lacking = amount.min(self.capacity) - self.left(now);
        if lacking <= 0.0 { now } else { now + wait(lacking / self.per_second) }
    }

    /// When `amount` has gone, and with it whatever waits before it.
    pub fn gone_at(&self, now: Duration, amount: f64) -> Duration {
        let lacking = amount - self.left(now);
        if lacking <= 0.0 { now } else { now + wait(lacking / self.per_second) }
    }

    /// Takes `amount` out, or puts it back where it is negative.
    pub fn take(&mut self, now: Duration, amount: f64) {
        self.left = (self.left(now) - amount).min(self.capacity);
        self.at = self.at.max(now);
    }
}

/// Rounded up, so that whoever wakes then finds it ready.
fn wait(seconds: f64) -> Duration {
    /// Longer than anyone waits.
    const LONGEST: f64 = 1e9;
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)) + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fifth_of_a_minute_goes_at_once_and_the_rest_by_and_by() {
        let mut bucket = Bucket::per_minute(60.0, at(0));
        (0..12).for_each(|_| {
            assert_eq!(bucket.ready_at(at(0), 1.0), at(0));
            bucket.take(at(0), 1.0);
        });
        let next = bucket.ready_at(at(0), 1.0);
        assert!(next >= at(1) && next < at(1) + Duration::from_millis(5), "{next:?}");
        assert_eq!(bucket.ready_at(at(2), 1.0), at(2));
    }

    #[test]
    fn what_does_not_fit_in_goes_when_it_is_full_and_is_paid_off_later() {
        let mut bucket = Bucket::per_minute(600.0, at(0));
        assert_eq!(bucket.ready_at(at(0), 5_000.0), at(0));
        bucket.take(at(0), 5_000.0);
        assert!(bucket.ready_at(at(0), 1.0) > at(480));
        bucket.take(at(0), -4_900.0);
        assert_eq!(bucket.ready_at(at(0), 1.0), at(0), "it was less than expected");
    }

    proptest! {
        #[test]
        fn never_more_than_a_minute_and_a_fifth_goes_in_any_minute(
            rate in 1.0..1_000.0_f64,
            pauses in proptest::collection::vec(0_u64..5_000, 1..300),
            greedy in any::<bool>(),
        ) {
            let mut bucket = Bucket::per_minute(rate, Duration::ZERO);
            let (mut now, mut starts) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_millis(if greedy { 0 } else { pause });
                now = bucket.ready_at(now, 1.0);
                prop_assert!(bucket.ready_at(now, 1.0) <= now, "whoever waited long enough may go");
                bucket.take(now, 1.0);
                starts.push(now);
            }
            let most = (rate * 1.2).max(rate + 1.0) + 1.0;
            for (from, start) in starts.iter().enumerate() {
                let within = starts[from..].iter().take_while(|at| **at < *start + Duration::from_mins(1));
                prop_assert!(within.count() as f64 <= most);
            }
        }
    }
}
