//! [`Memory`]: the store that is easy to trust. Every search looks at every entry, and nothing outlives it,
//! so it is the oracle that the others are tested against.

use super::{Entry, EntryId, Error, Match, Scope, Store, best_first};
use crate::vector::UnitVector;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

type Scopes = HashMap<Scope, HashMap<EntryId, Entry>>;

/// Keeps entries in memory, without a limit.
#[derive(Debug, Default)]
pub struct Memory {
    scopes: RwLock<Scopes>,
}

impl Memory {
    // The locks are never held across an await, and every change under them is one call to a map: after a
    // panic elsewhere the maps are still whole, so poison is ignored.
    fn read(&self) -> RwLockReadGuard<'_, Scopes> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Scopes> {
        self.scopes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let mut matches: Vec<Match> = self
            .read()
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
        Ok(self.read().get(scope).and_then(|entries| entries.get(id)).cloned())
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        self.write().entry(*scope).or_default().insert(entry.id, entry);
        Ok(())
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        Ok(self.write().get_mut(scope).and_then(|entries| entries.remove(id)).is_some())
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        Ok(self.write().remove(scope).map_or(0, |entries| entries.len() as u64))
    }
}

/// How near an entry is, where that can be told: it may have no vector, or one of another model.
fn matched(query: &UnitVector, entry: &Entry) -> Option<Match> {
    let vector = entry.vector.as_ref().filter(|vector| vector.dimensions() == query.dimensions())?;
    Some(Match { cosine: query.cosine(vector), entry: entry.clone() })
}
