//! One run: the requests, one after the other.

use super::again::{lane_then, waited};
use super::ahead::{Ahead, Asked, Skipped};
use super::events::Events;
use super::lessons::Lessons;
use super::recorded::{self, Recorded, is_known};
use super::tally::{Times, Upstreams, count, usage_of};
use super::{Error, Interval, ProjectTally, Recordings, Report, Setup, Slice};
use crate::cache::{self, Cache};
use crate::chat::{Event as Said, Folder, Message, Reply, Usage};
use crate::embed::Embedder;
use crate::journal::{Learned, Row};
use crate::limits::{self, Limiter};
use crate::pipeline::{Answer, Checked, Flights, Learner, Pipeline, RecentAnswers, Refresher, Trails};
use crate::sim::Manual;
use crate::store::memory::Memory;
use crate::upstream::Upstream;
use crate::upstream::prices::Prices;
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::sync::Arc;

/// Into how many parts the time is cut.
const SLICES: usize = 60;

/// A request that has begun to be answered.
struct Begun {
    answer: Answer,
    name: String,
    lane: &'static str,
}

/// A journal that is asked again.
pub(super) struct Replay<'r> {
    recordings: &'r Recordings,
    pub(super) pipeline: Arc<Pipeline>,
    upstream: Arc<Recorded>,
    pub(super) clock: Arc<Manual>,
    pub(super) embedder: Option<Embedder>,
    prices: Arc<Prices>,
    begun: HashMap<u64, Begun>,
    lessons: Lessons,
    upstreams: Upstreams,
    times: Times,
    /// The part of the time that it is.
    slice: usize,
    /// Of requests that were saved and for which nobody was asked then: as long as one takes that was.
    saved_unasked: u64,
    saved_us: u64,
    without_body: u64,
    pub(super) report: Report,
}

impl<'r> Replay<'r> {
    pub(super) fn new(recordings: &'r Recordings, setup: Setup) -> Self {
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
        let learner = learner.trusting(is_known).taught_by(lessons.teach());
        let pipeline = Pipeline {
            limiter: Limiter::new(limits::Config {
                concurrent_requests: usize::MAX >> 8,
                limits: Vec::new(),
            }),
            rules,
            cache,
            embedder: embedder.clone(),
            namer: None,
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
            pipeline: Arc::new(pipeline),
            upstream,
            clock,
            embedder,
            prices,
            begun: HashMap::new(),
            lessons,
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
    pub(super) async fn ask(&mut self, number: u64, row: &Row, asked: Result<Box<Asked>, Skipped>) {
        count(&mut self.report.journal.projects, &row.project);
        let Asked { caller, request } = match asked {
            Ok(asked) => *asked,
            Err(why) => {
                self.without_body += u64::from(why == Skipped::NoWords);
                return count(&mut self.report.journal.skipped, why.name());
            }
        };
        self.report.journal.replayed += 1;
        count(&mut self.report.recorded, lane_then(row));
        let fresh = self.recordings.overview.fresh(row);
        let known = Arc::new(recorded::answer(row, fresh));
        let name = number.to_string();
        self.upstream.know(&name, Arc::clone(&known));
        let asked = request.question().map(Message::plain_text).unwrap_or_default();
        self.times.took(lane_then(row), row.total_us);
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
                    count(&mut self.report.misses, miss.name());
                }
                if answer.shared {
                    self.save(row, cost);
                }
                self.compare(row, lane, &asked, &answer.source, None, &known).await;
                self.lessons.begun(row);
                self.begun.insert(number, Begun { answer, name, lane });
            }
            Ok(answer) => {
                let source = answer.source.clone();
                let reply = read(answer).await;
                self.save(row, cost);
                self.report.unknown.hits += u64::from(reply.as_ref().is_some_and(|reply| !is_known(reply)));
                self.compare(row, source.name(), &asked, &source, reply, &known).await;
                // What is checked or asked afresh in the background is done before anything else happens.
                self.settle().await;
                self.ended(row, source.name());
                self.upstream.forget(&name);
            }
            Err(_) => {
                count(&mut self.report.replayed, "failed");
                self.decided(row, "failed", &asked, None, (None, None));
                self.upstream.forget(&name);
            }
        }
    }

    /// A request ends as it ended then: read to its end, or left.
    pub(super) async fn end(&mut self, number: u64, row: &Row) {
        let Some(Begun { answer, name, lane }) = self.begun.remove(&number) else { return };
        match row.ended.as_str() {
            "client_gone" | "deadline" | "cut" => drop(answer),
            _ => drop(read(answer).await),
        }
        self.settle().await;
        self.ended(row, lane);
        self.upstream.forget(&name);
    }

    /// Something was learned then.
    pub(super) fn learn(&mut self, learned: Learned) {
        self.lessons.now(self.pipeline.cache.bound(), learned);
    }

    /// What the answer to a request teaches is known.
    fn ended(&mut self, row: &Row, lane: &str) {
        let as_then = lane == lane_then(row);
        self.lessons.ended(self.pipeline.cache.bound(), row, as_then, &self.recordings.overview);
    }

    /// Waits until all that has been answered is remembered, and all that it teaches is learned.
    pub(super) async fn settle(&self) {
        while self.pipeline.refresher.running() > 0 {
            tokio::task::yield_now().await;
        }
        self.pipeline.learner.close().await;
        self.pipeline.cache.drain().await;
    }

    /// What is about to be needed.
    pub(super) fn ahead(&self) -> Ahead {
        let Recordings { files, keys, overview } = self.recordings;
        Ahead::of(Events::of(files, keys, overview), Arc::clone(&self.pipeline), self.embedder.clone())
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

    pub(super) fn project(&mut self, row: &Row) -> &mut ProjectTally {
        self.report.by_project.entry(row.project.clone()).or_default()
    }

    pub(super) fn finish(mut self) -> Result<Report, Error> {
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

/// Reads an answer to its end.
async fn read(mut answer: Answer) -> Option<Reply> {
    let mut folder = Folder::default();
    while let Some(chunk) = answer.chunks.next().await {
        let events: Vec<Said> = chunk.ok()?.events;
        events.iter().for_each(|event| folder.push(event));
    }
    folder.finish_lossy().ok().map(|(reply, _)| reply)
}
