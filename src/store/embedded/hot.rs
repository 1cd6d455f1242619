//! [`Hot`]: entries that were asked for of late, as they are on disk. What is asked again and again is answered without
//! a trip to a blocking thread, which costs ten times as much as the answer.

use super::codec::{self, Key};
use crate::store::{Entry, EntryId, Scope};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many parts there are, so that those who ask at the same time seldom wait for each other.
const SHARDS: usize = 16;
/// The most bytes of entries that are kept, about: with ten thousand entries of two kilobytes, all of them.
const MOST_BYTES: usize = 64 << 20;
/// An entry of more than this part of a shard is rare, and not worth the place of many others.
const LARGEST_PART: usize = 8;

/// Entries as they are on disk. Whoever writes there calls [`Hot::forget`] or [`Hot::replace`] behind it.
pub(super) struct Hot {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes: usize,
}

/// Two generations: when the young one is full, the old one goes.
#[derive(Default)]
struct Shard {
    young: HashMap<Key, Kept>,
    old: HashMap<Key, Kept>,
    /// How many bytes the young ones take.
    bytes: usize,
    /// How many times anything here was changed on disk.
    changes: u64,
}

/// An entry, and how many bytes it takes on disk; in memory it is about as many.
type Kept = (Arc<Entry>, usize);

/// What was known when a read began: an entry read before a change must not be kept behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Hot {
    /// Keeps so many bytes at most, and never more than is of use.
    pub(super) fn new(bytes: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, shard_bytes: bytes.min(MOST_BYTES) / SHARDS }
    }

    /// The entry, if it is here; if it is not, what to show when it has been read.
    pub(super) fn get(&self, scope: &Scope, id: &EntryId) -> Result<Arc<Entry>, Seen> {
        let mut shard = self.shard(id);
        shard.get(&codec::key(scope, id), self.shard_bytes).ok_or(Seen(shard.changes))
    }

    /// Keeps what was read, unless anything was changed since then.
    pub(super) fn keep(&self, scope: &Scope, entry: &Entry, bytes: usize, seen: Seen) {
        let mut shard = self.shard(&entry.id);
        if bytes <= self.shard_bytes / LARGEST_PART && shard.changes == seen.0 {
            shard.put(codec::key(scope, &entry.id), (Arc::new(entry.clone()), bytes), self.shard_bytes);
        }
    }

    /// An entry was written to disk: what has just been answered is likely to be asked again.
    pub(super) fn replace(&self, scope: &Scope, entry: &Entry, bytes: usize) {
        let mut shard = self.shard(&entry.id);
        shard.forget(&codec::key(scope, &entry.id));
        let seen = Seen(shard.changes);
        drop(shard);
        self.keep(scope, entry, bytes, seen);
    }

    /// An entry was changed or removed on disk.
    pub(super) fn forget(&self, scope: &Scope, id: &EntryId) {
        self.shard(id).forget(&codec::key(scope, id));
    }

    /// Anything may have been changed.
    pub(super) fn forget_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            *shard = Shard { changes: shard.changes + 1, ..Shard::default() };
        }
    }

    fn shard(&self, id: &EntryId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(id.0[0]) % SHARDS])
    }
}

impl Shard {
    fn get(&mut self, key: &Key, most: usize) -> Option<Arc<Entry>> {
        if let Some((young, _)) = self.young.get(key) {
            return Some(Arc::clone(young));
        }
        let (old, bytes) = self.old.remove(key)?;
        self.put(*key, (Arc::clone(&old), bytes), most);
        Some(old)
    }

    fn forget(&mut self, key: &Key) {
        self.changes += 1;
        if let Some((_, bytes)) = self.young.remove(key) {
            self.bytes -= bytes;
        }
        self.old.remove(key);
    }

    /// Each generation takes half of what is kept at `most`.
    fn put(&mut self, key: Key, (entry, bytes): Kept, most: usize) {
        if self.bytes + bytes > most / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some((_, replaced)) = self.young.insert(key, (entry, bytes)) {
            self.bytes -= replaced;
        }
    }
}

/// Nothing in it is left half-done by a panic.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;

    const SCOPE: Scope = Scope([1; 32]);

    fn entry(n: u16) -> Entry {
        let mut id = [0; 32];
        id[1..3].copy_from_slice(&n.to_le_bytes());
        Entry { id: EntryId(id), ..full_entry() }
    }

    fn read(hot: &Hot, entry: &Entry, bytes: usize) {
        let seen = hot.get(&SCOPE, &entry.id).unwrap_err();
        hot.keep(&SCOPE, entry, bytes, seen);
    }

    #[test]
    fn what_was_read_is_found_in_its_scope_until_it_is_changed() {
        let (hot, entry) = (Hot::new(1 << 24), entry(1));
        read(&hot, &entry, 100);
        assert_eq!(*hot.get(&SCOPE, &entry.id).unwrap(), entry);
        let newer = Entry { text: "the same, asked anew".to_owned(), ..entry.clone() };
        hot.replace(&SCOPE, &newer, 100);
        assert_eq!(*hot.get(&SCOPE, &entry.id).unwrap(), newer);
        assert!(hot.get(&Scope([2; 32]), &entry.id).is_err());
        hot.forget(&SCOPE, &entry.id);
        assert!(hot.get(&SCOPE, &entry.id).is_err());
        read(&hot, &entry, 100);
        hot.forget_all();
        assert!(hot.get(&SCOPE, &entry.id).is_err());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_behind_it() {
        let (hot, entry) = (Hot::new(1 << 24), entry(1));
        for change in
            [|hot: &Hot, id: &EntryId| hot.forget(&SCOPE, id), |hot: &Hot, _: &EntryId| hot.forget_all()]
        {
            let seen = hot.get(&SCOPE, &entry.id).unwrap_err();
            change(&hot, &entry.id);
            hot.keep(&SCOPE, &entry, 100, seen);
            assert!(hot.get(&SCOPE, &entry.id).is_err());
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let (hot, used) = (Hot::new(1 << 24), entry(0));
        read(&hot, &used, 100);
        for n in 1..1000 {
            read(&hot, &entry(n), 10_000);
            assert!(hot.get(&SCOPE, &used.id).is_ok(), "after {n}");
        }
        let shard = hot.shard(&used.id);
        let bytes: usize = shard.young.values().chain(shard.old.values()).map(|(_, bytes)| bytes).sum();
        assert!(bytes <= hot.shard_bytes, "{bytes}");
        drop(shard);
        read(&hot, &entry(1001), (1 << 20) / LARGEST_PART + 1);
        assert!(hot.get(&SCOPE, &entry(1001).id).is_err(), "too large");
    }
}
