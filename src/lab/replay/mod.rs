//! What would have been: the requests of a journal, asked again under other settings.
//!
//! It is the pipeline of the sidecar with another upstream (`recorded`: it says what was said then, and invents
//! nothing), another clock (that of the journal) and a memory that begins empty. Requests are asked in the order in
//! which they came, and end when they ended. The same journal and settings give the same report, to the byte.

pub mod embeddings;
mod events;
mod page;
mod recorded;
mod tally;

pub use page::sweep;
pub(super) use page::{percent, time, whole};
pub use tally::{
    Aging, Change, Decisions, Interval, Lanes, Near, ProjectTally, Recording, Report, Saved, Slice, Unknown,
    Wrong,
};

use crate::cache::bound::{Equivalence, Reading, by_cosine, compare};
use crate::cache::{self, Cache};
use crate::chat::{Choice, Event as Said, Finish, Folder, Message, Reply, Request, Usage};
use crate::clock::Millis;
use crate::embed::Embedder;
use crate::intent::Live;
use crate::journal::{Fault, Row};
use crate::limits::{self, Limiter};
use crate::pipeline::{
    Answer, Caller, Checked, Flights, Learned, Learner, Pipeline, RecentAnswers, Refresher, Source, Trails,
};
use crate::sim::Manual;
use crate::store::Room;
use crate::store::memory::Memory;
use crate::telemetry::wishes;
use crate::upstream::prices::Prices;
use crate::upstream::{Envelope, Kind, Upstream};
use crate::wire::{Target, decode_request};
use bytes::Bytes;
use events::{Event, Events, Overview};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use recorded::{Recorded, is_known};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally::{Times, Upstreams, usage_of};

/// How long one request may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_hours(1);

/// Into how many parts the time is cut.
const SLICES: usize = 60;

/// How much of a text is shown.
const SHOWN: usize = 160;

/// Under which settings is asked again.
pub struct Setup {
    /// The cache's. Where it has no seed, the journal's counts.
    pub cache: cache::Config,
    /// The rules.
    pub rules: Live,
    /// From text to vectors, where there is a model.
    pub embedder: Option<Embedder>,
    /// How much memory holds.
    pub room: Room,
    /// What the upstreams cost.
    pub prices: Arc<Prices>,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] Fault),
    /// It holds nothing that can be asked again.
    #[error(
        "the journal holds no request that can be asked again{}",
        if *.hashes { ": it was written with journal.content = \"hashes\"" } else { "" }
    )]
    Nothing {
        /// Only digests were written.
        hashes: bool,
    },
}

/// A journal that has been looked through once.
pub struct Recordings {
    files: Vec<PathBuf>,
    overview: Overview,
}

impl Recordings {
    /// Looks through a journal: a folder, or a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let files = crate::journal::files(path)?;
        if files.is_empty() {
            return Err(Fault::Nothing(path.to_owned()).into());
        }
        let overview = Overview::of(&files)?;
        Ok(Self { files, overview })
    }

    /// How many requests it holds.
    pub fn requests(&self) -> u64 {
        self.overview.requests
    }

    /// Has `embedder` read what will be looked up, as many texts at once as it likes. `progress` is told how many
    /// requests are done.
    pub async fn read_ahead(&self, setup: Setup, progress: impl Fn(u64)) -> Result<(), Error> {
        /// Enough to keep the encoder busy, and not to fill its queue.
        const AT_ONCE: usize = 64;
        let Some(embedder) = setup.embedder.clone() else { return Ok(()) };
        let mut replay = Replay::new(self, setup);
        let mut waiting = FuturesUnordered::new();
        for (done, event) in Events::of(&self.files, &self.overview).enumerate() {
            let (_, Event::Asked(number, row)) = event? else { continue };
            progress(done as u64 / 2);
            let Some(request) = replay.request(&row) else { continue };
            let Some(text) = replay.pipeline.wording(&caller(&row, &number.to_string()), &request) else {
                continue;
            };
            let embedder = embedder.clone();
            waiting.push(async move { drop(embedder.embed(text).await) });
            if waiting.len() >= AT_ONCE {
                waiting.next().await;
            }
        }
        while waiting.next().await.is_some() {}
        Ok(())
    }

    /// Asks again. `progress` is told how many requests are done. Must be called within a tokio runtime of one
    /// thread: others would not always come to the same.
    pub async fn replay(&self, setup: Setup, progress: impl Fn(u64)) -> Result<Report, Error> {
        let mut replay = Replay::new(self, setup);
        for event in Events::of(&self.files, &self.overview) {
            let (at, event) = event?;
            replay.clock.set(Millis(at / 1000));
            match event {
                Event::Asked(number, row) => {
                    replay.ask(number, &row).await;
                    progress(replay.report.journal.replayed);
                }
                Event::Ended(number, row) => replay.end(number, &row).await,
                Event::Learned(learned) => replay.learn((learned.tenant, learned.id)),
                Event::Said(word) => {
                    replay.pipeline.feedback(&word.tenant.as_str().into(), &word.id, word.correct);
                    replay.settle().await;
                }
            }
        }
        replay.finish()
    }
}

/// A request that has begun to be answered.
struct Begun {
    answer: Answer,
    name: String,
}

/// What was learned from the answers to requests, by whose they were and their names.
type Lessons = Arc<Mutex<HashMap<(String, String), Vec<Learned>>>>;

/// Nothing in it is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Replay<'r> {
    recordings: &'r Recordings,
    pipeline: Pipeline,
    upstream: Arc<Recorded>,
    clock: Arc<Manual>,
    embedder: Option<Embedder>,
    prices: Arc<Prices>,
    begun: HashMap<u64, Begun>,
    /// What was learned, and counts from the moment on at which it did then.
    lessons: Lessons,
    /// What is to be learned as soon as it is known.
    due: HashSet<(String, String)>,
    upstreams: Upstreams,
    times: Times,
    /// The part of the time that it is.
    slice: usize,
    /// Of requests that were saved and for which nobody was asked then: as long as one takes that was.
    saved_unasked: u64,
    saved_us: u64,
    without_body: u64,
    report: Report,
}

impl<'r> Replay<'r> {
    fn new(recordings: &'r Recordings, setup: Setup) -> Self {
        let Setup { cache, rules, embedder, room, prices } = setup;
        let clock = Arc::new(Manual::default());
        let seed = cache.bound.seed.or(recordings.overview.seed).unwrap_or(1);
        let max_wrong = cache.bound.max_wrong;
        let bound = cache::bound::Config { seed: Some(seed), ..cache.bound };
        // Nothing waits for a queue here, so nothing is dropped.
        let config = cache::Config { bound, ..cache };
        let cache = Arc::new(Cache::new(config, Arc::new(Memory::new(room)), Arc::clone(&clock) as _));
        let upstream = Arc::new(Recorded::default());
        let asked = Arc::clone(&upstream) as Arc<dyn Upstream>;
        let nobody = Arc::new(|_: &Checked| ());
        let learner = Learner::spawn(Arc::clone(&cache), embedder.clone(), Arc::clone(&asked), nobody);
        let lessons = Lessons::default();
        let later = Arc::clone(&lessons);
        let learner = learner.trusting(is_known).taught_by(Arc::new(move |_, learned| {
            let name = (learned.tenant.to_string(), learned.request_id.clone());
            lock(&later).entry(name).or_default().push(learned);
        }));
        let pipeline = Pipeline {
            limiter: Limiter::new(limits::Config {
                concurrent_requests: usize::MAX >> 8,
                limits: Vec::new(),
            }),
            rules,
            cache,
            embedder: embedder.clone(),
            upstream: asked,
            flights: Flights::default(),
            learner,
            recent: RecentAnswers::default(),
            trails: Trails::default(),
            refresher: Refresher::default(),
            clock: Arc::clone(&clock) as _,
            observer: Arc::new(|_| ()),
            scribe: None,
        };
        let mut report = Report::default();
        report.wrong.max_wrong = max_wrong;
        report.timeline = vec![Slice::default(); SLICES];
        Self {
            recordings,
            pipeline,
            upstream,
            clock,
            embedder,
            prices,
            begun: HashMap::new(),
            lessons,
            due: HashSet::new(),
            upstreams: Upstreams::default(),
            times: Times::default(),
            slice: 0,
            saved_unasked: 0,
            saved_us: 0,
            without_body: 0,
            report,
        }
    }

    /// Asks a request again, as far as memory's word. What is answered by somebody else ends later.
    async fn ask(&mut self, number: u64, row: &Row) {
        *self.report.journal.projects.entry(row.project.clone()).or_default() += 1;
        let Some(request) = self.request(row) else { return };
        self.report.journal.replayed += 1;
        *self.report.recorded.entry(lane_then(row)).or_default() += 1;
        let fresh = self.recordings.overview.fresh(row);
        let known = Arc::new(recorded::answer(row, fresh));
        let name = number.to_string();
        self.upstream.know(&name, Arc::clone(&known));
        let asked = request.question().map(Message::plain_text).unwrap_or_default();
        let caller = caller(row, &name);
        self.times.took(&lane_then(row), row.total_us);
        self.slice = self.slice_of(row);
        self.report.timeline[self.slice].requests += 1;
        let cost = self.cost(row);
        self.report.saved.cost_without += cost.unwrap_or_default();
        if let Some(waited) = waited(row) {
            self.upstreams.waited(waited);
        }
        match self.pipeline.answer(caller, request).await {
            Ok(answer) if answer.source.is_upstream() => {
                let lane = if answer.shared { "joined" } else { "upstream" };
                if matches!(&*known, recorded::Answer::Unknown(_)) && !answer.shared {
                    self.report.unknown.answers += 1;
                    let miss = answer.source.miss();
                    let gone = miss == Some(cache::Miss::Absent) && row.source.as_deref() == Some("exact");
                    self.report.unknown.older += u64::from(gone);
                }
                if let Some(miss) = answer.source.miss() {
                    *self.report.misses.entry(miss.name().to_owned()).or_default() += 1;
                }
                if answer.shared {
                    self.save(row, cost);
                }
                self.compare(row, lane, &asked, &answer.source, None, &known).await;
                self.begun.insert(number, Begun { answer, name });
            }
            Ok(answer) => {
                let source = answer.source.clone();
                let reply = read(answer).await;
                self.save(row, cost);
                self.report.unknown.hits += u64::from(reply.as_ref().is_some_and(|reply| !is_known(reply)));
                self.compare(row, source.name(), &asked, &source, reply, &known).await;
                // What is checked or asked afresh in the background is done before anything else happens.
                self.settle().await;
                self.learn_at_once(row);
                self.upstream.forget(&name);
            }
            Err(_) => {
                self.report.count("failed");
                self.decided(row, "failed", &asked, None, (None, None));
                self.upstream.forget(&name);
            }
        }
    }

    /// A request ends as it ended then: read to its end, or left.
    async fn end(&mut self, number: u64, row: &Row) {
        let Some(Begun { answer, name }) = self.begun.remove(&number) else { return };
        match row.ended.as_str() {
            "client_gone" | "deadline" | "cut" => drop(answer),
            _ => drop(read(answer).await),
        }
        self.settle().await;
        self.learn_at_once(row);
        self.upstream.forget(&name);
    }

    /// What the answer to a request teaches counts from now on.
    fn learn(&mut self, name: (String, String)) {
        let Some(lessons) = lock(&self.lessons).remove(&name) else {
            // The last words came a moment before the request ended.
            self.due.insert(name);
            return;
        };
        for learned in lessons {
            self.pipeline.cache.bound().learn(&learned.trial, learned.label);
        }
    }

    /// The same, where the journal does not say when: nothing was learned from it then.
    fn learn_at_once(&mut self, row: &Row) {
        let name = (row.tenant.clone(), row.id.clone());
        let is_due = self.due.remove(&name) || !self.recordings.overview.tells_when_learned(row);
        if is_due && lock(&self.lessons).contains_key(&name) {
            self.learn(name);
        }
    }

    /// Waits until all that has been answered is remembered, and all that it teaches is learned.
    async fn settle(&self) {
        while self.pipeline.refresher.running() > 0 {
            tokio::task::yield_now().await;
        }
        self.pipeline.learner.close().await;
        self.pipeline.cache.drain().await;
    }

    fn request(&mut self, row: &Row) -> Option<Request> {
        let mut skip = |why: &str| *self.report.journal.skipped.entry(why.to_owned()).or_default() += 1;
        let Some(body) = row.body.as_deref() else {
            self.without_body += 1;
            skip("no words written down");
            return None;
        };
        // Who was not let in was not answered by anyone, and would be under other limits only.
        if row.source.is_none() && row.miss.is_none() && row.failed.is_empty() && is_refusal(&row.ended) {
            skip("not let in");
            return None;
        }
        let request = decoded(row, body);
        if request.is_none() {
            skip("not understood");
        }
        request
    }

    /// What it costs to ask an upstream for it.
    fn cost(&self, row: &Row) -> Option<f64> {
        let usage: Usage = usage_of(row.usage, row.reply.as_ref())?;
        let model = row.answered_as.as_deref().or(row.voice.as_ref().map(|voice| voice.model.as_str()));
        self.prices.cost(row.upstream.as_deref()?, model.unwrap_or(&row.model), &usage)
    }

    fn slice_of(&self, row: &Row) -> usize {
        let overview = &self.recordings.overview;
        let from = overview.first.unwrap_or_default();
        let span = overview.last.saturating_sub(from).max(1);
        let place = row.at.saturating_sub(from) as f64 / span as f64;
        ((place * SLICES as f64) as usize).min(SLICES - 1)
    }

    /// Nobody needs to be asked for it.
    fn save(&mut self, row: &Row, cost: Option<f64>) {
        let usage = usage_of(row.usage, row.reply.as_ref()).unwrap_or_default();
        let saved = &mut self.report.saved;
        saved.calls += 1;
        saved.input_tokens += usage.input;
        saved.output_tokens += usage.output;
        match cost {
            Some(cost) => saved.cost += cost,
            None => saved.unpriced += 1,
        }
        self.project(row).saved += 1;
        let slice = &mut self.report.timeline[self.slice];
        slice.saved += 1;
        slice.cost += cost.unwrap_or_default();
        match waited(row) {
            Some(waited) => self.saved_us += waited,
            None => self.saved_unasked += 1,
        }
    }

    fn project(&mut self, row: &Row) -> &mut ProjectTally {
        self.report.by_project.entry(row.project.clone()).or_default()
    }

    /// Compares with what was decided then, and where both answers are known, with what was answered.
    async fn compare(
        &mut self,
        row: &Row,
        lane: &str,
        asked: &str,
        source: &Source,
        served: Option<Reply>,
        known: &recorded::Answer,
    ) {
        self.report.count(lane);
        if let Some(cosine) = self.pipeline.nearest(&row.tenant.as_str().into(), &row.id) {
            self.report.near(cosine, lane == "semantic");
        }
        let mut said = None;
        self.project(row).requests += 1;
        if let (Source::Exact { age, .. }, Some(served), recorded::Answer::Given { reply, meant: true, .. }) =
            (source, &served, known)
            && let Some(said @ (Equivalence::Same | Equivalence::Different)) =
                self.equivalence(reply, served).await
        {
            self.report.aged(age.as_secs(), said == Equivalence::Same);
        }
        if let Source::Semantic { .. } = source {
            self.report.wrong.served += 1;
            self.project(row).semantic += 1;
            if let (Some(served), recorded::Answer::Given { reply, meant: true, .. }) = (&served, known) {
                said = self.equivalence(reply, served).await;
                let wrong = &mut self.report.wrong;
                match said {
                    Some(Equivalence::Unclear) => wrong.unclear += 1,
                    Some(said) => {
                        wrong.compared += 1;
                        wrong.different += u64::from(said == Equivalence::Different);
                        let project = self.project(row);
                        project.compared += 1;
                        project.different += u64::from(said == Equivalence::Different);
                    }
                    None => {}
                }
            }
        }
        self.decided(row, lane, asked, Some(source), (served, said));
    }

    fn decided(
        &mut self,
        row: &Row,
        lane: &str,
        asked: &str,
        source: Option<&Source>,
        (served, said): (Option<Reply>, Option<Equivalence>),
    ) {
        let was = lane_then(row);
        let rule = match source {
            Some(Source::Rule { rule }) => Some(rule),
            _ => None,
        };
        if was == lane && (rule.is_none() || rule == row.rule.as_ref()) {
            self.report.decisions.same += 1;
            return;
        }
        let why = source.and_then(Source::miss).map(|miss| format!(" ({})", miss.name()));
        let now = format!("{lane}{}", rule.map(|rule| format!(" {rule}")).or(why).unwrap_or_default());
        let similarity = match source {
            Some(Source::Semantic { similarity, .. }) => Some(*similarity),
            _ => None,
        };
        let words = |reply: &Reply| reply.choices.first().map(Choice::said).map(|said| short(&said));
        self.report.change(Change {
            id: row.id.clone(),
            project: row.project.clone(),
            asked: short(asked),
            was: row.rule.as_ref().map_or(was.clone(), |rule| format!("{was} {rule}")),
            now,
            similarity,
            answers: said.map(|said| {
                let said = match said {
                    Equivalence::Same => "same",
                    Equivalence::Different => "different",
                    Equivalence::Unclear => "unclear",
                };
                said.to_owned()
            }),
            then: row.reply.as_ref().and_then(words),
            instead: served.as_ref().filter(|reply| is_known(reply)).and_then(words),
        });
    }

    /// Whether two answers say the same; `None` where one of them is not known.
    async fn equivalence(&self, fresh: &Reply, served: &Reply) -> Option<Equivalence> {
        let (fresh, served) = (plain(fresh)?, plain(served).filter(|_| is_known(served))?);
        let (one, other, may_be_same) = match compare(&fresh, &served) {
            Reading::Clear(said) => return Some(said),
            Reading::Open { one, other, may_be_same } => (one, other, may_be_same),
        };
        let embedder = self.embedder.as_ref()?;
        let vectors = (embedder.embed(one).await, embedder.embed(other).await);
        match vectors {
            (Ok(one), Ok(other)) if !one.partial && !other.partial => {
                Some(by_cosine(one.vector.cosine(&other.vector), may_be_same))
            }
            _ => Some(Equivalence::Unclear),
        }
    }

    fn finish(mut self) -> Result<Report, Error> {
        let overview = &self.recordings.overview;
        let report = &mut self.report;
        if report.journal.replayed == 0 {
            return Err(Error::Nothing { hashes: self.without_body > 0 });
        }
        report.journal.requests = overview.requests;
        report.journal.unreadable = overview.unreadable;
        report.journal.from = overview.first.unwrap_or_default();
        report.journal.to = overview.last;
        report.latency_ms = self.times.quantiles();
        report.saved.share = report.saved.calls as f64 / report.journal.replayed as f64;
        report.saved.seconds =
            (self.saved_us as f64 + self.saved_unasked as f64 * self.upstreams.mean_us()) / 1e6;
        report.wrong.share = Interval::share(report.wrong.different, report.wrong.compared);
        let bound = self.pipeline.cache.bound().report();
        let believed = bound.served_wrong;
        report.wrong.believed = Interval { mean: believed.mean, least: believed.least, most: believed.most };
        Ok(self.report)
    }
}

/// What a row asks; `None` where its words were not written down, or nobody understands them.
pub fn request(row: &Row) -> Option<Request> {
    decoded(row, row.body.as_deref()?)
}

fn decoded(row: &Row, body: &RawValue) -> Option<Request> {
    let target = Target { model: Some(row.model.clone()), stream: Some(row.stream), sse: row.stream };
    let body = Bytes::copy_from_slice(body.get().as_bytes());
    let mut request = decode_request(row.protocol, &body, &target).ok()?;
    request.received.headers.clone_from(&row.headers);
    Some(request)
}

/// Who answered then.
fn lane_then(row: &Row) -> String {
    match row.source.as_deref() {
        Some("upstream" | "local") if row.shared => "joined",
        Some("upstream" | "local") => "upstream",
        Some(source) => source,
        // The client left, or it took too long, while somebody was asked.
        None if row.miss.is_some() && Kind::named(&row.ended).is_none() => "upstream",
        // Another program's record does not say.
        None if row.ended == "complete" => "not recorded",
        None => "failed",
    }
    .to_owned()
}

fn is_refusal(ended: &str) -> bool {
    Kind::named(ended).is_none() && !matches!(ended, "complete" | "cut" | "client_gone" | "deadline")
}

/// How long an upstream was waited for.
fn waited(row: &Row) -> Option<u64> {
    let asked = matches!(row.source.as_deref(), Some("upstream" | "local"));
    asked.then(|| row.total_us.saturating_sub(row.recall_us))
}

fn caller(row: &Row, name: &str) -> Caller {
    let mut memory = wishes(&row.wanted);
    if let Some(voice) = &row.voice {
        // Whose answer was wanted keeps answers apart here as it did then.
        if voice.arm.is_some() || voice.model != row.model || voice.origin != "provider" {
            let arm = voice.arm.as_deref().unwrap_or_default();
            memory.within("voice", format!("{}/{}/{arm}", voice.origin, voice.model));
        }
    }
    Caller {
        request_id: row.id.clone(),
        tenant: row.tenant.as_str().into(),
        project: row.project.clone(),
        state: row.state.clone(),
        tags: row.tags.clone(),
        memory,
        deadline: tokio::time::Instant::now() + PATIENCE,
        envelope: Arc::new(Envelope { correlation_id: name.to_owned(), ..Envelope::default() }),
    }
}

/// Reads an answer to its end.
async fn read(mut answer: Answer) -> Option<Reply> {
    let mut folder = Folder::default();
    while let Some(chunk) = answer.chunks.next().await {
        let events: Vec<Said> = chunk.ok()?.events;
        events.iter().for_each(|event| folder.push(event));
    }
    folder.finish_lossy().ok().map(|(reply, _)| reply)
}

/// What a reply says, where it is one complete answer in plain words.
fn plain(reply: &Reply) -> Option<String> {
    let [choice] = reply.choices.as_slice() else { return None };
    let complete = matches!(choice.finish, Some(Finish::Stop | Finish::StopSequence(_)));
    (complete && choice.tool_calls().next().is_none()).then(|| choice.said())
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
