//! How an entry lies on disk: its key, its age key, and its value with a checksum.
//!
//! ```text
//! key        scope (32) ‖ id (32)
//! stub       file (8) ‖ from (4) ‖ length (4) ‖ checksum (8) ‖ created (8)
//! value      checksum (8) ‖ version (1) ‖ created (8) ‖ space (8) ‖ dimensions (4) ‖ vector (4 each) ‖ packed JSON of the rest
//! age key    created (8) ‖ scope (32) ‖ id (32)
//! age value  facts: useless from (8) ‖ size (4) ‖ cost (4) ‖ hits (4) ‖ pinned (1)
//!            or, while a value is written over one of the same age: facts of the old one ‖ facts of the new one ‖ its checksum (8)
//! ```
//! What is needed to make room lies beside the age key, where it is read without the entry; `useless from` is the
//! last moment there is where there is none. Numbers of a value are little-endian. The age key's `created` is big-endian, so that keys sort by age.
//! The stub is what sled has beside a key: where the value lies in files of its own. Up to format 4 the value itself lay
//! there, which is longer than any stub. In version 3 the JSON was not packed; such values stay as they are until they
//! are written anew.
//! The checksum is the beginning of the SHA-256 of the key and all that follows the checksum, so that a value
//! under another's key is damaged as well.

use super::values::Extent;
use super::{Space, packed};
use crate::chat::Reply;
use crate::clock::Millis;
use crate::store::room::Facts;
use crate::store::{About, Entry, EntryId, Error, Scope};
use crate::vector::UnitVector;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The layout written here. It changes together with the store's format, see `recovery`.
const VERSION: u8 = 4;
/// The same, but for the JSON, which is as it is.
const UNPACKED: u8 = 3;
const DIGEST: usize = 32;
const CHECKSUM: usize = 8;

/// Where an entry lies.
pub(super) type Key = [u8; 2 * DIGEST];

/// Where an entry's age lies.
pub(super) type AgeKey = [u8; 8 + 2 * DIGEST];

/// How long what lies beside an age key is.
const AGE_VALUE: usize = 8 + 3 * 4 + 1;

/// What an entry takes beside its value.
pub(super) const KEYS: usize = size_of::<Key>() + size_of::<AgeKey>() + AGE_VALUE;

/// How long a stub is. A value is longer.
pub(super) const STUB: usize = 8 + 4 + 4 + CHECKSUM + 8;

/// Where a value lies, and its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stub {
    pub(super) at: Extent,
    pub(super) head: Head,
}

/// What is asked of a value most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    checksum: [u8; CHECKSUM],
    pub(super) created: Millis,
}

/// The value is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// What an entry has beside numbers.
#[derive(Serialize)]
struct WordsRef<'a> {
    text: &'a str,
    reply: &'a Reply,
    upstream: &'a str,
    expires: Option<Millis>,
    stale_until: Option<Millis>,
    about: &'a About,
    pinned: bool,
}

/// The same, read back.
#[derive(Deserialize)]
struct Words {
    text: String,
    reply: Reply,
    upstream: String,
    expires: Option<Millis>,
    stale_until: Option<Millis>,
    about: About,
    pinned: bool,
}

/// A verified value, taken apart.
struct Parts<'a> {
    created: Millis,
    space: Space,
    vector: &'a [[u8; 4]],
    words: &'a [u8],
    is_packed: bool,
}

impl Stub {
    pub(super) fn written(&self) -> [u8; STUB] {
        let Self { at: Extent { file, from, length }, head: Head { checksum, created } } = self;
        let mut stub = [0; STUB];
        stub[..8].copy_from_slice(&file.to_le_bytes());
        stub[8..12].copy_from_slice(&from.to_le_bytes());
        stub[12..16].copy_from_slice(&length.to_le_bytes());
        stub[16..24].copy_from_slice(checksum);
        stub[24..].copy_from_slice(&created.0.to_le_bytes());
        stub
    }

    /// `None` for what is a value itself.
    pub(super) fn read(lies: &[u8]) -> Option<Self> {
        let lies = <&[u8; STUB]>::try_from(lies).ok()?;
        let (file, rest) = lies.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (checksum, created) = rest.split_first_chunk()?;
        let at = Extent {
            file: u64::from_le_bytes(*file),
            from: u32::from_le_bytes(*from),
            length: u32::from_le_bytes(*length),
        };
        let created = Millis(u64::from_le_bytes(created.try_into().ok()?));
        Some(Self { at, head: Head { checksum: *checksum, created } })
    }
}

impl Head {
    /// As it says itself, which is not verified.
    pub(super) fn of(value: &[u8]) -> Result<Self, Damaged> {
        if value.len() <= STUB {
            return Err(Damaged);
        }
        let (checksum, rest) = value.split_first_chunk().ok_or(Damaged)?;
        let (_version, rest) = rest.split_first().ok_or(Damaged)?;
        let (created, _) = rest.split_first_chunk().ok_or(Damaged)?;
        Ok(Self { checksum: *checksum, created: Millis(u64::from_le_bytes(*created)) })
    }
}

/// The head of a value that is what was written.
pub(super) fn verified_head(key: &[u8], value: &[u8]) -> Result<Head, Damaged> {
    parts(key, value)?;
    Head::of(value)
}

/// The key of an entry.
pub(super) fn key(scope: &Scope, id: &EntryId) -> Key {
    let mut key = [0; 2 * DIGEST];
    key[..DIGEST].copy_from_slice(&scope.0);
    key[DIGEST..].copy_from_slice(&id.0);
    key
}

/// The scope and the id in a key.
pub(super) fn split_key(key: &[u8]) -> Result<(Scope, EntryId), Damaged> {
    let (scope, id) = key.split_first_chunk().ok_or(Damaged)?;
    Ok((Scope(*scope), EntryId(id.try_into().map_err(|_| Damaged)?)))
}

/// The key that finds an entry by its age.
pub(super) fn age_key(created: Millis, key: &Key) -> AgeKey {
    let mut age = [0; 8 + 2 * DIGEST];
    age[..8].copy_from_slice(&created.0.to_be_bytes());
    age[8..].copy_from_slice(key);
    age
}

/// The time and the entry's key in an age key.
pub(super) fn split_age_key(age: &[u8]) -> Result<(Millis, Key), Damaged> {
    let (created, key) = age.split_first_chunk().ok_or(Damaged)?;
    Ok((Millis(u64::from_be_bytes(*created)), key.try_into().map_err(|_| Damaged)?))
}

/// What lies beside an age key.
pub(super) fn age_value(facts: &Facts) -> Vec<u8> {
    let Facts { useless_from, size, cost, hits, pinned } = facts;
    let mut value = Vec::with_capacity(AGE_VALUE);
    value.extend(useless_from.map_or(u64::MAX, |from| from.0).to_le_bytes());
    value.extend([size, cost, hits].into_iter().flat_map(|number| number.to_le_bytes()));
    value.push(u8::from(*pinned));
    value
}

/// The same while `value` is written over one of the same age: what is noted of the two, of which the one is right that
/// lies there.
pub(super) fn age_value_of_two(before: &Facts, after: &Facts, value: &[u8]) -> Vec<u8> {
    let checksum = value.get(..CHECKSUM).unwrap_or_default();
    [&age_value(before)[..], &age_value(after), checksum].concat()
}

/// What lay beside an age key. One of another length was never written: nothing is known about its entry, which
/// is dropped when it is read.
pub(super) fn split_age_value(value: &[u8]) -> Noted {
    let of_two = || {
        let (before, rest) = value.split_at_checked(AGE_VALUE)?;
        let (after, written) = rest.split_at_checked(AGE_VALUE)?;
        let (before, after, written) = (facts_in(before)?, facts_in(after)?, written.try_into().ok()?);
        Some(Noted::OfTwo { before, after, written })
    };
    facts_in(value).map(Noted::Of).or_else(of_two).unwrap_or_default()
}

/// What lies beside an age key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Of(Facts),
    /// The end came while a value was written over another: only what lies there tells which of them it is.
    OfTwo {
        before: Facts,
        after: Facts,
        written: [u8; CHECKSUM],
    },
}

impl Default for Noted {
    fn default() -> Self {
        Self::Of(Facts::default())
    }
}

impl Noted {
    /// What is right about the value that lies there.
    pub(super) fn about(&self, head: Option<Head>) -> Facts {
        match self {
            Self::Of(facts) => *facts,
            Self::OfTwo { after, written, .. } if head.is_some_and(|head| head.checksum == *written) => {
                *after
            }
            Self::OfTwo { before, .. } => *before,
        }
    }
}

fn facts_in(value: &[u8]) -> Option<Facts> {
    let (from, rest) = value.split_first_chunk()?;
    let (numbers, [pinned]) = rest.as_chunks::<4>() else { return None };
    let [size, cost, hits] = numbers else { return None };
    let from = u64::from_le_bytes(*from);
    Some(Facts {
        useless_from: (from != u64::MAX).then_some(Millis(from)),
        size: u32::from_le_bytes(*size),
        cost: u32::from_le_bytes(*cost),
        hits: u32::from_le_bytes(*hits),
        pinned: *pinned != 0,
    })
}

/// The value of an entry.
pub(super) fn encode(key: &Key, entry: &Entry, space: Space) -> Result<Vec<u8>, Error> {
    let Entry { id: _, text, vector, reply, upstream, created, expires, stale_until, about, pinned } = entry;
    let words = WordsRef {
        text,
        reply,
        upstream,
        expires: *expires,
        stale_until: *stale_until,
        about,
        pinned: *pinned,
    };
    let words = serde_json::to_vec(&words).map_err(|error| Error::Io(error.to_string()))?;
    let numbers = vector.as_ref().map_or(&[][..], UnitVector::as_slice);

    let mut value = vec![0; CHECKSUM];
    value.push(VERSION);
    value.extend(created.0.to_le_bytes());
    value.extend(space.0.to_le_bytes());
    value.extend((numbers.len() as u32).to_le_bytes());
    value.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    value.extend(packed::pack(&words));
    let checksum = checksum(key, &value[CHECKSUM..]);
    value[..CHECKSUM].copy_from_slice(&checksum);
    Ok(value)
}

/// The whole entry. A vector of another space is none here.
pub(super) fn decode(key: &[u8], value: &[u8], space: Space) -> Result<Entry, Damaged> {
    let parts = parts(key, value)?;
    let (_, id) = split_key(key)?;
    let Words { text, reply, upstream, expires, stale_until, about, pinned } =
        serde_json::from_slice(&parts.words()?).map_err(|_| Damaged)?;
    let vector = match parts.numbers_in(space) {
        numbers if numbers.is_empty() => None,
        numbers => Some(UnitVector::new(numbers).map_err(|_| Damaged)?),
    };
    let created = parts.created;
    Ok(Entry { id, text, vector, reply, upstream, created, expires, stale_until, about, pinned })
}

/// Only the vector, for the index; empty where there is none in this space.
pub(super) fn decode_vector(key: &[u8], value: &[u8], space: Space) -> Result<Vec<f32>, Damaged> {
    Ok(parts(key, value)?.numbers_in(space))
}

/// Whether the value has a vector, and in which space.
pub(super) fn decode_space(key: &[u8], value: &[u8]) -> Result<Option<Space>, Damaged> {
    let parts = parts(key, value)?;
    Ok((!parts.vector.is_empty()).then_some(parts.space))
}

/// Whether the value is what was written, whatever space it is of.
pub(super) fn is_sound(key: &[u8], value: &[u8]) -> bool {
    decode(key, value, Space::default()).is_ok()
}

/// Only the time, for the age key.
pub(super) fn decode_created(key: &[u8], value: &[u8]) -> Result<Millis, Damaged> {
    Ok(parts(key, value)?.created)
}

fn parts<'a>(key: &[u8], value: &'a [u8]) -> Result<Parts<'a>, Damaged> {
    let (stored, rest) = value.split_first_chunk::<CHECKSUM>().ok_or(Damaged)?;
    if *stored != checksum(key, rest) {
        return Err(Damaged);
    }
    let (version, rest) = rest.split_first().ok_or(Damaged)?;
    let is_packed = match *version {
        VERSION => true,
        UNPACKED => false,
        _ => return Err(Damaged),
    };
    let (created, rest) = rest.split_first_chunk().ok_or(Damaged)?;
    let (space, rest) = rest.split_first_chunk().ok_or(Damaged)?;
    let (dimensions, rest) = rest.split_first_chunk().ok_or(Damaged)?;
    let bytes = (u32::from_le_bytes(*dimensions) as usize).checked_mul(4).ok_or(Damaged)?;
    let (numbers, words) = rest.split_at_checked(bytes).ok_or(Damaged)?;
    let (created, space) = (Millis(u64::from_le_bytes(*created)), Space(u64::from_le_bytes(*space)));
    Ok(Parts { created, space, vector: numbers.as_chunks().0, words, is_packed })
}

impl Parts<'_> {
    fn words(&self) -> Result<Cow<'_, [u8]>, Damaged> {
        if self.is_packed { packed::unpack(self.words) } else { Ok(Cow::Borrowed(self.words)) }
    }

    fn numbers_in(&self, space: Space) -> Vec<f32> {
        if self.space != space {
            return Vec::new();
        }
        self.vector.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

fn checksum(key: &[u8], rest: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(key).chain_update(rest).finalize();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;
    use proptest::prelude::*;

    const HERE: Space = Space(5);

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let entry = full_entry();
        let key = key(&Scope([7; 32]), &entry.id);
        let value = encode(&key, &entry, HERE).unwrap();
        assert_eq!(decode(&key, &value, HERE), Ok(entry.clone()));
        assert_eq!(decode_created(&key, &value), Ok(entry.created));
        assert_eq!(decode_space(&key, &value), Ok(Some(HERE)));
        assert_eq!(decode_vector(&key, &value, HERE).unwrap(), entry.vector.unwrap().as_slice());
    }

    #[test]
    fn a_vector_of_another_space_is_none() {
        let entry = full_entry();
        let key = key(&Scope([7; 32]), &entry.id);
        let value = encode(&key, &entry, Space(6)).unwrap();
        assert_eq!(decode(&key, &value, HERE), Ok(Entry { vector: None, ..entry }));
        assert!(decode_vector(&key, &value, HERE).unwrap().is_empty());
    }

    #[test]
    fn a_value_under_another_key_is_damaged() {
        let entry = full_entry();
        let value = encode(&key(&Scope([7; 32]), &entry.id), &entry, HERE).unwrap();
        assert_eq!(decode(&key(&Scope([8; 32]), &entry.id), &value, HERE), Err(Damaged));
    }

    #[test]
    fn age_keys_sort_by_age() {
        let key = key(&Scope([9; 32]), &EntryId([3; 32]));
        assert!(age_key(Millis(255), &key) < age_key(Millis(256), &key));
        assert_eq!(split_age_key(&age_key(Millis(5), &key)), Ok((Millis(5), key)));
        let facts = Facts { useless_from: Some(Millis(5)), size: 6, cost: 7, hits: u32::MAX, pinned: true };
        for facts in [facts, Facts { useless_from: None, pinned: false, ..facts }] {
            assert_eq!(split_age_value(&age_value(&facts)), Noted::Of(facts));
        }
        assert_eq!(split_age_value(b"short"), Noted::default());
        assert_eq!(age_value(&facts).len(), AGE_VALUE);
    }

    #[test]
    fn what_is_noted_of_two_is_about_the_one_that_lies_there() {
        let (before, after) = (Facts { size: 1, ..Facts::default() }, Facts { size: 2, ..Facts::default() });
        let value = encode(&key(&Scope([7; 32]), &full_entry().id), &full_entry(), HERE).unwrap();
        let noted = split_age_value(&age_value_of_two(&before, &after, &value));
        let head = Head::of(&value).unwrap();
        assert_eq!(noted.about(Some(head)), after);
        for other in [None, Some(Head { checksum: [0; CHECKSUM], ..head })] {
            assert_eq!(noted.about(other), before);
        }
        assert_eq!(split_age_value(&[0; AGE_VALUE * 2]), Noted::default(), "never written");
    }

    #[test]
    fn a_stub_comes_back_and_is_no_value() {
        let entry = full_entry();
        let key = key(&Scope([7; 32]), &entry.id);
        let value = encode(&key, &entry, HERE).unwrap();
        let head = verified_head(&key, &value).unwrap();
        assert_eq!((head.created, Head::of(&value)), (entry.created, Ok(head)));
        let stub = Stub { at: Extent { file: u64::MAX - 1, from: 2, length: 3 }, head };
        assert_eq!(Stub::read(&stub.written()), Some(stub));
        assert_eq!(Head::of(&stub.written()), Err(Damaged));
        let least = Entry { vector: None, text: String::new(), reply: Reply::default(), ..full_entry() };
        let least = Entry { upstream: String::new(), about: About::default(), ..least };
        let value = encode(&key, &least, HERE).unwrap();
        assert!(value.len() > STUB, "{}", value.len());
        assert_eq!(Stub::read(&value), None);
    }

    proptest! {
        #[test]
        fn any_flipped_bit_and_any_cut_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let entry = full_entry();
            let key = key(&Scope([7; 32]), &entry.id);
            let whole = encode(&key, &entry, HERE).unwrap();
            let at = at.index(whole.len());
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(decode(&key, &flipped, HERE), Err(Damaged));
            prop_assert_eq!(decode(&key, &whole[..at], HERE), Err(Damaged));
        }

        #[test]
        fn garbage_is_damaged(value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&[0; 64], &value, HERE), Err(Damaged));
        }
    }
}
