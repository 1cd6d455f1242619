//! The cache: what was answered before, and whether it may be served again.
//!
//! Similarity only nominates; the [`judge`] says how sure it is, and [`bound`] how sure is sure enough. Whatever
//! is unsure is a [`Miss`], and every miss has a name. Reading and writing never fail a request: a broken store
//! is a miss, a full write queue drops.

pub mod bound;
mod explain;
pub mod identity;
pub mod judge;
pub mod keeper;
pub mod policy;
mod score;
mod writer;

pub use explain::{Candidate, Explanation, KeyShown, Lookup};
pub use identity::{Asker, Query};
pub use policy::{Late, NotKept, Terms, Wishes};
pub use score::Score;

use bound::{Bound, GroundId, Trial};

use crate::chat::{Reply, Request};
use crate::clock::Clock;
use crate::store::{Entry, EntryId, Match, Store};
use crate::vector::UnitVector;
use identity::{Project, Projects, Settings};
use policy::{Policy, worth_keeping};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

/// What is looked up, and for how long an answer lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether the same question again is answered from memory.
    pub exact: bool,
    /// Whether a question in other words may be.
    pub semantic: Semantic,
    /// The least cosine for a semantic hit, however sure the decision is.
    pub min_similarity: f32,
    /// Whether the same question in flight is asked once.
    pub coalesce: bool,
    /// What is kept, and for how long.
    pub policy: policy::Config,
    /// What counts, in projects that set nothing themselves.
    pub settings: Settings,
    /// The projects that do.
    pub projects: Vec<Project>,
    /// The most answers that wait to be written; more are dropped, never waited for.
    pub write_queue: usize,
    /// How much of what is served in other words may be wrong.
    pub bound: bound::Config,
}

/// What becomes of questions in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    /// They are not looked up.
    Off,
    /// They are looked up and nothing is served: it only learns what it would have served, and how wrong that
    /// would have been.
    Shadow,
    /// They are answered from memory.
    On,
}

impl Semantic {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::On => "on",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            exact: true,
            semantic: Semantic::On,
            min_similarity: 0.0,
            coalesce: true,
            policy: policy::Config::default(),
            settings: Settings::default(),
            projects: Vec::new(),
            write_queue: 1024,
            bound: bound::Config::default(),
        }
    }
}

/// How many neighbours are looked at: the nearest may be vetoed where the next is right.
pub const CANDIDATES: usize = 8;

/// Why there is no answer from memory. The names are stable: they appear in headers, metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// The cache is switched off.
    Off,
    /// The caller asked for a fresh answer.
    Bypassed,
    /// The last message is not a question in words.
    NoQuestion,
    /// Tools are offered: an answer may be an action, and an action is not repeated from memory.
    Tools,
    /// It goes on with a conversation that the provider keeps, and that grows.
    Stateful,
    /// Nothing like it is known.
    Absent,
    /// It was known, and its time is over.
    Expired,
    /// What is known is older than the caller takes, or not good for long enough.
    TooOld,
    /// A rule keeps it out of the cache.
    Rule,
    /// It is to be another answer each time.
    Chance,
    /// It changes sooner than anything is kept.
    Volatile,
    /// The answer is drawn too freely to be the answer.
    Temperature,
    /// The semantic lane is off.
    SemanticOff,
    /// Too many texts wait to be embedded.
    EmbedBusy,
    /// The text could not be embedded.
    EmbedFailed,
    /// The encoder has not read all of the text: too long, or of characters it does not know.
    PartlyRead,
    /// The text is to be gone on with as it stands: other words would go on in another way.
    Continuation,
    /// The nearest is not near enough.
    TooFar,
    /// The nearest speaks of other numbers.
    OtherNumbers,
    /// It, or the nearest, is too long to be compared word by word.
    TooLong,
    /// It is in a language that the guards do not know, and not word for word the same.
    UnknownLanguage,
    /// The nearest quotes something else.
    OtherQuote,
    /// The nearest has other bounds: at least 5, and at most 5.
    OtherBounds,
    /// The nearest counts in other units.
    OtherUnits,
    /// The nearest has the same numbers for other things.
    OtherOrder,
    /// One of the two is negated.
    Negated,
    /// One of the two asks what to avoid, or to stop.
    Shunned,
    /// The nearest is about another day, month or season.
    OtherTime,
    /// The nearest is about before, and this about after.
    OtherMoment,
    /// The nearest is about another language.
    OtherLanguage,
    /// The same words play other parts: from Rome to Oslo, and from Oslo to Rome.
    OtherRoles,
    /// The nearest is about what belongs to someone else.
    OtherOwner,
    /// The nearest asks who, and this when.
    OtherAsked,
    /// One of the two is about all, or about only some.
    OtherExtent,
    /// One of the two asks how many, and the other which.
    CountOrList,
    /// The nearest says the opposite.
    Opposite,
    /// The nearest has other symbols, or other spellings where they matter.
    OtherSpelling,
    /// The best of what is known is not sure enough.
    Unsure,
    /// What is known was found to be no answer to this question.
    Refuted,
    /// It would have been served, but the semantic lane only learns.
    Shadow,
    /// The store failed.
    StoreFailed,
}

impl Miss {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bypassed => "bypassed",
            Self::NoQuestion => "no_question",
            Self::Tools => "tools",
            Self::Stateful => "stateful",
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::Rule => "rule",
            Self::Chance => "chance",
            Self::Volatile => "volatile",
            Self::Temperature => "temperature",
            Self::SemanticOff => "semantic_off",
            Self::EmbedBusy => "embed_busy",
            Self::EmbedFailed => "embed_failed",
            Self::PartlyRead => "partly_read",
            Self::Continuation => "continuation",
            Self::TooFar => "too_far",
            Self::OtherNumbers => "other_numbers",
            Self::TooLong => "too_long",
            Self::UnknownLanguage => "unknown_language",
            Self::OtherQuote => "other_quote",
            Self::OtherBounds => "other_bounds",
            Self::OtherUnits => "other_units",
            Self::OtherOrder => "other_order",
            Self::Negated => "negated",
            Self::Shunned => "shunned",
            Self::OtherTime => "other_time",
            Self::OtherMoment => "other_moment",
            Self::OtherLanguage => "other_language",
            Self::OtherRoles => "other_roles",
            Self::OtherOwner => "other_owner",
            Self::OtherAsked => "other_asked",
            Self::OtherExtent => "other_extent",
            Self::CountOrList => "count_or_list",
            Self::Opposite => "opposite",
            Self::OtherSpelling => "other_spelling",
            Self::Unsure => "unsure",
            Self::Refuted => "refuted",
            Self::Shadow => "shadow",
            Self::StoreFailed => "store_failed",
        }
    }
}

/// An answer that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The first digits of the entry's id, to find it by.
    pub id: String,
    /// The answer.
    pub reply: Arc<Reply>,
    /// The upstream that once gave it.
    pub upstream: String,
    /// How long ago.
    pub age: Duration,
    /// The cosine to the question it was given to; one for the very same text.
    pub similarity: f32,
    /// How much of its time is left.
    pub freshness: Freshness,
}

/// How much of an answer's time is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It stays until someone removes it.
    Pinned,
    /// So much.
    Left(Duration),
    /// None: it has been over for so long.
    Over(Duration),
}

impl Freshness {
    /// Whether its time is over.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Over(_))
    }
}

/// What there is to a question in other words.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The answer to serve, or why there is none.
    pub verdict: Result<Hit, Miss>,
    /// What was nominated: what a hit is made of, and on a miss what would have been right or wrong. `None`
    /// where nothing is known that could be right.
    pub nominee: Option<Nominee>,
    /// What was looked at, and how near it is: the nearest first.
    pub near: Vec<(EntryId, f32)>,
}

impl Nearest {
    fn nothing(why: Miss) -> Self {
        Self { verdict: Err(why), nominee: None, near: Vec::new() }
    }
}

/// Names an answer that is kept, or will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(EntryId);

/// The best of what is known, though it may not be good enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Nominee {
    /// What it is kept under.
    pub key: Key,
    /// How sure it is that its answer is right.
    pub score: Score,
    /// How near its question is.
    pub cosine: f32,
    /// Its answer.
    pub reply: Arc<Reply>,
    /// The upstream that once gave it.
    pub upstream: String,
    /// What can be learned from it.
    pub trial: Trial,
}

/// Looks up and remembers.
pub struct Cache {
    config: Config,
    projects: Projects,
    policy: Policy,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    writer: Writer,
    recent: judge::Recent,
    bound: Arc<Bound>,
}

impl Cache {
    /// A cache over `store`. Must be called within a tokio runtime: it starts the writer.
    pub fn new(config: Config, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        if config.semantic != Semantic::Off {
            judge::prepare();
        }
        let writer = Writer::spawn(Arc::clone(&store), config.write_queue);
        let bound = Arc::new(Bound::new(config.bound.clone()));
        let projects = Projects::new(config.settings.clone(), &config.projects);
        let policy = Policy::new(config.policy.clone());
        Self { config, projects, policy, store, clock, writer, recent: judge::Recent::default(), bound }
    }

    /// What counts in `project`.
    pub fn settings(&self, project: &str) -> &Settings {
        self.projects.of(project)
    }

    /// What becomes of questions in other words.
    pub fn semantic(&self) -> Semantic {
        self.config.semantic
    }

    /// Whether questions in other words are looked up at all.
    pub fn is_semantic(&self) -> bool {
        self.config.semantic != Semantic::Off
    }

    /// Whether those who ask the same at the same time share one call upstream.
    pub fn is_coalescing(&self) -> bool {
        self.config.coalesce
    }

    /// The question, taken apart. Its canonical text is what is embedded.
    pub fn question(&self, query: &Query) -> Arc<judge::Question> {
        self.recent.question(&query.text)
    }

    /// What keeps the share of wrong answers down, and knows how large it is.
    pub fn bound(&self) -> &Arc<Bound> {
        &self.bound
    }

    /// What holds for `request`, the question in which is `query`.
    pub fn terms(&self, wishes: &Wishes, project: &str, request: &Request, query: &Query) -> Terms {
        self.policy.terms(wishes, project, request, &query.text)
    }

    /// The answer to the very same question.
    pub async fn exact(&self, query: &Query, terms: &Terms) -> Result<Hit, Miss> {
        if !self.config.exact {
            return Err(Miss::Off);
        }
        let found = self.known(query).await.and_then(|entry| self.hit(&entry, 1.0, terms));
        self.store.asked(&query.scope, &query.id, found.is_ok());
        found
    }

    /// The answer to the very same question, even if its time is over: for as long as `terms` allow.
    pub async fn late(&self, query: &Query, terms: &Terms, late: Late) -> Option<Hit> {
        let most = terms.lateness(late);
        if !self.config.exact || most.is_zero() {
            return None;
        }
        let entry = self.known(query).await.ok()?;
        let hit = self.measured(&entry, 1.0, terms);
        match hit.freshness {
            Freshness::Over(by) if by >= most => None,
            Freshness::Over(_) if entry.useless_from().is_some_and(|end| end <= self.clock.now()) => None,
            _ => {
                self.store.asked(&query.scope, &query.id, true);
                Some(hit)
            }
        }
    }

    /// The entry of the very same question, whatever its age.
    async fn known(&self, query: &Query) -> Result<Arc<Entry>, Miss> {
        if let Some(entry) = self.writer.pending(query) {
            return Ok(entry);
        }
        match self.store.load(&query.scope, &query.id).await {
            // The text is compared too: a digest that happens to be equal must not answer.
            Ok(Some(entry)) if entry.text == query.text => Ok(Arc::new(entry)),
            Ok(_) => Err(Miss::Absent),
            Err(error) => Err(failed(&error)),
        }
    }

    /// An answer to a question that means the same.
    pub async fn nearest(&self, query: &Query, terms: &Terms, vector: &UnitVector) -> Nearest {
        if !self.is_semantic() || !terms.semantic {
            return Nearest::nothing(Miss::SemanticOff);
        }
        let found = match self.store.nearest(&query.scope, vector, CANDIDATES).await {
            Ok(found) => found,
            Err(error) => return Nearest::nothing(failed(&error)),
        };
        let ground = GroundId::of(&query.about.tenant, &query.about.project);
        let near = found.iter().map(|found| (found.entry.id, found.cosine)).collect();
        let nearest = match self.best(query, terms, ground, found) {
            Ok(best) => self.judged(query, terms, ground, best),
            Err(miss) => {
                self.bound.decide(ground, None);
                Nearest::nothing(miss)
            }
        };
        Nearest { near, ..nearest }
    }

    /// The surest of `found`; where there is none, why not the nearest.
    fn best(
        &self,
        query: &Query,
        terms: &Terms,
        ground: GroundId,
        found: Vec<Match>,
    ) -> Result<(Score, EntryId, Hit), Miss> {
        let asked = self.question(query);
        let refuted = self.bound.refuted(ground, query.id);
        let mut reason = None;
        let mut able: Vec<(Score, Match)> = Vec::with_capacity(found.len());
        for candidate in found {
            let known = self.recent.question(&candidate.entry.text);
            let verdict = match refuted.contains(&candidate.entry.id) {
                true => Err(Miss::Refuted),
                false => judge::judge(&asked, &known, candidate.cosine),
            };
            match verdict {
                Ok(score) => able.push((score, candidate)),
                Err(miss) => reason = reason.or(Some(miss)),
            }
        }
        // Stable: of two that are as sure, the nearer comes first.
        able.sort_by(|(a, _), (b, _)| b.log_odds().total_cmp(&a.log_odds()));
        for (score, Match { cosine, entry }) in able {
            match self.hit(&entry, cosine, terms) {
                Ok(hit) => return Ok((score, entry.id, hit)),
                Err(miss) => reason = reason.or(Some(miss)),
            }
        }
        Err(reason.unwrap_or(Miss::Absent))
    }

    /// Whether the best is good enough to serve.
    fn judged(
        &self,
        query: &Query,
        terms: &Terms,
        ground: GroundId,
        (score, id, hit): (Score, EntryId, Hit),
    ) -> Nearest {
        let least = terms.min_similarity.unwrap_or(-1.0).max(self.config.min_similarity);
        let near = hit.similarity >= least;
        let good = self.bound.decide(ground, near.then_some(score));
        let nominee = Nominee {
            key: Key(id),
            score,
            cosine: hit.similarity,
            reply: Arc::clone(&hit.reply),
            upstream: hit.upstream.clone(),
            trial: self.bound.trial(ground, query.id, id, score, good),
        };
        let verdict = match self.config.semantic {
            _ if !near => Err(Miss::TooFar),
            _ if !good => Err(Miss::Unsure),
            Semantic::Off => Err(Miss::SemanticOff),
            Semantic::Shadow => Err(Miss::Shadow),
            Semantic::On => Ok(hit),
        };
        if verdict.is_ok() {
            self.store.asked(&query.scope, &nominee.key.0, true);
        }
        Nearest { verdict, nominee: Some(nominee), near: Vec::new() }
    }

    /// Keeps an answer, soon: the caller never waits for the disk. Until it is written it is already found
    /// by [`Cache::exact`].
    pub fn remember(
        &self,
        query: &Query,
        terms: &Terms,
        vector: Option<UnitVector>,
        reply: Reply,
        upstream: &str,
    ) -> Result<(), NotKept> {
        terms.write?;
        worth_keeping(&reply, query.answers, &query.text, self.policy.config())?;
        let created = self.clock.now();
        let (ttl, stale) = terms.kept_for();
        let expires = created.plus(ttl);
        let entry = Entry {
            id: query.id,
            text: query.text.clone(),
            vector,
            reply,
            upstream: upstream.to_owned(),
            created,
            expires: Some(expires),
            stale_until: (!stale.is_zero()).then(|| expires.plus(stale)),
            about: query.about.clone(),
            pinned: false,
        };
        self.writer.enqueue(query.scope, entry)
    }

    /// What the answer to `query` is kept under, or will be.
    pub fn key(query: &Query) -> Key {
        Key(query.id)
    }

    /// Forgets an answer that was found to be wrong, and its kin.
    pub async fn forget(&self, key: Key) {
        match self.keeper(None).wrong(&key.0.to_hex()).await {
            Ok(_) | Err(keeper::Fault::Absent) => {}
            Err(error) => tracing::warn!(%error, "an answer that was found to be wrong could not be removed"),
        }
    }

    /// Waits until everything remembered up to now is written.
    pub async fn drain(&self) {
        self.writer.drain().await;
    }

    /// The one place where it is decided whether an answer's time is over.
    fn hit(&self, entry: &Entry, similarity: f32, terms: &Terms) -> Result<Hit, Miss> {
        let hit = self.measured(entry, similarity, terms);
        let left = match hit.freshness {
            Freshness::Pinned => None,
            Freshness::Left(left) => Some(left),
            Freshness::Over(_) => return Err(Miss::Expired),
        };
        if terms.takes(hit.age, left) { Ok(hit) } else { Err(Miss::TooOld) }
    }

    fn measured(&self, entry: &Entry, similarity: f32, terms: &Terms) -> Hit {
        let now = self.clock.now();
        // What is configured now holds for what was kept under another configuration, too.
        let end = entry.created.plus(terms.life());
        let end = entry.expires.map_or(end, |expires| expires.min(end));
        let freshness = match end > now {
            _ if entry.pinned => Freshness::Pinned,
            true => Freshness::Left(end.since(now)),
            false => Freshness::Over(now.since(end)),
        };
        let (reply, upstream) = (Arc::new(entry.reply.clone()), entry.upstream.clone());
        Hit {
            id: entry.id.to_string(),
            reply,
            upstream,
            age: now.since(entry.created),
            similarity,
            freshness,
        }
    }
}

#[cfg(test)]
impl Key {
    pub(crate) fn for_tests() -> Self {
        Self(EntryId([2; 32]))
    }
}

fn failed(error: &crate::store::Error) -> Miss {
    tracing::warn!(%error, "the store failed; the request goes on as a miss");
    Miss::StoreFailed
}
