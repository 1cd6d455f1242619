//! Looking after the cache: finding what is kept, taking it out, keeping it for good, moving it elsewhere.
//!
//! Everything goes through [`Store::walk`](crate::store::Store::walk), a bounded step at a time, so that requests go on
//! meanwhile. A [`Keeper`] of a tenant sees what is that tenant's, and nothing tells it of anything else.

mod filter;
mod kin;
mod retire;
mod row;
mod transfer;

pub use filter::{Filter, Near};
pub use kin::Wrong;
pub use retire::{Answered, IsOver};
pub use row::{Item, Page, Project, Row, Stats};
pub use transfer::{BadLine, Exported, Import, Imported, Record};

use super::Cache;
use crate::store::{self, EntryId, IdPrefix, Place, Scope, Seen, Walk};
use filter::Likeness;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

/// The most rows of a page.
pub const MOST_ROWS: usize = 500;
/// How many entries are asked for in one step.
const STEP: usize = 256;
/// How many steps are made for one page, so that a page comes soon even if hardly anything is wanted.
const STEPS_OF_A_PAGE: usize = 64;
/// How long is waited for answers that are not written yet; they are found by the next call.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// The most examples of what a purge removes.
const EXAMPLES: usize = 5;
/// The most projects that are told apart in the figures.
const MOST_PROJECTS: usize = 1000;

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// That is no id.
    #[error("an id is at least {least} hexadecimal digits, as `weir cache ls` shows them", least = IdPrefix::LEAST)]
    NoId,
    /// There is no such entry, or it is another tenant's.
    #[error("no answer is kept under this id")]
    Absent,
    /// Several ids begin so.
    #[error("several ids begin so; give more of its digits")]
    Ambiguous,
    /// It would remove everything.
    #[error("this would take everything: name a filter, or ask for all in so many words")]
    Everything,
    /// The page does not go on from anywhere.
    #[error("`after` is not what an earlier page gave as `next`")]
    NoPlace,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a purge did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Purge {
    /// Whether nothing was removed, only looked for.
    pub dry_run: bool,
    /// How many entries are meant.
    pub matched: u64,
    /// How many bytes they take.
    pub bytes: u64,
    /// How many were removed.
    pub removed: u64,
    /// How many are meant but pinned, and stay: only a filter for pinned ones removes those.
    pub spared: u64,
    /// Some of those meant.
    pub examples: Vec<Row>,
}

/// Looks after what a cache keeps, for one tenant or for whoever runs it.
#[derive(Clone, Copy)]
pub struct Keeper<'c> {
    pub(super) cache: &'c Cache,
    whose: Option<&'c str>,
}

impl Cache {
    /// Someone who looks after what is kept: after that of one tenant, or, with `None`, after everything.
    pub fn keeper<'c>(&'c self, whose: Option<&'c str>) -> Keeper<'c> {
        Keeper { cache: self, whose }
    }
}

impl Keeper<'_> {
    /// A page of what the filter finds, the newest first.
    pub async fn list(&self, filter: &Filter, after: Option<&str>, most: usize) -> Result<Page, Fault> {
        let after = after.map(|word| Place::parse(word).ok_or(Fault::NoPlace)).transpose()?;
        let most = most.clamp(1, MOST_ROWS);
        let (now, mut rows, mut walk) = (self.cache.clock.now(), Vec::new(), Walk { after, ..filter.walk() });
        for _ in 0..STEPS_OF_A_PAGE {
            walk.most = STEP;
            let steps = self.cache.store.walk(walk.clone()).await?;
            for seen in steps.seen.into_iter().filter(|seen| self.may_see(seen)) {
                let Some(likeness) = filter.finds(&seen, now) else { continue };
                if rows.len() == most {
                    return Ok(Page {
                        next: rows.last().map(|(place, _): &(Place, Row)| place.to_word()),
                        ..Page::of(rows)
                    });
                }
                rows.push((seen.place(), Row::new(&seen, likeness, now)));
            }
            walk.after = steps.next;
            if walk.after.is_none() {
                break;
            }
        }
        let next = walk.after.map(|place| self.without_others(place).to_word());
        Ok(Page { next, ..Page::of(rows) })
    }

    /// An entry in full, by its id or the beginning of it.
    pub async fn get(&self, id: &str) -> Result<Item, Fault> {
        Ok(Item::new(self.find(id).await?, self.cache.clock.now()))
    }

    /// Removes an entry, and says which.
    pub async fn remove(&self, id: &str) -> Result<Row, Fault> {
        let seen = self.find(id).await?;
        self.cache.store.remove(&seen.scope, &seen.entry.id).await?;
        Ok(Row::new(&seen, Likeness::default(), self.cache.clock.now()))
    }

    /// Pins an entry, so that it neither expires nor makes room for others; or no longer.
    pub async fn pin(&self, id: &str, pinned: bool) -> Result<Row, Fault> {
        let mut seen = self.find(id).await?;
        if seen.entry.pinned != pinned {
            seen.entry.pinned = pinned;
            self.cache.store.put(&seen.scope, seen.entry.clone()).await?;
        }
        Ok(Row::new(&seen, Likeness::default(), self.cache.clock.now()))
    }

    /// Removes all that the filter finds, or only says what that would be. `all` allows a filter that finds everything.
    pub async fn purge(&self, filter: &Filter, all: bool, dry_run: bool) -> Result<Purge, Fault> {
        if filter.is_empty() && !all {
            return Err(Fault::Everything);
        }
        self.written().await;
        let now = self.cache.clock.now();
        let mut purge = Purge { dry_run, ..Purge::default() };
        let mut walk = filter.walk();
        loop {
            let (seen, next) = self.step(&mut walk).await?;
            for seen in seen {
                let Some(likeness) = filter.finds(&seen, now) else { continue };
                if seen.entry.pinned && filter.pinned != Some(true) {
                    purge.spared += 1;
                    continue;
                }
                purge.matched += 1;
                purge.bytes += u64::from(seen.bytes);
                if purge.examples.len() < EXAMPLES {
                    purge.examples.push(Row::new(&seen, likeness, now));
                }
                if !dry_run {
                    purge.removed += u64::from(self.cache.store.remove(&seen.scope, &seen.entry.id).await?);
                }
            }
            if next.is_none() {
                return Ok(purge);
            }
        }
    }

    /// How much is kept, by project; and for whoever sees everything, what the store counts.
    pub async fn stats(&self) -> Result<Stats, Fault> {
        let now = self.cache.clock.now();
        let mut stats = Stats::default();
        let mut projects: BTreeMap<(String, String), Project> = BTreeMap::new();
        let mut walk = Walk::default();
        loop {
            let (seen, next) = self.step(&mut walk).await?;
            for seen in seen {
                let about = &seen.entry.about;
                let mut key = (about.tenant.clone(), about.project.clone());
                if projects.len() == MOST_PROJECTS && !projects.contains_key(&key) {
                    key = Default::default();
                }
                projects.entry(key).or_default().add(&seen);
                stats.add(&seen, now);
            }
            if next.is_none() {
                break;
            }
        }
        stats.projects = projects
            .into_iter()
            .map(|((tenant, project), figures)| Project { tenant, project, ..figures })
            .collect();
        stats.store = self.whose.is_none().then(|| self.cache.store.counters());
        Ok(stats)
    }

    /// The one entry that is meant by `id`.
    pub(super) async fn find(&self, id: &str) -> Result<Seen, Fault> {
        let prefix = IdPrefix::new(id).ok_or(Fault::NoId)?;
        self.written().await;
        let mut found = None;
        let full = EntryId::from_hex(id).is_some();
        let walk = Walk { id: Some(prefix), ..Walk::default() };
        let cut_short = self.each(walk, |seen| match found.replace(seen) {
            // No two entries share a whole id: it is a digest of the scope as well.
            None if full => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        });
        let several = cut_short.await? && !full;
        if several { Err(Fault::Ambiguous) } else { found.ok_or(Fault::Absent) }
    }

    /// Shows every entry of a walk that may be seen, until it is enough; says whether it was.
    async fn each(
        &self,
        mut walk: Walk,
        mut show: impl FnMut(Seen) -> ControlFlow<()>,
    ) -> Result<bool, Fault> {
        loop {
            let (seen, next) = self.step(&mut walk).await?;
            for seen in seen {
                if show(seen).is_break() {
                    return Ok(true);
                }
            }
            if next.is_none() {
                return Ok(false);
            }
        }
    }

    /// The next step of a walk: what may be seen, and where it goes on.
    async fn step(&self, walk: &mut Walk) -> Result<(impl Iterator<Item = Seen>, Option<Place>), Fault> {
        walk.most = STEP;
        let steps = self.cache.store.walk(walk.clone()).await?;
        walk.after = steps.next;
        let keeper = *self;
        Ok((steps.seen.into_iter().filter(move |seen| keeper.may_see(seen)), steps.next))
    }

    fn may_see(&self, seen: &Seen) -> bool {
        self.whose.is_none_or(|tenant| tenant == seen.entry.about.tenant)
    }

    /// A place to go on from that says nothing about an entry of somebody else: those of the same moment are looked
    /// at again.
    fn without_others(&self, place: Place) -> Place {
        match self.whose {
            None => place,
            Some(_) => Place { scope: Scope([u8::MAX; 32]), id: EntryId([u8::MAX; 32]), ..place },
        }
    }

    /// Waits a little until what was answered just now is written, and can be found.
    async fn written(&self) {
        let _ = tokio::time::timeout(WRITTEN_WITHIN, self.cache.drain()).await;
    }
}
