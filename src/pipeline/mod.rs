//! The one path. [`Pipeline::answer`] is the only way an answer is made; the server, the bench and the
//! replay differ only in what they plug into it.
//!
//! ```text
//! limits.admit ─▶ intent ─▶ cache.exact ─▶ embed ─▶ cache.nearest ─▶ flight ─▶ upstream ─▶ remember
//! ```
//!
//! The same question in flight is asked once ([`Flights`]): whoever asks it meanwhile follows the same call.
//! Recall cannot fail a request: whatever breaks on the way to the upstream is a miss with a name. The
//! pipeline hands one [`Outcome`] to one observer when an answer has ended, however it ended.

mod answer;
mod drill;
mod explain;
mod flight;
mod keep;
mod late;
mod lately;
mod learn;
mod outcome;
mod recent;
mod recognise;
mod record;
mod refresh;
mod retire;
mod ruled;
mod scribe;
mod second;
mod voice;

pub use answer::{Answer, Kept, Source};
pub use drill::Drilled;
pub use explain::{Explained, Lane, Trails};
pub use flight::Flights;
pub use learn::{CheckObserver, Checked, LearnCounts, Learned, Learner, Teach, Trusts};
pub use outcome::{Ended, Observer, Outcome, Timings};
pub use refresh::Refresher;
pub use scribe::{Note, Record, Scribe, Wanted};

use crate::cache::bound::{GroundId, Label, Trial, number_of};
use crate::cache::identity::{Reading, Settings};
use crate::cache::{Asker, Cache, Lookup, Miss, Nearest, Nominee, Query, Wishes};
use crate::chat::{Reply, Request};
use crate::clock::Clock;
use crate::embed::{self, Embedder};
use crate::intent::Live;
use crate::limits::{Limiter, Permit, Refusal, Who};
use crate::upstream::{self, Call, Envelope, Priority, Session, Upstream};
use crate::vector::UnitVector;
use explain::Trail;
use flight::{Flight, Follower, Seat};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use keep::{Asked, Keeper};
use learn::Lesson;
use recent::{Given, Recent, Taken};
use record::Recorder;
use ruled::Ruled;
use std::sync::Arc;
use tokio::time::Instant;
use voice::Voice;

/// What the path is made of.
pub struct Pipeline {
    /// Who is let in.
    pub limiter: Limiter,
    /// What is answered by rule.
    pub rules: Live,
    /// What was answered before.
    pub cache: Arc<Cache>,
    /// From text to vectors; `None` switches the semantic lane off.
    pub embedder: Option<Embedder>,
    /// Who answers the rest.
    pub upstream: Arc<dyn Upstream>,
    /// What is being asked right now.
    pub flights: Flights,
    /// Asks afresh what is given late.
    pub refresher: Refresher,
    /// What finds out how good the cache's answers are.
    pub learner: Learner,
    /// What was given lately.
    pub recent: RecentAnswers,
    /// How it came to that.
    pub trails: Trails,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Who is told how it went.
    pub observer: Observer,
    /// Who writes it down; `None` where nobody does.
    pub scribe: Option<Scribe>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Names this request in logs and headers.
    pub request_id: String,
    /// Whose answers may be seen.
    pub tenant: Arc<str>,
    /// The project context.
    pub project: String,
    /// The state that the project is in. An answer given in one state is not seen in another.
    pub state: Option<String>,
    /// Labels for what is remembered of this request.
    pub tags: Vec<String>,
    /// What the caller wants of the cache. Callers can only make it stricter.
    pub memory: Wishes,
    /// When the answer must be over. Whoever holds it drops the answer then; here it only tells the reason.
    pub deadline: Instant,
    /// What was sent beside the body.
    pub envelope: Arc<Envelope>,
}

impl Caller {
    /// Who asks for `model`, for those who limit.
    fn who<'w>(&'w self, model: &'w str) -> Who<'w> {
        let Envelope { client, address, headers, .. } = &*self.envelope;
        let (tenant, project) = (&*self.tenant, self.project.as_str());
        let client = client.as_deref().unwrap_or_default();
        Who { tenant, project, model, client, address: *address, headers, route: None }
    }

    /// The call upstream that answers `request`, for those who choose among upstreams.
    fn call(&self, request: &Request, priority: Priority) -> Call {
        let Self { request_id: _, tenant, project, state: _, tags: _, memory: _, deadline, envelope } = self;
        Call {
            deadline: *deadline,
            priority,
            tenant: Arc::clone(tenant),
            project: project.as_str().into(),
            session: Session::of(tenant, project, envelope, request),
            envelope: Arc::clone(envelope),
            plan: None,
            without: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not let in.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody could answer.
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    /// Memory has no answer, and nobody else was to be asked.
    #[error("there is no answer in the cache ({}), and only-if-cached forbids to ask anyone else", .0.name())]
    NotCached(Miss),
}

/// The answers that were given lately, and to whom: what feedback can be about.
#[derive(Default)]
pub struct RecentAnswers(Recent);

/// What became of someone's word about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It counts.
    Taken,
    /// Something was said about this answer before, and that counts.
    Known,
    /// There was no such answer; or it was another tenant's, or long ago.
    Unknown,
}

/// Why a text has no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedError {
    /// There is no encoder.
    Off,
    /// The text at this place is longer than the encoder reads.
    TooLong(usize),
    /// Too many wait, or it took too long.
    Busy,
    /// The encoder failed.
    Failed,
}

/// What memory says.
enum Recall {
    /// Here is the answer, and which one it is; a rule's is none that is kept.
    Ready(Source, Arc<Reply>, Option<Box<Given>>),
    /// Ask someone; this is what to remember it under.
    Forward(Box<Plan>),
}

/// What is known about a question that goes upstream.
struct Plan {
    miss: Miss,
    /// The question, and on which terms its answer is remembered; `None` where it cannot be.
    asked: Option<Asked>,
    vector: Option<UnitVector>,
    voice: Voice,
    company: Company,
    /// What was nominated and not served: its answer is compared with the fresh one.
    nominee: Option<(Trial, Arc<Reply>)>,
}

/// Who else asks the same at the same time.
enum Company {
    /// Nobody counts: the answer is for this request alone.
    None,
    /// Whoever begins or has begun to ask; nobody has when this was found out.
    Seat(Seat),
    /// Someone who has begun to ask.
    Joined(Follower),
}

/// What was found in memory.
struct Found {
    answer: Result<(Source, Arc<Reply>), Miss>,
    vector: Option<UnitVector>,
    /// Which answer it is.
    given: Option<Given>,
    nominee: Option<(Trial, Arc<Reply>)>,
}

impl Found {
    fn nothing(why: Miss, vector: Option<UnitVector>) -> Self {
        Self { answer: Err(why), vector, given: None, nominee: None }
    }
}

impl Pipeline {
    /// Answers a request.
    pub async fn answer(&self, mut caller: Caller, mut request: Request) -> Result<Answer, Error> {
        let mut recorder = Recorder::new(self, &caller, &request);
        let who = caller.who(&request.model);
        let mut permit = self.limiter.admit(Some(&who)).inspect_err(|refusal| recorder.refused(refusal))?;
        recorder.charges(permit.charges());
        let mut trail = Trail::default();
        let (ruled, read) = self.ruled(&mut caller, &mut request).await;
        // A rule may have sent it elsewhere.
        let told = self.upstream.choose(&request, caller.call(&request, caller.envelope.priority));
        let (rule, recall) = match ruled {
            Ruled::Answered(rule, reply) => {
                (None, Recall::Ready(Source::Rule { rule }, Arc::new(reply), None))
            }
            Ruled::On(rule) => {
                recorder.chosen(&told);
                if let Some(plan) = &told.plan {
                    let who = Who { route: Some(&plan.route), ..caller.who(&request.model) };
                    let taken = self.limiter.take_route(&mut permit, &who);
                    taken.inspect_err(|refusal| recorder.refused(refusal))?;
                    recorder.charges(permit.charges());
                }
                recorder.wanted(|| Voice::of(self.upstream.as_ref(), &request, &told));
                (rule, self.recall(&caller, &request, &told, read, &mut trail).await)
            }
        };
        recorder.decided(trail.decided);
        self.leave(&caller, trail, &recall);
        let answer = self.give((caller, request), &told, recall, recorder, permit).await?;
        Ok(Answer { rule, ..answer })
    }

    async fn give(
        &self,
        (caller, request): (Caller, Request),
        told: &Call,
        recall: Recall,
        mut recorder: Recorder,
        permit: Permit,
    ) -> Result<Answer, Error> {
        match recall {
            Recall::Ready(source, reply, given) => {
                recorder.recalled();
                let answer = Answer::ready(source, &reply, recorder, permit);
                if let Some(given) = given {
                    self.recent.0.remember(&caller.tenant, &caller.request_id, *given);
                    // Who wants nobody asked means now and later.
                    if !caller.memory.only_if_cached {
                        self.check(*given, &caller, request, told, reply);
                    }
                }
                Ok(answer)
            }
            Recall::Forward(plan) if caller.memory.only_if_cached => {
                recorder.missed(plan.miss);
                recorder.not_cached();
                Err(Error::NotCached(plan.miss))
            }
            Recall::Forward(plan) => {
                if let Some(asked) = plan.asked.as_ref().filter(|asked| asked.terms.write.is_ok()) {
                    let given = Given { key: Cache::key(&asked.query), trial: None };
                    self.recent.0.remember(&caller.tenant, &caller.request_id, given);
                }
                self.forward(request, told, *plan, recorder, permit).await
            }
        }
    }

    /// Asks a hit upstream all the same, if it is its turn.
    fn check(&self, given: Given, caller: &Caller, request: Request, told: &Call, reply: Arc<Reply>) {
        let voice = Voice::of(self.upstream.as_ref(), &request, told);
        let trial = given.trial.filter(|_| voice.is_provider());
        let number = number_of(&caller.request_id);
        if let Some(trial) = trial.filter(|trial| self.cache.bound().wants_check(trial, number)) {
            self.learner.check(trial, &caller.request_id, request, told.clone(), reply);
        }
    }

    /// `tenant` says whether the answer to its request was right. A wrong one is forgotten. Must be called within
    /// a tokio runtime.
    pub fn feedback(&self, tenant: &Arc<str>, request_id: &str, correct: bool) -> Feedback {
        let given = match self.recent.0.take(tenant, request_id) {
            Taken::Unknown => return Feedback::Unknown,
            Taken::Spoken => return Feedback::Known,
            Taken::Fresh(given) => given,
        };
        if let Some(scribe) = &self.scribe {
            let (tenant, request_id) = (Arc::clone(tenant), request_id.to_owned());
            (scribe.write)(Note::Said { tenant, request_id, correct });
        }
        if let Some(trial) = &given.trial {
            self.cache.bound().learn(trial, if correct { Label::Right } else { Label::Wrong });
        }
        if !correct {
            let cache = Arc::clone(&self.cache);
            tokio::spawn(async move { cache.forget(given.key).await });
        }
        Feedback::Taken
    }

    /// Memory. Cannot fail: a broken part is a miss.
    async fn recall(
        &self,
        caller: &Caller,
        request: &Request,
        told: &Call,
        read: Option<recognise::Reading>,
        trail: &mut Trail,
    ) -> Recall {
        let settings = self.cache.settings(&caller.project);
        let reading = Reading::of(settings.client, request);
        let voice = Voice::of(self.upstream.as_ref(), request, told);
        let query = match Self::query(caller, settings, request, reading, &voice) {
            Ok(query) => query,
            Err(miss) => {
                let plan =
                    Plan { miss, asked: None, vector: None, voice, company: Company::None, nominee: None };
                return Recall::Forward(plan.into());
            }
        };
        let lookup = Lookup::new(&query, settings, self.clock.now(), caller.memory.write);
        trail.lookup = Some(lookup);
        let terms = self.cache.terms(&caller.memory, &caller.project, request, &query);
        let asked = Asked { query, terms, read };
        let mut company = self.company(caller, &asked);
        let found = match asked.terms.read {
            Ok(()) => match self.remembered(&asked, &mut company, trail).await {
                Found { answer: Err(Miss::Expired), vector: None, .. } => {
                    self.expired(caller, request, &asked, told, &mut company).await
                }
                found => found,
            },
            // Not looked up, but remembered: so that other words find it later.
            Err(miss) if asked.terms.write.is_ok() => {
                Found::nothing(miss, self.vector(&asked, &company).await.ok())
            }
            Err(miss) => Found::nothing(miss, None),
        };
        let Found { answer, vector, given, nominee } = found;
        match answer {
            Ok((source, reply)) => Recall::Ready(source, reply, given.map(Box::new)),
            Err(miss) => {
                let nominee = nominee.filter(|_| voice.is_provider());
                let asked = Some(asked);
                Recall::Forward(Plan { miss, asked, vector, voice, company, nominee }.into())
            }
        }
    }

    /// Whoever wants an answer of its own, or one that nobody else sees, gets it.
    fn company(&self, caller: &Caller, asked: &Asked) -> Company {
        let Asked { query, terms, read: _ } = asked;
        let shares = terms.read.is_ok() && terms.write.is_ok() && !caller.memory.only_if_cached;
        match shares && self.cache.is_coalescing() {
            true => Company::Seat(self.flights.seat(query.id.0)),
            false => Company::None,
        }
    }

    fn query(
        caller: &Caller,
        settings: &Settings,
        request: &Request,
        reading: Option<Reading<'_>>,
        voice: &Voice,
    ) -> Result<Query, Miss> {
        let Caller { request_id: _, tenant, project, state, tags, memory, deadline: _, envelope: _ } = caller;
        if !memory.read && !memory.write {
            return Err(Miss::Bypassed);
        }
        let arm = voice.arm.iter().map(|arm| ("arm".into(), arm.to_string()));
        let partitions: Vec<_> = memory.partitions.as_slice().iter().cloned().chain(arm).collect();
        let asker = Asker {
            tenant,
            project,
            state: state.as_deref(),
            tags,
            origin: voice.origin.name(),
            model: Some(&voice.model),
            partitions: &partitions,
        };
        Query::new(&asker, settings, request, reading)
    }

    /// The exact look-up costs microseconds and needs no vector; so it comes before the embedding.
    async fn remembered(&self, asked: &Asked, company: &mut Company, trail: &mut Trail) -> Found {
        let Asked { query, terms, read: _ } = asked;
        let miss = match self.cache.exact(query, terms).await {
            Ok(hit) => {
                let ground = GroundId::of(&query.about.tenant, &query.about.project);
                let trial = Some(Trial::of_repeat(ground, query.id));
                let given = Some(Given { key: Cache::key(query), trial });
                return Found { answer: Ok(Source::exact(hit)), vector: None, given, nominee: None };
            }
            // It may still be given late, and that needs no vector.
            Err(Miss::Expired) => return Found::nothing(Miss::Expired, None),
            Err(miss) => miss,
        };
        // The very same question is better than one like it, and it is being answered.
        if company.join() {
            return Found::nothing(miss, None);
        }
        // What is unreadable or too old is asked afresh, and takes the old one's place.
        if !matches!(miss, Miss::Absent | Miss::Off) {
            return Found::nothing(miss, self.vector(asked, company).await.ok());
        }
        let vector = match self.vector(asked, company).await {
            Ok(vector) => vector,
            Err(miss) => return Found::nothing(miss, None),
        };
        let nearest = self.cache.nearest(query, terms, &vector).await;
        trail.decided = Some(Instant::now());
        trail.lookup.iter_mut().for_each(|lookup| lookup.note(&nearest));
        let Nearest { verdict, nominee, near: _ } = nearest;
        let vector = Some(vector);
        match verdict {
            Ok(hit) => {
                let given = nominee.map(|Nominee { key, trial, .. }| Given { key, trial: Some(trial) });
                Found { answer: Ok(Source::semantic(hit)), vector, given, nominee: None }
            }
            Err(miss) => {
                let nominee = nominee.map(|Nominee { trial, reply, .. }| (trial, reply));
                Found { answer: Err(miss), vector, given: None, nominee }
            }
        }
    }

    /// The words that would be embedded for a request, where memory is looked up in other words.
    pub fn wording(&self, caller: &Caller, request: &Request) -> Option<String> {
        let settings = self.cache.settings(&caller.project);
        let reading = Reading::of(settings.client, request);
        let told = self.upstream.choose(request, caller.call(request, caller.envelope.priority));
        let voice = Voice::of(self.upstream.as_ref(), request, &told);
        let query = Self::query(caller, settings, request, reading, &voice).ok()?;
        let wanted = self.cache.is_semantic() && query.rewordable && caller.memory.semantic;
        let question = wanted.then(|| self.cache.question(&query))?;
        question.to_embed().map(str::to_owned)
    }

    /// The vectors of `texts`, by the model in this process. Nothing is looked up and nothing is remembered.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        /// Of one request at once: enough to keep the encoder busy, and not to fill its queue.
        const AT_ONCE: usize = 64;
        let embedder = self.embedder.as_ref().ok_or(EmbedError::Off)?;
        let embed = |(at, text): (usize, &String)| {
            let text = text.clone();
            async move {
                match embedder.embed(text).await {
                    Ok(embedding) => Ok(embedding.vector.as_slice().to_vec()),
                    Err(embed::Error::TooLong) => Err(EmbedError::TooLong(at)),
                    Err(embed::Error::Busy | embed::Error::Deadline(_)) => Err(EmbedError::Busy),
                    Err(error) => {
                        tracing::warn!(%error, "a text could not be embedded");
                        Err(EmbedError::Failed)
                    }
                }
            }
        };
        futures_util::stream::iter(texts.iter().enumerate().map(embed)).buffered(AT_ONCE).try_collect().await
    }

    /// Who asks the same at the same time shares it.
    async fn vector(&self, asked: &Asked, company: &Company) -> Result<UnitVector, Miss> {
        let embedded = || embedded(&self.cache, self.embedder.as_ref(), asked);
        match company {
            // A vector that this one has no use for is another's to make.
            Company::Seat(seat) if asked.terms.semantic => seat.vector().get_or_init(embedded).await.clone(),
            Company::None | Company::Seat(_) | Company::Joined(_) => embedded().await,
        }
    }

    async fn forward(
        &self,
        request: Request,
        told: &Call,
        plan: Plan,
        mut recorder: Recorder,
        permit: Permit,
    ) -> Result<Answer, Error> {
        let Plan { miss, asked, vector, voice, company, nominee } = plan;
        recorder.missed(miss);
        let request = Arc::new(request);
        let question = asked.as_ref().map_or("", |asked| asked.query.text.as_str());
        let name = (&told.tenant, recorder.request_id());
        let lesson = nominee.map(|nominee| Lesson::new(&self.learner, name, question, nominee));
        let call = || {
            let keeper = asked.clone().map(|asked| {
                let keeper = Keeper::new(&self.cache, asked, vector.clone());
                (keeper.teaching(lesson.clone()), voice.clone())
            });
            call(&self.upstream, &request, told, keeper)
        };
        let began = Instant::now();
        let mut follower = match company {
            Company::None => Follower::alone(call()),
            Company::Seat(seat) => seat.join_or_begin(call),
            Company::Joined(follower) => follower,
        };
        let mut begun = recorder.follow(&mut follower, &request).await;
        if begun.as_ref().is_err_and(|error| follower.is_anothers_fault(error, &request)) {
            follower = Follower::alone(call());
            begun = recorder.follow(&mut follower, &request).await;
        }
        if let Some(failed) = late::unanswered(&begun, &voice)
            && let Some((source, reply)) = self.late_on_error(asked.as_ref(), &failed).await
        {
            recorder.answered_late(&failed);
            return Ok(Answer { failed, ..Answer::ready(source, &reply, recorder, permit) });
        }
        match begun {
            Ok(begun) => {
                recorder.opened(&begun, began.elapsed());
                let headers = follower.headers_for(&request, &begun);
                Ok(Answer::begun(&begun, headers, follower, miss, recorder, permit))
            }
            Err(error) => {
                recorder.failed(&error);
                Err(error.into())
            }
        }
    }
}

/// A call upstream; it begins when somebody waits for it.
fn call(
    upstream: &Arc<dyn Upstream>,
    request: &Arc<Request>,
    told: &Call,
    keeper: Option<(Keeper, Voice)>,
) -> Flight {
    let (upstream, asked, told) = (Arc::clone(upstream), Arc::clone(request), told.clone());
    let opening = async move { upstream.open(&asked, &told).await }.boxed();
    Flight::new(request, opening, keeper)
}

async fn embedded(cache: &Cache, embedder: Option<&Embedder>, asked: &Asked) -> Result<UnitVector, Miss> {
    let Asked { query, terms, read } = asked;
    if !cache.is_semantic() || !terms.semantic {
        return Err(Miss::SemanticOff);
    }
    if !query.rewordable {
        return Err(Miss::Continuation);
    }
    let embedder = embedder.ok_or(Miss::SemanticOff)?;
    let question = cache.question(query);
    let canonical = question.to_embed().ok_or(Miss::TooLong)?;
    match read {
        // The rules have had it read; what could not be read then is not tried again.
        Some(Ok(read)) if read.text == canonical => Ok(read.vector.clone()),
        Some(Err(miss)) => Err(*miss),
        Some(Ok(_)) | None => vector_of(embedder.embed(canonical).await),
    }
}

/// The vector of a question, if it speaks for all of it.
fn vector_of(embedded: Result<embed::Embedding, embed::Error>) -> Result<UnitVector, Miss> {
    match embedded {
        // Such a vector speaks only for a part of the text.
        Ok(embedding) if embedding.partial => Err(Miss::PartlyRead),
        Ok(embedding) => Ok(embedding.vector),
        Err(embed::Error::TooLong) => Err(Miss::PartlyRead),
        Err(embed::Error::Busy | embed::Error::Deadline(_)) => Err(Miss::EmbedBusy),
        Err(error) => {
            tracing::warn!(%error, "a text could not be embedded; the request goes on as a miss");
            Err(Miss::EmbedFailed)
        }
    }
}

impl Company {
    /// Joins a call that is under way. Whether there is one.
    fn join(&mut self) -> bool {
        let Self::Seat(seat) = std::mem::replace(self, Self::None) else { return false };
        *self = match seat.join() {
            Ok(follower) => Self::Joined(follower),
            Err(seat) => Self::Seat(seat),
        };
        matches!(self, Self::Joined(_))
    }
}
