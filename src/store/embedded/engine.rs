//! [`Engine`]: the store as blocking code. Writes are made one after the other, each to disk and then to the
//! index; reads need no lock on disk.

use super::codec::{Damaged, Key};
use super::disk::{Aged, Change, Disk, OfOtherSpaces};
use super::index::Indexes;
use super::recovery::{self, Opened};
use super::{Config, Counters, Space, Tuning};
use crate::clock::Millis;
use crate::store::{Entry, EntryId, Error, Match, Scope, best_first};
use crate::vector::UnitVector;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many of the oldest entries a put removes at most: more than one, so that a limit made smaller is reached,
/// and few, so that no put takes long.
const EVICTED_PER_PUT: usize = 16;
/// How many expired entries are removed before other writes get their turn.
const SWEPT_AT_ONCE: usize = 64;

/// The store, as blocking code sees it.
pub(super) struct Engine {
    disk: Disk,
    indexes: Indexes,
    writer: Mutex<Writer>,
    config: Config,
    /// Age keys, of which each entry has one. Changed by the writer only.
    entries: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
    space: AtomicU64,
}

/// Held by whoever writes, until disk and index agree again.
struct Writer {
    closed: bool,
}

impl Engine {
    /// The engine of an opened store.
    pub(super) fn new(opened: Opened, config: Config, tuning: &Tuning) -> Result<Self, Error> {
        Ok(Self {
            disk: opened.disk,
            indexes: Indexes::new(config.index_bytes, tuning.graph_from)?,
            writer: Mutex::new(Writer { closed: false }),
            config,
            entries: AtomicU64::new(opened.ages),
            damaged: AtomicU64::new(opened.recovery.damaged),
            evicted: AtomicU64::new(0),
            space: AtomicU64::new(Space::default().0),
        })
    }

    pub(super) fn set_space(&self, space: Space) {
        // Held by whoever writes: nothing of the old space gets into an index behind this.
        let _writer = self.writer();
        if self.space.swap(space.0, Ordering::Relaxed) != space.0 {
            self.indexes.clear_all();
        }
    }

    fn space(&self) -> Space {
        Space(self.space.load(Ordering::Relaxed))
    }

    pub(super) fn of_other_spaces(&self, after: Option<Key>, most: usize) -> Result<OfOtherSpaces, Error> {
        self.disk.of_other_spaces(self.space(), after, most)
    }

    pub(super) fn set_vector(
        &self,
        scope: &Scope,
        id: &EntryId,
        created: Millis,
        vector: Option<UnitVector>,
    ) -> Result<bool, Error> {
        let _writer = self.writer()?;
        let Some(Ok(entry)) = self.disk.load(scope, id, self.space())? else { return Ok(false) };
        // A newer answer came with a vector of its own.
        if entry.created != created {
            return Ok(false);
        }
        let entry = Entry { vector, ..entry };
        self.count(self.disk.put(scope, &entry, self.space())?);
        self.indexes.put(scope, entry.id, entry.vector.as_ref().map(UnitVector::as_slice));
        Ok(true)
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            entries: self.entries.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            index: self.indexes.counters(),
        }
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        self.disk.flush()
    }

    pub(super) fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        match self.disk.load(scope, id, self.space())? {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(Damaged)) => self.drop_damaged(scope, id).map(|()| None),
            None => Ok(None),
        }
    }

    pub(super) fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let mut damaged = Vec::new();
        let ids = self.indexes.nearest(scope, query.as_slice(), k, |take| {
            damaged = self.disk.scan_vectors(scope, self.space(), take)?;
            Ok(())
        })?;
        for id in damaged {
            self.drop_damaged(scope, &id)?;
        }
        let mut matches = Vec::with_capacity(ids.len());
        for id in ids {
            matches.extend(self.load(scope, &id)?.and_then(|entry| matched(query, entry)));
        }
        matches.sort_by(best_first);
        Ok(matches)
    }

    pub(super) fn put(&self, scope: &Scope, entry: &Entry) -> Result<(), Error> {
        let writer = self.writer()?;
        self.count(self.disk.put(scope, entry, self.space())?);
        self.indexes.put(scope, entry.id, entry.vector.as_ref().map(UnitVector::as_slice));
        self.evict(&writer)
    }

    pub(super) fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        let _writer = self.writer()?;
        let (was_there, change) = self.disk.remove(scope, id)?;
        self.count(change);
        self.indexes.remove(scope, id);
        Ok(was_there)
    }

    pub(super) fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        let _writer = self.writer()?;
        let (cleared, change) = self.disk.clear(scope)?;
        self.count(change);
        self.indexes.clear(scope);
        Ok(cleared)
    }

    pub(super) fn sweep(&self, now: Millis) -> Result<u64, Error> {
        let is_due = |aged: &Result<Aged, Error>| match aged {
            Ok(aged) => aged.expires.is_some_and(|at| at <= now),
            Err(_) => true,
        };
        let mut due = self.disk.by_age().filter(is_due);
        let mut swept = 0;
        loop {
            // Looked for without the lock: most of what is looked at is not due.
            let batch = due.by_ref().take(SWEPT_AT_ONCE).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                return Ok(swept);
            }
            let writer = self.writer()?;
            for aged in batch {
                swept += u64::from(self.remove_aged(&writer, &aged)?);
            }
        }
    }

    pub(super) fn close(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        recovery::close(&self.disk)?;
        writer.closed = true;
        Ok(())
    }

    /// Removes the oldest entries while there are too many.
    fn evict(&self, writer: &MutexGuard<'_, Writer>) -> Result<(), Error> {
        let too_many = self.entries.load(Ordering::Relaxed).saturating_sub(self.config.max_entries);
        let too_many = usize::try_from(too_many).unwrap_or(usize::MAX);
        if too_many == 0 {
            return Ok(());
        }
        for aged in self.disk.by_age().take(too_many.min(EVICTED_PER_PUT)) {
            let removed = self.remove_aged(writer, &aged?)?;
            self.evicted.fetch_add(u64::from(removed), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes an entry found by its age; says whether there was one.
    fn remove_aged(&self, _writer: &MutexGuard<'_, Writer>, aged: &Aged) -> Result<bool, Error> {
        let (removed, change) = self.disk.remove_aged(&aged.age_key)?;
        self.count(change);
        if let Some((scope, id)) = removed {
            self.indexes.remove(&scope, &id);
        }
        Ok(removed.is_some())
    }

    /// Removes a damaged value, unless it has been replaced by a whole one meanwhile.
    fn drop_damaged(&self, scope: &Scope, id: &EntryId) -> Result<(), Error> {
        let Ok(_writer) = self.writer() else { return Ok(()) };
        if let Some(Err(Damaged)) = self.disk.load(scope, id, self.space())? {
            self.count(self.disk.remove(scope, id)?.1);
            self.indexes.remove(scope, id);
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        // After a panic of another writer the index may be behind the disk, which it is allowed to be.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.closed { Err(Error::Io("the store is closed".to_owned())) } else { Ok(writer) }
    }

    fn count(&self, change: Change) {
        self.entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add_signed(change))
            .ok();
    }
}

/// The entry with its cosine, by the vector it has now: the index may have known an older one.
fn matched(query: &UnitVector, entry: Entry) -> Option<Match> {
    let vector = entry.vector.as_ref().filter(|vector| vector.dimensions() == query.dimensions())?;
    Some(Match { cosine: query.cosine(vector), entry })
}
