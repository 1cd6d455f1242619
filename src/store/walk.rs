//! Walking through all that is kept, the newest first, a few entries at a time.

use super::{Entry, EntryId, Scope};
use crate::clock::Millis;
use std::fmt::Write as _;

/// What a walk is to bring.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Go on behind this place; begin with the newest where there is none.
    pub after: Option<Place>,
    /// The most entries to bring.
    pub most: usize,
    /// Only those of this scope.
    pub scope: Option<Scope>,
    /// Only those whose id begins so.
    pub id: Option<IdPrefix>,
}

impl Walk {
    /// Whether the entry at `place` is wanted, as far as its place tells.
    pub(super) fn wants(&self, place: &Place) -> bool {
        let Self { after: _, most: _, scope, id } = self;
        scope.is_none_or(|scope| scope == place.scope) && id.as_ref().is_none_or(|id| id.begins(&place.id))
    }
}

/// What a walk brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// The entries, the newest first.
    pub seen: Vec<Seen>,
    /// Where to go on; `None` is the end.
    pub next: Option<Place>,
}

/// An entry, and what the store knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The scope it lives in.
    pub scope: Scope,
    /// The entry.
    pub entry: Entry,
    /// How often it has answered, about: after a crash the last few may be missing.
    pub hits: u32,
    /// How long it is as it is kept.
    pub bytes: u32,
}

impl Seen {
    /// Where it is.
    pub fn place(&self) -> Place {
        Place { created: self.entry.created, scope: self.scope, id: self.entry.id }
    }
}

/// Where an entry is among all others, by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// When the answer was given.
    pub created: Millis,
    /// The scope.
    pub scope: Scope,
    /// The name in it.
    pub id: EntryId,
}

impl Place {
    /// As a word that [`Self::parse`] understands.
    pub fn to_word(&self) -> String {
        let mut word = format!("{:016x}", self.created.0);
        for byte in self.scope.0.iter().chain(&self.id.0) {
            let _ = write!(word, "{byte:02x}");
        }
        word
    }

    /// The place that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        let (created, digests) = word.split_at_checked(16)?;
        let (scope, id) = digests.split_at_checked(64)?;
        let created = u64::from_str_radix(created, 16).ok().filter(|_| is_hex(created))?;
        Some(Self { created: Millis(created), scope: Scope(digest(scope)?), id: EntryId(digest(id)?) })
    }
}

impl EntryId {
    /// In full, as hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The id with these 64 hexadecimal digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        digest(digits).map(Self)
    }
}

impl Scope {
    /// In full, as hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The scope with these 64 hexadecimal digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        digest(digits).map(Self)
    }
}

/// The beginning of an id, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Fewer digits than this name too many entries.
    pub const LEAST: usize = 8;

    /// The beginning that these hexadecimal digits are.
    pub fn new(digits: &str) -> Option<Self> {
        let fits = (Self::LEAST..=64).contains(&digits.len());
        (fits && is_hex(digits)).then(|| Self(digits.to_ascii_lowercase()))
    }

    fn begins(&self, id: &EntryId) -> bool {
        let wanted = self.0.bytes();
        let digits = id.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        wanted.zip(digits).all(|(wanted, digit)| {
            let wanted = (wanted as char).to_digit(16);
            wanted == Some(u32::from(digit))
        })
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !is_hex(digits) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ids_survive_being_written_down() {
        let place = Place {
            created: Millis(u64::MAX - 7),
            scope: Scope([0xab; 32]),
            id: EntryId(std::array::from_fn(|at| at as u8 * 7)),
        };
        assert_eq!(Place::parse(&place.to_word()), Some(place));
        assert_eq!(EntryId::from_hex(&place.id.to_hex()), Some(place.id));
        for word in ["", "12", "+123456789012345", &"g".repeat(144), &place.to_word()[1..], &"ä".repeat(72)]
        {
            assert_eq!(Place::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_prefix_is_eight_digits_or_more_and_matches_the_beginning_only() {
        let id = EntryId(std::array::from_fn(|at| at as u8 + 0x1a));
        let digits = id.to_hex();
        for length in [8, 9, 63, 64] {
            assert!(IdPrefix::new(&digits[..length].to_uppercase()).unwrap().begins(&id), "{length}");
        }
        assert!(!IdPrefix::new(&digits[1..10]).unwrap().begins(&id));
        for wrong in ["", "1a1b1c1", "1a1b1c1x", &format!("{digits}0")] {
            assert_eq!(IdPrefix::new(wrong), None, "{wrong}");
        }
    }
}
