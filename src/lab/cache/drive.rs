//! Asks the questions of a set, one after the other, and notes whose answers came.

use super::answers::NAME;
use super::data::{Line, Pair};
use crate::cache::{Cache, Wishes};
use crate::chat::{Event, Message, Request, Role};
use crate::pipeline::{Caller, Learner, Pipeline};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The model that is asked for.
pub const MODEL: &str = "bench";

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Someone who answers, however one gets there.
#[async_trait]
pub trait Sidecar: Send + Sync {
    /// Asks `text` in `project`. `id` is what the upstream knows the question by.
    async fn ask(&self, project: &str, id: &str, text: &str) -> Result<Given, String>;

    /// Waits until all that has been answered is remembered.
    async fn settle(&self);
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The name of where it comes from, as in `x-weir-source`.
    pub source: String,
    /// The question it was given to first, where it comes from memory.
    pub first: Option<String>,
    /// How long it took to the end.
    pub took: Duration,
}

/// The pipeline, without a wire.
pub struct InProcess {
    pipeline: Pipeline,
}

impl InProcess {
    /// Asks `pipeline`.
    pub fn new(pipeline: Pipeline) -> Self {
        Self { pipeline }
    }
}

#[async_trait]
impl Sidecar for InProcess {
    async fn ask(&self, project: &str, id: &str, text: &str) -> Result<Given, String> {
        let began = Instant::now();
        let caller = Caller {
            request_id: id.to_owned(),
            tenant: "bench".into(),
            project: project.to_owned(),
            state: None,
            tags: Vec::new(),
            memory: Wishes::default(),
            deadline: tokio::time::Instant::now() + PATIENCE,
            envelope: Arc::default(),
        };
        let mut answer =
            self.pipeline.answer(caller, request(id, text)).await.map_err(|error| error.to_string())?;
        let mut first = None;
        while let Some(chunk) = answer.chunks.next().await {
            for event in chunk.map_err(|error| error.to_string())?.events {
                if let Event::Start { id, .. } = event {
                    first = Some(id);
                }
            }
        }
        let source = &answer.source;
        Ok(Given {
            source: source.name().to_owned(),
            first: first.filter(|_| !source.is_upstream()),
            took: began.elapsed(),
        })
    }

    async fn settle(&self) {
        settle(&self.pipeline.cache, &self.pipeline.learner).await;
    }
}

/// Waits until all that has been answered is remembered, and all that it teaches is learned.
pub async fn settle(cache: &Cache, learner: &Learner) {
    learner.close().await;
    cache.drain().await;
}

fn request(id: &str, text: &str) -> Request {
    let mut request = Request {
        model: MODEL.to_owned(),
        messages: vec![Message::text(Role::User, text)],
        ..Request::default()
    };
    request.sampling.temperature = Some(0.0);
    request.extra.insert(NAME.to_owned(), id.into());
    request
}

/// Whose answer each line of `lines` was given, in `order`.
pub async fn stream(sidecar: &dyn Sidecar, lines: &[Line], order: &[usize]) -> Result<Vec<Given>, String> {
    let mut given = Vec::with_capacity(order.len());
    for line in order.iter().filter_map(|at| lines.get(*at)) {
        given.push(sidecar.ask(&line.context, &line.id, &line.text).await?);
        sidecar.settle().await;
    }
    Ok(given)
}

/// Whether `b` of each pair was given the answer to `a`.
pub async fn pairs(sidecar: &dyn Sidecar, pairs: &[Pair]) -> Result<Vec<bool>, String> {
    let mut served = Vec::with_capacity(pairs.len());
    for pair in pairs {
        // A pair is alone in its project.
        let project = format!("pair-{}", pair.id);
        sidecar.ask(&project, &name_of_a(pair), &pair.a).await?;
        sidecar.settle().await;
        let given = sidecar.ask(&project, &name_of_b(pair), &pair.b).await?;
        served.push(given.first.is_some());
    }
    Ok(served)
}

/// What the upstream knows the first question of a pair by.
pub fn name_of_a(pair: &Pair) -> String {
    format!("{}/a", pair.id)
}

/// What the upstream knows the second question of a pair by.
pub fn name_of_b(pair: &Pair) -> String {
    format!("{}/b", pair.id)
}
