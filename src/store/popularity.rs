//! How often each question is asked: about, in little memory, and of late.
//!
//! A count-min sketch: four rows of small counters, and each id has one counter in every row. Asking adds one to
//! its four, and the least of them is the estimate: others may share a counter and make it too high, never too
//! low (but for two who count the same at the same moment). After a while all counters are halved, so that what was asked much long ago counts for little.
//!
//! Ids are digests already, so their own bytes serve as the hashes. Beside the sketch wait the hits that are not
//! written down yet: nothing on the way of a request writes to disk.

use super::{EntryId, Scope};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const ROWS: usize = 4;
/// The fewest and the most counters in a row.
const WIDTHS: std::ops::RangeInclusive<usize> = 1 << 10..=1 << 19;
/// Counters in a row for each entry: fewer are shared too often.
const PER_ENTRY: usize = 2;
/// The counters are halved after so many questions for each of a row.
const HALVED_AFTER: u64 = 5;
/// The most entries whose hits wait to be written down. The hits of more are not counted, only their questions.
const MOST_WAITING: usize = 1 << 16;

/// How often each question is asked.
#[derive(Debug)]
pub(super) struct Popularity {
    rows: [Box<[AtomicU8]>; ROWS],
    asked: AtomicU64,
    hits: Mutex<HashMap<(Scope, EntryId), u32>>,
}

impl Popularity {
    /// For about so many entries.
    pub(super) fn of(entries: u64) -> Self {
        let wanted = usize::try_from(entries).unwrap_or(usize::MAX).saturating_mul(PER_ENTRY);
        let width = wanted.clamp(*WIDTHS.start(), *WIDTHS.end()).next_power_of_two();
        let row = || (0..width).map(|_| AtomicU8::new(0)).collect();
        Self { rows: std::array::from_fn(|_| row()), asked: AtomicU64::new(0), hits: Mutex::default() }
    }

    /// Counts a question, and the hit if its entry answered.
    pub(super) fn count(&self, scope: &Scope, id: &EntryId, answered: bool) {
        self.add(id, 1);
        if (self.asked.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(HALVED_AFTER * self.width()) {
            self.halve();
        }
        if answered {
            let mut hits = self.hits();
            if hits.len() < MOST_WAITING || hits.contains_key(&(*scope, *id)) {
                let hits = hits.entry((*scope, *id)).or_default();
                *hits = hits.saturating_add(1);
            }
        }
    }

    /// What is known from before about an entry.
    pub(super) fn recall(&self, id: &EntryId, hits: u32) {
        self.add(id, u8::try_from(hits).unwrap_or(u8::MAX));
    }

    /// How often it was asked of late, about.
    pub(super) fn estimate(&self, id: &EntryId) -> u32 {
        self.counters(id).map(|counter| counter.load(Ordering::Relaxed)).min().unwrap_or_default().into()
    }

    /// The hits of an entry that are not written down yet.
    pub(super) fn waiting(&self, scope: &Scope, id: &EntryId) -> u32 {
        self.hits().get(&(*scope, *id)).copied().unwrap_or_default()
    }

    /// Hands over some of the hits that are not written down yet.
    pub(super) fn take(&self, most: usize) -> Vec<((Scope, EntryId), u32)> {
        let mut hits = self.hits();
        let some: Vec<_> = hits.keys().take(most).copied().collect();
        some.into_iter().filter_map(|key| hits.remove_entry(&key)).collect()
    }

    /// Only as far as the estimate needs it: a counter that is higher already is so because of others.
    fn add(&self, id: &EntryId, by: u8) {
        let estimate = u8::try_from(self.estimate(id)).unwrap_or(u8::MAX).saturating_add(by);
        for counter in self.counters(id) {
            counter.fetch_max(estimate, Ordering::Relaxed);
        }
    }

    fn halve(&self) {
        for counter in self.rows.iter().flatten() {
            let half = |count: u8| Some(count / 2);
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half);
        }
    }

    fn counters(&self, id: &EntryId) -> impl Iterator<Item = &AtomicU8> {
        let hashes = id.0.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        self.rows.iter().zip(hashes).filter_map(|(row, hash)| row.get((hash % self.width()) as usize))
    }

    fn width(&self) -> u64 {
        self.rows[0].len() as u64
    }

    /// A map has no invariant that a panic could have broken half-way.
    fn hits(&self) -> MutexGuard<'_, HashMap<(Scope, EntryId), u32>> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    const HERE: Scope = Scope([1; 32]);

    fn id(n: u32) -> EntryId {
        EntryId(Sha256::digest(n.to_le_bytes()).into())
    }

    /// The same with a counter for each id.
    #[derive(Default)]
    struct Exact {
        counts: HashMap<EntryId, u8>,
        asked: u64,
    }

    impl Exact {
        fn count(&mut self, id: EntryId, width: u64) {
            let count = self.counts.entry(id).or_default();
            *count = count.saturating_add(1);
            self.asked += 1;
            if self.asked.is_multiple_of(HALVED_AFTER * width) {
                self.counts.values_mut().for_each(|count| *count /= 2);
            }
        }
    }

    #[test]
    fn the_estimate_is_never_too_low_and_seldom_too_high() {
        let (sketch, mut exact) = (Popularity::of(1000), Exact::default());
        for n in 0..30_000u32 {
            // The square of an even number between none and one, times a thousand: the small ones are asked more.
            let even = f64::from(n.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
            let id = id((even * even * 1000.0) as u32);
            sketch.count(&HERE, &id, false);
            exact.count(id, sketch.width());
        }
        let estimates = exact.counts.iter().map(|(id, count)| (sketch.estimate(id), u32::from(*count)));
        let (mut all, mut right) = (0, 0);
        for (estimate, count) in estimates {
            assert!(estimate >= count, "{estimate} is less than {count}");
            all += 1;
            right += u32::from(estimate == count);
        }
        assert!(right * 10 > all * 9, "{right} of {all} are right");
    }

    #[test]
    fn what_was_asked_long_ago_counts_for_less() {
        let sketch = Popularity::of(1);
        for _ in 0..100 {
            sketch.count(&HERE, &id(1), false);
        }
        for n in 0..3 * HALVED_AFTER as u32 * 1024 {
            sketch.count(&HERE, &id(2 + n % 500), false);
        }
        assert!(sketch.estimate(&id(1)) <= 100 / 8 + 1, "{}", sketch.estimate(&id(1)));
    }

    #[test]
    fn hits_wait_until_they_are_taken() {
        let sketch = Popularity::of(1);
        for answered in [true, false, true] {
            sketch.count(&HERE, &id(1), answered);
        }
        assert_eq!((sketch.waiting(&HERE, &id(1)), sketch.estimate(&id(1))), (2, 3));
        assert_eq!(sketch.take(9), [((HERE, id(1)), 2)]);
        assert_eq!(sketch.waiting(&HERE, &id(1)), 0);
    }
}
