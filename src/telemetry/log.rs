//! The log: for people on a terminal, JSON otherwise; one line a request, never its words.

use super::lines::Lines;
use crate::cache::{Miss, NotKept};
use crate::pipeline::{Ended, Outcome, Source};
use std::io::IsTerminal as _;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How the log is written.
#[derive(Clone, Debug)]
pub struct Config {
    /// A level (`info`), or directives by module (`info,weir::cache=debug`).
    pub filter: String,
    /// In which shape.
    pub format: Format,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Auto }
    }
}

impl Config {
    /// Whether lines are JSON, here and now.
    pub fn is_json(&self) -> bool {
        match self.format {
            Format::Auto => !std::io::stderr().is_terminal(),
            Format::Human => false,
            Format::Json => true,
        }
    }
}

/// A log that runs.
pub struct Log {
    lines: Lines,
}

impl Log {
    /// Starts it, on standard error. In a process that has one already, this one stays silent.
    pub fn start(config: &Config) -> Result<Self, Error> {
        let filter = EnvFilter::try_new(&config.filter)?;
        let lines = Lines::to(std::io::stderr())?;
        let terminal = std::io::stderr().is_terminal();
        let log =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone()).with_ansi(terminal);
        let _ = if config.is_json() {
            tracing::subscriber::set_global_default(log.json().flatten_event(true).finish())
        } else {
            tracing::subscriber::set_global_default(log.compact().with_target(false).finish())
        };
        Ok(Self { lines })
    }

    /// Waits until everything told up to now is written, but not for ever. Not while requests are answered.
    pub fn flush(&self) {
        self.lines.flush();
    }
}

impl Drop for Log {
    /// The last lines are often the ones that matter.
    fn drop(&mut self) {
        self.flush();
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.level` cannot be understood.
    #[error("log.level: {0}")]
    Filter(#[from] ParseError),
    /// Its thread could not be started.
    #[error("the log cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// One line for one request.
pub(super) fn request(outcome: &Outcome) {
    let Outcome {
        request_id,
        tenant,
        project,
        model,
        route,
        answered_as,
        limit,
        stream,
        source,
        miss,
        shared,
        accounts: _,
        failed,
        switched: _,
        usage,
        kept,
        refresh,
        ended,
        timings,
    } = outcome;
    let failed: Vec<String> = failed.iter().map(|(name, kind)| format!("{name}={}", kind.name())).collect();
    tracing::info!(
        request_id,
        %tenant,
        project,
        model,
        route = route.as_deref(),
        // Where it is another one.
        answered_as = answered_as.as_deref().filter(|answering| answering != model),
        limit = limit.as_deref(),
        stream,
        source = source.as_ref().map_or("none", Source::name),
        upstream = source.as_ref().and_then(Source::upstream),
        stale = source.as_ref().is_some_and(Source::is_stale).then_some(true),
        miss = miss.map(Miss::name),
        shared,
        failed = (!failed.is_empty()).then(|| failed.join(",")),
        kept = kept.map(|kept| kept.map_or_else(NotKept::name, |()| "yes")),
        input_tokens = usage.map(|usage| usage.input),
        output_tokens = usage.map(|usage| usage.output),
        recall_ms = millis(timings.recall),
        upstream_ms = timings.upstream.map(millis),
        total_ms = millis(timings.total),
        ended = ended.name(),
        "{}",
        if *refresh { "asked afresh" } else { headline(ended) }
    );
}

/// One line for a request that was turned away at the door.
pub(super) fn rejected(request_id: &str, code: &'static str) {
    tracing::info!(request_id, source = "none", ended = code, "rejected");
}

fn headline(ended: &Ended) -> &'static str {
    match ended {
        Ended::Complete => "answered",
        Ended::Cut(_) => "answer cut",
        Ended::ClientGone => "client left",
        Ended::Deadline => "not answered in time",
        Ended::Failed(_) => "not answered",
        Ended::Refused(_) => "refused",
        Ended::NotCached => "not in memory",
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
