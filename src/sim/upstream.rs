//! An upstream that follows a script.

use crate::chat::{Event, Reply, Request, unfold};
use crate::upstream::{Call, Chunks, Error, Kind, Load, Opened, Origin, Upstream};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens at one call.
#[derive(Clone, Debug)]
pub enum Step {
    /// A complete answer.
    Say(Reply),
    /// A complete answer of plain text, after a while.
    SlowlySay(String, Duration),
    /// A failure before the first chunk.
    Fail(Kind),
    /// The same, and it wants to be left alone for so long.
    FailFor(Kind, Duration),
    /// Nothing, for ever.
    Stall,
    /// Some text, and then the stream is cut.
    SayThenCut(String),
    /// Some text, and then nothing, for ever.
    SayThenStall(String),
}

impl Step {
    /// A complete answer of plain text.
    pub fn say(text: &str) -> Self {
        Self::Say(Reply::text("scripted", text))
    }
}

/// Follows its steps, one a call; the last one again and again.
pub struct Scripted {
    name: Arc<str>,
    origin: Origin,
    steps: Mutex<VecDeque<Step>>,
    calls: AtomicUsize,
    live: Arc<AtomicUsize>,
}

impl Scripted {
    /// An upstream called `name` that plays a provider.
    pub fn new(name: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            name: name.into(),
            origin: Origin::Provider,
            steps: Mutex::new(steps.into_iter().collect()),
            calls: AtomicUsize::new(0),
            live: Arc::default(),
        }
    }

    /// The same, playing the local model.
    pub fn local(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { origin: Origin::Local, ..Self::new("local", steps) }
    }

    /// How often it was asked.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many of its answers are still being given: not at their end, and not dropped.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    fn next_step(&self) -> Step {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match steps.len() {
            0 => Step::say("ok"),
            1 => steps[0].clone(),
            _ => steps.pop_front().unwrap_or(Step::Stall),
        }
    }

    fn begun(text: String, end: Chunks) -> Chunks {
        let start = Event::Start { id: "scripted".into(), model: "scripted".into(), created: 0 };
        let said = vec![start, Event::Text { choice: 0, text }];
        stream::iter([Ok(said.into())]).chain(end).boxed()
    }
}

#[async_trait]
impl Upstream for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, _: &Request) -> Origin {
        self.origin
    }

    async fn open(&self, request: &Request, _: &Call) -> Result<Opened, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let chunks = match self.next_step() {
            Step::Say(reply) => said(&reply),
            Step::SlowlySay(text, wait) => {
                tokio::time::sleep(wait).await;
                said(&Reply::text("scripted", text))
            }
            Step::Fail(kind) => return Err(Error::new(kind, &self.name, kind.name())),
            Step::FailFor(kind, wait) => {
                let error = Error::new(kind, &self.name, kind.name());
                return Err(Error { retry_after: Some(wait), ..error });
            }
            Step::Stall => std::future::pending().await,
            Step::SayThenCut(text) => {
                let cut = Error::new(Kind::Cut, &self.name, "the stream was cut");
                Self::begun(text, stream::iter([Err(cut)]).boxed())
            }
            Step::SayThenStall(text) => Self::begun(text, stream::pending().boxed()),
        };
        let chunks = Live::begin(&self.live).follow(chunks);
        Ok(Opened {
            by: Arc::clone(&self.name),
            model: request.model.as_str().into(),
            origin: self.origin,
            failed: Vec::new(),
            dropped: Vec::new(),
            headers: Vec::new(),
            load: Load::default(),
            chunks,
        })
    }
}

fn said(reply: &Reply) -> Chunks {
    stream::iter(unfold(reply).into_iter().map(|event| Ok(vec![event].into()))).boxed()
}

/// Counts an answer as live until it is dropped.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }

    /// The same chunks; the count goes down when they are dropped.
    fn follow(self, chunks: Chunks) -> Chunks {
        stream::unfold((self, chunks), async |(live, mut chunks)| {
            Some((chunks.next().await?, (live, chunks)))
        })
        .boxed()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
