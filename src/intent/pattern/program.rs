//! A pattern that can be run over a text.

use super::{Kind, Node};
use crate::intent::heard::{Ease, Heard};
use crate::intent::kinds;
use crate::intent::vocabulary::List;
use crate::intent::words::WordId;

/// A pattern as steps.
#[derive(Clone, Debug)]
pub(in crate::intent) struct Program {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Word(WordId),
    Slot(Option<u16>, Kind),
    /// Goes on at each of these, in this order.
    Try(Vec<u32>),
    Go(u32),
    Done,
}

/// What a slot, or a misspelt word, has caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::intent) struct Catch {
    pub(in crate::intent) slot: Option<u16>,
    pub(in crate::intent) kind: Kind,
    pub(in crate::intent) from: usize,
    pub(in crate::intent) to: usize,
    /// Which value of the vocabulary; `None` where it is a name that nobody listed, and for other kinds.
    pub(in crate::intent) value: Option<u32>,
    /// How many words are taken for what they look like.
    pub(in crate::intent) misspelt: u16,
}

/// How a pattern matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::intent) struct Found {
    pub(in crate::intent) from: usize,
    pub(in crate::intent) to: usize,
    pub(in crate::intent) catches: Vec<Catch>,
}

/// What a pattern is run over, and how generously.
#[derive(Clone, Copy)]
pub(in crate::intent) struct Ground<'g, 't> {
    pub(in crate::intent) heard: &'g Heard<'t>,
    pub(in crate::intent) lists: &'g [List],
    pub(in crate::intent) ease: Ease,
    /// Whether a slot may hold what it has caught.
    pub(in crate::intent) fits: &'g dyn Fn(&Catch) -> bool,
}

impl Program {
    pub(in crate::intent) fn new(node: &Node) -> Self {
        let mut steps = Vec::new();
        compile(node, &mut steps);
        steps.push(Step::Done);
        Self { steps }
    }

    /// The first way in which it matches from `from` up to one of the places that `may_end` allows.
    pub(in crate::intent) fn run(
        &self,
        ground: Ground<'_, '_>,
        from: usize,
        may_end: &dyn Fn(usize) -> bool,
    ) -> Option<Found> {
        let mut found = None;
        self.each(ground, from, &mut |to, catches| {
            let ends = may_end(to);
            if ends {
                found = Some(Found { from, to, catches: catches.to_vec() });
            }
            ends
        });
        found
    }

    /// Every place where it can end that matches from `from` on, each once, with what is caught on the way.
    pub(in crate::intent) fn all(&self, ground: Ground<'_, '_>, from: usize) -> Vec<Found> {
        let mut all = Vec::new();
        self.each(ground, from, &mut |to, catches| {
            all.push(Found { from, to, catches: catches.to_vec() });
            false
        });
        all
    }

    /// Calls `done` for each end, until it says that it is content.
    fn each(&self, ground: Ground<'_, '_>, from: usize, done: &mut dyn FnMut(usize, &[Catch]) -> bool) {
        let places = ground.heard.len() + 1;
        let seen = vec![0u64; (self.steps.len() * places).div_ceil(64)];
        let mut run = Run { steps: &self.steps, ground, places, seen, catches: Vec::new(), done };
        run.go(0, from);
    }

    /// The same, found by trying everything: what the tests hold the other to.
    #[cfg(test)]
    pub(in crate::intent) fn run_slowly(
        &self,
        ground: Ground<'_, '_>,
        from: usize,
        may_end: &dyn Fn(usize) -> bool,
    ) -> Option<Found> {
        fn go(
            steps: &[Step],
            ground: Ground<'_, '_>,
            (step, at): (usize, usize),
            catches: &mut Vec<Catch>,
            may_end: &dyn Fn(usize) -> bool,
        ) -> Option<usize> {
            match &steps[step] {
                Step::Done => may_end(at).then_some(at),
                Step::Go(next) => go(steps, ground, (*next as usize, at), catches, may_end),
                Step::Try(each) => {
                    each.iter().find_map(|next| go(steps, ground, (*next as usize, at), catches, may_end))
                }
                Step::Word(_) | Step::Slot(..) => {
                    ways(&steps[step], ground, at).into_iter().find_map(|(to, catch)| {
                        let kept = catches.len();
                        catches.extend(catch);
                        let end = go(steps, ground, (step + 1, to), catches, may_end);
                        if end.is_none() {
                            catches.truncate(kept);
                        }
                        end
                    })
                }
            }
        }
        let mut catches = Vec::new();
        let to = go(&self.steps, ground, (0, from), &mut catches, may_end)?;
        Some(Found { from, to, catches })
    }
}

fn compile(node: &Node, steps: &mut Vec<Step>) {
    match node {
        Node::Word(word) => steps.push(Step::Word(*word)),
        Node::Slot(slot, kind) => steps.push(Step::Slot(*slot, *kind)),
        Node::All(nodes) => nodes.iter().for_each(|node| compile(node, steps)),
        Node::Maybe(node) => {
            let fork = steps.len();
            steps.push(Step::Done);
            compile(node, steps);
            steps[fork] = Step::Try(vec![fork as u32 + 1, steps.len() as u32]);
        }
        Node::Any(nodes) => {
            let fork = steps.len();
            steps.push(Step::Done);
            let (mut begins, mut ends) = (Vec::new(), Vec::new());
            for node in nodes {
                begins.push(steps.len() as u32);
                compile(node, steps);
                ends.push(steps.len());
                steps.push(Step::Done);
            }
            let behind = steps.len() as u32;
            ends.into_iter().for_each(|end| steps[end] = Step::Go(behind));
            steps[fork] = Step::Try(begins);
        }
    }
}

/// Each step is tried at each place of the text at most once: what failed there once fails there always. So the time
/// is bounded, whatever the pattern and the text.
struct Run<'r, 'g, 't> {
    steps: &'r [Step],
    ground: Ground<'g, 't>,
    places: usize,
    seen: Vec<u64>,
    catches: Vec<Catch>,
    done: &'r mut dyn FnMut(usize, &[Catch]) -> bool,
}

impl Run<'_, '_, '_> {
    fn go(&mut self, step: usize, at: usize) -> bool {
        let bit = step * self.places + at;
        let (word, mask) = (bit / 64, 1u64 << (bit % 64));
        if self.seen[word] & mask != 0 {
            return false;
        }
        self.seen[word] |= mask;
        let steps = self.steps;
        match &steps[step] {
            Step::Done => (self.done)(at, &self.catches),
            Step::Go(next) => self.go(*next as usize, at),
            Step::Try(each) => each.iter().any(|next| self.go(*next as usize, at)),
            Step::Word(word) => match self.ground.heard.is(at, *word, self.ground.ease) {
                None => false,
                Some(false) => self.go(step + 1, at + 1),
                Some(true) => self.with(slip(at), step, at + 1),
            },
            Step::Slot(..) => {
                let ways = ways(&steps[step], self.ground, at);
                ways.into_iter().any(|(to, catch)| match catch {
                    Some(catch) => self.with(catch, step, to),
                    None => self.go(step + 1, to),
                })
            }
        }
    }

    fn with(&mut self, catch: Catch, step: usize, to: usize) -> bool {
        self.catches.push(catch);
        let done = self.go(step + 1, to);
        self.catches.pop();
        done
    }
}

/// A literal word that is misspelt.
fn slip(at: usize) -> Catch {
    Catch { slot: None, kind: Kind::Word, from: at, to: at + 1, value: None, misspelt: 1 }
}

/// Where a word or a slot that begins at this place may end, and what it catches, the best first.
fn ways(step: &Step, ground: Ground<'_, '_>, at: usize) -> Vec<(usize, Option<Catch>)> {
    let Ground { heard, lists, ease, fits } = ground;
    if at >= heard.len() {
        return Vec::new();
    }
    let (slot, kind) = match step {
        Step::Word(word) => {
            return match heard.is(at, *word, ease) {
                None => Vec::new(),
                Some(misspelt) => vec![(at + 1, misspelt.then(|| slip(at)))],
            };
        }
        Step::Slot(slot, kind) => (*slot, *kind),
        Step::Try(_) | Step::Go(_) | Step::Done => return Vec::new(),
    };
    let catch = |to: usize, value: Option<u32>, misspelt: u16| {
        let catch = Catch { slot, kind, from: at, to, value, misspelt };
        fits(&catch).then_some((to, Some(catch)))
    };
    match kind {
        Kind::List(list) | Kind::Listed(list) => {
            let ease = Ease { open: ease.open && matches!(kind, Kind::List(_)), ..ease };
            let Some(list) = lists.get(list as usize) else { return Vec::new() };
            let named = list.named(heard, at, ease).into_iter();
            named.filter_map(|named| catch(named.end, named.value, named.misspelt)).collect()
        }
        Kind::Text => text_ends(heard, at).filter_map(|to| catch(to, None, 0)).collect(),
        Kind::Word => catch(at + 1, None, 0).into_iter().collect(),
        _ => match strict_end(kind, heard, at, Ease::default()) {
            Some(end) => catch(end, None, 0).into_iter().collect(),
            None if ease.misspelt => {
                let end = strict_end(kind, heard, at, ease);
                end.and_then(|end| catch(end, None, 1)).into_iter().collect()
            }
            None => Vec::new(),
        },
    }
}

fn strict_end(kind: Kind, heard: &Heard<'_>, at: usize, ease: Ease) -> Option<usize> {
    match kind {
        Kind::Number => kinds::number(heard, at, ease).map(|(end, _)| end),
        Kind::Integer => {
            kinds::number(heard, at, ease).filter(|(_, value)| value.as_whole().is_some()).map(|(end, _)| end)
        }
        Kind::Order => kinds::order(heard, at, ease).map(|(end, _)| end),
        Kind::Unit => kinds::unit(heard, at, ease).map(|(end, _)| end),
        Kind::Time => kinds::time(heard, at, ease).map(|(end, _)| end),
        Kind::Day => kinds::day(heard, at, ease).map(|(end, _)| end),
        Kind::Sum => kinds::sum(heard, at, ease).map(|(end, _)| end),
        Kind::Text | Kind::Word | Kind::List(_) | Kind::Listed(_) => None,
    }
}

/// Free text is as short as it can be; what stands between quotation marks is whole.
fn text_ends(heard: &Heard<'_>, at: usize) -> impl Iterator<Item = usize> {
    let is_quoted = |place: usize| heard.tokens.get(place).is_some_and(|token| token.quoted);
    let quote_begins = is_quoted(at) && (at == 0 || !is_quoted(at - 1));
    let quote_ends = (at..=heard.len()).find(|place| !is_quoted(*place)).unwrap_or(at + 1);
    let first = if quote_begins { quote_ends } else { at + 1 };
    let last = if quote_begins { quote_ends } else { heard.len() };
    first..=last
}
