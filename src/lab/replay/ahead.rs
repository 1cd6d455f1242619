//! What a run is about to need, a little ahead of it and on a thread of its own: lines read, requests understood, and
//! their words embedded. It decides nothing, so a run comes to the same with it as without.

use super::again::{caller, decoded, is_refusal};
use super::events::{Event, Events};
use crate::chat::Request;
use crate::embed::Embedder;
use crate::journal::{Fault, Learned, Row, Word};
use crate::pipeline::{Caller, Pipeline};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How much is prepared together: enough to keep the encoder busy, and not to fill its queue.
const AT_ONCE: usize = 256;
/// How many such parts are ready before the run needs them. That, and what overlaps, is all that is held of a journal.
const READY: usize = 2;

/// Something that happened, ready to happen again.
pub(super) enum Step {
    /// Memory was asked for a request.
    Asked(u64, Arc<Row>, Result<Box<Asked>, Skipped>),
    /// A request has ended.
    Ended(u64, Arc<Row>),
    /// Something was learned from an answer.
    Learned(Learned),
    /// Somebody said something about an answer.
    Said(Word),
}

/// A request, and who asks.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) request: Request,
}

/// Why a request is not asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    NoWords,
    NotLetIn,
    NotUnderstood,
}

impl Skipped {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoWords => "no words written down",
            Self::NotLetIn => "not let in",
            Self::NotUnderstood => "not understood",
        }
    }
}

/// When, in microseconds since the Unix epoch, and what.
type Part = Result<Vec<(u64, Step)>, Fault>;

/// What was prepared.
pub(super) struct Ahead {
    parts: mpsc::Receiver<Part>,
    part: std::vec::IntoIter<(u64, Step)>,
}

impl Ahead {
    /// Begins to prepare `events` for `pipeline`. Must be called within a tokio runtime.
    pub(super) fn of(events: Events, pipeline: Arc<Pipeline>, embedder: Option<Embedder>) -> Self {
        let (ready, parts) = mpsc::channel(READY);
        let runtime = Handle::current();
        let scout = Scout { pipeline, embedder, runtime };
        // It ends when nobody listens any more.
        tokio::task::spawn_blocking(move || scout.run(events, &ready));
        Self { parts, part: Vec::new().into_iter() }
    }

    /// What happens next.
    pub(super) async fn next(&mut self) -> Option<Result<(u64, Step), Fault>> {
        loop {
            if let Some(step) = self.part.next() {
                return Some(Ok(step));
            }
            match self.parts.recv().await? {
                Ok(part) => self.part = part.into_iter(),
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

struct Scout {
    pipeline: Arc<Pipeline>,
    embedder: Option<Embedder>,
    runtime: Handle,
}

impl Scout {
    fn run(&self, events: Events, ready: &mpsc::Sender<Part>) {
        let mut part = Vec::with_capacity(AT_ONCE);
        let mut texts = HashSet::new();
        for event in events {
            match event {
                Ok((at, event)) => part.push((at, self.step(event, &mut texts))),
                Err(fault) => return drop(ready.blocking_send(Err(fault))),
            }
            if part.len() == AT_ONCE {
                self.embed(&mut texts);
                if ready.blocking_send(Ok(std::mem::replace(&mut part, Vec::with_capacity(AT_ONCE)))).is_err()
                {
                    return;
                }
            }
        }
        self.embed(&mut texts);
        let _ = ready.blocking_send(Ok(part));
    }

    fn step(&self, event: Event, texts: &mut HashSet<String>) -> Step {
        match event {
            Event::Ended(number, row) => Step::Ended(number, row),
            Event::Learned(learned) => Step::Learned(learned),
            Event::Said(word) => Step::Said(word),
            Event::Asked(number, row) => {
                let asked = asked(number, &row);
                if let (Some(_), Ok(asked)) = (&self.embedder, &asked) {
                    texts.extend(self.pipeline.wording(&asked.caller, &asked.request));
                }
                Step::Asked(number, row, asked)
            }
        }
    }

    /// Has the encoder read `texts`, so that it knows them when they are asked for. What fails is tried again then.
    fn embed(&self, texts: &mut HashSet<String>) {
        let Some(embedder) = &self.embedder else { return };
        let reading = texts.drain().map(|text| embedder.embed(text));
        drop(self.runtime.block_on(join_all(reading)));
    }
}

fn asked(number: u64, row: &Row) -> Result<Box<Asked>, Skipped> {
    let body = row.body.as_deref().ok_or(Skipped::NoWords)?;
    // Who was not let in was not answered by anyone, and would be under other limits only.
    if row.source.is_none() && row.miss.is_none() && row.failed.is_empty() && is_refusal(&row.ended) {
        return Err(Skipped::NotLetIn);
    }
    let request = decoded(row, body).ok_or(Skipped::NotUnderstood)?;
    Ok(Box::new(Asked { caller: caller(row, &number.to_string()), request }))
}
