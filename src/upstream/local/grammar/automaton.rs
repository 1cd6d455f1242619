//! A grammar being followed: all the ways at once, each with the rules it has gone into.

use super::graph::{At, Graph, NEVER, Node};
use super::vocabulary::{Mask, Vocabulary};
use super::{DEPTH, Grammar};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// States that are kept: of a kilobyte each. A text of a schema meets some hundred.
const STATES: usize = 2_048;
/// Masks that are kept: of six kilobytes each, for fifty thousand tokens.
const MASKS: usize = 256;

/// No way goes on: what may not come leads here.
const DEAD: u32 = 0;
/// Not looked for yet.
const UNKNOWN: u32 = u32::MAX;
/// No rule has been gone into.
const OUTSIDE: u32 = 0;

/// A rule that was gone into, and where it goes on after it. Equal ones are the same.
#[derive(Clone, Copy, Debug)]
struct Frame {
    back: At,
    outer: u32,
    depth: u32,
    /// How many tokens it takes at least from `back` to the end of everything.
    cost: u32,
}

#[derive(Debug)]
struct State {
    /// Where the ways are, and what they have gone into.
    ways: Rc<[(At, u32)]>,
    /// The states after each byte.
    after: Box<[u32; 256]>,
    /// How many tokens it takes to the end, at least.
    cost: u32,
}

/// What has been found out about a grammar.
struct Automaton {
    grammar: Arc<Grammar>,
    costs: Vec<u32>,
    frames: Vec<Frame>,
    framed: HashMap<(At, u32), u32>,
    states: Vec<State>,
    known: HashMap<Rc<[(At, u32)]>, u32>,
    seen: HashSet<(At, u32)>,
}

/// Keeps one answer to a grammar.
pub(in super::super) struct Constraint {
    automaton: Automaton,
    vocabulary: Arc<Vocabulary>,
    masks: HashMap<u32, Rc<Mask>>,
    state: u32,
}

impl Constraint {
    /// Keeps an answer in the tokens of `vocabulary` to `grammar`.
    pub(in super::super) fn new(grammar: Arc<Grammar>, vocabulary: Arc<Vocabulary>) -> Self {
        let costs = vocabulary.costs(&grammar.graph);
        let mut automaton = Automaton {
            grammar,
            costs,
            frames: Vec::new(),
            framed: HashMap::new(),
            states: Vec::new(),
            known: HashMap::new(),
            seen: HashSet::new(),
        };
        automaton.clear();
        let state = automaton.first();
        Self { automaton, vocabulary, masks: HashMap::new(), state }
    }

    /// How many tokens the rest of the answer takes at least.
    pub(in super::super) fn least(&self) -> usize {
        self.automaton.states[self.state as usize].cost as usize
    }

    /// Whether the answer is complete, and nothing can be added.
    pub(in super::super) fn is_complete(&self) -> bool {
        let ways = &self.automaton.states[self.state as usize].ways;
        ways.iter().all(|(at, _)| *at == Graph::END)
    }

    /// The tokens that may come where `left` more can be written, and whether there would be others if it were more.
    pub(in super::super) fn mask(&mut self, left: usize) -> (Rc<Mask>, bool) {
        if self.automaton.states.len() > STATES || self.masks.len() > MASKS {
            self.forget();
        }
        let usual = self.usual();
        let most = u32::try_from(left.saturating_sub(1)).unwrap_or(NEVER - 1);
        if usual.farthest <= most {
            return (usual, false);
        }
        let in_time = self.tokens(most);
        if in_time.is_empty() { (usual, false) } else { (Rc::new(in_time), true) }
    }

    /// The tokens that may come, however long it takes to the end after them.
    fn usual(&mut self) -> Rc<Mask> {
        if let Some(mask) = self.masks.get(&self.state) {
            return Rc::clone(mask);
        }
        let mask = Rc::new(self.tokens(NEVER - 1));
        self.masks.insert(self.state, Rc::clone(&mask));
        mask
    }

    /// Follows the answer by `bytes`.
    pub(in super::super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.automaton.after(self.state, *byte);
        }
    }

    /// The tokens after which the end is at most `most` away.
    fn tokens(&mut self, most: u32) -> Mask {
        let Self { automaton, vocabulary, state, .. } = self;
        let mut mask = vocabulary.mask(automaton.may_end(*state));
        let mut ends = Vec::new();
        let step = |state: u32, byte: u8| {
            let after = automaton.after(state, byte);
            (after != DEAD).then_some(after)
        };
        vocabulary.walk(*state, step, |token, state| ends.push((token, state)));
        for (token, state) in ends {
            let cost = automaton.states[state as usize].cost;
            if cost <= most {
                mask.add(token);
                mask.farthest = mask.farthest.max(cost);
            }
        }
        mask
    }

    /// Forgets all states but the present one.
    pub(super) fn forget(&mut self) {
        let automaton = &mut self.automaton;
        let ways = Rc::clone(&automaton.states[self.state as usize].ways);
        let stacks: Vec<(At, Vec<At>)> =
            ways.iter().map(|&(at, frame)| (at, automaton.stack(frame))).collect();
        automaton.clear();
        let ways = stacks.into_iter().map(|(at, stack)| {
            let frame = stack.into_iter().rev().fold(OUTSIDE, |outer, back| automaton.frame(back, outer));
            (at, frame)
        });
        let ways = ways.collect();
        self.state = automaton.state(ways);
        self.masks.clear();
    }
}

impl Automaton {
    fn clear(&mut self) {
        self.frames.clear();
        self.framed.clear();
        self.states.clear();
        self.known.clear();
        self.frames.push(Frame { back: Graph::END, outer: OUTSIDE, depth: 0, cost: 0 });
        self.state(Vec::new());
    }

    fn first(&mut self) -> u32 {
        let mut ways = Vec::new();
        self.seen.clear();
        self.reach(self.grammar.begin, OUTSIDE, &mut ways);
        self.state(ways)
    }

    fn may_end(&self, state: u32) -> bool {
        self.states[state as usize].ways.iter().any(|(at, _)| *at == Graph::END)
    }

    /// The state after `byte`.
    fn after(&mut self, state: u32, byte: u8) -> u32 {
        let known = self.states[state as usize].after[usize::from(byte)];
        if known != UNKNOWN {
            return known;
        }
        let grammar = Arc::clone(&self.grammar);
        let ways = Rc::clone(&self.states[state as usize].ways);
        let mut reached = Vec::new();
        self.seen.clear();
        for &(at, frame) in &*ways {
            if let Node::Byte(bytes, next) = &grammar.graph.nodes[at as usize]
                && bytes.has(byte)
            {
                self.reach(*next, frame, &mut reached);
            }
        }
        let after = self.state(reached);
        self.states[state as usize].after[usize::from(byte)] = after;
        after
    }

    /// Adds the places where something is read, from `at` on.
    fn reach(&mut self, at: At, frame: u32, ways: &mut Vec<(At, u32)>) {
        let grammar = Arc::clone(&self.grammar);
        let mut open = vec![(at, frame)];
        while let Some((at, frame)) = open.pop() {
            let depth = self.frames[frame as usize].depth.saturating_add(grammar.need[at as usize]);
            if depth > DEPTH || self.costs[at as usize] == NEVER || !self.seen.insert((at, frame)) {
                continue;
            }
            match &grammar.graph.nodes[at as usize] {
                Node::Byte(..) => ways.push((at, frame)),
                Node::Either(either) => open.extend(either.iter().map(|way| (*way, frame))),
                Node::Call(rule, next) => {
                    // Of what has nothing left to do, nothing need be remembered.
                    let inner = if *next == Graph::END { frame } else { self.frame(*next, frame) };
                    open.push((grammar.graph.rules[*rule as usize], inner));
                }
                Node::End if frame == OUTSIDE => ways.push((Graph::END, OUTSIDE)),
                Node::End => {
                    let Frame { back, outer, .. } = self.frames[frame as usize];
                    open.push((back, outer));
                }
            }
        }
    }

    fn frame(&mut self, back: At, outer: u32) -> u32 {
        let Frame { depth, cost, .. } = self.frames[outer as usize];
        let frames = &mut self.frames;
        let cost = self.costs[back as usize].saturating_add(cost);
        *self.framed.entry((back, outer)).or_insert_with(|| {
            frames.push(Frame { back, outer, depth: depth + 1, cost });
            (frames.len() - 1) as u32
        })
    }

    /// Where each of the rules that were gone into goes on, the innermost first.
    fn stack(&self, mut frame: u32) -> Vec<At> {
        let mut stack = Vec::new();
        while frame != OUTSIDE {
            let Frame { back, outer, .. } = self.frames[frame as usize];
            stack.push(back);
            frame = outer;
        }
        stack
    }

    fn state(&mut self, mut ways: Vec<(At, u32)>) -> u32 {
        ways.sort_unstable();
        ways.dedup();
        if let Some(known) = self.known.get(ways.as_slice()) {
            return *known;
        }
        let of_way = |(at, frame): &(At, u32)| {
            self.costs[*at as usize].saturating_add(self.frames[*frame as usize].cost)
        };
        let cost = ways.iter().map(of_way).min().unwrap_or(NEVER);
        let ways: Rc<[(At, u32)]> = ways.into();
        let new = self.states.len() as u32;
        // Nothing goes on from where nothing does.
        let after = if new == DEAD { DEAD } else { UNKNOWN };
        self.states.push(State { ways: Rc::clone(&ways), after: Box::new([after; 256]), cost });
        self.known.insert(ways, new);
        new
    }
}
