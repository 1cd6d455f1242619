//! [`Memory`]: the store that is easy to trust. Every search looks at every entry, and nothing outlives it,
//! so it is the oracle that the others are tested against.

use super::{Entry, EntryId, Error, Match, Scope, Store, best_first};
use crate::clock::Millis;
use crate::vector::UnitVector;
use async_trait::async_trait;
use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Scopes = HashMap<Scope, HashMap<EntryId, Entry>>;

/// Keeps entries in memory, up to a limit; beyond, the oldest go.
#[derive(Debug)]
pub struct Memory {
    kept: RwLock<Kept>,
    most: usize,
}

#[derive(Debug, Default)]
struct Kept {
    scopes: Scopes,
    by_age: BTreeSet<(Millis, Scope, EntryId)>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::bounded(usize::MAX)
    }
}

impl Memory {
    /// Keeps at most `most` entries.
    pub fn bounded(most: usize) -> Self {
        Self { kept: RwLock::default(), most }
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
    fn put(&mut self, scope: &Scope, entry: Entry) {
        self.remove(scope, &entry.id);
        self.by_age.insert((entry.created, *scope, entry.id));
        self.scopes.entry(*scope).or_default().insert(entry.id, entry);
    }

    fn remove(&mut self, scope: &Scope, id: &EntryId) -> bool {
        let removed = self.scopes.get_mut(scope).and_then(|entries| entries.remove(id));
        removed.is_some_and(|entry| self.by_age.remove(&(entry.created, *scope, entry.id)))
    }

    fn clear(&mut self, scope: &Scope) -> u64 {
        let entries = self.scopes.remove(scope).unwrap_or_default();
        for entry in entries.values() {
            self.by_age.remove(&(entry.created, *scope, entry.id));
        }
        entries.len() as u64
    }

    fn evict(&mut self, most: usize) {
        while self.by_age.len() > most {
            let Some((_, scope, id)) = self.by_age.first().copied() else { return };
            self.remove(&scope, &id);
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let mut matches: Vec<Match> = self
            .read()
            .scopes
            .get(scope)
            .into_iter()
            .flat_map(HashMap::values)
            .filter_map(|entry| matched(query, entry))
            .collect();
        matches.sort_by(best_first);
        matches.truncate(k);
        Ok(matches)
    }

    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        Ok(self.read().scopes.get(scope).and_then(|entries| entries.get(id)).cloned())
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        let mut kept = self.write();
        kept.put(scope, entry);
        kept.evict(self.most);
        Ok(())
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        Ok(self.write().remove(scope, id))
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        Ok(self.write().clear(scope))
    }
}

/// How near an entry is, where that can be told: it may have no vector, or one of another model.
fn matched(query: &UnitVector, entry: &Entry) -> Option<Match> {
    let vector = entry.vector.as_ref().filter(|vector| vector.dimensions() == query.dimensions())?;
    Some(Match { cosine: query.cosine(vector), entry: entry.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_go() {
        let (store, scope) = (Memory::bounded(2), Scope([1; 32]));
        for age in 1..=3 {
            let entry = Entry { id: EntryId([age; 32]), created: Millis(u64::from(age)), ..full_entry() };
            store.put(&scope, entry).await.unwrap();
        }
        let mut kept = Vec::new();
        for age in 1..=3 {
            kept.push(store.load(&scope, &EntryId([age; 32])).await.unwrap().is_some());
        }
        assert_eq!(kept, [false, true, true]);
    }
}
