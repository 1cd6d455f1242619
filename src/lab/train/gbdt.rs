//! Gradient-boosted trees: a small trainer, for one thing only. Deterministic: the same rows give the same trees.
//!
//! Features are cut into bins, trees grow leaf by leaf where it pays most, and some features may be told to be
//! monotone, so that no chance in the data makes a pair look better for being less alike.

use crate::cache::judge::trees::{Node, Trees};

/// How the trees are grown.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    /// How many trees.
    pub(super) trees: usize,
    /// How many leaves each has.
    pub(super) leaves: usize,
    /// How much of each tree is taken.
    pub(super) rate: f64,
    /// The fewest rows in a leaf.
    pub(super) least_rows: u32,
    /// How much a leaf is drawn to zero.
    pub(super) ridge: f64,
    /// The share of rows that each tree sees.
    pub(super) rows: f64,
    /// The share of features that each tree sees.
    pub(super) features: f64,
    /// For each feature: 1 where more must not say less, -1 where more must not say more, 0 where it may.
    pub(super) monotone: Vec<i8>,
}

/// Rows to learn from.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// The features of each.
    pub(super) features: Vec<Vec<f32>>,
    /// Whether the answer was right.
    pub(super) right: Vec<bool>,
    /// What each counts.
    pub(super) weights: Vec<f64>,
}

const BINS: usize = 64;

/// What was learned: what is said of all, and the trees.
pub(super) fn grow(rows: &Rows, growth: &Growth) -> (f32, Trees) {
    let binned = Binned::new(&rows.features);
    let total: f64 = rows.weights.iter().sum();
    let right: f64 =
        rows.right.iter().zip(&rows.weights).map(|(right, weight)| if *right { *weight } else { 0.0 }).sum();
    let share = (right / total).clamp(1e-6, 1.0 - 1e-6);
    let base = (share / (1.0 - share)).ln();
    let mut scores = vec![base; rows.right.len()];
    let mut random = Random(0x5eed);
    let mut trees = Vec::with_capacity(growth.trees);
    let (mut gradients, mut hessians) = (vec![0.0; scores.len()], vec![0.0; scores.len()]);
    for _ in 0..growth.trees {
        for at in 0..scores.len() {
            let probability = 1.0 / (1.0 + (-scores[at]).exp());
            let target = if rows.right[at] { 1.0 } else { 0.0 };
            gradients[at] = (probability - target) * rows.weights[at];
            hessians[at] = probability * (1.0 - probability) * rows.weights[at];
        }
        let members: Vec<u32> = (0..scores.len() as u32).filter(|_| random.share() < growth.rows).collect();
        let features: Vec<usize> =
            (0..binned.cuts.len()).filter(|_| random.share() < growth.features).collect();
        let tree = Grower { binned: &binned, growth, gradients: &gradients, hessians: &hessians, features }
            .tree(members);
        for (at, score) in scores.iter_mut().enumerate() {
            *score += f64::from(binned.leaf(&tree, at));
        }
        trees.push(tree.into_iter().map(|node| binned.unbin(node)).collect());
    }
    (base as f32, Trees(trees))
}

/// A node whose split is a bin, kept as a number.
type BinNode = Node;

/// The features, cut into bins.
struct Binned {
    /// For each feature, the values that end its bins, but for the last.
    cuts: Vec<Vec<f32>>,
    /// By feature, then by row.
    bins: Vec<Vec<u8>>,
}

impl Binned {
    fn new(rows: &[Vec<f32>]) -> Self {
        let count = rows.first().map_or(0, Vec::len);
        let (mut cuts, mut bins) = (Vec::new(), Vec::new());
        for feature in 0..count {
            let mut values: Vec<f32> = rows.iter().map(|row| row[feature]).collect();
            values.sort_unstable_by(f32::total_cmp);
            let mut ends: Vec<f32> = (1..BINS).map(|bin| values[bin * (values.len() - 1) / BINS]).collect();
            // Where a feature has few values, each has a bin.
            let mut distinct = values.clone();
            distinct.dedup();
            if distinct.len() <= BINS {
                ends = distinct[..distinct.len() - 1].to_vec();
            }
            ends.dedup();
            bins.push(rows.iter().map(|row| ends.partition_point(|end| *end < row[feature]) as u8).collect());
            cuts.push(ends);
        }
        Self { cuts, bins }
    }

    fn leaf(&self, tree: &[BinNode], row: usize) -> f32 {
        let mut at = 0;
        loop {
            match tree[at] {
                Node::Leaf(value) => return value,
                Node::Split(feature, bin, left, right) => {
                    let within = f32::from(self.bins[usize::from(feature)][row]) <= bin;
                    at = usize::from(if within { left } else { right });
                }
            }
        }
    }

    fn unbin(&self, node: BinNode) -> Node {
        match node {
            Node::Leaf(value) => Node::Leaf(value),
            Node::Split(feature, bin, left, right) => {
                Node::Split(feature, self.cuts[usize::from(feature)][bin as usize], left, right)
            }
        }
    }
}

/// A leaf that may still be split.
struct Leaf {
    node: usize,
    rows: Vec<u32>,
    /// What its value may be, because of monotone splits above.
    bounds: (f64, f64),
    split: Option<Split>,
}

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: usize,
    middle: f64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    gradient: f64,
    hessian: f64,
    rows: u32,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.gradient += other.gradient;
        self.hessian += other.hessian;
        self.rows += other.rows;
    }

    fn without(self, other: Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            hessian: self.hessian - other.hessian,
            rows: self.rows - other.rows,
        }
    }
}

struct Grower<'a> {
    binned: &'a Binned,
    growth: &'a Growth,
    gradients: &'a [f64],
    hessians: &'a [f64],
    features: Vec<usize>,
}

impl Grower<'_> {
    fn tree(&self, rows: Vec<u32>) -> Vec<BinNode> {
        let mut nodes = vec![Node::Leaf(0.0)];
        let bounds = (f64::NEG_INFINITY, f64::INFINITY);
        let mut leaves = vec![self.leaf(0, rows, bounds)];
        while leaves.len() < self.growth.leaves {
            let best = (0..leaves.len())
                .filter(|at| leaves[*at].split.is_some())
                .max_by(|a, b| gain(&leaves[*a]).total_cmp(&gain(&leaves[*b])));
            let Some(best) = best else { break };
            let Leaf { node, rows, bounds, split } = leaves.swap_remove(best);
            let Some(split) = split else { break };
            let bins = &self.binned.bins[split.feature];
            let (left, right): (Vec<u32>, Vec<u32>) =
                rows.into_iter().partition(|row| usize::from(bins[*row as usize]) <= split.bin);
            let (below, above) = match self.growth.monotone[split.feature] {
                1.. => ((bounds.0, split.middle), (split.middle, bounds.1)),
                0 => (bounds, bounds),
                _ => ((split.middle, bounds.1), (bounds.0, split.middle)),
            };
            let (first, second) = (nodes.len(), nodes.len() + 1);
            nodes[node] = Node::Split(split.feature as u8, split.bin as f32, first as u8, second as u8);
            nodes.extend([Node::Leaf(0.0), Node::Leaf(0.0)]);
            leaves.push(self.leaf(first, left, below));
            leaves.push(self.leaf(second, right, above));
        }
        for leaf in leaves {
            let value = self.value(self.sums(&leaf.rows), leaf.bounds) * self.growth.rate;
            nodes[leaf.node] = Node::Leaf(value as f32);
        }
        nodes
    }

    fn sums(&self, rows: &[u32]) -> Sums {
        let mut sums = Sums::default();
        for row in rows {
            let at = *row as usize;
            sums.add(Sums { gradient: self.gradients[at], hessian: self.hessians[at], rows: 1 });
        }
        sums
    }

    fn value(&self, sums: Sums, bounds: (f64, f64)) -> f64 {
        (-sums.gradient / (sums.hessian + self.growth.ridge)).clamp(bounds.0, bounds.1)
    }

    /// What a leaf of these sums, with this value, takes off the loss.
    fn worth(&self, sums: Sums, value: f64) -> f64 {
        -(sums.gradient * value + 0.5 * (sums.hessian + self.growth.ridge) * value * value)
    }

    fn leaf(&self, node: usize, rows: Vec<u32>, bounds: (f64, f64)) -> Leaf {
        let split = self.best_split(&rows, bounds);
        Leaf { node, rows, bounds, split }
    }

    fn best_split(&self, rows: &[u32], bounds: (f64, f64)) -> Option<Split> {
        let total = self.sums(rows);
        let before = self.worth(total, self.value(total, bounds));
        let mut best: Option<Split> = None;
        for feature in &self.features {
            let bins = &self.binned.bins[*feature];
            let mut sums = [Sums::default(); BINS + 1];
            for row in rows {
                let at = *row as usize;
                sums[usize::from(bins[at])].add(Sums {
                    gradient: self.gradients[at],
                    hessian: self.hessians[at],
                    rows: 1,
                });
            }
            let mut left = Sums::default();
            let cuts = self.binned.cuts[*feature].len();
            for (bin, sum) in sums.iter().enumerate().take(cuts) {
                left.add(*sum);
                let right = total.without(left);
                if left.rows < self.growth.least_rows || right.rows < self.growth.least_rows {
                    continue;
                }
                let (low, high) = (self.value(left, bounds), self.value(right, bounds));
                if f64::from(self.growth.monotone[*feature]) * (high - low) < 0.0 {
                    continue;
                }
                let gain = self.worth(left, low) + self.worth(right, high) - before;
                if gain > 1e-9 && best.is_none_or(|best| gain > best.gain) {
                    best = Some(Split { gain, feature: *feature, bin, middle: f64::midpoint(low, high) });
                }
            }
        }
        best
    }
}

fn gain(leaf: &Leaf) -> f64 {
    leaf.split.map_or(0.0, |split| split.gain)
}

/// xorshift64*: enough to choose rows, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(monotone: Vec<i8>) -> Growth {
        Growth {
            trees: 60,
            leaves: 7,
            rate: 0.2,
            least_rows: 5,
            ridge: 1.0,
            rows: 0.8,
            features: 1.0,
            monotone,
        }
    }

    fn rows(count: usize, right: impl Fn(f32, f32) -> bool) -> Rows {
        let mut random = Random(7);
        let mut rows = Rows::default();
        for _ in 0..count {
            let (x, y) = (random.share() as f32, random.share() as f32);
            rows.right.push(right(x, y));
            rows.features.push(vec![x, y]);
            rows.weights.push(1.0);
        }
        rows
    }

    #[test]
    fn it_learns_what_is_there() {
        let rows = rows(2000, |x, y| (x > 0.5) != (y > 0.3));
        let (base, trees) = grow(&rows, &growth(vec![0, 0]));
        let wrong = rows
            .features
            .iter()
            .zip(&rows.right)
            .filter(|(features, right)| (base + trees.sum(features) > 0.0) != **right);
        assert!(wrong.count() < 20);
        assert!(trees.is_sound(2));
        assert_eq!(grow(&rows, &growth(vec![0, 0])), (base, trees), "the same rows give the same trees");
    }

    #[test]
    fn what_must_rise_never_falls() {
        // The truth falls where it must rise: the trees may only stay level.
        let rows = rows(2000, |x, y| y > 0.5 && !(0.3..=0.6).contains(&x));
        let (_, trees) = grow(&rows, &growth(vec![1, 0]));
        for y in [0.1, 0.4, 0.6, 0.9] {
            let sums: Vec<f32> = (0..100u8).map(|x| trees.sum(&[f32::from(x) / 100.0, y])).collect();
            assert!(sums.windows(2).all(|pair| pair[1] >= pair[0] - 1e-5), "{sums:?}");
        }
    }
}
