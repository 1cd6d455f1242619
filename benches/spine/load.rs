//! The load: an open loop for latency, a closed loop for throughput. One thread per connection.

use crate::http::Wire;
use crate::summary::{Quantiles, Sources};
use crate::traffic::Traffic;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How far before its time a sender stops sleeping and begins to spin: what Linux may wake it late by (50 µs of
/// timer slack, and the wake-up itself).
const SPIN: Duration = Duration::from_micros(120);
/// From the start of the threads to the first request, so that all of them wait for it by then.
const LEAD: Duration = Duration::from_millis(100);
/// How long after the end of its schedule an open loop still sends what is late.
const GRACE: Duration = Duration::from_secs(2);

/// A fixed schedule, kept whatever the answers do: a late answer makes the next ones late too, and their latency
/// counts from when they should have been sent (no coordinated omission).
#[derive(Clone, Copy)]
pub(crate) struct OpenLoop {
    pub(crate) per_second: f64,
    pub(crate) span: Duration,
    pub(crate) connections: usize,
}

/// Each connection asks again as soon as it is answered.
#[derive(Clone, Copy)]
pub(crate) struct ClosedLoop {
    pub(crate) connections: usize,
    pub(crate) until: Until,
}

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    Requests(usize),
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) answers: Vec<Answer>,
    /// How late requests left although their connection was free: the generator's own error.
    pub(crate) late: Vec<Duration>,
    pub(crate) failed: usize,
    pub(crate) first_failure: Option<String>,
    /// Given up because they were too late to be sent at all.
    pub(crate) unsent: usize,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

/// One answer: how long it took, to its end or, streamed, to its first byte.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) latency: Duration,
    pub(crate) source: Source,
}

/// What `x-weir-source` said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Rule,
    Exact,
    Semantic,
    Upstream,
    Local,
    /// Nothing: the mock itself.
    Direct,
}

impl OpenLoop {
    /// Sends `traffic` to `target` on schedule.
    pub(crate) fn run(self, target: SocketAddr, traffic: Traffic) -> io::Result<Run> {
        run_lanes(target, self.connections, |nth, wire, start| {
            self.lane(nth, start, Sender { target, wire, traffic })
        })
    }

    /// The requests of the `nth` connection: every so-many-th of the schedule.
    fn lane(self, nth: usize, start: Instant, mut sender: Sender) -> Run {
        let total = (self.span.as_secs_f64() * self.per_second) as usize;
        let mut run = Run::default();
        for index in (nth..total).step_by(self.connections) {
            let due = start + Duration::from_secs_f64(index as f64 / self.per_second);
            let request = sender.traffic.request();
            let was_free = Instant::now() < due;
            if Instant::now() > start + self.span + GRACE {
                run.unsent += 1;
                continue;
            }
            wait_until(due);
            if was_free {
                run.late.push(due.elapsed());
            }
            sender.send(&request, due, &mut run);
        }
        run
    }
}

impl ClosedLoop {
    /// Sends `traffic` to `target` as fast as it is answered.
    pub(crate) fn run(self, target: SocketAddr, traffic: Traffic) -> io::Result<Run> {
        let sent = AtomicUsize::new(0);
        run_lanes(target, self.connections, |_, wire, start| {
            self.lane(start, &sent, Sender { target, wire, traffic })
        })
    }

    fn lane(self, start: Instant, sent: &AtomicUsize, mut sender: Sender) -> Run {
        let mut run = Run::default();
        wait_until(start);
        while self.goes_on(start, sent) {
            let request = sender.traffic.request();
            sender.send(&request, Instant::now(), &mut run);
        }
        run
    }

    fn goes_on(self, start: Instant, sent: &AtomicUsize) -> bool {
        match self.until {
            Until::Elapsed(span) => start.elapsed() < span,
            Until::Requests(count) => sent.fetch_add(1, Ordering::Relaxed) < count,
        }
    }
}

/// Runs `lane` once per connection, each on its own thread, and puts together what came of them. `lane` is given its
/// number, its connection and when to begin.
fn run_lanes<L>(target: SocketAddr, connections: usize, lane: L) -> io::Result<Run>
where
    L: Fn(usize, Wire, Instant) -> Run + Sync,
{
    let wires = (0..connections).map(|_| Wire::dial(target)).collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now() + LEAD;
    let lane = &lane;
    let runs: io::Result<Run> = thread::scope(|scope| {
        let spawn = |(nth, wire)| scope.spawn(move || lane(nth, wire, start));
        let lanes: Vec<_> = wires.into_iter().enumerate().map(spawn).collect();
        lanes.into_iter().map(|lane| lane.join().map_err(|_| io::Error::other("a sender panicked"))).collect()
    });
    runs.map(|run| Run { took: start.elapsed(), ..run })
}

/// One connection and what it asks.
struct Sender {
    target: SocketAddr,
    wire: Wire,
    traffic: Traffic,
}

impl Sender {
    /// One request and its answer, timed from `due`; dials again after a failure.
    fn send(&mut self, request: &[u8], due: Instant, run: &mut Run) {
        match self.exchange(request, due) {
            Ok(answer) => run.answers.push(answer),
            Err(error) => {
                run.failed += 1;
                run.first_failure.get_or_insert(error.to_string());
                if let Ok(wire) = Wire::dial(self.target) {
                    self.wire = wire;
                }
            }
        }
    }

    fn exchange(&mut self, request: &[u8], due: Instant) -> io::Result<Answer> {
        self.wire.send(request)?;
        let reply = self.wire.receive()?.ok_or_else(|| io::Error::other("closed instead of an answer"))?;
        let answered = if self.traffic.is_stream() { reply.first_byte } else { Instant::now() };
        if reply.status() != 200 {
            let body = String::from_utf8_lossy(reply.body);
            return Err(io::Error::other(format!("status {}: {body}", reply.status())));
        }
        let source = Source::named(reply.header("x-weir-source"));
        Ok(Answer { latency: answered.duration_since(due), source })
    }
}

impl Run {
    fn add(&mut self, other: Self) {
        let Self { answers, late, failed, first_failure, unsent, took } = other;
        self.answers.extend(answers);
        self.late.extend(late);
        self.failed += failed;
        self.first_failure = self.first_failure.take().or(first_failure);
        self.unsent += unsent;
        self.took = self.took.max(took);
    }

    /// Latency of all answers.
    pub(crate) fn latency(&self) -> Quantiles {
        Quantiles::of(self.answers.iter().map(|answer| answer.latency))
    }

    /// Latency of the answers from one source.
    pub(crate) fn latency_of(&self, source: Source) -> Quantiles {
        let these = self.answers.iter().filter(|answer| answer.source == source);
        Quantiles::of(these.map(|answer| answer.latency))
    }

    pub(crate) fn sources(&self) -> Sources {
        Sources::of(self.answers.iter().map(|answer| answer.source))
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers.len() as f64 / self.took.as_secs_f64()
    }
}

/// Joins rounds into one run.
impl FromIterator<Run> for Run {
    fn from_iter<T: IntoIterator<Item = Self>>(runs: T) -> Self {
        let mut sum = Self::default();
        runs.into_iter().for_each(|run| sum.add(run));
        sum
    }
}

impl Source {
    fn named(header: Option<&str>) -> Self {
        match header {
            Some("rule") => Self::Rule,
            Some("exact") => Self::Exact,
            Some("semantic") => Self::Semantic,
            Some("upstream") => Self::Upstream,
            Some("local") => Self::Local,
            _ => Self::Direct,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rule => "rule",
            Self::Exact => "exact",
            Self::Semantic => "semantic",
            Self::Upstream => "upstream",
            Self::Local => "local",
            Self::Direct => "direct",
        })
    }
}

/// Sleeps until shortly before `due`, then spins: a sleep alone ends some 60 µs late.
fn wait_until(due: Instant) {
    let remaining = due.saturating_duration_since(Instant::now());
    sleep(remaining.saturating_sub(SPIN));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only threads of their own sleep here: nothing but the relay is async, and it never sleeps"
)]
pub(crate) fn sleep(span: Duration) {
    if !span.is_zero() {
        thread::sleep(span);
    }
}
