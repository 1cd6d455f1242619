//! [`Gate`]: lets through whoever's turn it is, and wakes them.

use super::pace::Seen;
use super::state::{Asking, Entered, Place, State, Turn};
use super::{Limits, Why};
use crate::upstream::Call;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How much a new latency counts beside all those before it.
const NEW: f64 = 0.2;

/// Stands in front of one upstream.
pub struct Gate {
    /// The moment from which its time is counted.
    epoch: Instant,
    patience: Duration,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// When those who wait are looked at again, and who does it.
    alarm: Option<(Duration, AbortHandle)>,
    /// How long the first words take, in seconds.
    latency: Option<f64>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    waited: u64,
    full: u64,
    too_late: u64,
}

/// What a gate knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// How many requests are in work.
    pub in_work: usize,
    /// How many wait.
    pub waiting: usize,
    /// How many may be in work at once, as configured or as it was found out; nothing where there is no bound.
    pub at_once: Option<usize>,
    /// About how long someone waits who comes now, in milliseconds.
    pub wait_ms: u64,
    /// About how long the first words take, in milliseconds.
    pub latency_ms: Option<u64>,
    /// How many have had to wait.
    pub waited: u64,
    /// How many were turned away, since too many waited.
    pub refused_full: u64,
    /// How many were turned away, since they would have waited too long.
    pub refused_late: u64,
}

/// One is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// About how long it would have waited.
    pub wait: Duration,
}

/// The right to be in work. Dropping it gives the place to the next one.
pub struct Pass {
    gate: Arc<Gate>,
    since: Instant,
    expected: u64,
    place: Option<Place>,
    /// How long it has waited.
    pub(super) waited: Duration,
}

/// Someone who waits; whoever stops waiting leaves the line.
struct Waiting {
    gate: Arc<Gate>,
    ticket: u64,
    called: oneshot::Receiver<()>,
    over: bool,
}

impl Gate {
    /// A gate that lets so much through.
    pub fn new(limits: Limits) -> Arc<Self> {
        let patience = limits.patience;
        let inner = Inner {
            state: State::new(limits, Duration::ZERO),
            waiting: HashMap::new(),
            alarm: None,
            latency: None,
            counts: Counts::default(),
        };
        Arc::new(Self { epoch: Instant::now(), patience, inner: Mutex::new(inner) })
    }

    /// Waits for its turn: for the right to send a request of about so many tokens. Must be called within a tokio
    /// runtime.
    pub async fn pass(self: &Arc<Self>, call: &Call, tokens: u64) -> Result<Pass, Refused> {
        let came = Instant::now();
        let deadline = call.deadline.min(came + self.patience);
        let asking = Asking {
            tenant: Arc::clone(&call.tenant),
            priority: call.priority,
            tokens,
            deadline: deadline.saturating_duration_since(self.epoch),
        };
        let (mut waiting, place) = match self.enter(asking)? {
            None => return Ok(self.let_through(came, tokens, None)),
            Some((waiting, place)) => (waiting, place),
        };
        if let Ok(Ok(())) = timeout_at(deadline, &mut waiting.called).await {
            waiting.over = true;
            return Ok(self.let_through(came, tokens, Some(place)));
        }
        drop(waiting);
        let mut inner = self.lock();
        inner.counts.too_late += 1;
        Err(Refused { why: Why::TooLate, wait: self.wait(&inner) })
    }

    /// What it knows.
    pub fn report(&self) -> Report {
        let inner = self.lock();
        let Counts { waited, full, too_late } = inner.counts;
        let pace = inner.state.pace();
        Report {
            in_work: pace.in_work(),
            waiting: inner.state.waiting(),
            at_once: pace.at_once(self.now()),
            wait_ms: self.wait(&inner).as_millis() as u64,
            latency_ms: inner.latency.map(|seconds| (seconds * 1e3) as u64),
            waited,
            refused_full: full,
            refused_late: too_late,
        }
    }

    /// How long the first words take, and how many requests are in work or wait.
    pub fn load(&self) -> (Option<Duration>, usize) {
        let inner = self.lock();
        let latency = inner.latency.map(Duration::from_secs_f64);
        (latency, inner.state.pace().in_work() + inner.state.waiting())
    }

    /// `None`: it goes at once.
    fn enter(self: &Arc<Self>, asking: Asking) -> Result<Option<(Waiting, Place)>, Refused> {
        let mut inner = self.lock();
        let now = self.now();
        let entered = inner.state.enter(now, asking);
        match entered {
            Entered::Go => Ok(None),
            Entered::Refused(why, wait) => {
                match why {
                    Why::Full => inner.counts.full += 1,
                    Why::TooLate => inner.counts.too_late += 1,
                }
                Err(Refused { why, wait })
            }
            Entered::Wait(ticket, place) => {
                inner.counts.waited += 1;
                let (call, called) = oneshot::channel();
                inner.waiting.insert(ticket, call);
                self.turn(&mut inner);
                let waiting = Waiting { gate: Arc::clone(self), ticket, called, over: false };
                Ok(Some((waiting, place)))
            }
        }
    }

    fn let_through(self: &Arc<Self>, came: Instant, expected: u64, place: Option<Place>) -> Pass {
        let since = Instant::now();
        Pass { gate: Arc::clone(self), since, expected, place, waited: since - came }
    }

    /// Calls whoever's turn it is, and sees to it that this is looked at again in time.
    fn turn(self: &Arc<Self>, inner: &mut Inner) {
        let Turn { go, again } = inner.state.turn(self.now());
        for ticket in go {
            if let Some(call) = inner.waiting.remove(&ticket) {
                // Whoever has just stopped waiting gives its place back when it is dropped.
                let _ = call.send(());
            }
        }
        match (again, &inner.alarm) {
            (Some(then), Some((set, _))) if *set == then => {}
            (Some(then), _) => {
                let woken = tokio::spawn(wake(Arc::downgrade(self), self.epoch + then)).abort_handle();
                if let Some((_, earlier)) = inner.alarm.replace((then, woken)) {
                    earlier.abort();
                }
            }
            (None, _) => {
                if let Some((_, alarm)) = inner.alarm.take() {
                    alarm.abort();
                }
            }
        }
    }

    /// About how long someone waits who comes now.
    fn wait(&self, inner: &Inner) -> Duration {
        let now = self.now();
        let pace = inner.state.pace();
        let free = inner.state.waiting() == 0 && pace.may_start(now, 0) == super::pace::Start::Now;
        if free { Duration::ZERO } else { pace.expected(now, inner.state.waiting(), 1).saturating_sub(now) }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// It is whole between any two lines.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wake(gate: Weak<Gate>, then: Instant) {
    sleep_until(then).await;
    if let Some(gate) = gate.upgrade() {
        let mut inner = gate.lock();
        // This is the alarm, and it has rung.
        inner.alarm = None;
        gate.turn(&mut inner);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut inner = self.gate.lock();
        inner.waiting.remove(&self.ticket);
        if !inner.state.abandon(self.ticket) {
            // It was its turn, and nobody came.
            inner.state.pace_mut().end(None);
        }
        self.gate.turn(&mut inner);
    }
}

impl Pass {
    /// Where in the line it stood, where it had to wait.
    pub fn position(&self) -> Option<usize> {
        self.place.map(|place| place.position)
    }

    /// What the upstream has said.
    pub fn seen(&self, seen: Seen) {
        let mut inner = self.gate.lock();
        let now = self.gate.now();
        inner.state.pace_mut().learn(now, seen);
        if seen == Seen::Answered {
            let took = self.since.elapsed().as_secs_f64();
            inner.latency = Some(inner.latency.map_or(took, |known| known + NEW * (took - known)));
        }
    }

    /// The upstream wants to be left alone for so long.
    pub fn pause(&self, pause: Duration) {
        let mut inner = self.gate.lock();
        let now = self.gate.now();
        inner.state.pace_mut().pause(now, pause);
    }

    /// So many tokens it was in the end.
    pub fn used(&mut self, tokens: u64) {
        let mut inner = self.gate.lock();
        let now = self.gate.now();
        inner.state.pace_mut().correct(now, std::mem::replace(&mut self.expected, tokens), tokens);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.state.pace_mut().end(Some(self.since.elapsed()));
        self.gate.turn(&mut inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Priority;
    use futures_util::FutureExt as _;

    fn gate(change: impl FnOnce(&mut Limits)) -> Arc<Gate> {
        let mut limits = Limits::default();
        change(&mut limits);
        Gate::new(limits)
    }

    fn call(seconds: u64) -> Call {
        Call { priority: Priority::User, ..Call::within(Duration::from_secs(seconds)) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_goes_when_one_leaves() {
        let gate = gate(|limits| limits.concurrent = Some(1));
        let first = gate.pass(&call(60), 1).await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.pass(&call(60), 1).await.map(|pass| (pass.position(), pass.waited)) }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!((gate.report().in_work, gate.report().waiting), (1, 1));
        drop(first);
        assert_eq!(waiting.await.unwrap(), Ok((Some(1), Duration::from_secs(5))));
        assert_eq!(gate.report().in_work, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_go_at_the_pace_that_is_allowed() {
        let gate = gate(|limits| limits.requests_per_minute = Some(60));
        let began = Instant::now();
        for _ in 0..22 {
            drop(gate.pass(&call(60), 1).await.unwrap());
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waiting_leaves_no_gap() {
        let gate = gate(|limits| limits.concurrent = Some(1));
        let first = gate.pass(&call(60), 1).await.unwrap();
        let (one, other) = (call(60), call(60));
        let mut impatient = Box::pin(gate.pass(&one, 1));
        assert!((&mut impatient).now_or_never().is_none());
        let mut patient = Box::pin(gate.pass(&other, 1));
        assert!((&mut patient).now_or_never().is_none());
        drop(first);
        // It was called, and never comes.
        drop(impatient);
        assert_eq!(patient.await.unwrap().position(), Some(2));
        assert_eq!((gate.report().in_work, gate.report().waiting), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_their_deadline_or_their_patience() {
        let gate = gate(|limits| limits.concurrent = Some(1));
        let first = gate.pass(&call(600), 1).await.unwrap();
        let began = Instant::now();
        assert_eq!(gate.pass(&call(2), 1).await.err().unwrap().why, Why::TooLate);
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert_eq!(gate.pass(&call(600), 1).await.err().unwrap().why, Why::TooLate);
        assert_eq!(began.elapsed(), Duration::from_secs(32));
        drop(first);
        // What one has taken is what the next expects.
        let _second = gate.pass(&call(600), 1).await.unwrap();
        let refused = gate.pass(&call(10), 1).await.err().unwrap();
        assert_eq!((began.elapsed(), refused.wait), (Duration::from_secs(32), Duration::from_secs(32)));
        assert_eq!(gate.report().refused_late, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everyone_and_ends_by_itself() {
        let gate = gate(|_| ());
        let pass = gate.pass(&call(60), 1).await.unwrap();
        pass.seen(Seen::Refused(Some(Duration::from_secs(3))));
        drop(pass);
        let began = Instant::now();
        drop(gate.pass(&call(60), 1).await.unwrap());
        assert!(began.elapsed() >= Duration::from_secs(3) && began.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_has_an_end() {
        let gate = gate(|limits| (limits.concurrent, limits.waiting) = (Some(1), 1));
        let _first = gate.pass(&call(60), 1).await.unwrap();
        let one = call(60);
        let mut waiting = Box::pin(gate.pass(&one, 1));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(gate.pass(&call(60), 1).await.err().unwrap().why, Why::Full);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_at_once_all_go_in_the_end_and_never_more_than_allowed() {
        let gate = gate(|limits| (limits.concurrent, limits.requests_per_minute) = (Some(3), Some(600)));
        let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks: Vec<_> = (0..100)
            .map(|at: u64| {
                let (gate, most) = (Arc::clone(&gate), Arc::clone(&most));
                tokio::spawn(async move {
                    let pass = gate.pass(&call(600), at).await.unwrap();
                    most.fetch_max(gate.report().in_work, std::sync::atomic::Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100 + at)).await;
                    drop(pass);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), 3);
        assert_eq!((gate.report().in_work, gate.report().waiting), (0, 0));
    }
}
