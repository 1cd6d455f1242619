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
mod caller;
mod drill;
mod explain;
mod flight;
mod keep;
mod late;
mod lately;
mod learn;
mod namer;
mod outcome;
mod recall;
mod recent;
mod recognise;
mod record;
mod refresh;
mod retire;
mod ruled;
mod scribe;
mod second;
mod vector;
mod voice;

pub use answer::{Answer, Kept, Source};
pub use caller::Caller;
pub use drill::Drilled;
pub use explain::{Explained, Lane, Trails};
pub use flight::Flights;
pub use learn::{CheckObserver, Checked, LearnCounts, Learned, Learner, Teach, Trusts};
pub use namer::{Named, Namer, NamerCounts, Opinion, WhyNothing};
pub use outcome::{Ended, Observer, Outcome, Timings};
pub use refresh::Refresher;
pub use scribe::{Note, Record, Scribe, Wanted};
pub use vector::EmbedError;

use crate::cache::bound::{Label, number_of};
use crate::cache::{Cache, Miss};
use crate::chat::{Reply, Request};
use crate::clock::Clock;
use crate::embed::Embedder;
use crate::intent::Live;
use crate::limits::{Limiter, Permit, Refusal, Who};
use crate::upstream::{self, Call, Upstream};
use explain::Trail;
use flight::{Flight, Follower};
use futures_util::FutureExt as _;
use keep::Keeper;
use learn::Lesson;
use recall::{Company, Plan, Recall};
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
    /// Which model names intents where examples do not tell; `None` where none does.
    pub namer: Option<Arc<Namer>>,
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
