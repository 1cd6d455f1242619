//! Reasons why the answer to one question must not be given to another, however alike they look.

use super::compare::{Comparison, joined};
use super::facts::{Facts, Role};
use super::lexicon::{Relation, relation};
use super::question::{Question, Word, WordId};
use super::sides;
use crate::cache::Miss;

/// Looks at two questions, and says whether they differ where they must not.
type Guard = fn(&Question, &Question) -> bool;

/// What takes no alignment comes first: most of what is nominated wrongly falls here.
const GUARDS: [(Miss, Guard); 19] = [
    (Miss::TooLong, |a, b| a.is_too_long || b.is_too_long),
    (Miss::OtherNumbers, |a, b| a.facts.numbers != b.facts.numbers),
    (Miss::OtherTime, |a, b| a.facts.dates != b.facts.dates),
    (Miss::OtherLanguage, |a, b| a.facts.languages != b.facts.languages),
    (Miss::OtherSpelling, |a, b| a.facts.telling != b.facts.telling || a.facts.signs != b.facts.signs),
    (Miss::OtherQuote, |a, b| both_differ(&a.facts.quoted, &b.facts.quoted)),
    (Miss::OtherUnits, |a, b| other_units(&a.facts, &b.facts)),
    (Miss::OtherBounds, |a, b| other_bounds(&a.facts, &b.facts)),
    (Miss::OtherOrder, |a, b| other_order(&a.facts, &b.facts)),
    (Miss::Negated, |a, b| a.facts.negations != b.facts.negations && a.words.len().min(b.words.len()) < 30),
    (Miss::Shunned, |a, b| a.facts.shuns != b.facts.shuns),
    (Miss::CountOrList, |a, b| a.facts.counts != b.facts.counts),
    (Miss::OtherExtent, |a, b| a.facts.extent != b.facts.extent),
    (Miss::OtherMoment, |a, b| both_differ(&a.facts.moments, &b.facts.moments)),
    (Miss::OtherOwner, |a, b| both_differ(&a.facts.owners, &b.facts.owners)),
    (Miss::OtherAsked, |a, b| other_asked(&a.facts, &b.facts)),
    (Miss::UnknownLanguage, is_foreign),
    (Miss::OtherRoles, |a, b| other_roles(&a.facts, &b.facts)),
    (Miss::Opposite, has_opposites),
];

/// The first reason found, if there is any, for two questions that have not been aligned yet.
pub(super) fn veto(asked: &Question, known: &Question) -> Option<Miss> {
    GUARDS.iter().find(|(_, differ)| differ(asked, known)).map(|(miss, _)| *miss)
}

/// The verdict of every guard, for those who want to know.
pub(super) fn verdicts(asked: &Question, known: &Question) -> impl Iterator<Item = (Miss, bool)> {
    GUARDS.iter().map(move |(miss, differ)| (*miss, differ(asked, known)))
}

/// Whether both lists say something, and not the same.
fn both_differ(a: &[WordId], b: &[WordId]) -> bool {
    !a.is_empty() && !b.is_empty() && a != b
}

fn meet<T: Ord>(a: &[T], b: &[T]) -> bool {
    a.iter().any(|item| b.binary_search(item).is_ok())
}

/// Where the words are not English, the guards are blind: only the very same words will do.
fn is_foreign(a: &Question, b: &Question) -> bool {
    (a.is_foreign || b.is_foreign)
        && !a.words.iter().map(|word| word.id).eq(b.words.iter().map(|word| word.id))
}

fn other_units(a: &Facts, b: &Facts) -> bool {
    // "25 yen in dollars" is not "25 dollars in yen".
    let of = |facts: &Facts, number: WordId| -> Vec<WordId> {
        facts.measures.iter().filter(|(other, _)| *other == number).map(|(_, unit)| *unit).collect()
    };
    let bound_apart = a.measures.iter().any(|(number, _)| {
        let (one, other) = (of(a, *number), of(b, *number));
        !other.is_empty() && !meet(&one, &other)
    });
    let only = |a: &[WordId], b: &[WordId]| a.iter().any(|unit| b.binary_search(unit).is_err());
    bound_apart || (only(&a.units, &b.units) && only(&b.units, &a.units))
}

fn other_bounds(a: &Facts, b: &Facts) -> bool {
    // "by 3" on one side, and "to 3" on the other.
    a.bounds != b.bounds || meet(&a.changes_by, &b.changes_to) || meet(&b.changes_by, &a.changes_to)
}

/// The same numbers in another order, and bound to other words.
fn other_order(a: &Facts, b: &Facts) -> bool {
    let numbers =
        |facts: &'_ Facts| -> Vec<WordId> { facts.numbers_in_order.iter().map(|(n, _)| *n).collect() };
    if numbers(a) == numbers(b) {
        return false;
    }
    // Where all keep what they are bound to, the sentence was only turned around.
    let bound = |facts: &Facts| {
        let mut bound = facts.numbers_in_order.clone();
        bound.sort_unstable();
        bound.dedup();
        bound
    };
    bound(a) != bound(b)
}

/// What is asked for: a person, a time, a reason; or whether something is so.
fn other_asked(a: &Facts, b: &Facts) -> bool {
    const STRICT: [&str; 10] = [
        "who",
        "when",
        "where",
        "why",
        "how many",
        "how much",
        "how long",
        "how old",
        "how far",
        "how often",
    ];
    const NEVER_YES_OR_NO: [&str; 6] = ["who", "when", "why", "how much", "how many", "how long"];
    let strict = |facts: &Facts| facts.wh.filter(|wh| STRICT.contains(wh));
    let against =
        |wh: &str, other: &Facts| other.is_yes_no && other.wh.is_none() && NEVER_YES_OR_NO.contains(&wh);
    match (strict(a), strict(b)) {
        (Some(x), Some(y)) => x != y,
        (Some(x), None) => against(x, b),
        (None, Some(x)) => against(x, a),
        (None, None) => false,
    }
}

fn has_opposites(a: &Question, b: &Question) -> bool {
    let only = |of: &'_ Question, not: &Question| -> Vec<usize> {
        let places =
            (0..of.words.len()).filter(|at| not.facts.stems.binary_search(&of.words[*at].stem).is_err());
        places.collect()
    };
    let (only_a, only_b) = (only(a, b), only(b, a));
    only_a.iter().any(|i| only_b.iter().any(|j| are_opposite(&a.words[*i], &b.words[*j])))
}

fn are_opposite(a: &Word, b: &Word) -> bool {
    let turned =
        |one: &Word, other: &Word| one.turned.0 == Some(other.id) || one.turned.1 == Some(other.stem);
    sides::are_opposite(a.sides, b.sides)
        || turned(a, b)
        || turned(b, a)
        || ((a.has_opposites || b.has_opposites) && relation(a.meaning(), b.meaning()) == Relation::Opposites)
}

/// The same part is played by others, and those are in both questions: flights from Rome to Oslo, and from Oslo
/// to Rome.
fn other_roles(a: &Facts, b: &Facts) -> bool {
    const ALL: [Role; 12] = [
        Role::From,
        Role::To,
        Role::Than,
        Role::By,
        Role::Before,
        Role::After,
        Role::When,
        Role::Over,
        Role::Under,
        Role::Against,
        Role::Via,
        Role::Replacing,
    ];
    const COUNTERPARTS: [(Role, Role); 6] = [
        (Role::From, Role::To),
        (Role::To, Role::From),
        (Role::Before, Role::After),
        (Role::After, Role::Before),
        (Role::Over, Role::Under),
        (Role::Under, Role::Over),
    ];
    if a.roles.is_empty() || b.roles.is_empty() {
        return false;
    }
    let plays = |facts: &Facts, role: Role, word: WordId| facts.roles.binary_search(&(role, word)).is_ok();
    let moved = |here: Role, there: Role| {
        let known = |facts: &Facts, word: WordId| facts.stems.binary_search(&word).is_ok();
        let apart = a.players(here).all(|word| !plays(b, there, word));
        apart && a.players(here).any(|word| known(b, word)) && b.players(there).any(|word| known(a, word))
    };
    let plays_at_all = |facts: &Facts, role: Role| facts.players(role).next().is_some();
    // "sidechain the bass from the kick" and "the bass sidechained by the kick" say the same.
    let agents = [(Role::From, Role::By), (Role::By, Role::From)];
    ALL.into_iter().any(|role| moved(role, role))
        || agents
            .into_iter()
            .any(|(here, there)| !plays_at_all(a, there) && !plays_at_all(b, here) && moved(here, there))
        || COUNTERPARTS.into_iter().any(|(here, there)| {
            a.players(here)
                .any(|word| plays(b, there, word) && !plays(a, there, word) && !plays(b, here, word))
        })
}

/// Two words have changed places: each stands where the other stood.
pub(super) fn have_swapped(pair: &Comparison<'_>) -> bool {
    let (asked, known) = (&pair.asked.words, &pair.known.words);
    let (around_asked, around_known) = (&pair.asked.facts.neighbours, &pair.known.facts.neighbours);
    let shared: Vec<(usize, usize)> =
        pair.same.iter().copied().filter(|(i, _)| asked[*i].matters()).collect();
    shared.iter().enumerate().any(|(n, one)| {
        shared[n + 1..].iter().any(|other| {
            let inverted = (one.0 < other.0) != (one.1 < other.1);
            if !inverted || asked[one.0].stem == asked[other.0].stem {
                return false;
            }
            let here = (around_asked[one.0], around_asked[other.0]);
            let there = (around_known[one.1], around_known[other.1]);
            let left = has_swapped((here.0.0, here.1.0), (there.0.0, there.1.0));
            let right = has_swapped((here.0.1, here.1.1), (there.0.1, there.1.1));
            // The end of a text is no place of its own.
            let swapped = match (left, right) {
                (true, true) => true,
                (true, false) => here.0.0 != 0 && here.1.0 != 0,
                (false, true) => here.0.1 != 0 && here.1.1 != 0,
                (false, false) => false,
            };
            swapped && !(joined(asked, one.0, other.0) && joined(known, one.1, other.1))
        })
    })
}

/// Whether the neighbours of two words have changed sides.
fn has_swapped(here: (WordId, WordId), there: (WordId, WordId)) -> bool {
    here.0 == there.1 && here.1 == there.0 && here.0 != here.1
}
