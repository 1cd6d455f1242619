//! Learns from what is asked upstream how good the cache's nominees are, off the path of any request.
//!
//! A miss that had a nominee costs nothing more: its fresh answer is compared with the nominee's. Of the hits a
//! few are asked upstream all the same, after they were served. Both wait in bounded queues; what finds no
//! place is dropped and counted, for a label more or less is nothing that anyone should wait for.

use super::second::{self, Answered};
use crate::cache::Cache;
use crate::cache::bound::{AnswerJudge, Bound, Equivalence, Label, Reading, Trial, by_cosine, compare};
use crate::chat::{Block, Finish, Message, Reply, Request, Usage};
use crate::embed::Embedder;
use crate::upstream::{Call, Priority, Upstream};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The most comparisons that wait.
const MAX_WAITING: usize = 1024;
/// The most checks that wait, and that are asked at the same time.
const MAX_CHECKS_WAITING: usize = 64;
const MAX_CHECKS: usize = 4;
/// How long a check may take.
const CHECK_DEADLINE: Duration = Duration::from_mins(2);
/// How long the checks under way get at the end.
const LAST_CHECKS: Duration = Duration::from_secs(2);

/// Is told of each check that was answered: it costs as much as a request.
pub type CheckObserver = Arc<dyn Fn(&Checked) + Send + Sync>;

/// What was learned from an answer, be it that nothing can be learned from it.
#[derive(Clone, Debug)]
pub struct Learned {
    /// Whose request it was answered to.
    pub tenant: Arc<str>,
    /// The request.
    pub request_id: String,
    /// What was tried.
    pub trial: Trial,
    /// What came of it.
    pub said: Equivalence,
}

impl Learned {
    /// What it tells about the trial; `None` where it tells nothing.
    pub fn label(&self) -> Option<Label> {
        match self.said {
            Equivalence::Same => Some(Label::Same),
            Equivalence::Different => Some(Label::Different),
            Equivalence::Unclear => None,
        }
    }

    /// Teaches `bound` what it tells.
    pub fn teach(&self, bound: &Bound) {
        if let Some(label) = self.label() {
            bound.learn(&self.trial, label);
        }
    }
}

/// Takes what was learned, and teaches the bound; at once, or when it likes.
pub type Teach = Arc<dyn Fn(&Bound, Learned) + Send + Sync>;

/// Whether an answer is one that something can be learned from.
pub type Trusts = fn(&Reply) -> bool;

/// A check that was answered.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The request that was answered from memory.
    pub request_id: String,
    /// Whose it was.
    pub tenant: Arc<str>,
    /// In which project.
    pub project: Arc<str>,
    /// Who answered it.
    pub upstream: Arc<str>,
    /// The model that it was asked for.
    pub model: Arc<str>,
    /// What it cost, where the upstream said.
    pub usage: Option<Usage>,
    /// What it says.
    pub reply: Reply,
    /// Whether that is the same as what was served.
    pub said: Equivalence,
}

/// What has become of answers that something could be learned from, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LearnCounts {
    /// Compared, and found the same or different.
    pub compared: u64,
    /// Compared, and nothing could be told.
    pub unclear: u64,
    /// Not compared, since too many waited.
    pub dropped: u64,
    /// Hits that were asked upstream all the same, and answered.
    pub checks: u64,
    /// Such hits that were not answered in time, or not by a provider.
    pub checks_failed: u64,
    /// Such hits that were not asked, since too many waited.
    pub checks_dropped: u64,
}

/// Two answers to compare.
struct Comparison {
    pupil: Pupil,
    question: Arc<str>,
    fresh: String,
    known: Arc<Reply>,
}

/// A hit to ask upstream all the same.
struct Check {
    pupil: Pupil,
    request: Request,
    call: Call,
    known: Arc<Reply>,
}

/// Who learns what.
#[derive(Clone)]
struct Pupil {
    tenant: Arc<str>,
    request_id: String,
    trial: Trial,
    teach: Teach,
}

enum Job {
    Compare(Comparison),
    Close(oneshot::Sender<()>),
}

/// A handle to the task that learns. Cheap to clone; the task ends with the last one.
#[derive(Clone)]
pub struct Learner {
    trusts: Trusts,
    teach: Teach,
    jobs: mpsc::Sender<Job>,
    checks: mpsc::Sender<Check>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    compared: AtomicU64,
    unclear: AtomicU64,
    dropped: AtomicU64,
    checks: AtomicU64,
    checks_failed: AtomicU64,
    checks_dropped: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Learner {
    /// Starts to learn for `cache`. Must be called within a tokio runtime. Checks are asked of `upstream`.
    pub fn spawn(
        cache: Arc<Cache>,
        embedder: Option<Embedder>,
        upstream: Arc<dyn Upstream>,
        observer: CheckObserver,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let (checks, waiting_checks) = mpsc::channel(MAX_CHECKS_WAITING);
        let counts = Arc::<Counts>::default();
        let worker = Worker { cache, embedder, upstream, observer, counts: Arc::clone(&counts) };
        tokio::spawn(Arc::new(worker).run(waiting, waiting_checks));
        let teach: Teach = Arc::new(|bound, learned| learned.teach(bound));
        Self { trusts: |_| true, teach, jobs, checks, counts }
    }

    /// The same, and it learns only from the answers that are to be trusted.
    #[must_use]
    pub fn trusting(self, trusts: Trusts) -> Self {
        Self { trusts, ..self }
    }

    /// The same, and what is learned goes to `teach`.
    #[must_use]
    pub fn taught_by(self, teach: Teach) -> Self {
        Self { teach, ..self }
    }

    fn pupil(&self, (tenant, request_id): (&Arc<str>, &str), trial: Trial) -> Pupil {
        let (tenant, request_id) = (Arc::clone(tenant), request_id.to_owned());
        Pupil { tenant, request_id, trial, teach: Arc::clone(&self.teach) }
    }

    /// A hit was served, and is to be asked upstream all the same.
    pub(super) fn check(
        &self,
        trial: Trial,
        request_id: &str,
        request: Request,
        told: Call,
        known: Arc<Reply>,
    ) {
        if !(self.trusts)(&known) {
            return count(&self.counts.checks_failed);
        }
        let call = Call { priority: Priority::Background, ..told };
        let pupil = self.pupil((&call.tenant, request_id), trial);
        let check = Check { pupil, request, call, known };
        if self.checks.try_send(check).is_err() {
            count(&self.counts.checks_dropped);
        }
    }

    /// Waits until all that waits is compared. The checks under way, and the few that come next, get a moment.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// What was learned so far.
    pub fn counts(&self) -> LearnCounts {
        let Counts { compared, unclear, dropped, checks, checks_failed, checks_dropped } = &*self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LearnCounts {
            compared: read(compared),
            unclear: read(unclear),
            dropped: read(dropped),
            checks: read(checks),
            checks_failed: read(checks_failed),
            checks_dropped: read(checks_dropped),
        }
    }
}

/// A nominee that was not served, or would not have been: its answer waits for the fresh one.
#[derive(Clone)]
pub(super) struct Lesson {
    learner: Learner,
    pupil: Pupil,
    question: Arc<str>,
    known: Arc<Reply>,
}

impl Lesson {
    pub(super) fn new(
        learner: &Learner,
        name: (&Arc<str>, &str),
        question: &str,
        (trial, known): (Trial, Arc<Reply>),
    ) -> Self {
        let pupil = learner.pupil(name, trial);
        Self { learner: learner.clone(), pupil, question: question.into(), known }
    }

    /// Here is the fresh answer.
    pub(super) fn learn(self, fresh: &Reply) {
        let Self { learner, pupil, question, known } = self;
        if !(learner.trusts)(fresh) || !(learner.trusts)(&known) {
            return count(&learner.counts.unclear);
        }
        let Some(fresh) = plain(fresh) else { return count(&learner.counts.unclear) };
        let job = Job::Compare(Comparison { pupil, question, fresh, known });
        if learner.jobs.try_send(job).is_err() {
            count(&learner.counts.dropped);
        }
    }
}

/// What a reply says, where it is one complete answer in plain words.
fn plain(reply: &Reply) -> Option<String> {
    let [choice] = reply.choices.as_slice() else { return None };
    let complete = matches!(choice.finish, Some(Finish::Stop | Finish::StopSequence(_)));
    let acts = |block: &Block| matches!(block, Block::ToolCall(_) | Block::Refusal(_));
    (complete && !choice.blocks.iter().any(acts)).then(|| choice.said())
}

struct Worker {
    cache: Arc<Cache>,
    embedder: Option<Embedder>,
    upstream: Arc<dyn Upstream>,
    observer: CheckObserver,
    counts: Arc<Counts>,
}

impl Worker {
    async fn run(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>, mut waiting: mpsc::Receiver<Check>) {
        let mut checks = JoinSet::new();
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(Job::Compare(Comparison { pupil, question, fresh, known })) => {
                        self.learn(&pupil, &question, &fresh, &known).await;
                    }
                    Some(Job::Close(done)) => {
                        while let (true, Ok(check)) = (checks.len() < MAX_CHECKS, waiting.try_recv()) {
                            checks.spawn(Arc::clone(&self).check(check));
                        }
                        let all = async { while checks.join_next().await.is_some() {} };
                        let _ = timeout(LAST_CHECKS, all).await;
                        checks.abort_all();
                        let _ = done.send(());
                    }
                    None => return,
                },
                Some(check) = waiting.recv(), if checks.len() < MAX_CHECKS => {
                    checks.spawn(Arc::clone(&self).check(check));
                }
                Some(_) = checks.join_next(), if !checks.is_empty() => {}
            }
        }
    }

    async fn learn(&self, pupil: &Pupil, question: &str, fresh: &str, known: &Reply) -> Equivalence {
        let said = match plain(known) {
            Some(known) => self.equivalence(question, fresh, &known).await,
            None => Equivalence::Unclear,
        };
        match said {
            Equivalence::Unclear => count(&self.counts.unclear),
            Equivalence::Same | Equivalence::Different => count(&self.counts.compared),
        }
        let Pupil { tenant, request_id, trial, teach } = pupil.clone();
        teach(self.cache.bound(), Learned { tenant, request_id, trial, said });
        said
    }

    async fn equivalence(&self, question: &str, fresh: &str, known: &str) -> Equivalence {
        let (one, other, may_be_same) = match compare(fresh, known) {
            Reading::Clear(equivalence) => return equivalence,
            Reading::Open { one, other, may_be_same } => (one, other, may_be_same),
        };
        let config = self.cache.bound().config();
        if let (AnswerJudge::Llm, Some(model)) = (config.answer_judge, &config.answer_judge_model) {
            return second::opinion(self.upstream.as_ref(), model, question, (fresh, known)).await;
        }
        self.cosine(&one, &other).await.map_or(Equivalence::Unclear, |cosine| by_cosine(cosine, may_be_same))
    }

    /// `None` where one of them is too long to be read to its end, or the encoder has no time.
    async fn cosine(&self, one: &str, other: &str) -> Option<f32> {
        let embedder = self.embedder.as_ref()?;
        let one = embedder.embed(one).await.ok().filter(|embedding| !embedding.partial)?;
        let other = embedder.embed(other).await.ok().filter(|embedding| !embedding.partial)?;
        Some(one.vector.cosine(&other.vector))
    }

    async fn check(self: Arc<Self>, check: Check) {
        let Check { pupil, request, call, known } = check;
        // Nobody waits for it, so it has its own time.
        let call = Call { deadline: Instant::now() + CHECK_DEADLINE, ..call };
        let asked = second::answered(self.upstream.as_ref(), &request, &call);
        let Some(Answered { upstream, model, reply }) = asked.await else {
            return count(&self.counts.checks_failed);
        };
        count(&self.counts.checks);
        let question = request.question().map(Message::plain_text).unwrap_or_default();
        let said = match plain(&reply) {
            Some(fresh) => self.learn(&pupil, &question, &fresh, &known).await,
            None => Equivalence::Unclear,
        };
        let (request_id, tenant) = (pupil.request_id, pupil.tenant);
        let (project, usage) = (call.project, reply.usage);
        (self.observer)(&Checked { request_id, tenant, project, upstream, model, usage, reply, said });
    }
}
