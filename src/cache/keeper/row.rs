//! What is shown of entries.

use super::filter::Likeness;
use crate::chat::{Choice, Reply};
use crate::clock::Millis;
use crate::store::{Counters, Entry, Place, Seen};
use serde::Serialize;

/// How much of a question a row shows.
const SHOWN: usize = 80;

/// An entry in one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its id, in full.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// The project context.
    pub project: String,
    /// The model that was asked for.
    pub model: String,
    /// Its labels.
    pub tags: Vec<String>,
    /// How long ago it was given.
    pub age_seconds: u64,
    /// For how long it may be served still; zero where its time is over, nothing where it does not expire.
    pub expires_in_seconds: Option<u64>,
    /// Whether it stays.
    pub pinned: bool,
    /// How often it has answered, about.
    pub hits: u32,
    /// How many bytes it takes.
    pub bytes: u32,
    /// How like the wanted question this one is, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
    /// The beginning of the question.
    pub question: String,
}

impl Row {
    pub(super) fn new(seen: &Seen, likeness: Likeness, now: Millis) -> Self {
        let Seen { scope: _, entry, hits, bytes } = seen;
        Self {
            id: entry.id.to_hex(),
            tenant: entry.about.tenant.clone(),
            project: entry.about.project.clone(),
            model: entry.about.model.clone(),
            tags: entry.about.tags.clone(),
            age_seconds: now.since(entry.created).as_secs(),
            expires_in_seconds: expires_in(entry, now),
            pinned: entry.pinned,
            hits: *hits,
            bytes: *bytes,
            similarity: likeness.0,
            question: beginning(&entry.text),
        }
    }
}

/// Some rows, and how to get more.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// The rows, the newest first. There may be few or none, and more to come.
    pub entries: Vec<Row>,
    /// To be given as `after` for the next page; nothing at the end.
    pub next: Option<String>,
}

impl Page {
    pub(super) fn of(rows: Vec<(Place, Row)>) -> Self {
        Self { entries: rows.into_iter().map(|(_, row)| row).collect(), next: None }
    }
}

/// An entry in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// What a row shows, with the whole question.
    #[serde(flatten)]
    pub row: Row,
    /// The words of the answer.
    pub answer: String,
    /// The upstream that gave it.
    pub upstream: String,
    /// When it was given, in Unix milliseconds.
    pub created: Millis,
    /// When it must no longer be served.
    pub expires: Option<Millis>,
    /// Until when it is kept for those who take a stale answer.
    pub stale_until: Option<Millis>,
    /// Whether questions in other words can find it.
    pub has_vector: bool,
    /// The scope it lives in.
    pub scope: String,
    /// The whole answer.
    pub reply: Reply,
}

impl Item {
    pub(super) fn new(seen: Seen, now: Millis) -> Self {
        let row = Row { question: seen.entry.text.clone(), ..Row::new(&seen, Likeness::default(), now) };
        let Seen { scope, entry, .. } = seen;
        Self {
            row,
            answer: said(&entry.reply),
            upstream: entry.upstream,
            created: entry.created,
            expires: entry.expires,
            stale_until: entry.stale_until,
            has_vector: entry.vector.is_some(),
            scope: scope.to_hex(),
            reply: entry.reply,
        }
    }
}

/// How much is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// How many entries there are.
    pub entries: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// How often they have answered, about.
    pub hits: u64,
    /// How many of them stay.
    pub pinned: u64,
    /// How many of them wait to be removed, since their time is over.
    pub expired: u64,
    /// The same by project; beyond many, the rest is under no name.
    pub projects: Vec<Project>,
    /// What the store counts, for whoever sees everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Counters>,
}

/// How much is kept of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Whose it is.
    pub tenant: String,
    /// What it is called.
    pub project: String,
    /// How many entries there are.
    pub entries: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// How often they have answered, about.
    pub hits: u64,
}

impl Stats {
    pub(super) fn add(&mut self, seen: &Seen, now: Millis) {
        self.entries += 1;
        self.bytes += u64::from(seen.bytes);
        self.hits += u64::from(seen.hits);
        self.pinned += u64::from(seen.entry.pinned);
        self.expired += u64::from(expires_in(&seen.entry, now) == Some(0));
    }
}

impl Project {
    pub(super) fn add(&mut self, seen: &Seen) {
        self.entries += 1;
        self.bytes += u64::from(seen.bytes);
        self.hits += u64::from(seen.hits);
    }
}

fn expires_in(entry: &Entry, now: Millis) -> Option<u64> {
    entry.expires.filter(|_| !entry.pinned).map(|at| at.since(now).as_secs())
}

/// The words of all that was said.
pub(super) fn said(reply: &Reply) -> String {
    reply.choices.iter().map(Choice::said).collect::<Vec<_>>().join("\n\n")
}

/// The beginning of a text, on one line.
fn beginning(text: &str) -> String {
    let line: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_owned()
}
