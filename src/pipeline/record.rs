//! Follows an answer to its end, and tells the observer once.

use super::answer::Kept;
use super::flight::{Begun, Flight, Follower};
use super::keep::is_last;
use super::scribe::Minutes;
use super::voice::Voice;
use super::{Caller, Ended, Observer, Outcome, Pipeline, Source, Timings};
use crate::cache::Miss;
use crate::chat::{Chunk, Event, Request, Usage};
use crate::limits::{Charge, Permit, Refusal};
use crate::upstream::{self, Call, Chunks, Kind};
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Gathers the facts of one request, and tells them once: when it is dropped at the latest.
pub(super) struct Recorder {
    observer: Observer,
    arrived: Instant,
    decided: Option<Instant>,
    deadline: Instant,
    usage: Option<Usage>,
    /// The call upstream that it follows.
    flight: Option<Arc<Flight>>,
    kept: Kept,
    charges: Vec<Arc<Charge>>,
    /// What is written down of it, where anything is.
    minutes: Option<Box<Minutes>>,
    /// Taken when it has been told.
    outcome: Option<Box<Outcome>>,
}

impl Recorder {
    pub(super) fn new(pipeline: &Pipeline, caller: &Caller, request: &Request) -> Self {
        let outcome = Outcome {
            request_id: caller.request_id.clone(),
            tenant: Arc::clone(&caller.tenant),
            project: caller.project.clone(),
            model: request.model.clone(),
            route: None,
            limit: None,
            answered_as: None,
            stream: request.delivery.stream,
            source: None,
            miss: None,
            shared: false,
            accounts: true,
            failed: Vec::new(),
            switched: None,
            usage: None,
            kept: None,
            refresh: false,
            ended: Ended::ClientGone,
            timings: Timings::default(),
        };
        let arrived = Instant::now();
        Self {
            observer: Arc::clone(&pipeline.observer),
            arrived,
            decided: None,
            deadline: caller.deadline,
            usage: None,
            flight: None,
            kept: Kept::default(),
            charges: Vec::new(),
            minutes: Minutes::begin(pipeline.scribe.as_ref(), arrived, caller, request),
            outcome: Some(Box::new(outcome)),
        }
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        let limit = Arc::clone(&refusal.limit);
        self.note(|outcome| outcome.limit = Some(limit));
        self.tell(Ended::Refused(refusal.what.name()));
    }

    /// Where what an upstream says it has cost is counted.
    pub(super) fn charges(&mut self, charges: Vec<Arc<Charge>>) {
        self.charges = charges;
    }

    /// Which route takes it.
    pub(super) fn chosen(&mut self, told: &Call) {
        let route = told.plan.as_ref().map(|plan| Arc::clone(&plan.route));
        self.note(|outcome| outcome.route = route);
    }

    /// Whose answer is wanted.
    pub(super) fn wanted(&mut self, voice: impl FnOnce() -> Voice) {
        if let Some(minutes) = &mut self.minutes {
            minutes.voiced(voice());
        }
    }

    pub(super) fn request_id(&self) -> &str {
        self.outcome.as_ref().map_or("", |outcome| &outcome.request_id)
    }

    pub(super) fn route(&self) -> Option<Arc<str>> {
        self.outcome.as_ref()?.route.clone()
    }

    /// When memory decided what is like the question.
    pub(super) fn decided(&mut self, at: Option<Instant>) {
        self.decided = at;
    }

    pub(super) fn recalled(&mut self) {
        let decided = self.decided.unwrap_or_else(Instant::now);
        let recall = decided.saturating_duration_since(self.arrived);
        self.note(|outcome| outcome.timings.recall = recall);
    }

    pub(super) fn missed(&mut self, miss: Miss) {
        self.recalled();
        self.note(|outcome| outcome.miss = Some(miss));
    }

    /// Waits, in the name of `request`, for the first words of a call upstream.
    pub(super) async fn follow(
        &mut self,
        follower: &mut Follower,
        request: &Request,
    ) -> Result<Arc<Begun>, upstream::Error> {
        self.flight = Some(Arc::clone(follower.flight()));
        self.note(|outcome| outcome.shared = follower.is_joined());
        follower.deliver_to(request);
        follower.begun().await
    }

    pub(super) fn opened(&mut self, begun: &Begun, took: Duration) {
        self.note(|outcome| {
            outcome.failed = blamed(&begun.failed);
            outcome.switched = switched(&begun.failed, &begun.by);
            outcome.answered_as = Some(Arc::clone(&begun.model));
            outcome.timings.upstream = (!outcome.shared).then_some(took);
        });
    }

    pub(super) fn failed(&mut self, error: &upstream::Error) {
        self.note(|outcome| outcome.failed = blamed(&failures(error)));
        self.tell(Ended::Failed(error.kind));
    }

    /// Memory answers after all, late, since others have failed: the reason to ask them is no miss.
    pub(super) fn answered_late(&mut self, failed: &[upstream::Error]) {
        self.note(|outcome| {
            outcome.miss = None;
            outcome.failed = blamed(failed);
        });
    }

    /// It is asked for memory's own sake.
    pub(super) fn refreshes(&mut self) {
        self.note(|outcome| outcome.refresh = true);
    }

    pub(super) fn not_cached(&mut self) {
        self.tell(Ended::NotCached);
    }

    /// Where it will be told whether the answer was remembered.
    pub(super) fn kept(&self) -> Kept {
        Kept::clone(&self.kept)
    }

    pub(super) fn answered_by(mut self, source: Source) -> Self {
        self.note(|outcome| outcome.source = Some(source));
        self
    }

    fn see(&mut self, chunk: &Chunk) {
        if let Some(minutes) = &mut self.minutes {
            minutes.see(chunk);
        }
        for event in &chunk.events {
            if let Event::Usage(usage) = event {
                self.usage = Some(*usage);
            }
        }
        if is_last(chunk) {
            let usage = self.usage;
            self.note(|outcome| outcome.usage = usage);
            self.tell(Ended::Complete);
        }
    }

    fn note(&mut self, change: impl FnOnce(&mut Outcome)) {
        if let Some(outcome) = &mut self.outcome {
            change(outcome);
        }
    }

    fn tell(&mut self, ended: Ended) {
        if let Some(mut outcome) = self.outcome.take() {
            outcome.ended = ended;
            outcome.timings.total = self.arrived.elapsed();
            self.account(&mut outcome);
            let charges = std::mem::take(&mut self.charges);
            if let Some(usage) = outcome.usage
                && outcome.source.as_ref().is_some_and(Source::is_upstream)
            {
                charges.iter().for_each(|charge| charge.tokens(usage.input + usage.output));
            }
            if let Some(kept) = outcome.kept {
                // It is told once.
                let _ = self.kept.set(kept);
            }
            (self.observer)(&outcome);
            if let Some(minutes) = self.minutes.take() {
                minutes.end(&outcome);
            }
        }
    }
}

impl Recorder {
    /// What a call cost and whether it was remembered is told by one of those who share it.
    fn account(&self, outcome: &mut Outcome) {
        let Some(flight) = &self.flight else { return };
        let at_end = !matches!(outcome.ended, Ended::ClientGone | Ended::Deadline);
        let account = flight.account(at_end);
        outcome.accounts = account.is_some();
        outcome.usage = outcome.usage.filter(|_| account.is_some());
        outcome.kept = account.and_then(|account| account.kept);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let late = Instant::now() >= self.deadline;
        self.tell(if late { Ended::Deadline } else { Ended::ClientGone });
    }
}

/// Everyone who failed.
pub(super) fn failures(error: &upstream::Error) -> Vec<upstream::Error> {
    let attempts = error.attempts.iter().cloned();
    match error.kind {
        Kind::Exhausted => attempts.collect(),
        _ => attempts.chain([error.clone()]).collect(),
    }
}

/// Who was to answer, where `by` does in its place. Another try of the same one is no switch.
pub(super) fn switched(failed: &[upstream::Error], by: &str) -> Option<(Arc<str>, Kind)> {
    let first = failed.iter().find(|failed| !failed.beside).filter(|first| *first.upstream != *by)?;
    Some((Arc::clone(&first.upstream), first.kind))
}

/// Who was asked and failed, and how. Who was passed over has done nothing now.
fn blamed(failed: &[upstream::Error]) -> Vec<(Arc<str>, Kind)> {
    let asked = failed.iter().filter(|error| error.asked);
    asked.map(|error| (Arc::clone(&error.upstream), error.kind)).collect()
}

/// An answer's chunks, followed by its recorder. It holds the permit until it is dropped. The chunks go first:
/// the recorder looks at who still follows them.
pub(super) struct Recorded {
    chunks: Chunks,
    recorder: Recorder,
    _permit: Permit,
}

impl Recorded {
    pub(super) fn new(recorder: Recorder, chunks: Chunks, permit: Permit) -> Self {
        Self { chunks, recorder, _permit: permit }
    }
}

impl Stream for Recorded {
    type Item = Result<Chunk, upstream::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.chunks.poll_next_unpin(context);
        if let Poll::Ready(next) = &polled {
            match next {
                Some(Ok(chunk)) => self.recorder.see(chunk),
                Some(Err(error)) => self.recorder.tell(Ended::Cut(error.kind)),
                // Without its terminal event an answer was cut, whoever says that it has ended.
                None => self.recorder.tell(Ended::Cut(Kind::Cut)),
            }
        }
        polled
    }
}
