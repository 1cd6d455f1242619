//! What is told about requests: metrics and one log line each. Never their words.

mod chain;
mod journal;
mod kept;
mod lines;
mod log;
mod metrics;
mod namer;
mod semantic;
mod webhook;

pub use crate::journal::Counts as JournalCounts;
pub use chain::ChainReport;
pub use journal::{Anchor, JournalReport, scribe, verdict, wanted, wishes};
pub use kept::StoreReport;
pub use log::{Config, Error, Format, Log};
pub use metrics::Metrics;
pub use namer::NamerReport;
pub use semantic::SemanticReport;
pub use webhook::WebhookReport;

use crate::pipeline::{Checked, Outcome};

impl Metrics {
    /// Tells how a request went: once in the metrics, and once in the log.
    pub fn record(&self, outcome: &Outcome) {
        self.count(outcome);
        log::request(outcome);
    }

    /// Tells of a hit that was asked upstream all the same.
    pub fn check(&self, checked: &Checked) {
        self.count_check(checked);
    }

    /// Tells of a request that was turned away before anyone looked at what it asks.
    pub fn reject(&self, request_id: &str, code: &'static str) {
        self.count_rejected(code);
        log::rejected(request_id, code);
    }
}
