//! What the tests share: a pipeline of sim plugs, and requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir::cache::{self, Cache, Wishes, bound};
use weir::chat::{Delivery, Folder, Message, Reply, Request, Role};
use weir::clock::{Clock, Millis};
use weir::embed::{self, Embedder};
use weir::intent::RuleSet;
use weir::limits::{self, Limiter};
use weir::pipeline::{
    Answer, Caller, Checked, Flights, Learner, Outcome, Pipeline, RecentAnswers, Refresher, Trails,
};
use weir::server::{Component, Status, StatusReport};
use weir::sim::{Manual, WordEncoder};
use weir::store::Store;
use weir::upstream::{Call, Upstream};

pub(crate) type Told = Arc<Mutex<Vec<Outcome>>>;

/// A pipeline, and what its parts saw.
pub(crate) struct Rig {
    pub(crate) pipeline: Pipeline,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<Manual>,
    pub(crate) told: Told,
}

impl Rig {
    pub(crate) fn new(upstream: Arc<dyn Upstream>, store: Arc<dyn Store>) -> Self {
        Self::with(upstream, store, RuleSet::default(), limits::Config::default())
    }

    pub(crate) fn with(
        upstream: Arc<dyn Upstream>,
        store: Arc<dyn Store>,
        rules: RuleSet,
        limits: limits::Config,
    ) -> Self {
        let clock = Arc::new(Manual::at(Millis(1_000_000)));
        let config = cache::Config { bound: unchecked(), ..cache::Config::default() };
        let cache = Arc::new(Cache::new(config, Arc::clone(&store), Arc::clone(&clock) as Arc<dyn Clock>));
        let embedder = Embedder::spawn(WordEncoder, patient()).unwrap();
        let told = Told::default();
        let seen = Arc::clone(&told);
        let pipeline = Pipeline {
            limiter: Limiter::new(limits),
            rules: rules.into(),
            learner: learner(&cache, &embedder, &upstream),
            cache,
            embedder: Some(embedder),
            namer: None,
            upstream,
            flights: Flights::default(),
            recent: RecentAnswers::default(),
            scribe: None,
            trails: Trails::default(),
            refresher: Refresher::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            observer: Arc::new(move |outcome: &Outcome| seen.lock().unwrap().push(outcome.clone())),
        };
        Self { pipeline, store, clock, told }
    }

    /// The same, with a cache of another kind over the same store.
    pub(crate) fn remembering(mut self, config: cache::Config) -> Self {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        self.pipeline.cache = Arc::new(Cache::new(config, Arc::clone(&self.store), clock));
        let embedder = self.pipeline.embedder.as_ref().unwrap();
        self.pipeline.learner = learner(&self.pipeline.cache, embedder, &self.pipeline.upstream);
        self
    }

    /// Asks, takes the whole answer, and gives where it came from and what it says.
    pub(crate) async fn ask(&self, request: Request) -> (String, String) {
        self.ask_as(caller(), request).await
    }

    pub(crate) async fn ask_as(&self, caller: Caller, request: Request) -> (String, String) {
        let answer = self.pipeline.answer(caller, request).await.unwrap();
        let source = answer.source.name().to_owned();
        let reply = whole(answer).await.unwrap();
        self.pipeline.cache.drain().await;
        (source, reply.choices[0].said())
    }

    pub(crate) fn last(&self) -> Outcome {
        self.told.lock().unwrap().last().unwrap().clone()
    }
}

/// The encoder has a thread of its own, which waits for its turn on a machine that is busy with other things.
pub(crate) fn patient() -> embed::Config {
    embed::Config { deadline: Duration::from_mins(1), ..embed::Config::default() }
}

/// A bound for tests that count calls upstream: nothing is asked that nobody asked.
pub(crate) fn unchecked() -> bound::Config {
    bound::Config { check_share: 0.0, seed: Some(1), ..bound::Config::default() }
}

fn learner(cache: &Arc<Cache>, embedder: &Embedder, upstream: &Arc<dyn Upstream>) -> Learner {
    let nobody = Arc::new(|_: &Checked| {});
    Learner::spawn(Arc::clone(cache), Some(embedder.clone()), Arc::clone(upstream), nobody)
}

pub(crate) async fn whole(mut answer: Answer) -> Result<Reply, String> {
    use futures_util::StreamExt as _;
    let mut folder = Folder::default();
    while let Some(chunk) = answer.chunks.next().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        chunk.events.iter().for_each(|event| folder.push(event));
    }
    folder.finish().map_err(|fault| fault.to_string())
}

pub(crate) fn caller() -> Caller {
    Caller {
        request_id: "req_1".into(),
        tenant: "t".into(),
        project: "p".into(),
        state: None,
        tags: Vec::new(),
        memory: Wishes::default(),
        deadline: Instant::now() + Duration::from_mins(10),
        envelope: Arc::default(),
    }
}

/// A call with time enough.
pub(crate) fn call() -> Call {
    Call::within(Duration::from_mins(10))
}

pub(crate) fn question(text: &str) -> Request {
    Request { model: "m".into(), messages: vec![Message::text(Role::User, text)], ..Request::default() }
}

pub(crate) fn streamed(text: &str) -> Request {
    Request { delivery: Delivery { stream: true, ..Delivery::default() }, ..question(text) }
}

/// Waits until `holds`, or fails after a minute.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

/// A status that says nothing, for servers whose status nobody asks for.
pub(crate) fn some_status() -> StatusReport {
    let ready = || Component::ready("x");
    Arc::new(move || Status {
        version: "0",
        started: 1,
        device: "none".into(),
        encoder: ready(),
        local: ready(),
        store: ready(),
        rules: 0,
        chain: vec![],
        queues: std::collections::BTreeMap::new(),
        mirrored: None,
        webhooks: Vec::new(),
        journal: None,
    })
}
