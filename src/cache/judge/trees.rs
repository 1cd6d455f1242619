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

#[cfg(test)]
mod tests {
    use super::*;

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
