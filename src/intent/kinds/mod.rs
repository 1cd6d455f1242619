//! What slots may hold beside words from a list: numbers, measures, times, days, sums.

mod numbers;
mod sums;
mod times;
mod units;

pub(super) use numbers::{number, order};
pub(super) use sums::{evaluate, sum};
pub(super) use times::{day, time};
pub(super) use units::{convert, unit, unit_names};

use super::words::Words;
use serde::Deserialize;

/// A language whose number words are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// German.
    De,
    /// Spanish.
    Es,
    /// French.
    Fr,
}

/// Makes known every word that these kinds are written with, so that misspelt ones are found.
pub(super) fn learn(words: &mut Words, languages: &[Language]) {
    for word in numbers::words(languages).chain(units::words()).chain(times::words()).chain(sums::words()) {
        words.learn(&word);
    }
    // Looks like a number word, and is none.
    for word in numbers::LOOKALIKES {
        words.learn(word);
    }
}
