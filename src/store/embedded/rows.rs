//! [`Rows`]: many vectors of one length, as small whole numbers, packed one behind the other.
//!
//! Each number of a vector becomes one of sixteen bits, with a scale for the vector, and the two halves lie apart:
//! the upper ones are all that a search looks at, the lower ones settle the order of the few it has found.

use super::kernels::{Kernel, LANES};
use super::numbers::Numbers;

/// The largest whole number a number becomes: its upper half, rounded, still fits in eight bits.
const LARGEST: f32 = 127.0 * 256.0;

/// Vectors of one length. Each has a number, given in order.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    dimensions: usize,
    stride: usize,
    kernel: Kernel,
    upper: Numbers,
    lower: Numbers,
    scales: Vec<f32>,
}

/// One vector in the same form, to look for others like it.
#[derive(Clone, Debug)]
pub(super) struct Quantised {
    upper: Vec<i8>,
    lower: Vec<i8>,
    scale: f32,
}

/// What rows are compared with: the upper half of a vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'v> {
    upper: &'v [i8],
    scale: f32,
}

/// A row, and how near it is by the upper halves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scored {
    pub(super) score: f32,
    pub(super) row: u32,
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scored {}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The nearer is the greater.
impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.row.cmp(&self.row))
    }
}

impl Quantised {
    pub(super) fn of(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0f32, |largest, number| largest.max(number.abs()));
        let scale = if largest > 0.0 { largest / LARGEST } else { 1.0 };
        let padded = vector.len().next_multiple_of(LANES);
        let (mut upper, mut lower) = (vec![0; padded], vec![0; padded]);
        for (at, number) in vector.iter().enumerate() {
            let whole = (number / scale).round() as i32;
            let high = (whole + 128) >> 8;
            upper[at] = high as i8;
            lower[at] = (whole - (high << 8)) as i8;
        }
        Self { upper, lower, scale }
    }

    pub(super) fn probe(&self) -> Probe<'_> {
        Probe { upper: &self.upper, scale: self.scale * 65536.0 }
    }
}

impl Rows {
    pub(super) fn new(dimensions: usize) -> Self {
        Self::with_capacity(dimensions, 0)
    }

    pub(super) fn with_capacity(dimensions: usize, count: usize) -> Self {
        let stride = dimensions.next_multiple_of(LANES);
        Self {
            dimensions,
            stride,
            kernel: Kernel::of_this_machine(),
            upper: Numbers::with_capacity(count * stride),
            lower: Numbers::with_capacity(count * stride),
            scales: Vec::with_capacity(count),
        }
    }

    /// Rows that were taken apart by [`Self::parts`]; `None` if the lengths do not fit.
    pub(super) fn from_parts(
        dimensions: usize,
        upper: Numbers,
        lower: Numbers,
        scales: Vec<f32>,
    ) -> Option<Self> {
        let stride = dimensions.next_multiple_of(LANES);
        let fits = [&upper, &lower].iter().all(|half| Some(half.len()) == scales.len().checked_mul(stride));
        fits.then(|| Self { dimensions, stride, kernel: Kernel::of_this_machine(), upper, lower, scales })
    }

    /// The upper halves, the lower halves, and the scales.
    pub(super) fn parts(&self) -> (&[i8], &[i8], &[f32]) {
        (&self.upper, &self.lower, &self.scales)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    /// What so many rows of that length take.
    pub(super) fn bytes_of(dimensions: usize, count: usize) -> usize {
        count * (2 * dimensions.next_multiple_of(LANES) + size_of::<f32>())
    }

    pub(super) fn push(&mut self, vector: &Quantised) {
        self.upper.extend_from_slice(&vector.upper);
        self.lower.extend_from_slice(&vector.lower);
        self.scales.push(vector.scale);
    }

    /// Takes over a row of others.
    pub(super) fn push_row(&mut self, from: &Self, row: usize) {
        self.upper.extend_from_slice(from.upper(row));
        self.lower.extend_from_slice(from.lower(row));
        self.scales.push(from.scales[row]);
    }

    /// Whether the row is that very vector.
    pub(super) fn is(&self, row: usize, vector: &Quantised) -> bool {
        self.upper(row) == vector.upper
            && self.lower(row) == vector.lower
            && self.scales[row].to_bits() == vector.scale.to_bits()
    }

    /// How near two rows are, by the upper halves.
    pub(super) fn between(&self, a: usize, b: usize) -> f32 {
        let product = self.kernel.one(self.upper(a), self.upper(b)) as f32;
        product * self.scales[a] * self.scales[b] * 65536.0
    }

    /// A row, to look for others like it.
    pub(super) fn probe(&self, row: u32) -> Probe<'_> {
        let row = row as usize;
        Probe { upper: self.upper(row), scale: self.scales[row] * 65536.0 }
    }

    /// How near each row is, by the upper halves.
    pub(super) fn score_all(&self, query: Probe<'_>, mut take: impl FnMut(Scored)) {
        /// So many at once that the products stay in the nearest cache.
        const AT_ONCE: usize = 1024;
        let mut products = Vec::with_capacity(AT_ONCE.min(self.len()));
        for (block, rows) in self.upper.chunks(AT_ONCE * self.stride.max(1)).enumerate() {
            self.kernel.all(query.upper, rows, &mut products);
            let first = block * AT_ONCE;
            for (at, (product, scale)) in products.iter().zip(&self.scales[first..]).enumerate() {
                take(Scored { score: *product as f32 * scale * query.scale, row: (first + at) as u32 });
            }
        }
    }

    /// The same for some rows.
    pub(super) fn score_some(
        &self,
        query: Probe<'_>,
        rows: &[u32],
        products: &mut Vec<i32>,
        mut take: impl FnMut(Scored),
    ) {
        self.kernel.some(query.upper, &self.upper, rows, products);
        for (row, product) in rows.iter().zip(products) {
            let score = *product as f32 * self.scales[*row as usize] * query.scale;
            take(Scored { score, row: *row });
        }
    }

    /// The cosine, by both halves: as good as by the vectors themselves.
    pub(super) fn cosine(&self, query: &Quantised, row: usize) -> f32 {
        let (upper, lower) = (self.upper(row), self.lower(row));
        let product = |a: &[i8], b: &[i8]| i64::from(self.kernel.one(a, b));
        let middle = product(&query.upper, lower) + product(&query.lower, upper);
        let whole = (product(&query.upper, upper) << 16) + (middle << 8) + product(&query.lower, lower);
        (whole as f64 * f64::from(query.scale) * f64::from(self.scales[row])) as f32
    }

    fn upper(&self, row: usize) -> &[i8] {
        &self.upper[row * self.stride..][..self.stride]
    }

    fn lower(&self, row: usize) -> &[i8] {
        &self.lower[row * self.stride..][..self.stride]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{UnitVector, dot};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_halves_give_the_cosine(values in prop::collection::vec(-1f32..1.0, 200)) {
            let unit = |values: &[f32]| UnitVector::new(values.to_vec());
            if let (Ok(a), Ok(b)) = (unit(&values[..100]), unit(&values[100..])) {
                let mut rows = Rows::new(100);
                let query = Quantised::of(a.as_slice());
                rows.push(&Quantised::of(b.as_slice()));
                rows.push(&query);
                let exact = dot(a.as_slice(), b.as_slice());
                prop_assert!((rows.cosine(&query, 0) - exact).abs() < 1e-4);
                prop_assert!((rows.between(0, 1) - exact).abs() < 0.02);
                prop_assert!(rows.is(1, &query) && !rows.is(0, &query));
            }
        }
    }

    #[test]
    fn all_and_some_score_alike() {
        let mut rows = Rows::new(3);
        for n in 0..5u8 {
            rows.push(&Quantised::of(&[f32::from(n), 1.0, -2.0]));
        }
        let query = Quantised::of(&[1.0, 0.5, 0.0]);
        let (mut all, mut some) = (Vec::new(), Vec::new());
        rows.score_all(query.probe(), |scored| all.push(scored));
        rows.score_some(query.probe(), &[4, 0], &mut Vec::new(), |scored| some.push(scored));
        assert_eq!(some, [all[4], all[0]]);
        assert!(all[4] > all[0], "the nearer is the greater");
    }
}
