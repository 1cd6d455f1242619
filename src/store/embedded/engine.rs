//! [`Engine`]: the store as blocking code. Writes are made one after the other, each to disk and then to the
//! index; reads need no lock on disk.

use super::codec::{self, Damaged, Key};
use super::disk::{Aged, Change, Disk, OfOtherSpaces};
use super::hot::Hot;
use super::index::Indexes;
use super::recovery::{self, Opened};
use super::snapshot::Snapshots;
use super::stock::{self, Left, Rest};
use super::{Config, Space, Tuning};
use crate::clock::Millis;
use crate::store::popularity::Popularity;
use crate::store::room::{Admission, Evictor, Facts, Newcomer, Shelf, Used};
use crate::store::{
    Counters, Entry, EntryId, Error, Match, Place, Room, Scope, Seen, Steps, Walk, best_first,
};
use crate::vector::UnitVector;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is kept of whole entries is this part of what the indexes may take.
const HOT_PART: usize = 4;
/// How far what is noted of what is used may be behind.
const NOTED_AFTER: Used = Used { entries: 512, bytes: 8 << 20 };
/// How many entries are removed, or their hits noted, before other writes get their turn.
const AT_ONCE: usize = 64;
/// How many places, and how many bytes of entries, are looked at in one step of a walk.
const WALKED_PLACES: usize = 4096;
const WALKED_BYTES: u64 = 4 << 20;

/// The store, as blocking code sees it.
pub(super) struct Engine {
    pub(super) disk: Arc<Disk>,
    indexes: Indexes,
    hot: Hot,
    writer: Mutex<Writer>,
    room: Room,
    popularity: Popularity,
    /// Age keys, of which each entry has one. Changed by the writer only, as the next.
    entries: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    evicted: AtomicU64,
    turned_away: AtomicU64,
    space: AtomicU64,
    /// Whether a write is acknowledged only when it would survive a crash.
    flush_each: bool,
}

/// Held by whoever writes, until disk and index agree again.
pub(super) struct Writer {
    closed: bool,
    evictor: Evictor,
    /// The most that there can be, until all is counted.
    most: Option<Used>,
    /// What was used when it was noted last.
    noted: Used,
}

/// The entries on disk, as whoever makes room sees them. The writer's lock is held.
struct OnDisk<'e>(&'e Engine);

impl Engine {
    /// The engine of an opened store, and what is still to be read.
    pub(super) fn new(opened: Opened, config: &Config, tuning: &Tuning) -> Result<(Self, Rest), Error> {
        let room = config.room();
        let Opened { disk, recovery, used, popularity, rest } = opened;
        let most = rest.most.map(|most| Used {
            entries: most.entries + NOTED_AFTER.entries,
            bytes: most.bytes + NOTED_AFTER.bytes,
        });
        let disk = Arc::new(disk);
        let snapshots = Snapshots::new(config.path.join("graphs"));
        let engine = Self {
            indexes: Indexes::new(Arc::clone(&disk), config.index_bytes, tuning, snapshots)?,
            disk,
            hot: Hot::new(config.index_bytes / HOT_PART),
            writer: Mutex::new(Writer { closed: false, evictor: Evictor::new(room), most, noted: used }),
            room,
            popularity,
            entries: AtomicU64::new(used.entries),
            bytes: AtomicU64::new(used.bytes),
            damaged: AtomicU64::new(recovery.damaged),
            evicted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            space: AtomicU64::new(Space::default().0),
            flush_each: config.flush.is_zero(),
        };
        engine.shrink()?;
        Ok((engine, rest))
    }

    /// Counts some more of what was there when the store was opened.
    pub(super) fn count_more(&self, rest: &mut Rest, most: usize) -> Result<(), Error> {
        // Where it is only about how often they have answered no lock is needed.
        let writer = rest.counts.then(|| self.writer()).transpose()?;
        let counted = stock::count(&self.disk, &self.popularity, rest.places.last(), most, || {})?;
        rest.places = if counted.is_all { Left::Nothing } else { Left::behind(counted.last) };
        let Some(mut writer) = writer else { return Ok(()) };
        self.count(counted.change);
        if !counted.is_all {
            self.disk.set_counted(counted.last.as_ref());
            return Ok(());
        }
        self.disk.set_all_counted();
        writer.most = None;
        drop(writer);
        self.shrink()
    }

    /// Verifies some more of what was there when the store was opened.
    pub(super) fn verify_more(&self, rest: &mut Rest, most: usize) -> Result<(), Error> {
        let (damaged, last) = stock::verify(&self.disk, rest.values.last(), most, || {})?;
        rest.values = last.map_or(Left::Nothing, Left::Behind);
        for key in damaged {
            if let Ok((scope, id)) = codec::split_key(&key) {
                self.drop_damaged(&scope, &id)?;
            }
        }
        Ok(())
    }

    /// The limits may have been made smaller since the last time.
    fn shrink(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        if writer.most.is_some() {
            return Ok(());
        }
        let evicted = writer.evictor.shrink(&mut OnDisk(self), &self.popularity)?;
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn set_space(&self, space: Space) {
        // Held by whoever writes: nothing of the old space gets into an index behind this.
        let _writer = self.writer();
        if self.space.swap(space.0, Ordering::Relaxed) != space.0 {
            self.indexes.set_space(space);
            self.hot.forget_all();
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
        let writer = self.writer()?;
        let Some(Ok((entry, _))) = self.disk.load(scope, id, self.space())? else { return Ok(false) };
        // A newer answer came with a vector of its own.
        if entry.created != created {
            return Ok(false);
        }
        let entry = Entry { vector, ..entry };
        let (value, facts) = Disk::prepare(scope, &entry, self.space())?;
        let known = self.disk.facts(scope, id)?;
        self.write(scope, &entry, value, known, facts)?;
        drop(writer);
        self.settle().map(|()| true)
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            turned_away: self.turned_away.load(Ordering::Relaxed),
            damaged: self.damaged.load(Ordering::Relaxed),
            index: self.indexes.counters(),
            ..Counters::default()
        }
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        self.disk.flush()
    }

    /// The entry, if it was read of late.
    pub(super) fn hot(&self, scope: &Scope, id: &EntryId) -> Option<Entry> {
        self.hot.get(scope, id).ok().map(|entry| (*entry).clone())
    }

    /// The entry, which is asked for by a request: others may ask for it again.
    pub(super) fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        let seen = match self.hot.get(scope, id) {
            Ok(entry) => return Ok(Some((*entry).clone())),
            Err(seen) => seen,
        };
        let read = self.read(scope, id)?;
        if let Some((entry, bytes)) = &read {
            self.hot.keep(scope, entry, *bytes, seen);
        }
        Ok(read.map(|(entry, _)| entry))
    }

    /// The entry as it is on disk, and how many bytes it takes there.
    fn read(&self, scope: &Scope, id: &EntryId) -> Result<Option<(Entry, usize)>, Error> {
        match self.disk.load(scope, id, self.space())? {
            Some(Ok(read)) => Ok(Some(read)),
            Some(Err(Damaged)) => self.drop_damaged(scope, id).map(|()| None),
            None => Ok(None),
        }
    }

    pub(super) fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let ids = self.indexes.nearest(scope, query.as_slice(), k)?;
        for (scope, id) in self.indexes.take_damaged() {
            self.drop_damaged(&scope, &id)?;
        }
        self.read_matches(scope, query, &ids, k)
    }

    /// What is nearest, as far as it can be said without waiting for anyone or anything, in some microseconds.
    pub(super) fn nearest_at_hand(&self, scope: &Scope, query: &UnitVector, k: usize) -> AtHand {
        let Some(ids) = self.indexes.nearest_at_hand(scope, query.as_slice(), k) else {
            return AtHand::Nothing;
        };
        let hot = |id| self.hot.get(scope, id).ok();
        match ids.iter().map(hot).collect::<Option<Vec<_>>>() {
            Some(entries) => AtHand::Matches(matches(query, entries.into_iter(), k)),
            None => AtHand::Ids(ids),
        }
    }

    /// The entries of ids that an index has named.
    pub(super) fn read_matches(
        &self,
        scope: &Scope,
        query: &UnitVector,
        ids: &[EntryId],
        k: usize,
    ) -> Result<Vec<Match>, Error> {
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            entries.extend(self.load(scope, id)?);
        }
        Ok(matches(query, entries.into_iter().map(Arc::new), k))
    }

    pub(super) fn put(&self, scope: &Scope, entry: &Entry) -> Result<(), Error> {
        let (value, facts) = Disk::prepare(scope, entry, self.space())?;
        let mut writer = self.writer()?;
        let known = self.disk.facts(scope, &entry.id)?;
        let place = Place { created: entry.created, scope: *scope, id: entry.id };
        let newcomer = Newcomer { place, facts, replaces: known.map(|(_, facts)| facts) };
        let admission = match &mut writer.most {
            Some(most) => unseen(self.room, most, &newcomer),
            None => writer.evictor.admit(&mut OnDisk(self), &self.popularity, &newcomer)?,
        };
        self.evicted.fetch_add(admission.evicted, Ordering::Relaxed);
        if !admission.granted {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.write(scope, entry, value, known, facts)?;
        self.note_used(&mut writer)?;
        drop(writer);
        self.settle()
    }

    /// How much there is, once all is counted.
    pub(super) fn all_used(&self, writer: &Writer) -> Option<Used> {
        writer.most.is_none().then(|| OnDisk(self).used())
    }

    /// Notes now and then how much there is, for a start after a crash.
    fn note_used(&self, writer: &mut Writer) -> Result<(), Error> {
        let (used, noted) = (OnDisk(self).used(), writer.noted);
        let is_due = used.entries.abs_diff(noted.entries) >= NOTED_AFTER.entries / 2
            || used.bytes.abs_diff(noted.bytes) >= NOTED_AFTER.bytes / 2;
        if is_due && writer.most.is_none() {
            recovery::note_used(&self.disk.now(), used)?;
            writer.noted = used;
        }
        Ok(())
    }

    /// Makes what was just written survive a crash, where that is wanted at once. Without the writer's lock: one
    /// flush then serves all that wait for theirs.
    fn settle(&self) -> Result<(), Error> {
        if self.flush_each { self.disk.flush() } else { Ok(()) }
    }

    /// Writes an entry to the disk and to the index. The writer's lock is held.
    fn write(
        &self,
        scope: &Scope,
        entry: &Entry,
        value: Vec<u8>,
        known: Option<(Place, Facts)>,
        facts: Facts,
    ) -> Result<(), Error> {
        let place = Place { created: entry.created, scope: *scope, id: entry.id };
        // The same answer, changed in what is said about it, has answered as often as before.
        let hits = known.as_ref().filter(|(known, _)| *known == place).map_or(0, |(_, known)| known.hits);
        let bytes = value.len();
        let change = self.disk.put(&place, value, &Facts { hits, ..facts }, known.as_ref());
        match &change {
            Ok(_) => self.hot.replace(scope, entry, bytes),
            // Nobody knows what is on disk then.
            Err(_) => self.hot.forget(scope, &entry.id),
        }
        self.count(change?);
        self.indexes.put(scope, entry.id, entry.vector.as_ref().map(UnitVector::as_slice));
        Ok(())
    }

    /// A few entries, the newest first.
    pub(super) fn walk(&self, walk: &Walk) -> Result<Steps, Error> {
        let mut steps = Steps::default();
        let mut bytes = 0;
        let mut places = self.disk.by_youth(walk.after.as_ref());
        for aged in places.by_ref().take(WALKED_PLACES) {
            let (place, facts) = aged?;
            steps.next = Some(place);
            if walk.wants(&place)
                // An orphan has no entry, or one of another age, which comes at its own place.
                && let Some((entry, _)) = self.read(&place.scope, &place.id)?.filter(|(entry, _)| entry.created == place.created)
            {
                let hits = facts.hits.saturating_add(self.popularity.waiting(&place.scope, &place.id));
                steps.seen.push(Seen { scope: place.scope, entry, hits, bytes: facts.size });
                bytes += u64::from(facts.size);
            }
            if steps.seen.len() >= walk.most || bytes >= WALKED_BYTES {
                break;
            }
        }
        steps.next = steps.next.filter(|_| places.next().is_some());
        Ok(steps)
    }

    pub(super) fn asked(&self, scope: &Scope, id: &EntryId, answered: bool) {
        self.popularity.count(scope, id, answered);
    }

    /// Notes on disk how often entries have answered.
    pub(super) fn note_hits(&self) -> Result<(), Error> {
        loop {
            let hits = self.popularity.take(AT_ONCE);
            if hits.is_empty() {
                return Ok(());
            }
            let _writer = self.writer()?;
            for ((scope, id), hits) in hits {
                if let Some((place, facts)) = self.disk.facts(&scope, &id)? {
                    self.disk.note(&place, &Facts { hits: facts.hits.saturating_add(hits), ..facts })?;
                }
            }
        }
    }

    pub(super) fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        let writer = self.writer()?;
        let removed = self.disk.remove(scope, id);
        self.hot.forget(scope, id);
        let (was_there, change) = removed?;
        self.count(change);
        self.indexes.remove(scope, id);
        drop(writer);
        self.settle()?;
        Ok(was_there)
    }

    pub(super) fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        let writer = self.writer()?;
        let cleared = self.disk.clear(scope);
        self.hot.forget_all();
        let (cleared, change) = cleared?;
        self.count(change);
        self.indexes.clear(scope);
        drop(writer);
        self.settle()?;
        Ok(cleared)
    }

    pub(super) fn sweep(&self, now: Millis) -> Result<u64, Error> {
        let is_due = |aged: &Result<Aged, Error>| match aged {
            Ok((_, facts)) => facts.useless_from.is_some_and(|from| from <= now),
            Err(_) => true,
        };
        let mut due = self.disk.by_age(None).filter(is_due);
        let mut swept = 0;
        loop {
            // Looked for without the lock: most of what is looked at is not due.
            let batch = due.by_ref().take(AT_ONCE).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                // One that cannot be looked at may well have entries.
                self.indexes.prune(|scope| self.disk.has_any(scope).unwrap_or(true));
                // What was said to be removed must not come back.
                return if swept > 0 { self.settle().map(|()| swept) } else { Ok(0) };
            }
            let _writer = self.writer()?;
            for (place, _) in batch {
                // It may have been pinned, or replaced, since it was looked at.
                let still = self.disk.facts(&place.scope, &place.id)?.filter(|(now_at, _)| *now_at == place);
                if still.is_none_or(|(_, facts)| facts.useless_from.is_some_and(|from| from <= now)) {
                    swept += u64::from(self.discard(&place)?);
                }
            }
        }
    }

    /// Writes something, and makes it survive a crash: whether that still works.
    pub(super) fn probe(&self) -> Result<(), Error> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The mark of an orderly end must stay.
        if writer.closed { Ok(()) } else { recovery::probe(&self.disk.now()) }
    }

    pub(super) fn close(&self) -> Result<(), Error> {
        self.note_hits()?;
        let mut writer = self.writer()?;
        let used = self.all_used(&writer);
        recovery::close(&self.disk.now(), used)?;
        writer.closed = true;
        Ok(())
    }

    /// Removes the entry at a place; says whether there was one. The writer's lock is held.
    fn discard(&self, place: &Place) -> Result<bool, Error> {
        let removed = self.disk.remove_at(place);
        self.hot.forget(&place.scope, &place.id);
        let (was_there, change) = removed?;
        self.count(change);
        if was_there {
            self.indexes.remove(&place.scope, &place.id);
        }
        Ok(was_there)
    }

    /// Removes a damaged value, unless it has been replaced by a whole one meanwhile.
    fn drop_damaged(&self, scope: &Scope, id: &EntryId) -> Result<(), Error> {
        let Ok(_writer) = self.writer() else { return Ok(()) };
        if let Some(Err(Damaged)) = self.disk.load(scope, id, self.space())? {
            let removed = self.disk.remove(scope, id);
            self.hot.forget(scope, id);
            self.count(removed?.1);
            self.indexes.remove(scope, id);
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        // After a panic of another writer the index may be behind the disk, which it is allowed to be.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.closed { Err(Error::Io("the store is closed".to_owned())) } else { Ok(writer) }
    }

    fn count(&self, change: Change) {
        for (counter, by) in [(&self.entries, change.entries), (&self.bytes, change.bytes)] {
            let changed = |n: u64| n.checked_add_signed(by);
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).ok();
        }
    }
}

impl Shelf for OnDisk<'_> {
    fn used(&self) -> Used {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Used { entries: load(&self.0.entries), bytes: load(&self.0.bytes) }
    }

    fn by_age(&self, after: Option<&Place>, most: usize) -> Result<Vec<(Place, Facts)>, Error> {
        self.0.disk.by_age(after).take(most).collect()
    }

    fn discard(&mut self, place: &Place) -> Result<(), Error> {
        self.0.discard(place).map(drop)
    }
}

/// Whether a newcomer is let in while nobody knows yet what could make room for it: if it fits beside the most that
/// there can be, or takes the place of another.
fn unseen(room: Room, most: &mut Used, newcomer: &Newcomer) -> Admission {
    let size = u64::from(newcomer.facts.size);
    let with = Used { entries: most.entries.saturating_add(1), bytes: most.bytes.saturating_add(size) };
    let granted = room.has(with) || newcomer.replaces.is_some();
    if granted {
        *most = with;
    }
    Admission { granted, evicted: 0 }
}

/// What can be said about the nearest without waiting.
pub(super) enum AtHand {
    /// All of it.
    Matches(Vec<Match>),
    /// Which they are; some have to be read from disk.
    Ids(Vec<EntryId>),
    /// Nothing: the index is not there, or is being changed, or has to look at much.
    Nothing,
}

/// The best of some entries, with their cosines by the vectors they have now: the index may have known older ones,
/// and names some more where it cannot tell which is nearer.
fn matches(query: &UnitVector, entries: impl Iterator<Item = Arc<Entry>>, k: usize) -> Vec<Match> {
    let mut matches: Vec<Match> = entries.filter_map(|entry| matched(query, entry)).collect();
    matches.sort_by(best_first);
    matches.truncate(k);
    matches
}

fn matched(query: &UnitVector, entry: Arc<Entry>) -> Option<Match> {
    let vector = entry.vector.as_ref().filter(|vector| vector.dimensions() == query.dimensions())?;
    Some(Match { cosine: query.cosine(vector), entry })
}
