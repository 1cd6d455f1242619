//! Where answers are kept: the [`Store`] trait, and what it keeps.
//!
//! A store knows no policy. It finds what is near, keeps what it is given, and forgets when told; whether an
//! answer may be served is decided in `cache`. Three come with us: [`memory`] (the oracle in tests),
//! [`embedded`] (sled and HNSW) and [`guarded`], a decorator that gives any of them a deadline and a breaker.
//! [`conformance`] is the suite that all of them must pass. What goes when there is no room is decided in `room`.

pub mod conformance;
pub mod embedded;
pub mod guarded;
pub mod memory;
mod popularity;
mod room;
mod walk;

pub use room::Room;
pub use walk::{IdPrefix, Place, Seen, Steps, Walk};

use crate::chat::Reply;
use crate::clock::Millis;
use crate::vector::UnitVector;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Keeps entries, in scopes that never see each other.
#[async_trait]
pub trait Store: Send + Sync {
    /// The `k` entries of `scope` most like `query`, best first. Scores are cosines in [-1, 1].
    /// Entries without a vector are never among them.
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error>;

    /// The entry of that id, if the scope has it.
    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error>;

    /// Keeps an entry; one of the same id in the same scope is replaced.
    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error>;

    /// Forgets an entry; says whether there was one.
    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error>;

    /// Forgets a whole scope; says how many entries it had.
    async fn clear(&self, scope: &Scope) -> Result<u64, Error>;

    /// A few entries of all scopes, the newest first, and how to go on. A bounded number is looked at in one call,
    /// so there may be nothing wanted among them.
    async fn walk(&self, walk: Walk) -> Result<Steps, Error>;

    /// Is told that the question of that id was asked, and whether the entry of that id answered it (to itself or
    /// in other words). What is asked often stays when room is short. Never waits, and writes nothing at once.
    fn asked(&self, scope: &Scope, id: &EntryId, answered: bool);

    /// What it holds, and what became of the rest.
    fn counters(&self) -> Counters;
}

/// The hard partition an entry lives in: a digest of tenant, project and everything of a request that must
/// match exactly. Made by `cache::Query` alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub [u8; 32]);

/// The digest of a scope and the exact text asked in it, so that an exact hit is a plain [`Store::load`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub [u8; 32]);

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", short_hex(&self.0))
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short_hex(&self.0))
    }
}

/// What a store holds, and what became of the rest since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Entries. On disk, after a crash, it may be a few too many for a while.
    pub entries: u64,
    /// How long they are, together.
    pub bytes: u64,
    /// Entries removed to make room.
    pub evicted: u64,
    /// Entries not kept because they were less asked for than what they would have pushed out, or too long.
    pub turned_away: u64,
    /// Damaged values that were found, and dropped.
    pub damaged: u64,
    /// Whether there is no store for now: it could not be opened, or has failed.
    pub away: bool,
    /// How often it was opened anew after it had failed.
    pub reopened: u64,
    /// What its files took when they were last looked at.
    pub files: u64,
    /// How often they were written anew to make them smaller.
    pub compacted: u64,
    /// The indexes in memory.
    pub index: IndexCounters,
}

/// What the indexes of vectors take up, in a store that has some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IndexCounters {
    /// Scopes whose vectors are held.
    pub scopes: usize,
    /// About how many bytes they take.
    pub bytes: usize,
    /// Of the scopes, those that are searched through a graph.
    pub graphs: usize,
    /// Of the scopes, those for which a graph is being built.
    pub building: usize,
}

/// Enough of a digest to tell it from others in a log.
fn short_hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    bytes[..8].iter().fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One answered question.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name within the scope.
    pub id: EntryId,
    /// The question, as asked.
    pub text: String,
    /// Where the question points. Without it the entry can be found by its id only.
    pub vector: Option<UnitVector>,
    /// The answer.
    pub reply: Reply,
    /// The upstream that gave the answer.
    pub upstream: String,
    /// When it was given.
    pub created: Millis,
    /// When it must no longer be served. The `cache` decides by its clock; a store only collects garbage.
    pub expires: Option<Millis>,
    /// Until when it is kept beyond that, for those who take a stale answer rather than none.
    pub stale_until: Option<Millis>,
    /// What it is about, to find it by.
    pub about: About,
    /// It stays: it does not expire, and nothing takes its place to make room.
    pub pinned: bool,
}

impl Entry {
    /// When it is of no use to anyone any more; `None` is never.
    pub fn useless_from(&self) -> Option<Millis> {
        if self.pinned { None } else { self.expires.max(self.stale_until).filter(|_| self.expires.is_some()) }
    }
}

/// What an entry is about. It says nothing about whether it may be served: that is in its [`Scope`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Whose it is.
    pub tenant: String,
    /// The project context.
    pub project: String,
    /// The model that was asked for.
    pub model: String,
    /// Free labels, to find and remove entries by.
    pub tags: Vec<String>,
}

/// An entry, and how near it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The cosine to the query, in [-1, 1].
    pub cosine: f32,
    /// What was found. Whoever keeps entries in memory lends them: an answer may be long.
    pub entry: Arc<Entry>,
}

/// The order of [`Store::nearest`]. Equals are ordered by id, so that every store answers alike.
fn best_first(a: &Match, b: &Match) -> Ordering {
    b.cosine.total_cmp(&a.cosine).then_with(|| a.entry.id.cmp(&b.entry.id))
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not read or write.
    #[error("the store could not read or write: {0}")]
    Io(String),
    /// A value does not match its checksum, or cannot be understood.
    #[error("the store holds a damaged value: {0}")]
    Damaged(String),
    /// It was written by a newer weir.
    #[error(
        "the store has format {found}, and this weir reads up to {known}; use a newer weir or another data folder"
    )]
    NewerFormat {
        /// What the files say.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// Another process holds it.
    #[error("the data folder {0} is in use by another process")]
    InUse(String),
    /// It did not answer in time.
    #[error("the store did not answer within {0:?}")]
    Deadline(std::time::Duration),
    /// It could not be opened, or has failed; it is opened again as soon as that works.
    #[error("there is no store for now: {0}")]
    Away(String),
    /// It failed often of late and is left alone for a while.
    #[error("the store failed of late and is left alone for a while")]
    Open,
}
