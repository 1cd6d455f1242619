//! What is told about requests: metrics and one log line each. Never their words.

mod lines;
mod log;
mod metrics;

pub use log::{Config, Error, Format, Log};
pub use metrics::{Metrics, Prices};

use crate::pipeline::Outcome;

impl Metrics {
    /// Tells how a request went: once in the metrics, and once in the log.
    pub fn record(&self, outcome: &Outcome) {
        self.count(outcome);
        log::request(outcome);
    }
}
