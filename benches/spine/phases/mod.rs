//! What is measured, in the order in which it is worth reading.

mod hits;
mod latency;
mod memory;
mod mixed;
mod semantic;
mod start;
mod sustain;
mod wires;

use crate::bench::{Bench, Outcome};
use clap::ValueEnum;

/// One group of figures.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Phase {
    /// Cold start to ready, and to the first answer.
    Start,
    /// Latency added over a direct call at 1,000 requests a second.
    Latency,
    /// Exact hits at up to 5,000 requests a second.
    Hits,
    /// The most it sustains, and CPU time per request.
    Sustain,
    /// Next to the least that a relay can do: throughput, and many streams at once.
    Wires,
    /// Latency of a semantic hit.
    Semantic,
    /// New questions with the semantic cache on, faster than they may be embedded.
    Mixed,
    /// Resident memory, idle and after many requests.
    Memory,
}

pub(crate) fn run(phase: Phase, bench: &mut Bench) -> Outcome<()> {
    match phase {
        Phase::Start => start::run(bench),
        Phase::Latency => latency::run(bench),
        Phase::Hits => hits::run(bench),
        Phase::Sustain => sustain::run(bench),
        Phase::Wires => wires::run(bench),
        Phase::Semantic => semantic::run(bench),
        Phase::Mixed => mixed::run(bench),
        Phase::Memory => memory::run(bench),
    }
}
