//! [`Disk`]: the entries as they lie in sled, and the order of writes that keeps them right.
//!
//! Each entry has a value in `entries` and a key in `ages`. sled keeps a crash to a prefix of the writes, so
//! their order is enough, and no transaction is needed: the age key is written before its entry and removed
//! after it. A crash in between leaves an age key without an entry (an orphan), never an entry that no age
//! finds. Orphans are skipped, and removed when the oldest are.

use super::Space;
use super::codec::{self, Damaged, Key};
use crate::clock::Millis;
use crate::store::{Entry, EntryId, Error, Scope};
use sled::Tree;
use std::ops::Bound;

/// The trees.
pub(super) struct Disk {
    pub(super) db: sled::Db,
    pub(super) meta: Tree,
    pub(super) entries: Tree,
    pub(super) ages: Tree,
}

/// By how many a write changed the number of age keys, which is what the limit counts.
pub(super) type Change = i64;

/// Entries that have a vector in another space, without it, and the last key that was looked at.
pub(super) type OfOtherSpaces = (Vec<(Scope, Entry)>, Option<Key>);

/// An entry by its age.
pub(super) struct Aged {
    pub(super) age_key: sled::IVec,
    pub(super) expires: Option<Millis>,
}

impl Disk {
    /// The trees of an opened database.
    pub(super) fn new(db: sled::Db) -> Result<Self, sled::Error> {
        let (meta, entries, ages) = (db.open_tree("meta")?, db.open_tree("entries")?, db.open_tree("ages")?);
        Ok(Self { db, meta, entries, ages })
    }

    /// The entry, if it is there and whole.
    pub(super) fn load(
        &self,
        scope: &Scope,
        id: &EntryId,
        space: Space,
    ) -> Result<Option<Result<Entry, Damaged>>, Error> {
        let key = codec::key(scope, id);
        Ok(self.entries.get(key).map_err(failed)?.map(|value| codec::decode(&key, &value, space)))
    }

    /// Up to `most` entries that have a vector in another space, from behind `after` on in the order of keys, and
    /// the last key that was looked at; `None` at the end. Their vectors are left out.
    pub(super) fn of_other_spaces(
        &self,
        space: Space,
        after: Option<Key>,
        most: usize,
    ) -> Result<OfOtherSpaces, Error> {
        /// Looked at in one go, so that nobody waits long for the rest.
        const LOOKED_AT: usize = 4096;
        let mut found = Vec::new();
        let mut last = None;
        let begin = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        for pair in self.entries.range((begin, Bound::Unbounded)).take(LOOKED_AT) {
            let (key, value) = pair.map_err(failed)?;
            last = Some(Key::try_from(key.as_ref()).map_err(|_| odd_key())?);
            // What is damaged is dropped by whoever asks for it.
            if codec::decode_space(&key, &value).is_ok_and(|of| of.is_some_and(|of| of != space))
                && let (Ok(entry), Ok((scope, _))) =
                    (codec::decode(&key, &value, space), codec::split_key(&key))
            {
                found.push((scope, entry));
            }
            if found.len() == most {
                break;
            }
        }
        Ok((found, last))
    }

    /// Writes an entry, over an older one of that id.
    pub(super) fn put(&self, scope: &Scope, entry: &Entry, space: Space) -> Result<Change, Error> {
        let key = codec::key(scope, &entry.id);
        let value = codec::encode(&key, entry, space)?;
        let age_key = codec::age_key(entry.created, &key);
        let new_age = self.ages.insert(age_key, codec::age_value(entry.useless_from())).map_err(failed)?;
        let old = self.entries.insert(key, value).map_err(failed)?;
        let mut change = Change::from(new_age.is_none());
        let old_created = old.and_then(|old| codec::decode_created(&key, &old).ok());
        if let Some(created) = old_created.filter(|created| *created != entry.created) {
            change -= self.remove_age(created, &key)?;
        }
        Ok(change)
    }

    /// Removes an entry. The first says whether there was a whole one.
    pub(super) fn remove(&self, scope: &Scope, id: &EntryId) -> Result<(bool, Change), Error> {
        self.remove_key(&codec::key(scope, id))
    }

    /// Removes every entry of a scope, and says how many there were.
    pub(super) fn clear(&self, scope: &Scope) -> Result<(u64, Change), Error> {
        let (mut cleared, mut change) = (0, 0);
        for key in self.entries.scan_prefix(scope.0).keys() {
            let key = Key::try_from(key.map_err(failed)?.as_ref()).map_err(|_| odd_key())?;
            let (was_there, by) = self.remove_key(&key)?;
            cleared += u64::from(was_there);
            change += by;
        }
        Ok((cleared, change))
    }

    /// Hands over the vectors of a scope. Returns the ids of the values that are damaged.
    pub(super) fn scan_vectors(
        &self,
        scope: &Scope,
        space: Space,
        take: &mut dyn FnMut(EntryId, &[f32]),
    ) -> Result<Vec<EntryId>, Error> {
        let mut damaged = Vec::new();
        for pair in self.entries.scan_prefix(scope.0) {
            let (key, value) = pair.map_err(failed)?;
            let (_, id) = codec::split_key(&key).map_err(|_| odd_key())?;
            match codec::decode_vector(&key, &value, space) {
                Ok(vector) if vector.is_empty() => {}
                Ok(vector) => take(id, &vector),
                Err(Damaged) => damaged.push(id),
            }
        }
        Ok(damaged)
    }

    /// All by age, the oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = Result<Aged, Error>> {
        self.ages.iter().map(|pair| {
            let (age_key, value) = pair.map_err(failed)?;
            Ok(Aged { age_key, expires: codec::split_age_value(&value) })
        })
    }

    /// Removes the entry an age key stands for, and the age key. Says which entry that was, or nothing for an
    /// orphan: its entry is gone, or has been replaced by one of another age.
    pub(super) fn remove_aged(&self, age_key: &[u8]) -> Result<(Option<(Scope, EntryId)>, Change), Error> {
        let (created, key) = codec::split_age_key(age_key).map_err(|_| odd_key())?;
        let value = self.entries.get(key).map_err(failed)?;
        let is_its_entry = value.is_some_and(|value| codec::decode_created(&key, &value) == Ok(created));
        let removed = if is_its_entry {
            self.entries.remove(key).map_err(failed)?;
            codec::split_key(&key).ok()
        } else {
            None
        };
        Ok((removed, -self.remove_age(created, &key)?))
    }

    /// Makes everything written up to now survive a crash.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(|_| ()).map_err(failed)
    }

    fn remove_key(&self, key: &Key) -> Result<(bool, Change), Error> {
        let Some(value) = self.entries.remove(key).map_err(failed)? else { return Ok((false, 0)) };
        match codec::decode_created(key, &value) {
            Ok(created) => Ok((true, -self.remove_age(created, key)?)),
            Err(Damaged) => Ok((false, 0)),
        }
    }

    fn remove_age(&self, created: Millis, key: &Key) -> Result<Change, Error> {
        let removed = self.ages.remove(codec::age_key(created, key)).map_err(failed)?;
        Ok(Change::from(removed.is_some()))
    }
}

/// What a failure of sled means to the users of a store.
pub(super) fn failed(error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => Error::Io(error.to_string()),
        other => Error::Damaged(other.to_string()),
    }
}

fn odd_key() -> Error {
    Error::Damaged("a key has a length that was never written".to_owned())
}
