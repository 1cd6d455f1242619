//! Time is given, not taken: whoever needs the hour is handed a [`Clock`].
//!
//! Only wall-clock facts (ages, expiry, log stamps) come from here. Deadlines use `tokio::time`, which tests pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The days of four hundred years.
const ERA: i64 = 146_097;
/// The days from the first of March of the year 0, where an era begins, to the first of January 1970.
const EPOCH: i64 = 719_468;

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// How long ago `earlier` was; zero where the clock has been set back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whole seconds since the epoch, as HTTP and the LLM protocols write them.
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

/// The date so many days after the Unix epoch: year, month and day, in the calendar that is used everywhere today.
///
/// The year begins in March here, so that the leap day is its last one, and 400 years are an era: after these the
/// calendar repeats itself (Howard Hinnant's algorithm).
pub fn date(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(EPOCH);
    let (era, of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

/// Undoes [`date`]; `None` where there is no such month, or no month has such a day, or the year is far away.
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(-9_999..=9_999).contains(&year) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH)
}

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// The time of day now.
    fn now(&self) -> Millis;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time is taken")]
    fn now(&self) -> Millis {
        Millis::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_both_ways() {
        for (number, known) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_783, (2026, 11, 26)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(number), known);
            let (year, month, day) = known;
            assert_eq!(days(year, month, day), Some(number));
        }
        for number in -800_000..800_000 {
            let (year, month, day) = date(number);
            assert_eq!(days(year, month, day), Some(number), "{year}-{month}-{day}");
        }
        for (year, month, day) in [(2026, 0, 1), (2026, 13, 1), (2026, 1, 0), (2026, 1, 32), (10_000, 1, 1)] {
            assert_eq!(days(year, month, day), None);
        }
    }
}
