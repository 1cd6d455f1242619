//! Explaining: what was looked up, what was near it, and what each guard says of that.
//!
//! A [`Lookup`] is what is noted while a request is under way: names and numbers, and the question's words unless
//! they are not to be kept. The rest is found out when someone asks.

use super::bound::{GroundId, GroundReport};
use super::identity::{Client, Context, Parts, Query, Settings};
use super::judge::{self, Question};
use super::keeper::{Fault, Keeper};
use super::{CANDIDATES, Cache, Miss, Nearest, Score};
use crate::clock::Millis;
use crate::secret::redact;
use crate::store::{About, Entry, EntryId, Scope};
use serde::Serialize;
use std::collections::BTreeMap;

/// The most of a question that is noted: a little more than is ever compared, so that one that was too long for that
/// still is.
const MOST_NOTED: usize = (4 << 10) + 8;

/// What was looked up, and what was near it.
#[derive(Clone, Debug)]
pub struct Lookup {
    at: Millis,
    scope: Scope,
    id: EntryId,
    /// Nothing where the caller does not want it kept.
    text: Option<String>,
    about: About,
    key: Option<(Parts, Context, Client)>,
    near: Vec<(EntryId, f32)>,
}

impl Lookup {
    /// `query` is looked up. Its words are noted if they may be kept.
    pub fn new(query: &Query, settings: &Settings, at: Millis, may_be_kept: bool) -> Self {
        let Query { scope, id, text, answers: _, rewordable: _, about, parts } = query;
        Self {
            at,
            scope: *scope,
            id: *id,
            text: may_be_kept.then(|| beginning(text).to_owned()),
            about: about.clone(),
            key: Some((*parts, settings.context, settings.client)),
            near: Vec::new(),
        }
    }

    /// How near the nearest is.
    pub fn nearest(&self) -> Option<f32> {
        self.near.first().map(|(_, cosine)| *cosine)
    }

    /// Notes what was near it.
    pub fn note(&mut self, nearest: &Nearest) {
        self.near.clone_from(&nearest.near);
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_NOTED)]
}

/// Why a look-up ended as it did. No secret that can be recognised is in it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What the answer is kept under, or would be.
    pub cache_id: String,
    /// When it was looked up, in Unix milliseconds; for an answer that is kept, when it was given.
    pub at: Millis,
    /// Whose it is.
    pub tenant: String,
    /// The project context.
    pub project: String,
    /// The model that was asked for.
    pub model: String,
    /// Its labels, the project's state among them.
    pub tags: Vec<String>,
    /// What was asked; nothing where it was not to be kept.
    pub question: Option<String>,
    /// The same as it is embedded and compared; nothing where it is too long for that.
    pub canonical: Option<String>,
    /// What must be the same beside the question's words.
    pub key: KeyShown,
    /// From where up is served here now, and how wrong that is; nothing where nothing was ever looked up in other
    /// words.
    pub bound: Option<GroundReport>,
    /// The share of requests that may be served a wrong answer.
    pub max_wrong: f64,
    /// The least cosine that is served.
    pub min_similarity: f32,
    /// What was near it, the nearest first.
    pub candidates: Vec<Candidate>,
}

/// What must be the same beside the question's words.
#[derive(Clone, Debug, Serialize)]
pub struct KeyShown {
    /// The digest of it all.
    pub scope: String,
    /// The beginning of each part's digest: two requests that do not meet differ in one. Nothing for an answer
    /// that is kept: only the digest of it all is kept with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
    /// Which earlier turns count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<&'static str>,
    /// Whose way of wrapping a question is understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'static str>,
}

/// What was near.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// What it is kept under.
    pub id: String,
    /// How near its question is.
    pub cosine: f32,
    /// What is to be said of it: `good`, the name of a miss, or `gone` where it is not kept any more.
    pub verdict: &'static str,
    /// Its question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// How sure it is that its answer is right, as log-odds; nothing where a guard forbids it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_odds: Option<f32>,
    /// Each guard, and whether it forbids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub guards: BTreeMap<&'static str, bool>,
}

impl Candidate {
    fn unjudged(id: EntryId, cosine: f32, verdict: &'static str) -> Self {
        let (question, log_odds, guards) = (None, None, BTreeMap::new());
        Self { id: id.to_string(), cosine, verdict, question, log_odds, guards }
    }
}

impl Cache {
    /// Why a look-up ended as it did. What was near is judged again, as things stand now.
    pub async fn explain(&self, lookup: &Lookup) -> Explanation {
        let Lookup { at, scope, id, text, about, key, near } = lookup;
        let About { tenant, project, model, tags } = about;
        let ground = GroundId::of(tenant, project);
        let asked = text.as_deref().map(Question::new);
        let bound = self.bound.report_of(ground);
        let mut candidates = Vec::with_capacity(near.len());
        for (known, cosine) in near {
            let entry = self.store.load(scope, known).await.ok().flatten();
            candidates.push(match (entry, &asked) {
                (Some(entry), Some(asked)) => {
                    let refuted = self.bound.refuted(ground, *id).contains(known);
                    self.candidate(asked, &entry, *cosine, refuted, bound.as_ref())
                }
                (Some(_), None) => Candidate::unjudged(*known, *cosine, "not_noted"),
                (None, _) => Candidate::unjudged(*known, *cosine, "gone"),
            });
        }
        Explanation {
            cache_id: id.to_string(),
            at: *at,
            tenant: tenant.clone(),
            project: project.clone(),
            model: model.clone(),
            tags: tags.clone(),
            canonical: asked.as_ref().and_then(Question::to_embed).map(without_secrets),
            question: text.as_deref().map(without_secrets),
            key: KeyShown {
                scope: scope.to_hex(),
                parts: key.map(|(parts, ..)| parts),
                context: key.map(|(_, context, _)| context.name()),
                client: key.map(|(.., client)| client.name()),
            },
            bound,
            max_wrong: self.bound.config().max_wrong,
            min_similarity: self.config.min_similarity,
            candidates,
        }
    }

    fn candidate(
        &self,
        asked: &Question,
        entry: &Entry,
        cosine: f32,
        refuted: bool,
        bound: Option<&GroundReport>,
    ) -> Candidate {
        let known = Question::new(&entry.text);
        let judged = judge::judge(asked, &known, cosine);
        let threshold = bound.and_then(|bound| bound.threshold);
        let is_over = !entry.pinned && entry.expires.is_some_and(|end| end <= self.clock.now());
        let verdict = match judged {
            _ if refuted => Miss::Refuted.name(),
            Err(miss) => miss.name(),
            Ok(_) if is_over => Miss::Expired.name(),
            Ok(_) if cosine < self.config.min_similarity => Miss::TooFar.name(),
            Ok(score) if threshold.is_none_or(|least| score.log_odds() < least) => Miss::Unsure.name(),
            Ok(_) => "good",
        };
        Candidate {
            question: Some(without_secrets(beginning(&entry.text))),
            log_odds: judged.ok().map(Score::log_odds),
            guards: judge::verdicts(asked, &known).into_iter().collect(),
            ..Candidate::unjudged(entry.id, cosine, verdict)
        }
    }
}

impl Keeper<'_> {
    /// An answer that is kept, as if its question were looked up now: what is near it, and what is said of that.
    pub async fn explain(&self, id: &str) -> Result<Explanation, Fault> {
        let seen = self.find(id).await?;
        let (scope, entry) = (seen.scope, seen.entry);
        let near = match &entry.vector {
            Some(vector) => self.cache.store.nearest(&scope, vector, CANDIDATES + 1).await?,
            None => Vec::new(),
        };
        let others = near.iter().filter(|found| found.entry.id != entry.id);
        let lookup = Lookup {
            at: entry.created,
            scope,
            id: entry.id,
            text: Some(beginning(&entry.text).to_owned()),
            about: entry.about,
            key: None,
            near: others.map(|found| (found.entry.id, found.cosine)).take(CANDIDATES).collect(),
        };
        Ok(self.cache.explain(&lookup).await)
    }
}

fn without_secrets(text: &str) -> String {
    redact(text, &[])
}
