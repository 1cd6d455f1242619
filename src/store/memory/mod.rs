//! [`Memory`]: the store that is easy to trust. Every search looks at every entry, and nothing outlives it,
//! so it is the oracle that the others are tested against.

mod near;

use super::popularity::Popularity;
use super::room::{Evictor, Facts, Newcomer, Shelf, Used};
use super::{Counters, Entry, EntryId, Error, Match, Place, Room, Scope, Seen, Steps, Store, Walk};
use crate::vector::UnitVector;
use async_trait::async_trait;
use near::Rows;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The most entries that are looked at in one step of a walk.
const LOOKED_AT: usize = 4096;

/// Keeps entries in memory, as far as there is room.
#[derive(Debug)]
pub struct Memory {
    kept: RwLock<Kept>,
    popularity: Popularity,
}

#[derive(Debug)]
struct Kept {
    shelf: Places,
    evictor: Evictor,
    evicted: u64,
    turned_away: u64,
}

#[derive(Debug, Default)]
struct Places {
    scopes: HashMap<Scope, Kin>,
    by_age: BTreeSet<Place>,
    bytes: u64,
}

/// The entries of a scope.
#[derive(Debug, Default)]
struct Kin {
    /// Where each is.
    places: HashMap<EntryId, usize>,
    entries: Vec<(Arc<Entry>, Facts)>,
    /// In the same order.
    rows: Rows,
}

impl Kin {
    fn get(&self, id: &EntryId) -> Option<&(Arc<Entry>, Facts)> {
        self.entries.get(*self.places.get(id)?)
    }

    fn get_mut(&mut self, id: &EntryId) -> Option<&mut (Arc<Entry>, Facts)> {
        self.entries.get_mut(*self.places.get(id)?)
    }

    /// The entry is one that is not there.
    fn add(&mut self, entry: Entry, facts: Facts) {
        self.places.insert(entry.id, self.entries.len());
        self.rows.push(entry.vector.as_ref());
        self.entries.push((Arc::new(entry), facts));
    }

    fn remove(&mut self, id: &EntryId) -> Option<(Arc<Entry>, Facts)> {
        let place = self.places.remove(id)?;
        let removed = self.entries.swap_remove(place);
        self.rows.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(moved.id, place);
        }
        Some(removed)
    }

    /// The nearest, the nearest first; of those that are as near, by their ids.
    fn nearest(&self, query: &UnitVector, most: usize) -> Vec<Match> {
        let able = self.rows.candidates(query, most).into_iter();
        let mut near: Vec<(f32, &Arc<Entry>)> = able
            .filter_map(|row| {
                let (entry, _) = &self.entries[row];
                Some((cosine(query, entry)?, entry))
            })
            .collect();
        near.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.id.cmp(&other.id)));
        near.truncate(most);
        near.into_iter().map(|(cosine, entry)| Match { cosine, entry: Arc::clone(entry) }).collect()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Room { max_entries: u64::MAX, max_bytes: u64::MAX })
    }
}

impl Memory {
    /// Keeps what there is room for.
    pub fn new(room: Room) -> Self {
        let evictor = Evictor::new(room);
        let kept = Kept { shelf: Places::default(), evictor, evicted: 0, turned_away: 0 };
        Self { kept: RwLock::new(kept), popularity: Popularity::of(room.expected_entries()) }
    }

    // The locks are never held across an await, and every change under them is a few calls to maps: after a
    // panic elsewhere the maps are still whole, so poison is ignored.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, scope: &Scope, entry: Entry, popularity: &Popularity) -> Result<(), Error> {
        self.shelf.settle(popularity);
        let place = Place { created: entry.created, scope: *scope, id: entry.id };
        let facts = Facts::of(&entry, length(&entry));
        let replaces = self.shelf.facts(scope, &entry.id);
        let newcomer = Newcomer { place, facts, replaces };
        let admission = self.evictor.admit(&mut self.shelf, popularity, &newcomer)?;
        self.evicted += admission.evicted;
        if admission.granted {
            // The same answer, changed in what is said about it, has answered as often as before.
            let known = self.shelf.at(&place).filter(|(known, _)| known.created == entry.created);
            let hits = known.map_or(0, |(_, known)| known.hits);
            self.shelf.put(scope, entry, Facts { hits, ..facts });
        } else {
            self.turned_away += 1;
        }
        Ok(())
    }
}

impl Places {
    /// Notes with the entries how often they have answered.
    fn settle(&mut self, popularity: &Popularity) {
        for ((scope, id), hits) in popularity.take(usize::MAX) {
            if let Some((_, facts)) = self.scopes.get_mut(&scope).and_then(|entries| entries.get_mut(&id)) {
                facts.hits = facts.hits.saturating_add(hits);
            }
        }
    }

    fn facts(&self, scope: &Scope, id: &EntryId) -> Option<Facts> {
        self.scopes.get(scope)?.get(id).map(|(_, facts)| *facts)
    }

    fn put(&mut self, scope: &Scope, entry: Entry, facts: Facts) {
        self.remove(scope, &entry.id);
        self.bytes += u64::from(facts.size);
        self.by_age.insert(Place { created: entry.created, scope: *scope, id: entry.id });
        self.scopes.entry(*scope).or_default().add(entry, facts);
    }

    fn remove(&mut self, scope: &Scope, id: &EntryId) -> bool {
        let Some(kin) = self.scopes.get_mut(scope) else { return false };
        let removed = kin.remove(id);
        if kin.entries.is_empty() {
            self.scopes.remove(scope);
        }
        removed.is_some_and(|(entry, facts)| self.forget(scope, &entry, &facts))
    }

    fn clear(&mut self, scope: &Scope) -> u64 {
        let entries = self.scopes.remove(scope).unwrap_or_default();
        for (entry, facts) in &entries.entries {
            self.forget(scope, entry, facts);
        }
        entries.entries.len() as u64
    }

    fn forget(&mut self, scope: &Scope, entry: &Entry, facts: &Facts) -> bool {
        self.bytes -= u64::from(facts.size);
        self.by_age.remove(&Place { created: entry.created, scope: *scope, id: entry.id })
    }

    fn at(&self, place: &Place) -> Option<&(Arc<Entry>, Facts)> {
        self.scopes.get(&place.scope)?.get(&place.id)
    }
}

impl Shelf for Places {
    fn used(&self) -> Used {
        Used { entries: self.by_age.len() as u64, bytes: self.bytes }
    }

    fn by_age(&self, after: Option<&Place>, most: usize) -> Result<Vec<(Place, Facts)>, Error> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let places = self.by_age.range((begin, Bound::Unbounded)).take(most);
        Ok(places.filter_map(|place| Some((*place, self.at(place)?.1))).collect())
    }

    fn discard(&mut self, place: &Place) -> Result<(), Error> {
        self.remove(&place.scope, &place.id);
        Ok(())
    }
}

#[async_trait]
impl Store for Memory {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let kept = self.read();
        Ok(kept.shelf.scopes.get(scope).map_or_else(Vec::new, |kin| kin.nearest(query, k)))
    }

    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        let kept = self.read();
        Ok(kept.shelf.scopes.get(scope).and_then(|kin| kin.get(id)).map(|(entry, _)| (**entry).clone()))
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        self.write().put(scope, entry, &self.popularity)
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        Ok(self.write().shelf.remove(scope, id))
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        Ok(self.write().shelf.clear(scope))
    }

    async fn walk(&self, walk: Walk) -> Result<Steps, Error> {
        let kept = self.read();
        let end = walk.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut places = kept.shelf.by_age.range((Bound::Unbounded, end)).rev();
        let mut steps = Steps::default();
        for place in places.by_ref().take(LOOKED_AT) {
            steps.next = Some(*place);
            if walk.wants(place)
                && let Some((entry, facts)) = kept.shelf.at(place)
            {
                let waiting = self.popularity.waiting(&place.scope, &place.id);
                let hits = facts.hits.saturating_add(waiting);
                let (scope, entry) = (place.scope, (**entry).clone());
                steps.seen.push(Seen { scope, entry, hits, bytes: facts.size });
            }
            if steps.seen.len() >= walk.most {
                break;
            }
        }
        steps.next = steps.next.filter(|_| places.next().is_some());
        Ok(steps)
    }

    fn asked(&self, scope: &Scope, id: &EntryId, answered: bool) {
        self.popularity.count(scope, id, answered);
    }

    fn counters(&self) -> Counters {
        let kept = self.read();
        let Used { entries, bytes } = kept.shelf.used();
        let (evicted, turned_away) = (kept.evicted, kept.turned_away);
        Counters { entries, bytes, evicted, turned_away, ..Counters::default() }
    }
}

/// How near an entry is, where that can be told: it may have no vector, or one of another model.
fn cosine(query: &UnitVector, entry: &Entry) -> Option<f32> {
    let vector = entry.vector.as_ref().filter(|vector| vector.dimensions() == query.dimensions())?;
    Some(query.cosine(vector))
}

/// About how many bytes an entry takes.
fn length(entry: &Entry) -> usize {
    let mut reply = Length(0);
    let _ = serde_json::to_writer(&mut reply, &entry.reply);
    let vector = entry.vector.as_ref().map_or(0, |vector| 4 * vector.dimensions());
    size_of::<Entry>() + entry.text.len() + reply.0 + vector
}

/// How much was written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;
    use crate::store::conformance::full_entry;

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_go() {
        let (store, scope) = (Memory::new(Room { max_entries: 2, ..Room::default() }), Scope([1; 32]));
        for age in 1..=3 {
            let created = Millis(u64::from(age));
            let entry = Entry { id: EntryId([age; 32]), created, pinned: false, ..full_entry() };
            store.put(&scope, entry).await.unwrap();
        }
        let mut kept = Vec::new();
        for age in 1..=3 {
            kept.push(store.load(&scope, &EntryId([age; 32])).await.unwrap().is_some());
        }
        assert_eq!(kept, [false, true, true]);
    }
}
