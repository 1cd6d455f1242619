//! [`Rows`]: which of many vectors may be among the nearest to another, found out on small whole numbers.
//!
//! Rounding moves a vector by a length that is known, so it is known how far a cosine may be off; whatever may be
//! among the nearest is named, and the vectors themselves have the last word. So nothing is ever missed, and a scan
//! reads a quarter of the bytes, by the fastest instructions that the machine has.

use crate::store::embedded::kernels::{Kernel, LANES};
use crate::vector::UnitVector;

/// The largest whole number.
const LARGEST: f32 = 127.0;
/// What rounding in sums of `f32` may add.
const SLACK: f32 = 1e-5;

/// Vectors of one length, in the order in which they came. One of another length has a row that says nothing, and
/// is always named.
#[derive(Debug)]
pub(super) struct Rows {
    /// The length of the first; zero before there is one.
    dimensions: usize,
    kernel: Kernel,
    numbers: Vec<i8>,
    rounded: Vec<Rounded>,
}

/// What is known of a row.
#[derive(Clone, Copy, Debug)]
struct Rounded {
    /// What one stands for.
    scale: f32,
    /// How far the row is from the vector. Less than nothing where there is none.
    off: f32,
}

impl Default for Rows {
    fn default() -> Self {
        Self { dimensions: 0, kernel: Kernel::of_this_machine(), numbers: Vec::new(), rounded: Vec::new() }
    }
}

impl Rows {
    fn stride(&self) -> usize {
        self.dimensions.next_multiple_of(LANES)
    }

    /// Adds a row behind all others; `None` is never near anything.
    pub(super) fn push(&mut self, vector: Option<&UnitVector>) {
        if let (0, Some(vector)) = (self.dimensions, vector) {
            self.dimensions = vector.dimensions();
            self.numbers = vec![0; self.rounded.len() * self.stride()];
        }
        let rounded = match vector {
            Some(vector) if vector.dimensions() == self.dimensions => round(vector, &mut self.numbers),
            other => {
                self.numbers.resize(self.numbers.len() + self.stride(), 0);
                let off = if other.is_some() { f32::INFINITY } else { -1.0 };
                Rounded { scale: 0.0, off }
            }
        };
        self.rounded.push(rounded);
    }

    /// Takes a row away; the last one takes its place.
    pub(super) fn swap_remove(&mut self, row: usize) {
        let (stride, last) = (self.stride(), self.rounded.len() - 1);
        self.numbers.copy_within(last * stride.., row * stride);
        self.numbers.truncate(last * stride);
        self.rounded.swap_remove(row);
    }

    /// All rows that may be among the `most` nearest to `query`, and few more.
    pub(super) fn candidates(&self, query: &UnitVector, most: usize) -> Vec<usize> {
        if query.dimensions() != self.dimensions {
            return (0..self.rounded.len()).collect();
        }
        let mut numbers = Vec::with_capacity(self.stride());
        let asked = round(query, &mut numbers);
        let mut products = Vec::with_capacity(self.rounded.len());
        self.kernel.all(&numbers, &self.numbers, &mut products);
        let rows = products.iter().zip(&self.rounded).enumerate().filter(|(_, (_, row))| row.off >= 0.0);
        let cosines = rows.map(|(at, (product, row))| {
            // |q·v - q'·v'| is at most |q|·|v - v'| + |q - q'|·|v'|, and |v'| at most 1 + |v - v'|, which is below
            // one for whatever was rounded.
            let off = row.off + asked.off * (1.0 + row.off.min(1.0)) + SLACK;
            (at, *product as f32 * asked.scale * row.scale, off)
        });
        let mut least = Best::of(most);
        for (_, cosine, off) in cosines.clone() {
            least.see(cosine - off);
        }
        let least = least.last();
        cosines.filter(|(_, cosine, off)| cosine + off >= least).map(|(row, ..)| row).collect()
    }
}

/// Appends the numbers of a vector, rounded, and zeros up to the stride.
fn round(vector: &UnitVector, numbers: &mut Vec<i8>) -> Rounded {
    let vector = vector.as_slice();
    let largest = vector.iter().fold(0f32, |largest, number| largest.max(number.abs()));
    let scale = largest / LARGEST;
    let end = numbers.len() + vector.len().next_multiple_of(LANES);
    let mut off = 0.0;
    for number in vector {
        let whole = (number / scale).round();
        off += (number - whole * scale).powi(2);
        numbers.push(whole as i8);
    }
    numbers.resize(end, 0);
    Rounded { scale, off: off.sqrt() }
}

/// The greatest few of many numbers.
struct Best {
    most: usize,
    /// The greatest first.
    seen: Vec<f32>,
}

impl Best {
    fn of(most: usize) -> Self {
        Self { most, seen: Vec::with_capacity(most.min(64) + 1) }
    }

    fn see(&mut self, number: f32) {
        if self.seen.len() == self.most && self.seen.last().is_none_or(|last| number <= *last) {
            return;
        }
        let place = self.seen.partition_point(|seen| *seen >= number);
        self.seen.insert(place, number);
        self.seen.truncate(self.most);
    }

    /// The last of the greatest few; nothing is below it where there are fewer.
    fn last(&self) -> f32 {
        let full = self.seen.len() == self.most;
        self.seen.last().copied().filter(|_| full).unwrap_or(f32::NEG_INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(values: &[f32]) -> Option<UnitVector> {
        UnitVector::new(values.to_vec()).ok()
    }

    proptest! {
        #[test]
        fn the_nearest_are_always_among_the_candidates(
            values in prop::collection::vec(-1f32..1.0, 40 * 70),
            most in 1usize..12,
            gone in prop::collection::vec(0usize..30, 0..5),
        ) {
            let mut vectors: Vec<UnitVector> = values.chunks(70).filter_map(unit).collect();
            let query = vectors.pop().unwrap();
            let mut rows = Rows::default();
            rows.push(None);
            vectors.iter().for_each(|vector| rows.push(Some(vector)));
            let mut kept: Vec<Option<&UnitVector>> = std::iter::once(None).chain(vectors.iter().map(Some)).collect();
            for row in gone {
                rows.swap_remove(row);
                kept.swap_remove(row);
            }
            let candidates = rows.candidates(&query, most);
            let mut all: Vec<usize> = (0..kept.len()).filter(|row| kept[*row].is_some()).collect();
            let cosine = |row: &usize| kept[*row].unwrap().cosine(&query);
            all.sort_by(|a, b| cosine(b).total_cmp(&cosine(a)));
            for nearest in all.iter().take(most) {
                prop_assert!(candidates.contains(nearest), "{nearest} of {candidates:?}");
            }
        }
    }

    #[test]
    fn few_more_are_named_than_are_wanted() {
        let mut rows = Rows::default();
        let axis = |at: usize| {
            let mut values = [0.01f32; 64];
            values[at] = 1.0;
            unit(&values).unwrap()
        };
        (0..64).for_each(|at| rows.push(Some(&axis(at))));
        assert_eq!(rows.candidates(&axis(7), 1), [7]);
        assert_eq!(rows.candidates(&axis(7), 100).len(), 64, "fewer than are wanted");
    }

    #[test]
    fn vectors_of_another_length_are_left_to_their_reader() {
        let mut rows = Rows::default();
        for values in [&[1.0f32, 0.0][..], &[1.0, 0.0, 0.0]] {
            rows.push(unit(values).as_ref());
        }
        assert_eq!(rows.candidates(&unit(&[0.0, 1.0]).unwrap(), 1), [0, 1]);
        assert_eq!(rows.candidates(&unit(&[0.0, 1.0, 0.0, 0.0]).unwrap(), 1), [0, 1]);
    }
}
