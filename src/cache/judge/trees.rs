//! [`Trees`]: the learned score, a sum over small decision trees.

use serde::{Deserialize, Serialize};

/// A split, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Node {
    /// Goes to the first node where the feature is at most the value, and to the second elsewhere.
    Split(u8, f32, u8, u8),
    /// What the tree says.
    Leaf(f32),
}

/// Trees; the first node of each is its root, and a split points only to later nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trees(pub Vec<Vec<Node>>);

impl Trees {
    /// The sum of what the trees say.
    pub fn sum(&self, features: &[f32]) -> f32 {
        self.0.iter().map(|tree| leaf(tree, features)).sum()
    }

    /// Whether every way through ends in a leaf, and every feature is one of so many.
    pub fn is_sound(&self, features: usize) -> bool {
        self.0.iter().all(|tree| {
            !tree.is_empty()
                && tree.iter().enumerate().all(|(at, node)| match node {
                    Node::Leaf(value) => value.is_finite(),
                    Node::Split(feature, value, left, right) => {
                        let forward = |to: u8| usize::from(to) > at && usize::from(to) < tree.len();
                        usize::from(*feature) < features
                            && value.is_finite()
                            && forward(*left)
                            && forward(*right)
                    }
                })
        })
    }
}

fn leaf(tree: &[Node], features: &[f32]) -> f32 {
    let mut at = 0;
    loop {
        match tree[at] {
            Node::Leaf(value) => return value,
            Node::Split(feature, value, left, right) => {
                at = usize::from(if features[usize::from(feature)] <= value { left } else { right });
            }
        }
    }
}

/// The same trees, laid out to be walked fast: every tree takes as many steps as the deepest, and no step is a guess
/// that the processor may get wrong. A leaf leads to itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Walkable {
    steps: Vec<Step>,
    /// What each step says, if it is a leaf.
    said: Vec<f32>,
    roots: Vec<u16>,
    depth: usize,
}

/// Where to go on: to `low` where the feature is at most the value, and to the one behind it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    most: f32,
    low: u16,
    feature: u16,
}

impl Walkable {
    /// Of sound trees; `None` where there are more nodes than can be told apart.
    pub(super) fn new(trees: &Trees) -> Option<Self> {
        let mut walkable = Self::default();
        for tree in &trees.0 {
            walkable.roots.push(u16::try_from(walkable.steps.len()).ok()?);
            walkable.lay_out(tree)?;
        }
        Some(walkable)
    }

    /// Level by level, so that the two ways on from a split lie side by side.
    fn lay_out(&mut self, tree: &[Node]) -> Option<()> {
        let mut level = vec![0_u8];
        let mut depth = 0;
        while !level.is_empty() {
            let begin = self.steps.len();
            let mut next = Vec::new();
            for (at, node) in level.iter().enumerate() {
                let (step, said) = match *tree.get(usize::from(*node))? {
                    Node::Leaf(value) => {
                        let itself = u16::try_from(begin + at).ok()?;
                        (Step { most: f32::INFINITY, low: itself, feature: 0 }, value)
                    }
                    Node::Split(feature, most, low, high) => {
                        let place = u16::try_from(begin + level.len() + next.len()).ok()?;
                        next.extend([low, high]);
                        (Step { most, low: place, feature: feature.into() }, 0.0)
                    }
                };
                self.steps.push(step);
                self.said.push(said);
            }
            depth += usize::from(!next.is_empty());
            level = next;
        }
        self.depth = self.depth.max(depth);
        Some(())
    }

    /// The sum of what the trees say; as [`Trees::sum`], to the bit. No feature is a NaN.
    pub(super) fn sum(&self, features: &[f32]) -> f32 {
        let leaf = |root: &u16| {
            let end = (0..self.depth).fold(usize::from(*root), |at, _| {
                let Step { most, low, feature } = self.steps[at];
                usize::from(low) + usize::from(features[usize::from(feature)] > most)
            });
            self.said[end]
        };
        self.roots.iter().map(leaf).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::judge::{Weights, features};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn walked_fast_they_say_the_same(features in prop::array::uniform32(-3.0_f32..12.0)) {
            let features: Vec<f32> = features.iter().copied().cycle().take(features::COUNT).collect();
            let trees = &Weights::shipped().unwrap().trees;
            let walkable = Walkable::new(trees).unwrap();
            prop_assert_eq!(walkable.sum(&features).to_bits(), trees.sum(&features).to_bits());
        }
    }

    #[test]
    fn a_tree_is_walked_to_its_leaf() {
        let tree = vec![
            Node::Split(1, 0.5, 1, 2),
            Node::Leaf(-1.0),
            Node::Split(0, 3.0, 3, 4),
            Node::Leaf(2.0),
            Node::Leaf(4.0),
        ];
        let trees = Trees(vec![tree.clone(), tree]);
        assert!(trees.is_sound(2) && !trees.is_sound(1));
        let said = |features: [f32; 2]| trees.sum(&features) as i32;
        assert_eq!(said([0.0, 0.5]), -2);
        assert_eq!(said([3.0, 0.6]), 4);
        assert_eq!(said([3.1, 0.6]), 8);
    }

    #[test]
    fn what_leads_nowhere_is_not_sound() {
        for tree in [
            vec![],
            vec![Node::Split(0, 0.0, 0, 0)],
            vec![Node::Split(0, 0.0, 1, 2), Node::Leaf(0.0)],
            vec![Node::Leaf(f32::NAN)],
        ] {
            assert!(!Trees(vec![tree.clone()]).is_sound(1), "{tree:?}");
        }
    }
}
