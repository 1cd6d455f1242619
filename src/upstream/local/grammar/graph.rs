//! A grammar as a graph of bytes: what may come next, where it goes on, and which rules it calls.
//!
//! It is built backwards, each piece in front of what follows it, so that nothing has to be joined afterwards.

use super::Refused;

/// The most nodes of a grammar. A schema of a hundred properties takes some five thousand.
const NODES: usize = 50_000;
/// Nothing reaches an end from here.
pub(super) const NEVER: u32 = u32::MAX;

/// A place in the graph.
pub(super) type At = u32;
/// A part of the graph that can be gone through from several places.
pub(super) type Rule = u32;

/// What may come at a place.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// One of these bytes.
    Byte(Bytes, At),
    /// What may come at any of these.
    Either(Vec<At>),
    /// All of a rule, and then what comes after it.
    Call(Rule, At),
    /// The end of a rule; of the grammar, where none was called.
    End,
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    /// Those from the first to the last of each pair.
    pub(super) fn of(ranges: &[(u8, u8)]) -> Self {
        let mut set = Self::default();
        ranges.iter().flat_map(|&(first, last)| first..=last).for_each(|byte| set.add(byte));
        set
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    /// The lowest of them.
    pub(super) fn first(&self) -> Option<u8> {
        (0..=u8::MAX).find(|byte| self.has(*byte))
    }
}

/// A graph in the making.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// Where each rule begins.
    pub(super) rules: Vec<At>,
    /// The rule for space, once there is one.
    pub(super) space: Option<Rule>,
}

impl Graph {
    /// One with nothing but an end.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::End], rules: Vec::new(), space: None }
    }

    /// The end of every rule.
    pub(super) const END: At = 0;

    pub(super) fn add(&mut self, node: Node) -> Result<At, Refused> {
        if self.nodes.len() >= NODES {
            return Err(Refused::new("the schema is too large for the local model"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as At)
    }

    pub(super) fn one_of(&mut self, ranges: &[(u8, u8)], next: At) -> Result<At, Refused> {
        self.add(Node::Byte(Bytes::of(ranges), next))
    }

    pub(super) fn text(&mut self, text: &str, next: At) -> Result<At, Refused> {
        text.bytes().rev().try_fold(next, |next, byte| self.one_of(&[(byte, byte)], next))
    }

    pub(super) fn either(&mut self, ways: &[At]) -> Result<At, Refused> {
        match ways {
            [way] => Ok(*way),
            ways => self.add(Node::Either(ways.to_vec())),
        }
    }

    /// A place that is filled in later, so that what follows can lead back to it.
    pub(super) fn later(&mut self) -> Result<At, Refused> {
        self.add(Node::Either(Vec::new()))
    }

    pub(super) fn fill(&mut self, place: At, ways: Vec<At>) {
        self.nodes[place as usize] = Node::Either(ways);
    }

    pub(super) fn call(&mut self, rule: Rule, next: At) -> Result<At, Refused> {
        self.add(Node::Call(rule, next))
    }

    /// A rule that is given its beginning later.
    pub(super) fn rule(&mut self) -> Rule {
        self.rules.push(Self::END);
        (self.rules.len() - 1) as Rule
    }

    pub(super) fn begin(&mut self, rule: Rule, at: At) {
        self.rules[rule as usize] = at;
    }

    /// From `least` to `most` times what `piece` puts in front of a place.
    pub(super) fn times(
        &mut self,
        (least, most): (usize, Option<usize>),
        next: At,
        mut piece: impl FnMut(&mut Self, At) -> Result<At, Refused>,
    ) -> Result<At, Refused> {
        let mut at = next;
        match most {
            None => {
                at = self.later()?;
                let again = piece(self, at)?;
                self.fill(at, vec![again, next]);
            }
            Some(most) => {
                for _ in least..most {
                    let once = piece(self, at)?;
                    at = self.add(Node::Either(vec![once, next]))?;
                }
            }
        }
        (0..least).try_fold(at, |at, _| piece(self, at))
    }

    /// For each place, by `cost` of what it calls, the least that it takes to get to the end of its rule. Goes
    /// over the graph until nothing gets less; places were added after what follows them, so once is often enough.
    pub(super) fn least(&self, cost: impl Fn(At, &Node, &[u32], &[Rule]) -> u32) -> Vec<u32> {
        let mut least = vec![NEVER; self.nodes.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for (at, node) in self.nodes.iter().enumerate() {
                let found = cost(at as At, node, &least, &self.rules);
                if found < least[at] {
                    least[at] = found;
                    changed = true;
                }
            }
        }
        least
    }
}
