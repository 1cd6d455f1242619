//! What is done to the store until it is killed: operations that follow from a seed, so that whoever has killed it
//! knows them as well, and what they leave.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use weir::chat::Reply;
use weir::clock::Millis;
use weir::store::{About, Entry, EntryId, Scope};
use weir::vector::UnitVector;

/// How many work at the same time, each in a scope of its own, so that each one's order is known.
pub(crate) const LANES: u8 = 3;
/// How many ids each has: few, so that most are written over and over.
pub(crate) const IDS: u8 = 24;
const TAGS: u8 = 4;

/// The lane whose entries expire. A sweep is of all scopes, so only one may have what it sweeps.
pub(crate) const EXPIRING: u8 = 0;

/// What one entry says. All of the entry follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// No two are alike, so that an old one cannot be taken for a new one.
    pub(crate) number: u64,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) pinned: bool,
    pub(crate) tag: u8,
    pub(crate) has_vector: bool,
    pub(crate) words: u32,
}

/// What a scope holds.
pub(crate) type Held = BTreeMap<u8, Version>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Put(u8, Version),
    Remove(u8),
    Load(u8),
    Nearest(u8),
    Pin(u8),
    ClearTag(u8),
    Clear,
    Sweep(u64),
}

impl Operation {
    /// Does to `held` what it does to the store. Says which entries it may have changed.
    pub(crate) fn apply(&self, held: &mut Held) -> BTreeSet<u8> {
        let before = held.clone();
        match *self {
            Self::Put(id, version) => drop(held.insert(id, version)),
            Self::Remove(id) => drop(held.remove(&id)),
            Self::Load(_) | Self::Nearest(_) => {}
            Self::Pin(id) => {
                held.entry(id).and_modify(|version| version.pinned = true);
            }
            Self::ClearTag(tag) => held.retain(|_, version| version.tag != tag),
            Self::Clear => held.clear(),
            Self::Sweep(now) => held
                .retain(|_, version| version.pinned || version.expires.is_none_or(|expires| expires > now)),
        }
        (0..IDS).filter(|id| held.get(id) != before.get(id)).collect()
    }
}

/// The operations of a lane in a round, without an end.
pub(crate) struct Operations {
    random: StdRng,
    lane: u8,
    number: u64,
}

impl Operations {
    pub(crate) fn new(seed: u64, round: u64, lane: u8) -> Self {
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (round << 8) ^ u64::from(lane);
        Self { random: StdRng::seed_from_u64(mixed), lane, number: round << 32 }
    }

    fn version(&mut self) -> Version {
        self.number += 1;
        let random = &mut self.random;
        let expires = (self.lane == EXPIRING && random.random_bool(0.5))
            .then(|| (self.number >> 32) * 1000 + random.random_range(0..1000));
        Version {
            number: self.number,
            // Often the same, sometimes older than before.
            created: (self.number >> 32) * 10 + random.random_range(0..20),
            expires,
            pinned: random.random_bool(0.1),
            tag: random.random_range(0..TAGS),
            has_vector: random.random_bool(0.8),
            // So long that sled keeps it in a file of its own, at times.
            words: if random.random_bool(0.01) { 40_000 } else { random.random_range(0..300) },
        }
    }
}

impl Iterator for Operations {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        let id = self.random.random_range(0..IDS);
        Some(match self.random.random_range(0..100) {
            0..48 => Operation::Put(id, self.version()),
            48..62 => Operation::Remove(id),
            62..74 => Operation::Load(id),
            74..84 => Operation::Nearest(id),
            84..92 => Operation::Pin(id),
            92..96 => Operation::ClearTag(self.random.random_range(0..TAGS)),
            96 => Operation::Clear,
            _ if self.lane == EXPIRING => {
                Operation::Sweep((self.number >> 32) * 1000 + self.random.random_range(0..1000))
            }
            _ => Operation::Load(id),
        })
    }
}

pub(crate) fn scope(lane: u8) -> Scope {
    Scope([lane + 1; 32])
}

pub(crate) fn id(n: u8) -> EntryId {
    let mut digest = [0x77; 32];
    digest[0] = n;
    EntryId(digest)
}

/// Where an entry points: all of them elsewhere, and a new version of it elsewhere than the last.
pub(crate) fn vector(n: u8, number: u64) -> Option<UnitVector> {
    let turn = f32::from(n) * 0.2 + (number % 7) as f32 * 0.02;
    UnitVector::new(vec![turn.cos(), turn.sin(), 0.5]).ok()
}

/// The entry that says `version`.
pub(crate) fn entry(lane: u8, n: u8, version: &Version) -> Entry {
    let Version { number, created, expires, pinned, tag, has_vector, words } = *version;
    let expiry = expires.map_or("-".to_owned(), |expires| expires.to_string());
    let length = words as usize;
    Entry {
        id: id(n),
        text: format!("{lane} {n} {number} {created} {expiry} {pinned} {tag} {has_vector} {words}"),
        vector: has_vector.then(|| vector(n, number)).flatten(),
        reply: Reply::text("a-model", format!("{number} and so on ").repeat(length)),
        upstream: "primary".into(),
        created: Millis(created),
        expires: expires.map(Millis),
        stale_until: None,
        about: About { tags: vec![tag.to_string()], ..About::default() },
        pinned,
    }
}

/// The lane, the number and the version that a text tells of.
pub(crate) fn told(text: &str) -> Option<(u8, u8, Version)> {
    let mut parts = text.split(' ');
    let mut next = || parts.next();
    let (lane, n) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let (number, created) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let expires = match next()? {
        "-" => None,
        expires => Some(expires.parse().ok()?),
    };
    let (pinned, tag) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let (has_vector, words) = (next()?.parse().ok()?, next()?.parse().ok()?);
    Some((lane, n, Version { number, created, expires, pinned, tag, has_vector, words }))
}
