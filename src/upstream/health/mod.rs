//! How well those who are asked are: who may be asked now, who is left alone and until when, who is slow.
//!
//! Nothing in here waits, asks or tells the time: time is given as a [`Moment`], and what comes out is a decision. A
//! unit is a key and a model; a model that is limited says nothing about the other models of its key, and a key
//! that is refused says nothing about the other keys ([`Board`]).

mod backoff;
mod board;
mod breaker;
mod budget;
mod cooldown;
mod latency;
mod reason;
mod rules;
mod snapshot;
mod unit;

pub use backoff::Backoff;
pub use board::{Board, KeyId, Refused, Report, Ticket, UnitReport};
pub use breaker::BreakerRules;
pub use budget::{Budget, BudgetRules};
pub use cooldown::{Cooldown, Verdict};
pub use latency::{Latency, LatencyRules};
pub use reason::{Reason, Scope};
pub use rules::{Ladder, Preset, Rules};
pub use snapshot::Snapshot;
pub use unit::Outcome;

use std::time::Duration;

/// Milliseconds since some moment before all others, by a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment, `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// How long ago `earlier` was.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Rounded up, so that whoever waits so long does not come too early.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
