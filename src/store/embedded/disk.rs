//! [`Disk`]: the entries as they lie in sled, and the order of writes that keeps them right.
//!
//! Each entry has a value in `entries`, and in `ages` a key with what is needed to make room. sled keeps a crash to a
//! prefix of the writes, so their order is enough, and no transaction is needed: the age key is written before its
//! entry and removed after it. A crash in between leaves an age key without an entry (an orphan), never an entry that
//! no age finds. Orphans are skipped, and removed when the oldest are.
//!
//! Where an entry is written over one of the same age, both have one age key. What is noted there is of both until the
//! entry is written, and says which of them by its checksum: so it is right about whichever a crash leaves.

use super::Space;
use super::codec::{self, AgeKey, Damaged, Head, Key, Noted};
use super::mirror::{self, Mirror, Takes};
use super::trees::Trees;
use crate::clock::Millis;
use crate::store::room::Facts;
use crate::store::{Entry, EntryId, Error, Place, Scope};
use sled::Tree;
use std::ops::{AddAssign, Bound, Neg};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// How often it is flushed where each write is, for what is written beside.
const UNASKED: Duration = Duration::from_millis(100);

/// The database that is in force, and the one that takes its place some time, into which everything is written as
/// well (see `compact`). Whoever reads for long goes on with the one it began with.
pub(super) struct Disk {
    now: RwLock<Arc<Trees>>,
    /// How often it is flushed.
    flush: Duration,
    copy: Mutex<Option<Arc<Mirror>>>,
    /// Up to which place by age all is counted: what changes behind it will be. Changed by whoever writes.
    counted: Mutex<Counted>,
}

/// How far the places have been counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counted {
    All,
    UpTo(AgeKey),
}

/// An entry as it was read, and how many bytes it takes.
type Read = Result<(Entry, usize), Damaged>;

/// By how much a write changed the number of age keys, and the sizes that are noted beside them, which is what the
/// limits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

impl AddAssign for Change {
    fn add_assign(&mut self, by: Self) {
        self.entries += by.entries;
        self.bytes += by.bytes;
    }
}

impl Neg for Change {
    type Output = Self;

    fn neg(self) -> Self {
        Self { entries: -self.entries, bytes: -self.bytes }
    }
}

/// Entries that have a vector in another space, without it, and the last key that was looked at.
pub(super) type OfOtherSpaces = (Vec<(Scope, Entry)>, Option<Key>);

/// Some vectors of a scope.
#[derive(Debug, Default)]
pub(super) struct SomeVectors {
    pub(super) vectors: Vec<(EntryId, Vec<f32>)>,
    /// Whose values are not what was written.
    pub(super) damaged: Vec<EntryId>,
    /// The last one that was looked at, to go on behind it.
    pub(super) last: Option<EntryId>,
    pub(super) looked_at: usize,
}

/// An entry by its age.
pub(super) type Aged = (Place, Facts);

impl Disk {
    /// Flushes what is written at least that often.
    pub(super) fn new(trees: Trees, flush: Duration) -> Result<Self, Error> {
        let flush = if flush.is_zero() { UNASKED } else { flush };
        let trees = Arc::new(trees);
        trees.keep_flushed(flush)?;
        let counted = Mutex::new(Counted::All);
        Ok(Self { now: RwLock::new(trees), flush, copy: Mutex::default(), counted })
    }

    /// The database that is in force.
    pub(super) fn now(&self) -> Arc<Trees> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on everything is written to `copy` as well. The writer's lock is held.
    pub(super) fn mirror(&self, copy: &Arc<Mirror>) {
        self.unmirror("another copy is begun");
        *self.copy() = Some(Arc::clone(copy));
    }

    /// Nothing more is written to the copy, if there is one.
    pub(super) fn unmirror(&self, why: &str) {
        let copy = self.copy().take();
        if let Some(copy) = copy {
            copy.give_up(why);
        }
    }

    /// Puts in force what has been the copy. The writer's lock is held.
    pub(super) fn swap(&self, new: Trees) {
        *self.copy() = None;
        new.entries.values().stand_alone();
        let new = Arc::new(new);
        if let Err(error) = new.keep_flushed(self.flush) {
            tracing::warn!(%error, "the store is flushed by itself less often");
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    // A panic between two writes leaves no half of anything here.
    fn copy(&self) -> MutexGuard<'_, Option<Arc<Mirror>>> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_entry(
        &self,
        key: &[u8],
        value: Option<&sled::IVec>,
    ) -> Result<Option<Result<Head, Damaged>>, Error> {
        let now = self.now();
        let lies = value.map(|value| now.entries.placed(value)).transpose()?;
        let was = now.entries.set_placed(key, lies.clone());
        self.copied(was.is_ok(), |takes| {
            let copied = if takes == Takes::Places { lies } else { value.cloned() };
            mirror::Write::Entry(key.into(), copied)
        });
        was
    }

    fn write_age(&self, key: &[u8], noted: Option<&sled::IVec>) -> Result<Option<sled::IVec>, Error> {
        let was = set(&self.now().ages, key, noted.cloned()).map_err(failed);
        self.copied(was.is_ok(), |_| mirror::Write::Age(key.into(), noted.cloned()));
        was
    }

    /// Leaves to the copy what was written to the database that is in force.
    fn copied(&self, is_written: bool, write: impl FnOnce(Takes) -> mirror::Write) {
        let Some(copy) = self.copy().clone() else { return };
        let taken = match is_written {
            true => copy.take(write(copy.takes())).map_err(|error| error.to_string()),
            false => Err("the database in force has failed".to_owned()),
        };
        // One that has missed something is of no use any more.
        if let Err(why) = taken {
            self.unmirror(&why);
        }
    }

    /// The entry, if it is there and whole, and how many bytes it takes.
    pub(super) fn load(&self, scope: &Scope, id: &EntryId, space: Space) -> Result<Option<Read>, Error> {
        let key = codec::key(scope, id);
        let read = |value: sled::IVec| Ok((codec::decode(&key, &value, space)?, value.len()));
        Ok(self.now().entries.get(&key)?.map(read))
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
        for pair in self.pairs((begin, Bound::Unbounded)).take(LOOKED_AT) {
            let (key, value) = pair?;
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

    /// The value of an entry, ready to be written, and what is to be noted about it.
    pub(super) fn prepare(scope: &Scope, entry: &Entry, space: Space) -> Result<(Vec<u8>, Facts), Error> {
        let value = codec::encode(&codec::key(scope, &entry.id), entry, space)?;
        let facts = Facts::of(entry, value.len() + codec::KEYS);
        Ok((value, facts))
    }

    /// What is noted about the entry of that id, if there is one.
    pub(super) fn facts(&self, scope: &Scope, id: &EntryId) -> Result<Option<(Place, Facts)>, Error> {
        let key = codec::key(scope, id);
        let Some(Ok(head)) = self.now().entries.head(&key)? else { return Ok(None) };
        let noted = self.now().ages.get(codec::age_key(head.created, &key)).map_err(failed)?;
        let place = Place { created: head.created, scope: *scope, id: *id };
        Ok(noted.map(|noted| (place, codec::split_age_value(&noted).about(Some(head)))))
    }

    /// Notes something else about an entry, without changing its size.
    pub(super) fn note(&self, place: &Place, facts: &Facts) -> Result<(), Error> {
        self.write_age(&age_key(place), Some(&codec::age_value(facts).into())).map(drop)
    }

    /// Writes a prepared entry, over the one of that id that is `known`.
    pub(super) fn put(
        &self,
        place: &Place,
        value: Vec<u8>,
        facts: &Facts,
        known: Option<&Aged>,
    ) -> Result<Change, Error> {
        let age_key = age_key(place);
        let mut change = self.came(&age_key, Some(facts));
        if let Some((known, before)) = known {
            change += -self.came(&self::age_key(known), Some(before));
        }
        let is_of_another = known.is_none_or(|(known, _)| known != place);
        for write in writes(place, value, facts, known) {
            let replaced = self.apply(&write)?;
            // A crash had left an age key without its entry.
            if let (Write::Age(at, Some(_)), Some(orphan), true) = (write, replaced, is_of_another) {
                change += -self.came(&at, Some(&codec::split_age_value(&orphan).about(None)));
            }
        }
        Ok(change)
    }

    /// Says what was noted beside an age key that is written.
    fn apply(&self, write: &Write) -> Result<Option<sled::IVec>, Error> {
        match write {
            Write::Age(key, noted) => self.write_age(key, noted.as_ref()),
            Write::Entry(key, value) => self.write_entry(key, Some(value)).map(|_| None),
        }
    }

    /// Removes an entry. The first says whether there was a whole one.
    pub(super) fn remove(&self, scope: &Scope, id: &EntryId) -> Result<(bool, Change), Error> {
        self.remove_key(&codec::key(scope, id))
    }

    /// Removes every entry of a scope, and says how many there were.
    pub(super) fn clear(&self, scope: &Scope) -> Result<(u64, Change), Error> {
        let (mut cleared, mut change) = (0, Change::default());
        for key in self.now().entries.keys_under(&scope.0) {
            let key = Key::try_from(key?.as_ref()).map_err(|_| odd_key())?;
            let (was_there, by) = self.remove_key(&key)?;
            cleared += u64::from(was_there);
            change += by;
        }
        Ok((cleared, change))
    }

    /// Whether a scope has any entry.
    pub(super) fn has_any(&self, scope: &Scope) -> Result<bool, Error> {
        Ok(self.now().entries.keys_under(&scope.0).next().transpose()?.is_some())
    }

    /// The vectors of up to `most` entries of a scope, from behind `after` on in the order of ids.
    pub(super) fn vectors(
        &self,
        scope: &Scope,
        space: Space,
        after: Option<&EntryId>,
        most: usize,
    ) -> Result<SomeVectors, Error> {
        let mut some = SomeVectors::default();
        let begin = match after {
            Some(id) => Bound::Excluded(codec::key(scope, id)),
            None => Bound::Included(codec::key(scope, &EntryId([0; 32]))),
        };
        let end = Bound::Included(codec::key(scope, &EntryId([u8::MAX; 32])));
        for pair in self.pairs((begin.map(Vec::from), end.map(Vec::from))).take(most) {
            let (key, value) = pair?;
            let (_, id) = codec::split_key(&key).map_err(|_| odd_key())?;
            match codec::decode_vector(&key, &value, space) {
                Ok(vector) if vector.is_empty() => {}
                Ok(vector) => some.vectors.push((id, vector)),
                Err(Damaged) => some.damaged.push(id),
            }
            some.last = Some(id);
            some.looked_at += 1;
        }
        Ok(some)
    }

    /// All by age from behind `after` on, the oldest first.
    pub(super) fn by_age(&self, after: Option<&Place>) -> impl Iterator<Item = Result<Aged, Error>> + use<> {
        let begin = after.map_or(Bound::Unbounded, |place| Bound::Excluded(age_key(place).to_vec()));
        let trees = self.now();
        trees.ages.range((begin, Bound::Unbounded)).map(move |pair| aged(&trees, pair))
    }

    /// All by age from before `after` on, the youngest first.
    pub(super) fn by_youth(
        &self,
        after: Option<&Place>,
    ) -> impl Iterator<Item = Result<Aged, Error>> + use<> {
        let end = after.map_or(Bound::Unbounded, |place| Bound::Excluded(age_key(place).to_vec()));
        let trees = self.now();
        trees.ages.range((Bound::Unbounded, end)).rev().map(move |pair| aged(&trees, pair))
    }

    /// What is noted of the value of the entry at a place, if there is one of that age.
    pub(super) fn head_at(&self, place: &Place) -> Result<Option<Head>, Error> {
        let head = self.now().entries.head(&codec::key(&place.scope, &place.id))?;
        Ok(head.and_then(Result::ok).filter(|head| head.created == place.created))
    }

    /// Removes the entry at a place, and its age key. Says whether there was one, or an orphan: its entry is gone,
    /// or has been replaced by one of another age.
    pub(super) fn remove_at(&self, place: &Place) -> Result<(bool, Change), Error> {
        let key = codec::key(&place.scope, &place.id);
        let head = self.head_at(place)?;
        if head.is_some() {
            self.write_entry(&key, None)?;
        }
        Ok((head.is_some(), -self.remove_age(place.created, &key, head)?))
    }

    /// Makes everything written up to now survive a crash.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.now().flush()
    }

    fn remove_key(&self, key: &Key) -> Result<(bool, Change), Error> {
        match self.write_entry(key, None)? {
            Some(Ok(head)) => Ok((true, -self.remove_age(head.created, key, Some(head))?)),
            Some(Err(Damaged)) | None => Ok((false, Change::default())),
        }
    }

    /// Removes the age key of a value, and says what had come with it.
    fn remove_age(&self, created: Millis, key: &Key, head: Option<Head>) -> Result<Change, Error> {
        let age_key = codec::age_key(created, key);
        let removed = self.write_age(&age_key, None)?;
        let facts = removed.map(|noted| codec::split_age_value(&noted).about(head));
        Ok(self.came(&age_key, facts.as_ref()))
    }

    /// One that came, by what is noted beside its age key. Nothing yet where it is still to be counted.
    fn came(&self, age_key: &AgeKey, facts: Option<&Facts>) -> Change {
        let is_counted = match &*lock(&self.counted) {
            Counted::All => true,
            Counted::UpTo(last) => age_key <= last,
        };
        let facts = facts.filter(|_| is_counted);
        facts.map_or(Change::default(), |facts| Change { entries: 1, bytes: facts.size.into() })
    }

    /// Up to where all is counted from now on. `None` is nothing.
    pub(super) fn set_counted(&self, up_to: Option<&Place>) {
        let none = codec::age_key(Millis(0), &[0; size_of::<Key>()]);
        let last = up_to.map_or(none, age_key);
        *lock(&self.counted) = Counted::UpTo(last);
    }

    /// All is counted.
    pub(super) fn set_all_counted(&self) {
        *lock(&self.counted) = Counted::All;
    }

    /// All values, from behind `after` on in the order of keys.
    pub(super) fn values(
        &self,
        after: Option<&Key>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), Error>> + use<> {
        let begin = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        self.pairs((begin, Bound::Unbounded))
    }

    /// Keys and their values, in order.
    fn pairs(
        &self,
        keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), Error>> + use<> {
        let trees = self.now();
        trees.entries.places(keys).filter_map(move |place| trees.entries.read(place))
    }
}

fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn set(tree: &Tree, key: &[u8], value: Option<sled::IVec>) -> sled::Result<Option<sled::IVec>> {
    match value {
        Some(value) => tree.insert(key, value),
        None => tree.remove(key),
    }
}

/// One write of some that belong together.
#[derive(Clone, Debug)]
enum Write {
    Age(AgeKey, Option<sled::IVec>),
    Entry(Key, sled::IVec),
}

/// What is written to put an entry over the one that is `known`, in this order. After each of these a crash leaves the
/// old entry or the new one, and its age key with what is right about it.
fn writes(place: &Place, value: Vec<u8>, facts: &Facts, known: Option<&Aged>) -> Vec<Write> {
    let (age_key, noted) = (age_key(place), codec::age_value(facts));
    let entry = |value: Vec<u8>| Write::Entry(codec::key(&place.scope, &place.id), value.into());
    let age = |noted: Vec<u8>| Write::Age(age_key, Some(noted.into()));
    match known {
        None => vec![age(noted), entry(value)],
        Some((known, _)) if known != place => {
            vec![age(noted), entry(value), Write::Age(self::age_key(known), None)]
        }
        Some((_, before)) => {
            vec![age(codec::age_value_of_two(before, facts, &value)), entry(value), age(noted)]
        }
    }
}

fn age_key(place: &Place) -> AgeKey {
    codec::age_key(place.created, &codec::key(&place.scope, &place.id))
}

fn aged(trees: &Trees, pair: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Aged, Error> {
    let (age_key, noted) = pair.map_err(failed)?;
    let (created, key) = codec::split_age_key(&age_key).map_err(|_| odd_key())?;
    let (scope, id) = codec::split_key(&key).map_err(|_| odd_key())?;
    let facts = match codec::split_age_value(&noted) {
        Noted::Of(facts) => facts,
        // Hardly ever: a crash has left it.
        of_two @ Noted::OfTwo { .. } => of_two.about(trees.entries.head(&key)?.and_then(Result::ok)),
    };
    Ok((Place { created, scope, id }, facts))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;
    use crate::store::embedded::values::{Files, Values};
    use proptest::prelude::*;

    const HERE: Space = Space(5);
    const SCOPE: Scope = Scope([7; 32]);

    fn any_entry() -> impl Strategy<Value = Entry> {
        (0..3u64, prop::option::of(0..3u64), any::<bool>(), 0..3usize).prop_map(
            |(created, expires, pinned, words)| Entry {
                created: Millis(created),
                expires: expires.map(Millis),
                stale_until: None,
                pinned,
                text: "so many words ".repeat(words),
                ..full_entry()
            },
        )
    }

    /// What is noted of the entry that lies there, and of which age keys there are.
    fn assert_right(disk: &Disk, one_of: &[Option<&Entry>]) {
        let id = full_entry().id;
        let entry = disk.load(&SCOPE, &id, HERE).unwrap().map(|read| read.unwrap().0);
        assert!(one_of.contains(&entry.as_ref()), "{entry:?}");
        let noted = disk.facts(&SCOPE, &id).unwrap();
        let right = entry.map(|entry| {
            let (_, facts) = Disk::prepare(&SCOPE, &entry, HERE).unwrap();
            (Place { created: entry.created, scope: SCOPE, id }, facts)
        });
        assert_eq!(noted, right);
        // The rest are orphans.
        let by_age = |aged: Result<Aged, Error>| aged.unwrap();
        let of_it: Vec<Aged> = disk
            .by_age(None)
            .map(by_age)
            .filter(|(place, _)| disk.head_at(place).unwrap().is_some())
            .collect();
        assert_eq!(of_it, right.into_iter().collect::<Vec<_>>());
    }

    fn counted(disk: &Disk) -> Change {
        disk.by_age(None).fold(Change::default(), |mut sum, aged| {
            sum += Change { entries: 1, bytes: aged.unwrap().1.size.into() };
            sum
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn after_any_of_its_writes_what_is_noted_is_right(
            versions in prop::collection::vec((any_entry(), prop::option::of(0..3usize)), 1..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let sled = sled::open(folder.path()).unwrap();
            let values = Values::open(Files { folder: folder.path().join("values"), shortest: 1 }).unwrap();
            let disk = Disk::new(Trees::new(sled, 0, values).unwrap(), Duration::from_hours(1)).unwrap();
            let mut last = None;
            let mut sum = Change::default();
            for (entry, torn) in versions {
                let (value, facts) = Disk::prepare(&SCOPE, &entry, HERE).unwrap();
                let place = Place { created: entry.created, scope: SCOPE, id: entry.id };
                let known = disk.facts(&SCOPE, &entry.id).unwrap();
                match torn {
                    None => {
                        sum += disk.put(&place, value, &facts, known.as_ref()).unwrap();
                        assert_right(&disk, &[Some(&entry)]);
                        last = Some(entry);
                    }
                    Some(count) => {
                        for write in writes(&place, value, &facts, known.as_ref()).iter().take(count) {
                            disk.apply(write).unwrap();
                        }
                        assert_right(&disk, &[last.as_ref(), Some(&entry)]);
                        last = disk.load(&SCOPE, &entry.id, HERE).unwrap().map(|read| read.unwrap().0);
                        // As it is done when a store is opened.
                        sum = counted(&disk);
                    }
                }
                prop_assert_eq!(sum, counted(&disk));
            }
            sum += disk.remove(&SCOPE, &full_entry().id).unwrap().1;
            prop_assert_eq!(sum, counted(&disk));
        }
    }
}
