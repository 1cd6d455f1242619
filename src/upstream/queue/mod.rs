//! The queue in front of an upstream: how much it has in work at once, how many requests and tokens go to it in a
//! minute, and who waits until there is room.
//!
//! What is pure is in `state` and below it: a pace, a line. The [`Gate`] wakes those whose turn
//! it is, and [`Gated`] puts one in front of an upstream. Whoever cannot make it in time is turned away at once
//! (`Busy`, with how long it would take), so that the next upstream is asked.

mod gate;
mod gated;
mod line;
mod pace;
mod state;

pub use gate::{Gate, Pass, Refused, Report};
pub use gated::Gated;
pub use pace::Seen;

use std::time::Duration;

/// How much an upstream takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most requests in work at once.
    pub concurrent: Option<usize>,
    /// The most requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// The most tokens in a minute, read and written together.
    pub tokens_per_minute: Option<u64>,
    /// The least time from one request to the next.
    pub spacing: Duration,
    /// How many may wait.
    pub waiting: usize,
    /// How long one may wait.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            spacing: Duration::ZERO,
            waiting: 256,
            patience: Duration::from_secs(30),
        }
    }
}

/// Why one is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many wait.
    Full,
    /// Its turn would come too late.
    TooLate,
}
