//! The indexes of the scopes that were asked of late, in a bounded amount of memory.
//!
//! Order of locks: the writer's, then the map's or one index's; nobody takes the map's lock while waiting for
//! an index, nor the writer's while holding either.

use super::Space;
use super::budget::Budget;
use super::builder::Builder;
use super::scope_index::Vectors;
use super::snapshot::Snapshots;
use crate::store::{EntryId, Error, IndexCounters, Scope};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

/// The indexes of the scopes that were asked of late.
pub(super) struct Indexes {
    held: Mutex<Held>,
    budget: Arc<Budget>,
    graph_from: usize,
    builder: Builder,
    snapshots: Arc<Snapshots>,
    space: AtomicU64,
}

/// The index of a scope. It is empty until it has been filled from disk.
pub(super) struct ScopeIndex {
    scope: Scope,
    space: Space,
    dimensions: usize,
    vectors: RwLock<Option<Vectors>>,
}

/// The map, and the order in which its scopes were asked.
#[derive(Default)]
struct Held {
    scopes: HashMap<Scope, (u64, Arc<ScopeIndex>)>,
    order: BTreeMap<u64, Scope>,
    clock: u64,
}

impl Indexes {
    /// None yet. A scope of `graph_from` vectors or more gets a graph.
    pub(super) fn new(limit: usize, graph_from: usize, snapshots: Snapshots) -> Result<Self, Error> {
        let snapshots = Arc::new(snapshots);
        let builder = Builder::spawn(Arc::clone(&snapshots)).map_err(|error| Error::Io(error.to_string()))?;
        let budget = Arc::new(Budget::new(limit));
        let space = AtomicU64::new(Space::default().0);
        Ok(Self { held: Mutex::default(), budget, graph_from, builder, snapshots, space })
    }

    /// The ids of the `k` nearest. `scan` hands over every vector of the scope; it is called if they are not
    /// held already, and other searches of the same scope wait for it.
    pub(super) fn nearest(
        &self,
        scope: &Scope,
        query: &[f32],
        k: usize,
        scan: impl FnOnce(&mut dyn FnMut(EntryId, &[f32])) -> Result<(), Error>,
    ) -> Result<Vec<EntryId>, Error> {
        let index = self.held().obtain(scope, self.space(), query.len());
        if index.read().is_none() {
            self.fill(&index, scan)?;
            self.make_room();
        }
        let found = index.read().as_ref().map(|vectors| vectors.nearest(query, k));
        Ok(found.unwrap_or_default())
    }

    /// The same, if the index is held, nobody is changing it, and it is quick: it never waits.
    pub(super) fn nearest_at_hand(&self, scope: &Scope, query: &[f32], k: usize) -> Option<Vec<EntryId>> {
        let index = self.held().obtain(scope, self.space(), query.len());
        let vectors = index.vectors.try_read().ok()?;
        let vectors = vectors.as_ref().filter(|vectors| vectors.is_quick())?;
        Some(vectors.nearest(query, k))
    }

    /// Keeps the scope's index in step with an entry just written.
    pub(super) fn put(&self, scope: &Scope, id: EntryId, vector: Option<&[f32]>) {
        let Some(index) = self.held().peek(scope) else { return };
        // Not filled yet: whoever fills it will read the entry from disk.
        if let Some(vectors) = index.write().as_mut() {
            match vector {
                Some(vector) => note_if_full(scope, vectors.put(id, vector)),
                None => vectors.remove(&id),
            }
        }
        self.build_if_wanted(&index);
        self.make_room();
    }

    /// Keeps the scope's index in step with an entry just removed.
    pub(super) fn remove(&self, scope: &Scope, id: &EntryId) {
        self.put(scope, *id, None);
    }

    /// Forgets the index of a scope.
    pub(super) fn clear(&self, scope: &Scope) {
        self.held().forget(scope);
        self.snapshots.forget(scope);
    }

    /// Forgets all indexes: vectors of another space come.
    pub(super) fn set_space(&self, space: Space) {
        self.space.store(space.0, Ordering::Relaxed);
        *self.held() = Held::default();
    }

    /// Removes what is stored of scopes of which nothing is left.
    pub(super) fn prune(&self, is_left: impl Fn(&Scope) -> bool) {
        self.snapshots.prune(is_left);
    }

    fn space(&self) -> Space {
        Space(self.space.load(Ordering::Relaxed))
    }

    /// What the indexes take up.
    pub(super) fn counters(&self) -> IndexCounters {
        let indexes: Vec<_> = self.held().scopes.values().map(|(_, index)| Arc::clone(index)).collect();
        // One that is being filled is passed over, not waited for: this is called from async code.
        let count = |is: fn(&Vectors) -> bool| {
            let vectors = indexes.iter().filter_map(|index| index.vectors.try_read().ok());
            vectors.filter(|vectors| vectors.as_ref().is_some_and(is)).count()
        };
        IndexCounters {
            scopes: indexes.len(),
            bytes: self.budget.used(),
            graphs: count(Vectors::has_graph),
            building: count(Vectors::is_building)
                + indexes.iter().filter(|index| index.is_changing()).count(),
        }
    }

    fn fill(
        &self,
        index: &Arc<ScopeIndex>,
        scan: impl FnOnce(&mut dyn FnMut(EntryId, &[f32])) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut slot = index.write();
        if slot.is_none() {
            let mut vectors = Vectors::new(index.dimensions, self.graph_from, Arc::clone(&self.budget));
            let limit = self.budget.limit;
            let stored = self.snapshots.load(&index.scope, index.space, index.dimensions, limit);
            vectors.adopt(stored);
            let mut there = HashSet::new();
            scan(&mut |id, vector| {
                vectors.put(id, vector);
                there.insert(id);
            })?;
            vectors.keep_only(&there);
            *slot = Some(vectors);
        }
        drop(slot);
        self.build_if_wanted(index);
        Ok(())
    }

    fn build_if_wanted(&self, index: &Arc<ScopeIndex>) {
        let wanted = index.write().as_mut().is_some_and(Vectors::wants_builder);
        if wanted && !self.builder.ask(index) {
            // Too many wait already; the next put asks again.
            index.give_up_building();
        }
    }

    /// Drops the indexes that were not asked for longest, but never the last one, which is within the limit on
    /// its own. While an index is being filled the limit may be passed by what is held beside it.
    fn make_room(&self) {
        while self.budget.exceeded() {
            let dropped = self.held().forget_oldest();
            if dropped.is_none() {
                return;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The index of the scope, marked as asked. One for vectors of another length is of no use and goes.
    fn obtain(&mut self, scope: &Scope, space: Space, dimensions: usize) -> Arc<ScopeIndex> {
        let known = self.forget(scope).filter(|index| index.dimensions == dimensions);
        let new = || ScopeIndex { scope: *scope, space, dimensions, vectors: RwLock::new(None) };
        let index = known.unwrap_or_else(|| Arc::new(new()));
        self.clock += 1;
        self.order.insert(self.clock, *scope);
        self.scopes.insert(*scope, (self.clock, Arc::clone(&index)));
        index
    }

    fn peek(&self, scope: &Scope) -> Option<Arc<ScopeIndex>> {
        self.scopes.get(scope).map(|(_, index)| Arc::clone(index))
    }

    fn forget(&mut self, scope: &Scope) -> Option<Arc<ScopeIndex>> {
        let (asked, index) = self.scopes.remove(scope)?;
        self.order.remove(&asked);
        Some(index)
    }

    fn forget_oldest(&mut self) -> Option<Arc<ScopeIndex>> {
        if self.order.len() < 2 {
            return None;
        }
        let (_, scope) = self.order.pop_first()?;
        self.scopes.remove(&scope).map(|(_, index)| index)
    }
}

impl ScopeIndex {
    // A panic while an index changes can at worst leave it incomplete, and it is a hint: poison is ignored.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Option<Vectors>> {
        self.vectors.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Option<Vectors>> {
        self.vectors.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores its graphs.
    pub(super) fn save(&self, snapshots: &Snapshots) {
        let pictures = self.read().as_ref().map(Vectors::pictures);
        if let Some(pictures) = pictures {
            snapshots.save(&self.scope, self.space, &pictures);
        }
    }

    /// Whether it is being filled, or what was built is being put in.
    fn is_changing(&self) -> bool {
        matches!(self.vectors.try_read(), Err(TryLockError::WouldBlock))
    }

    pub(super) fn give_up_building(&self) {
        if let Some(vectors) = self.write().as_mut() {
            vectors.give_up(false);
        }
    }
}

fn note_if_full(scope: &Scope, is_in: bool) {
    if !is_in {
        tracing::debug!(
            ?scope,
            "a vector is not indexed: its index is at its limit, or its length is another"
        );
    }
}
