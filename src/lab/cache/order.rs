//! Orders in which a stream may come, the same ones everywhere.

/// A small generator (SplitMix64): its numbers are the same on every machine and in every version.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From zero to one.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }
}

/// The order of `count` questions: as in the file for seed zero, shuffled for others.
pub fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if seed > 0 {
        let mut random = Random::new(seed);
        for at in (1..count).rev() {
            order.swap(at, random.below(at + 1));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_each_once_and_is_the_same_again() {
        assert_eq!(order(4, 0), [0, 1, 2, 3]);
        let mut shuffled = order(100, 7);
        assert_eq!(shuffled, order(100, 7));
        assert_ne!(shuffled, order(100, 8));
        shuffled.sort_unstable();
        assert_eq!(shuffled, order(100, 0));
    }
}
