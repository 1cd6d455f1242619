//! [`Hot`]: entries that were asked for of late, as they are on disk. What is asked again and again is answered without
//! a trip to a blocking thread, which costs ten times as much as the answer.

use super::codec::{self, Key};
use crate::store::{Entry, EntryId, Scope};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many parts there are, so that those who ask at the same time seldom wait for each other.
const SHARDS: usize = 16;
/// How many bytes of entries a part keeps, about: 16 MiB in all.
const SHARD_BYTES: usize = 1 << 20;
/// An entry of more bytes is rare, and not worth the place of many others.
const LARGEST: usize = SHARD_BYTES / 8;

/// Entries as they are on disk. Whoever writes there calls [`Hot::forget`] behind it.
pub(super) struct Hot([Mutex<Shard>; SHARDS]);

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

impl Default for Hot {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Hot {
    /// The entry, if it is here; if it is not, what to show when it has been read.
    pub(super) fn get(&self, scope: &Scope, id: &EntryId) -> Result<Arc<Entry>, Seen> {
        let mut shard = self.shard(id);
        shard.get(&codec::key(scope, id)).ok_or(Seen(shard.changes))
    }

    /// Keeps what was read, unless anything was changed since then.
    pub(super) fn keep(&self, scope: &Scope, entry: &Entry, bytes: usize, seen: Seen) {
        let mut shard = self.shard(&entry.id);
        if bytes <= LARGEST && shard.changes == seen.0 {
            shard.put(codec::key(scope, &entry.id), (Arc::new(entry.clone()), bytes));
        }
    }

    /// An entry was changed or removed on disk.
    pub(super) fn forget(&self, scope: &Scope, id: &EntryId) {
        let mut shard = self.shard(id);
        shard.changes += 1;
        let key = codec::key(scope, id);
        shard.young.remove(&key);
        shard.old.remove(&key);
    }

    /// Anything may have been changed.
    pub(super) fn forget_all(&self) {
        for shard in &self.0 {
            let mut shard = lock(shard);
            *shard = Shard { changes: shard.changes + 1, ..Shard::default() };
        }
    }

    fn shard(&self, id: &EntryId) -> MutexGuard<'_, Shard> {
        lock(&self.0[usize::from(id.0[0]) % SHARDS])
    }
}

impl Shard {
    fn get(&mut self, key: &Key) -> Option<Arc<Entry>> {
        if let Some((young, _)) = self.young.get(key) {
            return Some(Arc::clone(young));
        }
        let (old, bytes) = self.old.remove(key)?;
        self.put(*key, (Arc::clone(&old), bytes));
        Some(old)
    }

    fn put(&mut self, key: Key, (entry, bytes): Kept) {
        if self.bytes + bytes > SHARD_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.young.insert(key, (entry, bytes));
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
        let (hot, entry) = (Hot::default(), entry(1));
        read(&hot, &entry, 100);
        assert_eq!(*hot.get(&SCOPE, &entry.id).unwrap(), entry);
        assert!(hot.get(&Scope([2; 32]), &entry.id).is_err());
        hot.forget(&SCOPE, &entry.id);
        assert!(hot.get(&SCOPE, &entry.id).is_err());
        read(&hot, &entry, 100);
        hot.forget_all();
        assert!(hot.get(&SCOPE, &entry.id).is_err());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_behind_it() {
        let (hot, entry) = (Hot::default(), entry(1));
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
        let (hot, used) = (Hot::default(), entry(0));
        read(&hot, &used, 100);
        for n in 1..1000 {
            read(&hot, &entry(n), 10_000);
            assert!(hot.get(&SCOPE, &used.id).is_ok(), "after {n}");
        }
        let shard = hot.shard(&used.id);
        let bytes: usize = shard.young.values().chain(shard.old.values()).map(|(_, bytes)| bytes).sum();
        assert!(bytes <= SHARD_BYTES, "{bytes}");
        drop(shard);
        read(&hot, &entry(1001), LARGEST + 1);
        assert!(hot.get(&SCOPE, &entry(1001).id).is_err(), "too large");
    }
}
