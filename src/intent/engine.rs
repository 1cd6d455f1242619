//! All rules, compiled so that a text is held to those only that it may match.

use super::fillers::Fillers;
use super::frame::{Frame, GLUE, MOST_PARTS};
use super::heard::{Ease, Heard};
use super::kinds::{self, Language};
use super::pattern::{self, Catch, Found, Ground, Kind, Need, Node, Parser, Program};
use super::rule::Rule;
use super::said;
use super::template::Slots;
use super::vocabulary::List;
use super::words::{WordId, Words};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Compiled rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Engine {
    pub(super) words: Words,
    pub(super) languages: Vec<Language>,
    pub(super) lists: Vec<List>,
    pub(super) fillers: Fillers,
    glue: HashSet<WordId>,
    /// The same, of each rule's own.
    rule_glue: Vec<HashSet<WordId>>,
    pub(super) matchers: Vec<Matcher>,
    /// The matchers that need this word, by its id; each under one of the words that it needs.
    index: HashMap<WordId, Vec<u32>>,
    /// Those that need no word.
    always: Vec<u32>,
}

/// One pattern or frame of a rule.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pub(super) rule: usize,
    /// As it is written.
    pub(super) text: String,
    pub(super) slots: Vec<String>,
    pub(super) nodes: Vec<Node>,
    form: Form,
    pub(super) needs: Vec<Need>,
    has_open: bool,
    /// The most words that it can take; `None` where there is no limit.
    most_words: Option<usize>,
}

#[derive(Clone, Debug)]
enum Form {
    Pattern(Program),
    Frame(Frame),
    /// The slots of a rule that is learned: it tells where they are, not whether the rule matches.
    Find(Frame),
}

/// How a text matched: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// With which ease.
    pub(super) ease: u8,
    /// A frame, not a pattern.
    pub(super) frame: bool,
    /// Words taken as they come.
    pub(super) loose: usize,
    /// Misspelt words.
    pub(super) misspelt: u16,
    /// Words that had to be as they are, counted down.
    pub(super) strict: std::cmp::Reverse<usize>,
}

/// A match.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) rule: usize,
    pub(super) matcher: usize,
    pub(super) rank: Rank,
    pub(super) slots: Slots,
    /// Where the first slot begins, in the text.
    pub(super) first_slot: Option<usize>,
    /// Whether words that were taken as they come hold a joint of two parts.
    pub(super) swallows_joint: bool,
}

/// What the rules refer to.
pub(super) struct Lore<'l> {
    pub(super) languages: Vec<Language>,
    pub(super) phrases: &'l BTreeMap<String, String>,
    /// Name, the longest unlisted name, lines.
    pub(super) vocabularies: Vec<(String, usize, Vec<String>)>,
    pub(super) fillers: Vec<String>,
}

/// How the text of a matcher is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Pattern,
    Frame,
    Find,
}

impl Matcher {
    /// Whether it only tells where slots are.
    pub(super) fn only_finds(&self) -> bool {
        matches!(self.form, Form::Find(_))
    }
}

impl Engine {
    /// Compiles `rules`; else the rule at fault (`None`: a vocabulary), and why.
    pub(super) fn new(rules: &[Rule], lore: Lore<'_>) -> Result<Self, (Option<usize>, String)> {
        let mut words = Words::default();
        kinds::learn(&mut words, &lore.languages);
        let mut lists = Vec::with_capacity(lore.vocabularies.len());
        for (name, open, lines) in &lore.vocabularies {
            let mut list = List::new(name, *open);
            for line in lines {
                list.add(line, &mut words)
                    .map_err(|fault| (None, format!("vocabulary \"{name}\": {fault}")))?;
            }
            lists.push(list);
        }
        lists.iter_mut().for_each(|list| list.add_plurals(&mut words));
        let fillers = Fillers::new(&mut words, &lore.fillers);
        let glue = GLUE.split_whitespace().map(|word| words.learn(word)).collect();
        let of_rule = |rule: &Rule| said::words(&rule.glue).iter().map(|word| words.learn(word)).collect();
        let rule_glue = rules.iter().map(of_rule).collect();
        let mut engine =
            Self { words, languages: lore.languages, lists, fillers, glue, rule_glue, ..Self::default() };
        for (at, rule) in rules.iter().enumerate() {
            let texts = rule
                .patterns
                .iter()
                .map(|text| (text, Shape::Pattern))
                .chain(rule.frames.iter().map(|text| (text, Shape::Frame)));
            let found = rule.find.iter().map(|text| (text, Shape::Find));
            for (text, shape) in texts.chain(found) {
                let matcher = engine.matcher(at, text, shape, lore.phrases);
                engine.matchers.push(matcher.map_err(|fault| (Some(at), format!("\"{text}\": {fault}")))?);
            }
        }
        engine.build_index();
        Ok(engine)
    }

    fn matcher(
        &mut self,
        rule: usize,
        text: &str,
        shape: Shape,
        phrases: &BTreeMap<String, String>,
    ) -> Result<Matcher, String> {
        let is_frame = shape != Shape::Pattern;
        let mut slots = Vec::new();
        let lists = &self.lists;
        let list = |name: &str| lists.iter().position(|list| list.name == name).map(|at| at as u16);
        let phrase = |name: &str| phrases.get(name).map(String::as_str);
        let mut parser = Parser { words: &mut self.words, slots: &mut slots, list: &list, phrase: &phrase };
        let parts: Vec<&str> = if is_frame { text.split('&').collect() } else { vec![text] };
        if is_frame && parts.len() > MOST_PARTS {
            return Err(format!("a frame has {MOST_PARTS} parts at most, with \"&\" between them"));
        }
        let nodes =
            parts.iter().map(|part| pattern::parse(part, &mut parser)).collect::<Result<Vec<_>, _>>()?;
        if is_frame && nodes.iter().any(|node| !node.is_anchored()) {
            return Err("a part of a frame that is nothing but free text would catch anything".to_owned());
        }
        if !nodes.iter().any(Node::is_anchored) {
            return Err("it is nothing but free text, so it would catch every question".to_owned());
        }
        let first_words = |at: u16| self.lists.get(usize::from(at)).and_then(List::first_words);
        let needs = Frame::needs(&nodes, &first_words);
        let form = match nodes.as_slice() {
            [node] if !is_frame => Form::Pattern(Program::new(node)),
            nodes if shape == Shape::Find => Form::Find(Frame::new(nodes)),
            nodes => Form::Frame(Frame::new(nodes)),
        };
        let has_open = nodes.iter().any(|node| self.has_open(node));
        let longest = |at: u16| self.lists.get(usize::from(at)).map_or(0, List::longest);
        let most_words = nodes.iter().map(|node| node.most_words(&longest)).sum();
        Ok(Matcher { rule, text: text.to_owned(), slots, nodes, form, needs, has_open, most_words })
    }

    fn has_open(&self, node: &Node) -> bool {
        match node {
            Node::Slot(_, Kind::List(list)) => self.lists.get(usize::from(*list)).is_some_and(List::is_open),
            Node::Word(_) | Node::Slot(..) => false,
            Node::Maybe(node) => self.has_open(node),
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(|node| self.has_open(node)),
        }
    }

    /// Puts each matcher under those of the words it needs that the fewest others need.
    fn build_index(&mut self) {
        let mut wanted: HashMap<WordId, usize> = HashMap::new();
        for word in self.matchers.iter().flat_map(|matcher| &matcher.needs).flatten() {
            *wanted.entry(*word).or_default() += 1;
        }
        for (at, matcher) in self.matchers.iter().enumerate().filter(|(_, matcher)| !matcher.only_finds()) {
            let cost =
                |need: &&Need| need.iter().map(|word| wanted.get(word).copied().unwrap_or(0)).sum::<usize>();
            match matcher.needs.iter().min_by_key(cost) {
                Some(need) => {
                    need.iter().for_each(|word| self.index.entry(*word).or_default().push(at as u32));
                }
                None => self.always.push(at as u32),
            }
        }
    }

    pub(super) fn hear<'t>(&'t self, text: &'t str) -> Option<Heard<'t>> {
        Heard::new(text, &self.words, &self.languages)
    }

    /// The matchers that `heard` has all needed words of, in order.
    pub(super) fn candidates(&self, heard: &Heard<'_>) -> Vec<usize> {
        let mut said: Vec<WordId> = heard.ids.iter().flatten().copied().collect();
        said.extend((0..heard.len()).flat_map(|at| heard.near(at)));
        said.sort_unstable();
        said.dedup();
        let mut found: Vec<u32> = self.always.clone();
        found.extend(said.iter().filter_map(|word| self.index.get(word)).flatten());
        found.sort_unstable();
        found.dedup();
        let has = |word: &WordId| said.binary_search(word).is_ok();
        let fits = |at: &usize| self.matchers[*at].needs.iter().all(|need| need.iter().any(has));
        found.into_iter().map(|at| at as usize).filter(fits).collect()
    }

    /// The best match of `heard` among the rules that `may` allows.
    pub(super) fn best(&self, heard: &Heard<'_>, rules: &[Rule], may: &dyn Fn(usize) -> bool) -> Option<Hit> {
        let candidates: Vec<usize> =
            self.candidates(heard).into_iter().filter(|at| may(self.matchers[*at].rule)).collect();
        self.best_of(&candidates, heard, rules)
    }

    fn best_of(&self, candidates: &[usize], heard: &Heard<'_>, rules: &[Rule]) -> Option<Hit> {
        if candidates.is_empty() {
            return None;
        }
        let limits = self.limits(heard);
        let mut priorities: Vec<i32> =
            candidates.iter().map(|at| rules[self.matchers[*at].rule].priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        for priority in priorities.into_iter().rev() {
            let of_priority = |at: &&usize| rules[self.matchers[**at].rule].priority == priority;
            for (level, ease) in EASES.into_iter().enumerate() {
                if ease.misspelt && !heard.has_misspelt() {
                    continue;
                }
                let hits = candidates
                    .iter()
                    .filter(of_priority)
                    .filter_map(|at| self.try_one(*at, heard, rules, &limits, (level as u8, ease)));
                if let Some(best) = hits.min_by_key(|hit| (hit.rank, hit.rule, hit.matcher)) {
                    return Some(best);
                }
            }
        }
        None
    }

    /// How this matcher matches, if it does.
    pub(super) fn try_one(
        &self,
        at: usize,
        heard: &Heard<'_>,
        rules: &[Rule],
        limits: &Limits,
        (level, ease): (u8, Ease),
    ) -> Option<Hit> {
        let matcher = self.matchers.get(at)?;
        let rule = rules.get(matcher.rule)?;
        if (ease.open && !matcher.has_open) || (ease.misspelt && !rule.fuzzy) {
            return None;
        }
        if !matcher.only_finds()
            && matcher.most_words.is_some_and(|most| {
                most < limits.least_words(
                    matches!(matcher.form, Form::Frame(_)),
                    self.rule_glue.get(matcher.rule),
                    heard,
                )
            })
        {
            return None;
        }
        let fits = |catch: &Catch| self.allows(matcher, rule, heard, catch);
        let ground = Ground { heard, lists: &self.lists, ease, fits: &fits };
        let found = match &matcher.form {
            Form::Pattern(program) => {
                let may_end = |to: usize| limits.ends.contains(&to);
                limits.starts.iter().find_map(|from| program.run(ground, *from, &may_end))
            }
            Form::Frame(frame) => {
                let own = self.rule_glue.get(matcher.rule);
                let is_own = |at: usize| own.is_some_and(|glue| is_one_of(heard, at, glue));
                let may_be_left: Vec<bool> =
                    limits.may_be_left.iter().enumerate().map(|(at, may)| *may || is_own(at)).collect();
                frame.run(ground, &may_be_left)
            }
            Form::Find(frame) => frame.run(ground, &vec![true; heard.len()]),
        }?;
        // "sunny in oslo" is no solo: a short word that is misspelt beside a name that nobody knows proves nothing.
        let is_short = |catch: &Catch| {
            catch.slot.is_none() && catch.misspelt > 0 && heard.tokens[catch.from].word.len() <= 4
        };
        if ease.open && found.catches.iter().any(is_short) {
            return None;
        }
        let slots = self.slots(matcher, heard, &found)?;
        let slots = rule.complete(slots, heard.text)?;
        let first = found.catches.iter().filter(|catch| catch.slot.is_some()).map(|catch| catch.from).min();
        Some(Hit {
            rule: matcher.rule,
            matcher: at,
            rank: rank(&found, level, matches!(matcher.form, Form::Frame(_)), heard),
            slots,
            first_slot: first.map(|at| heard.tokens[at].lead),
            swallows_joint: found.catches.iter().any(|catch| swallows_joint(catch, heard)),
        })
    }

    /// The slots of a learned rule in `text`, with those that follow from them. `None` where one that must be there is
    /// not.
    pub(super) fn find(&self, at: usize, rules: &[Rule], text: &str) -> Option<Slots> {
        let Some(finder) =
            self.matchers.iter().position(|matcher| matcher.rule == at && matcher.only_finds())
        else {
            return rules.get(at)?.complete(Slots::new(), text);
        };
        let heard = self.hear(text)?;
        let limits = self.limits(&heard);
        let eases = EASES.into_iter().enumerate().filter(|(_, ease)| !ease.misspelt || heard.has_misspelt());
        let mut found = eases.filter_map(|(level, ease)| {
            self.try_one(finder, &heard, rules, &limits, (level as u8, ease)).map(|hit| hit.slots)
        });
        // The first that leaves nothing out, else the one that leaves out least.
        let first = found.next()?;
        Some(found.fold(first, |best, other| if other.len() > best.len() { other } else { best }))
    }

    pub(super) fn limits(&self, heard: &Heard<'_>) -> Limits {
        let (starts, ends) = (self.fillers.starts(heard), self.fillers.ends(heard));
        let outside = |at: usize| {
            starts.last().is_some_and(|first| at < *first) || ends.last().is_some_and(|last| at >= *last)
        };
        let may_be_left =
            (0..heard.len()).map(|at| outside(at) || is_one_of(heard, at, &self.glue)).collect();
        Limits { starts, ends, may_be_left }
    }

    fn allows(&self, matcher: &Matcher, rule: &Rule, heard: &Heard<'_>, catch: &Catch) -> bool {
        let bounds = catch
            .slot
            .and_then(|slot| matcher.slots.get(usize::from(slot)))
            .and_then(|name| rule.bounds.get(name));
        bounds.is_none_or(|bounds| self.value(heard, catch).is_some_and(|value| bounds.allow(&value)))
    }

    fn slots(&self, matcher: &Matcher, heard: &Heard<'_>, found: &Found) -> Option<Slots> {
        let mut slots = Slots::new();
        for catch in &found.catches {
            let Some(name) = catch.slot.and_then(|slot| matcher.slots.get(usize::from(slot))) else {
                continue;
            };
            let value = self.value(heard, catch)?;
            // What is said twice must be the same.
            match slots.iter().find(|(known, _)| known == name) {
                Some((_, known)) if *known != value => return None,
                Some(_) => {}
                None => slots.push((name.clone(), value)),
            }
        }
        Some(slots)
    }

    /// What a slot holds, in its one way of writing.
    fn value(&self, heard: &Heard<'_>, catch: &Catch) -> Option<String> {
        let ease = Ease { misspelt: catch.misspelt > 0, open: false };
        let at = catch.from;
        match catch.kind {
            Kind::Number | Kind::Integer => {
                kinds::number(heard, at, ease).map(|(_, value)| value.to_string())
            }
            Kind::Order => kinds::order(heard, at, ease).map(|(_, value)| value.to_string()),
            Kind::Unit => kinds::unit(heard, at, ease).map(|(_, value)| value.to_owned()),
            Kind::Time => kinds::time(heard, at, ease).map(|(_, value)| value),
            Kind::Day => kinds::day(heard, at, ease).map(|(_, value)| value),
            Kind::Sum => kinds::sum(heard, at, ease).map(|(_, value)| value),
            Kind::Text => Some(
                heard.quoted(at, catch.to).unwrap_or_else(|| heard.verbatim(at, catch.to, true)).to_owned(),
            ),
            Kind::Word => Some(heard.verbatim(at, catch.to, false).to_owned()),
            Kind::List(list) | Kind::Listed(list) => match catch.value {
                Some(value) => self.lists.get(usize::from(list)).map(|list| list.value(value).to_owned()),
                None => Some(heard.verbatim(at, catch.to, false).to_owned()),
            },
        }
    }
}

fn is_one_of(heard: &Heard<'_>, at: usize, words: &HashSet<WordId>) -> bool {
    !heard.tokens[at].quoted && heard.ids[at].iter().chain(heard.near(at)).any(|id| words.contains(id))
}

/// Where what is wanted may begin and end.
pub(super) struct Limits {
    pub(super) starts: Vec<usize>,
    pub(super) ends: Vec<usize>,
    /// The words that a frame may leave over.
    pub(super) may_be_left: Vec<bool>,
}

impl Limits {
    /// The words that a pattern or a frame must take at least.
    fn least_words(&self, frame: bool, glue: Option<&HashSet<WordId>>, heard: &Heard<'_>) -> usize {
        if frame {
            let is_own = |at: usize| glue.is_some_and(|glue| is_one_of(heard, at, glue));
            return self.may_be_left.iter().enumerate().filter(|(at, may)| !**may && !is_own(*at)).count();
        }
        let (first, last) =
            (self.starts.last().copied().unwrap_or(0), self.ends.last().copied().unwrap_or(0));
        last.saturating_sub(first)
    }
}

/// From strict to generous.
pub(super) const EASES: [Ease; 4] = [
    Ease { misspelt: false, open: false },
    Ease { misspelt: true, open: false },
    Ease { misspelt: false, open: true },
    Ease { misspelt: true, open: true },
];

fn rank(found: &Found, ease: u8, frame: bool, heard: &Heard<'_>) -> Rank {
    let is_loose = |catch: &&Catch| {
        catch.kind.is_loose() && catch.slot.is_some()
            || (matches!(catch.kind, Kind::List(_)) && catch.value.is_none())
    };
    let loose: usize = found.catches.iter().filter(is_loose).map(|catch| catch.to - catch.from).sum();
    let misspelt = found.catches.iter().map(|catch| catch.misspelt).sum();
    let all = (found.to - found.from).min(heard.len());
    Rank { ease, frame, loose, misspelt, strict: std::cmp::Reverse(all.saturating_sub(loose)) }
}

/// Words at which an utterance may be cut.
pub(super) const JOINTS: [&str; 5] = ["and", "then", "also", "plus", "while"];

fn swallows_joint(catch: &Catch, heard: &Heard<'_>) -> bool {
    let loose = catch.kind.is_loose() || (matches!(catch.kind, Kind::List(_)) && catch.value.is_none());
    loose
        && (catch.from + 1..catch.to).any(|at| {
            let token = &heard.tokens[at];
            !token.quoted && (JOINTS.contains(&token.word.as_str()) || token.after_break)
        })
}
