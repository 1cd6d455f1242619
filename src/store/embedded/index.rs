//! The indexes of the scopes that were asked of late, in a bounded amount of memory.
//!
//! Order of locks: the writer's, then the map's or one index's; nobody takes the map's lock while waiting for
//! an index, nor the writer's while holding either. Whoever fills an index reads the disk with neither.

use super::budget::Budget;
use super::builder::Builder;
use super::disk::Disk;
use super::fill::{Filler, Filling};
use super::scope_index::Vectors;
use super::snapshot::Snapshots;
use super::{Space, Tuning};
use crate::store::{EntryId, Error, IndexCounters, Scope};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

/// The indexes of the scopes that were asked of late.
pub(super) struct Indexes {
    held: Mutex<Held>,
    budget: Arc<Budget>,
    graph_from: usize,
    /// How many entries of a scope whoever asks first reads; others of the same scope wait for that.
    read_at_once: usize,
    disk: Arc<Disk>,
    builder: Arc<Builder>,
    filler: Filler,
    damaged: Arc<Mutex<Vec<(Scope, EntryId)>>>,
    snapshots: Arc<Snapshots>,
    space: AtomicU64,
}

/// The index of a scope. There is none until someone begins to fill it from disk.
pub(super) struct ScopeIndex {
    pub(super) scope: Scope,
    pub(super) space: Space,
    pub(super) dimensions: usize,
    vectors: RwLock<Option<Vectors>>,
    /// Held by whoever reads its first entries.
    beginning: Mutex<()>,
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
    pub(super) fn new(
        disk: Arc<Disk>,
        limit: usize,
        tuning: &Tuning,
        snapshots: Snapshots,
    ) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Io(error.to_string());
        let snapshots = Arc::new(snapshots);
        let builder = Arc::new(Builder::spawn(Arc::clone(&snapshots)).map_err(failed)?);
        let damaged = Arc::new(Mutex::default());
        let (builds, found) = (Arc::clone(&builder), Arc::clone(&damaged));
        let filled = move |index: &Arc<ScopeIndex>, filling: &mut Filling| {
            note_damaged(&found, index, filling);
            build_if_wanted(&builds, index);
        };
        let filler = Filler::spawn(Arc::downgrade(&disk), Arc::clone(&snapshots), filled).map_err(failed)?;
        Ok(Self {
            held: Mutex::default(),
            budget: Arc::new(Budget::new(limit)),
            graph_from: tuning.graph_from,
            read_at_once: tuning.read_at_once,
            disk,
            builder,
            filler,
            damaged,
            snapshots,
            space: AtomicU64::new(Space::default().0),
        })
    }

    /// The ids of the `k` nearest. Where they are not held, the scope is read from disk: at once what does not take
    /// long, and the rest in the background, while what has been read answers.
    pub(super) fn nearest(&self, scope: &Scope, query: &[f32], k: usize) -> Result<Vec<EntryId>, Error> {
        let index = self.held().obtain(scope, self.space(), query.len());
        if index.read().as_ref().is_none_or(Vectors::is_filling) {
            self.begin(&index)?;
            self.make_room();
        }
        let found = index.read().as_ref().map(|vectors| vectors.nearest(query, k));
        Ok(found.unwrap_or_default())
    }

    /// Entries that were found damaged while indexes were filled. Handed over once.
    pub(super) fn take_damaged(&self) -> Vec<(Scope, EntryId)> {
        std::mem::take(&mut *lock(&self.damaged))
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
        build_if_wanted(&self.builder, &index);
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
            building: count(|vectors| vectors.is_building() || vectors.is_filling())
                + indexes.iter().filter(|index| index.is_changing()).count(),
        }
    }

    /// Reads the first entries of a scope, and sees to it that the rest comes.
    fn begin(&self, index: &Arc<ScopeIndex>) -> Result<(), Error> {
        let _first = lock(&index.beginning);
        if index.read().is_some() {
            return Ok(());
        }
        let budget = Arc::clone(&self.budget);
        *index.write() = Some(Vectors::to_be_filled(index.dimensions, self.graph_from, budget));
        let mut filling = Filling::new();
        let filled = filling.go_on(index, &self.disk, &self.snapshots, self.read_at_once);
        note_damaged(&self.damaged, index, &mut filling);
        let is_on_its_way = match &filled {
            Ok(true) => true,
            Ok(false) => self.filler.ask(index, filling),
            Err(_) => false,
        };
        if !is_on_its_way {
            // Too many wait already, or it failed: the next search tries again.
            index.forget();
        }
        build_if_wanted(&self.builder, index);
        filled.map(drop)
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
        lock(&self.held)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn build_if_wanted(builder: &Builder, index: &Arc<ScopeIndex>) {
    let wanted = index.write().as_mut().is_some_and(Vectors::wants_builder);
    if wanted && !builder.ask(index) {
        // Too many wait already; the next put asks again.
        index.give_up_building();
    }
}

fn note_damaged(damaged: &Mutex<Vec<(Scope, EntryId)>>, index: &ScopeIndex, filling: &mut Filling) {
    if !filling.damaged.is_empty() {
        lock(damaged).extend(filling.damaged.drain(..).map(|id| (index.scope, id)));
    }
}

impl Held {
    /// The index of the scope, marked as asked. One for vectors of another length is of no use and goes.
    fn obtain(&mut self, scope: &Scope, space: Space, dimensions: usize) -> Arc<ScopeIndex> {
        let known = self.forget(scope).filter(|index| index.dimensions == dimensions);
        let new = || ScopeIndex {
            scope: *scope,
            space,
            dimensions,
            vectors: RwLock::new(None),
            beginning: Mutex::new(()),
        };
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

    /// Changes what is held, if anything is.
    pub(super) fn change(&self, change: impl FnOnce(&mut Vectors)) {
        if let Some(vectors) = self.write().as_mut() {
            change(vectors);
        }
    }

    /// Forgets what is held: whoever asks next fills it anew.
    pub(super) fn forget(&self) {
        *self.write() = None;
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
