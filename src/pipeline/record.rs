//! Follows an answer to its end: folds what is worth remembering, and tells the observer once.

use super::{Caller, Ended, Observer, Outcome, Pipeline, Source, Timings};
use crate::cache::{Cache, Miss, Query};
use crate::chat::{Chunk, Folder, Request};
use crate::limits::{Permit, Refusal};
use crate::upstream::{self, Chunks, Kind, Opened};
use crate::vector::UnitVector;
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Gathers the facts of one request, and tells them once: when it is dropped at the latest.
pub(super) struct Recorder {
    observer: Observer,
    cache: Arc<Cache>,
    arrived: Instant,
    deadline: Instant,
    folder: Folder,
    /// What to remember the answer under; `None` where it must not be remembered.
    key: Option<(Query, Option<UnitVector>)>,
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
            stream: request.delivery.stream,
            source: None,
            miss: None,
            failed: Vec::new(),
            usage: None,
            kept: None,
            ended: Ended::ClientGone,
            timings: Timings::default(),
        };
        Self {
            observer: Arc::clone(&pipeline.observer),
            cache: Arc::clone(&pipeline.cache),
            arrived: Instant::now(),
            deadline: caller.deadline,
            folder: Folder::default(),
            key: None,
            outcome: Some(Box::new(outcome)),
        }
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.tell(Ended::Refused(refusal.name()));
    }

    pub(super) fn recalled(&mut self) {
        let recall = self.arrived.elapsed();
        self.note(|outcome| outcome.timings.recall = recall);
    }

    pub(super) fn missed(&mut self, miss: Miss) {
        self.recalled();
        self.note(|outcome| outcome.miss = Some(miss));
    }

    pub(super) fn opened(&mut self, opened: &Opened, took: Duration) {
        self.note(|outcome| {
            outcome.failed = opened.failed.iter().map(blame).collect();
            outcome.timings.upstream = Some(took);
        });
    }

    pub(super) fn remember_as(&mut self, query: Option<Query>, vector: Option<UnitVector>) {
        self.key = query.map(|query| (query, vector));
    }

    pub(super) fn failed(&mut self, error: &upstream::Error) {
        self.note(|outcome| {
            outcome.failed = match error.attempts.as_slice() {
                attempts if error.kind == Kind::Exhausted => attempts.iter().map(blame).collect(),
                attempts => attempts.iter().chain([error]).map(blame).collect(),
            };
        });
        self.tell(Ended::Failed(error.kind));
    }

    pub(super) fn answered_by(mut self, source: Source) -> Self {
        self.note(|outcome| outcome.source = Some(source));
        self
    }

    fn see(&mut self, chunk: &Chunk) {
        chunk.events.iter().for_each(|event| self.folder.push(event));
        if self.folder.ended() {
            self.complete();
        }
    }

    /// The answer is whole: remember it now, before the client has its last byte, so that whoever asks
    /// again at once already finds it.
    fn complete(&mut self) {
        let usage = self.folder.so_far().usage;
        let reply = std::mem::take(&mut self.folder).finish();
        let kept = self.key.take().zip(reply.ok()).map(|((query, vector), reply)| {
            let upstream = self.upstream();
            self.cache.remember(&query, vector, reply, &upstream)
        });
        self.note(|outcome| (outcome.usage, outcome.kept) = (usage, kept));
        self.tell(Ended::Complete);
    }

    fn upstream(&self) -> String {
        let source = self.outcome.as_ref().and_then(|outcome| outcome.source.as_ref());
        source.and_then(Source::upstream).unwrap_or_default().to_owned()
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
            (self.observer)(&outcome);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let late = Instant::now() >= self.deadline;
        self.tell(if late { Ended::Deadline } else { Ended::ClientGone });
    }
}

fn blame(error: &upstream::Error) -> (Arc<str>, Kind) {
    (Arc::clone(&error.upstream), error.kind)
}

/// An answer's chunks, followed by its recorder. It holds the permit until it is dropped.
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
