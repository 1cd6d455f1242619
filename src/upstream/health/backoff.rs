//! How long to wait before another try.

use std::time::Duration;

/// Twice as long each time, and anything up to that: who failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub first: Duration,
    /// The longest of all.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait before try `nth`, counted from 1, where `draw` is from 0 to 1.
    pub fn wait(&self, nth: u32, draw: f64) -> Duration {
        let ceiling = self.first.saturating_mul(2_u32.saturating_pow(nth.saturating_sub(1))).min(self.most);
        ceiling.mul_f64(draw.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_are_drawn_in_full() {
        let backoff = Backoff::default();
        let longest: Vec<u64> = (1..=7).map(|nth| backoff.wait(nth, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(3, 0.5), Duration::from_secs(2));
        assert_eq!(backoff.wait(u32::MAX, 7.0), Duration::from_secs(30));
    }
}
