//! What goes when room is short, and what is let in then.
//!
//! An entry is worth how often it is asked for, times what it costs to have it answered again, for each byte it
//! takes: `asked × cost / size`. What has expired is worth nothing, and what is pinned never goes. To make room for a
//! newcomer a few entries are compared, half of them the oldest, half of them next to a hand that moves on through all
//! of them by age; the least worth of these goes, and of equals the oldest. So a store of things that nobody asks for
//! forgets the oldest first, and one whose oldest entries are its best still finds what is of no use. Whatever the
//! size of the store, the work is the same.
//!
//! A newcomer is let in only if it was asked for as often as what it would push out. Questions are counted before
//! they are answered and whether or not they are kept ([`Popularity`]), so what is asked again gets in the second
//! time, and a flood of questions that are asked once cannot wash out what is asked every day. This is `TinyLFU`
//! (Einziger, Friedman, Manes, 2017), with samples in place of queues.

use super::popularity::Popularity;
use super::{Entry, EntryId, Error, Place, Scope};
use crate::chat::Block;
use crate::clock::Millis;

/// How many of the oldest entries are compared, and as many by the hand.
const COMPARED: usize = 8;
/// So many are read at once, and so often in search of some that are not pinned.
const READ_AT_ONCE: usize = 16;
const MOST_READS: usize = 16;
/// An entry may take this part of the room, or so many bytes if that is more: a giant must not push out thousands.
const LARGEST_PART: u64 = 64;
const LARGEST_AT_LEAST: u64 = 64 << 10;
/// An answer costs something, however short it is: the question has to be read, and someone waits.
const LEAST_COST: u32 = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The most entries.
    pub max_entries: u64,
    /// The most bytes of entries, as long as they are when they are kept.
    pub max_bytes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { max_entries: 200_000, max_bytes: 500 << 20 }
    }
}

impl Room {
    /// About how many entries there will be, at two kilobytes each or more.
    pub(super) fn expected_entries(&self) -> u64 {
        self.max_entries.min(self.max_bytes >> 11)
    }

    pub(super) fn has(&self, used: Used) -> bool {
        used.entries <= self.max_entries && used.bytes <= self.max_bytes
    }

    fn largest(&self) -> u64 {
        (self.max_bytes / LARGEST_PART).max(LARGEST_AT_LEAST).min(self.max_bytes)
    }
}

/// How much is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// What is known about an entry without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// When it is of no use to anyone any more.
    pub(super) useless_from: Option<Millis>,
    /// How many bytes it takes.
    pub(super) size: u32,
    /// What it costs to have it answered again, in tokens.
    pub(super) cost: u32,
    /// How often it has answered.
    pub(super) hits: u32,
    /// It stays.
    pub(super) pinned: bool,
}

impl Facts {
    /// About an entry that takes `size` bytes and has not answered yet.
    pub(super) fn of(entry: &Entry, size: usize) -> Self {
        Self {
            useless_from: entry.useless_from(),
            size: u32::try_from(size).unwrap_or(u32::MAX),
            cost: cost(entry),
            hits: 0,
            pinned: entry.pinned,
        }
    }

    fn is_useless(&self, now: Millis) -> bool {
        self.useless_from.is_some_and(|from| from <= now)
    }

    fn worth(&self, asked: u32, now: Millis) -> f64 {
        if self.is_useless(now) {
            return 0.0;
        }
        f64::from(asked) * f64::from(self.cost.max(LEAST_COST)) / f64::from(self.size.max(1))
    }
}

/// The tokens of the answer, as they were told, or a quarter of its letters.
fn cost(entry: &Entry) -> u32 {
    let told = entry.reply.usage.as_ref().map(|usage| usage.output).filter(|tokens| *tokens > 0);
    let said = || {
        let blocks = entry.reply.choices.iter().flat_map(|choice| &choice.blocks);
        let letters = blocks.map(|block| match block {
            Block::Text { text, .. } | Block::Reasoning { text, .. } => text.len(),
            _ => 0,
        });
        (letters.sum::<usize>() / 4) as u64
    };
    u32::try_from(told.unwrap_or_else(said)).unwrap_or(u32::MAX)
}

/// Where entries lie, as whoever makes room sees it.
pub(super) trait Shelf {
    /// How much is taken.
    fn used(&self) -> Used;

    /// Up to `most` entries from behind `after` on, the oldest first.
    fn by_age(&self, after: Option<&Place>, most: usize) -> Result<Vec<(Place, Facts)>, Error>;

    /// Removes an entry.
    fn discard(&mut self, place: &Place) -> Result<(), Error>;
}

/// An entry that is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) place: Place,
    pub(super) facts: Facts,
    /// What it takes the place of.
    pub(super) replaces: Option<Facts>,
}

/// What became of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// Whether there is room for it.
    pub(super) granted: bool,
    /// How many entries had to go.
    pub(super) evicted: u64,
}

/// Makes room.
#[derive(Debug)]
pub(super) struct Evictor {
    room: Room,
    /// The last entry that the hand has passed.
    hand: Option<Place>,
}

struct Candidate {
    place: Place,
    asked: u32,
    worth: f64,
    useless: bool,
}

impl Evictor {
    pub(super) fn new(room: Room) -> Self {
        Self { room, hand: None }
    }

    /// Removes entries until there is room for the newcomer, or says that there is none for it.
    pub(super) fn admit(
        &mut self,
        shelf: &mut impl Shelf,
        popularity: &Popularity,
        newcomer: &Newcomer,
    ) -> Result<Admission, Error> {
        let Newcomer { place, facts, replaces } = newcomer;
        let mut evicted = 0;
        let turned_away = |evicted| Ok(Admission { granted: false, evicted });
        if u64::from(facts.size) > self.room.largest() {
            return turned_away(evicted);
        }
        let asked = popularity.estimate(&place.id);
        while !self.room.has(with(shelf.used(), facts, *replaces)) {
            let least = self.least(shelf, popularity, place)?;
            let Some(victim) = least else { return turned_away(evicted) };
            let is_better = (asked, place.created) >= (victim.asked, victim.place.created);
            if !is_better && !victim.useless && replaces.is_none() && !facts.pinned {
                return turned_away(evicted);
            }
            shelf.discard(&victim.place)?;
            evicted += 1;
        }
        Ok(Admission { granted: true, evicted })
    }

    /// Removes entries until what is left has room; says how many.
    pub(super) fn shrink(&mut self, shelf: &mut impl Shelf, popularity: &Popularity) -> Result<u64, Error> {
        /// What has expired is not known here; it is swept soon, or goes when someone needs its room.
        const NOBODY: Place = Place { created: Millis(0), scope: Scope([0; 32]), id: EntryId([0; 32]) };
        let mut evicted = 0;
        while !self.room.has(shelf.used()) {
            let Some(victim) = self.least(shelf, popularity, &NOBODY)? else { break };
            shelf.discard(&victim.place)?;
            evicted += 1;
        }
        Ok(evicted)
    }

    /// The least worth of a few entries; none where all of them are pinned. The one that the newcomer replaces
    /// goes anyway, and is not among them.
    fn least(
        &mut self,
        shelf: &impl Shelf,
        popularity: &Popularity,
        newcomer: &Place,
    ) -> Result<Option<Candidate>, Error> {
        let mut found = compared(shelf.by_age(None, READ_AT_ONCE)?, newcomer);
        found.extend(self.by_hand(shelf, newcomer)?);
        let candidates = found.into_iter().map(|(place, facts)| {
            let asked = popularity.estimate(&place.id);
            let (worth, useless) = (facts.worth(asked, newcomer.created), facts.is_useless(newcomer.created));
            Candidate { place, asked, worth, useless }
        });
        let order = |a: &Candidate, b: &Candidate| a.worth.total_cmp(&b.worth).then(a.place.cmp(&b.place));
        Ok(candidates.min_by(order))
    }

    /// Some that come next to the hand, which moves on past them.
    fn by_hand(&mut self, shelf: &impl Shelf, newcomer: &Place) -> Result<Vec<(Place, Facts)>, Error> {
        for _ in 0..MOST_READS {
            let read = shelf.by_age(self.hand.as_ref(), READ_AT_ONCE)?;
            let last = read.last().map(|(place, _)| *place).filter(|_| read.len() == READ_AT_ONCE);
            let found = compared(read, newcomer);
            let passed = found.last().map(|(place, _)| *place).filter(|_| found.len() == COMPARED);
            // Behind the youngest it begins again with the oldest.
            self.hand = passed.or(last);
            if !found.is_empty() || self.hand.is_none() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

fn compared(found: Vec<(Place, Facts)>, newcomer: &Place) -> Vec<(Place, Facts)> {
    let may_go = |(place, facts): &(Place, Facts)| {
        !facts.pinned && (place.scope, place.id) != (newcomer.scope, newcomer.id)
    };
    found.into_iter().filter(may_go).take(COMPARED).collect()
}

fn with(used: Used, facts: &Facts, replaces: Option<Facts>) -> Used {
    let (entries, bytes) = replaces.map_or((0, 0), |old| (1, u64::from(old.size)));
    Used {
        entries: (used.entries + 1).saturating_sub(entries),
        bytes: (used.bytes + u64::from(facts.size)).saturating_sub(bytes),
    }
}
