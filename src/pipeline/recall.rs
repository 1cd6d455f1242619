//! The half of the path that asks memory. Nothing in it can fail a request: whatever breaks is a miss with a name.

use super::explain::Trail;
use super::flight::{Follower, Seat};
use super::keep::Asked;
use super::recent::Given;
use super::recognise;
use super::vector::embedded;
use super::voice::Voice;
use super::{Caller, Pipeline, Source};
use crate::cache::bound::{GroundId, Trial};
use crate::cache::identity::{Reading, Settings};
use crate::cache::{Asker, Cache, Lookup, Miss, Nearest, Nominee, Query};
use crate::chat::{Reply, Request};
use crate::upstream::Call;
use crate::vector::UnitVector;
use std::sync::Arc;
use tokio::time::Instant;

/// What memory says.
pub(super) enum Recall {
    /// Here is the answer, and which one it is; a rule's is none that is kept.
    Ready(Source, Arc<Reply>, Option<Box<Given>>),
    /// Ask someone; this is what to remember it under.
    Forward(Box<Plan>),
}

/// What is known about a question that goes upstream.
pub(super) struct Plan {
    pub(super) miss: Miss,
    /// The question, and on which terms its answer is remembered; `None` where it cannot be.
    pub(super) asked: Option<Asked>,
    pub(super) vector: Option<UnitVector>,
    pub(super) voice: Voice,
    pub(super) company: Company,
    /// What was nominated and not served: its answer is compared with the fresh one.
    pub(super) nominee: Option<(Trial, Arc<Reply>)>,
}

/// Who else asks the same at the same time.
pub(super) enum Company {
    /// Nobody counts: the answer is for this request alone.
    None,
    /// Whoever begins or has begun to ask; nobody has when this was found out.
    Seat(Seat),
    /// Someone who has begun to ask.
    Joined(Follower),
}

/// What was found in memory.
pub(super) struct Found {
    pub(super) answer: Result<(Source, Arc<Reply>), Miss>,
    pub(super) vector: Option<UnitVector>,
    /// Which answer it is.
    pub(super) given: Option<Given>,
    pub(super) nominee: Option<(Trial, Arc<Reply>)>,
}

impl Found {
    pub(super) fn nothing(why: Miss, vector: Option<UnitVector>) -> Self {
        Self { answer: Err(why), vector, given: None, nominee: None }
    }
}

impl Pipeline {
    /// Memory. Cannot fail: a broken part is a miss.
    pub(super) async fn recall(
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

    /// Who asks the same at the same time shares it.
    pub(super) async fn vector(&self, asked: &Asked, company: &Company) -> Result<UnitVector, Miss> {
        let embedded = || embedded(&self.cache, self.embedder.as_ref(), asked);
        match company {
            // A vector that this one has no use for is another's to make.
            Company::Seat(seat) if asked.terms.semantic => seat.vector().get_or_init(embedded).await.clone(),
            Company::None | Company::Seat(_) | Company::Joined(_) => embedded().await,
        }
    }
}

impl Company {
    /// Joins a call that is under way. Whether there is one.
    pub(super) fn join(&mut self) -> bool {
        let Self::Seat(seat) = std::mem::replace(self, Self::None) else { return false };
        *self = match seat.join() {
            Ok(follower) => Self::Joined(follower),
            Err(seat) => Self::Seat(seat),
        };
        matches!(self, Self::Joined(_))
    }
}
