//! All tokens as a tree of their bytes.

use super::graph::{At, Graph, NEVER, Node};

/// A byte of one or more tokens. A tree is written down branch by branch, so what follows is either below it or,
/// from `after` on, beside it.
#[derive(Debug)]
struct Branch {
    byte: u8,
    /// How many bytes in front of it.
    depth: u16,
    /// The token that ends here.
    token: Option<u32>,
    after: u32,
}

/// All tokens that stand for a text.
#[derive(Debug)]
pub(in super::super) struct Vocabulary {
    branches: Vec<Branch>,
    /// Where the tokens begin that begin with each byte.
    roots: [Option<u32>; 256],
    /// Tokens that end an answer.
    ends: Vec<u32>,
    size: usize,
}

impl Vocabulary {
    /// A vocabulary of `size` tokens, of which `ends` end an answer and `tokens` stand for a text.
    pub(in super::super) fn new<'a>(
        size: usize,
        ends: Vec<u32>,
        tokens: impl Iterator<Item = (u32, &'a [u8])>,
    ) -> Self {
        let mut tokens: Vec<(&[u8], u32)> =
            tokens.filter(|(_, bytes)| !bytes.is_empty()).map(|(id, bytes)| (bytes, id)).collect();
        tokens.sort_unstable();
        tokens.dedup_by_key(|(bytes, _)| *bytes);
        let mut vocabulary = Self { branches: Vec::new(), roots: [None; 256], ends, size };
        vocabulary.grow(&tokens, 0);
        vocabulary
    }

    fn grow(&mut self, tokens: &[(&[u8], u32)], depth: usize) {
        for same in tokens.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]) {
            let at = self.branches.len();
            let (first, id) = same[0];
            let ends = first.len() == depth + 1;
            if depth == 0 {
                self.roots[usize::from(first[0])] = Some(at as u32);
            }
            let token = ends.then_some(id);
            self.branches.push(Branch { byte: first[depth], depth: depth as u16, token, after: 0 });
            self.grow(&same[usize::from(ends)..], depth + 1);
            self.branches[at].after = self.branches.len() as u32;
        }
    }

    /// Tries all tokens from the state `begin` on: `step` gives the state after a byte, if there is one, and `ends` is told of
    /// each token that gets to its end, with the state there.
    pub(super) fn walk(
        &self,
        begin: u32,
        mut step: impl FnMut(u32, u8) -> Option<u32>,
        mut ends: impl FnMut(u32, u32),
    ) {
        let mut states = vec![begin];
        let mut at = 0;
        while let Some(branch) = self.branches.get(at) {
            states.truncate(usize::from(branch.depth) + 1);
            let state = states.last().copied().unwrap_or(begin);
            let Some(state) = step(state, branch.byte) else {
                at = branch.after as usize;
                continue;
            };
            if let Some(token) = branch.token {
                ends(token, state);
            }
            states.push(state);
            at += 1;
        }
    }

    /// For each place of `graph`, how many tokens the shortest way to the end of its rule takes.
    pub(super) fn costs(&self, graph: &Graph) -> Vec<u32> {
        graph.least(|at, node, least, rules| match node {
            Node::Byte(..) => self.along(graph, at, least),
            Node::Either(ways) => ways.iter().map(|way| least[*way as usize]).min().unwrap_or(NEVER),
            Node::Call(rule, next) => {
                least[rules[*rule as usize] as usize].saturating_add(least[*next as usize])
            }
            Node::End => 0,
        })
    }

    /// The shortest way from a byte on, by tokens that lie along it as long as there is one way only.
    fn along(&self, graph: &Graph, mut at: At, least: &[u32]) -> u32 {
        let mut best = NEVER;
        let mut branch = None;
        while let Node::Byte(bytes, next) = &graph.nodes[at as usize] {
            let Some(byte) = bytes.first() else { break };
            branch = match branch {
                None => self.roots[usize::from(byte)].map(|at| at as usize),
                Some(above) => self.below(above, byte),
            };
            let Some(branch) = branch else { break };
            if self.branches[branch].token.is_some() {
                best = best.min(least[*next as usize].saturating_add(1));
            }
            at = *next;
        }
        best
    }

    fn below(&self, above: usize, byte: u8) -> Option<usize> {
        let end = self.branches[above].after as usize;
        let mut at = above + 1;
        while at < end {
            if self.branches[at].byte == byte {
                return Some(at);
            }
            at = self.branches[at].after as usize;
        }
        None
    }

    /// A mask of no tokens, or of those that end an answer.
    pub(super) fn mask(&self, may_end: bool) -> Mask {
        let mut mask = Mask { bits: vec![0; self.size.div_ceil(64)], farthest: 0 };
        if may_end {
            self.ends.iter().for_each(|end| mask.add(*end));
        }
        mask
    }
}

/// A set of tokens.
#[derive(Clone, Debug)]
pub(in super::super) struct Mask {
    bits: Vec<u64>,
    /// How many tokens it still takes to the end, at most, after one of these.
    pub(super) farthest: u32,
}

impl Mask {
    /// One of these of `size` tokens.
    #[cfg(test)]
    pub(in super::super) fn of(size: usize, tokens: &[u32]) -> Self {
        let mut mask = Self { bits: vec![0; size.div_ceil(64)], farthest: 0 };
        tokens.iter().for_each(|token| mask.add(*token));
        mask
    }

    pub(super) fn add(&mut self, token: u32) {
        if let Some(bits) = self.bits.get_mut(token as usize / 64) {
            *bits |= 1 << (token % 64);
        }
    }

    /// Whether `token` is one of them.
    #[cfg(test)]
    pub(in super::super) fn has(&self, token: u32) -> bool {
        self.bits.get(token as usize / 64).is_some_and(|bits| bits >> (token % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// All of them.
    pub(in super::super) fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.bits.iter().enumerate().flat_map(|(at, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let lowest = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + lowest)
            })
        })
    }
}
