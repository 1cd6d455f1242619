//! What all phases share: the options, how much to measure, the mock, and what was found to be wrong.

use crate::load::{Run, Source};
use crate::mock::Mock;
use crate::phases::Phase;
use crate::sidecar::{Setup, Sidecar};
use clap::{Parser, ValueEnum as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The end of anything that cannot go on.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Which share of a run's answers may come from elsewhere than the figure says: the first ones, while writes settle.
const STRAYS_ALLOWED: f64 = 0.001;

/// Measures the built sidecar from outside.
#[derive(Parser)]
pub(crate) struct Options {
    /// What to measure; everything when nothing is named.
    phases: Vec<Phase>,
    /// Everything briefly: enough to see that it works, too little to quote.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The sidecar to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_weir"))]
    pub(crate) bin: PathBuf,
    /// Where the models lie.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models"))]
    models_dir: PathBuf,
    /// Printed beside the figures: the day of the measurement.
    #[arg(long, default_value = "n/a")]
    pub(crate) date: String,
    /// Be the bare relay to this address instead.
    #[arg(long, hide = true)]
    pub(crate) relay_to: Option<SocketAddr>,
    /// Cargo passes it to every benchmark.
    #[arg(long = "bench", hide = true)]
    _from_cargo: bool,
}

impl Options {
    pub(crate) fn chosen_phases(&self) -> Vec<Phase> {
        if self.phases.is_empty() { Phase::value_variants().to_vec() } else { self.phases.clone() }
    }
}

/// How much is measured.
pub(crate) struct Scale {
    /// Starts from nothing.
    pub(crate) starts: usize,
    /// Turns that base line and sidecar take.
    pub(crate) rounds: usize,
    /// How long each turn lasts.
    pub(crate) round: Duration,
    /// How long a closed loop runs.
    pub(crate) closed_loop: Duration,
    /// How long the sidecar rests before its idle memory is read.
    pub(crate) rest: Duration,
    /// After how many requests memory is read again.
    pub(crate) memory_requests: usize,
}

impl Scale {
    const FULL: Self = Self {
        starts: 5,
        rounds: 5,
        round: Duration::from_secs(3),
        closed_loop: Duration::from_secs(10),
        rest: Duration::from_secs(3),
        memory_requests: 200_000,
    };
    const QUICK: Self = Self {
        starts: 2,
        rounds: 1,
        round: Duration::from_secs(1),
        closed_loop: Duration::from_secs(1),
        rest: Duration::from_millis(500),
        memory_requests: 2_000,
    };
}

/// What a phase works with.
pub(crate) struct Bench {
    pub(crate) scale: Scale,
    pub(crate) mock: Mock,
    options: Options,
    complaints: Vec<String>,
}

impl Bench {
    pub(crate) fn new(options: Options) -> Outcome<Self> {
        let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
        Ok(Self { scale, mock: Mock::start()?, options, complaints: Vec::new() })
    }

    /// A fresh sidecar with an empty data folder, ready.
    pub(crate) fn sidecar(&self, setup: Setup) -> Outcome<Sidecar> {
        Sidecar::start(&self.options.bin, &self.options.models_dir, self.mock.address(), setup)
    }

    /// Notes it when not (almost) every answer of `run` came from `source`.
    pub(crate) fn expect(&mut self, figure: &str, run: &Run, source: Source) {
        self.expect_answers(figure, run);
        let sources = run.sources();
        if sources.share_of(source) < 1.0 - STRAYS_ALLOWED {
            self.complaints.push(format!("{figure}: answers should be {source}, were {sources}"));
        }
    }

    /// Notes it when requests failed.
    pub(crate) fn expect_answers(&mut self, figure: &str, run: &Run) {
        if let Some(first) = &run.first_failure {
            self.complaints.push(format!("{figure}: {} requests failed, the first: {first}", run.failed));
        }
    }

    pub(crate) fn into_complaints(self) -> Vec<String> {
        self.complaints
    }
}
