//! Time is given, not taken: whoever needs the hour is handed a [`Clock`].
//!
//! Only wall-clock facts (ages, expiry, log stamps) come from here. Deadlines use `tokio::time`, which tests pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// How long ago `earlier` was; zero where the clock has been set back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whole seconds since the epoch, as HTTP and the LLM protocols write them.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// The time of day now.
    fn now(&self) -> Millis;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time is taken")]
    fn now(&self) -> Millis {
        Millis::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}
