//! From the text of a pattern to a [`Node`].

use super::{Kind, Node};
use crate::intent::said;
use crate::intent::words::{WordId, Words};

/// How deeply brackets and phrases may be nested.
const MOST_DEPTH: usize = 12;
/// The most words and slots in a pattern, phrases included.
const MOST_NODES: usize = 400;

/// What a pattern may refer to.
pub(in crate::intent) struct Parser<'a> {
    pub(in crate::intent) words: &'a mut Words,
    /// The slots that the rule's patterns have named so far.
    pub(in crate::intent) slots: &'a mut Vec<String>,
    /// The vocabulary of this name.
    pub(in crate::intent) list: &'a dyn Fn(&str) -> Option<u16>,
    /// The phrase of this name.
    pub(in crate::intent) phrase: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Reads `text`.
pub(in crate::intent) fn parse(text: &str, parser: &mut Parser<'_>) -> Result<Node, String> {
    let mut nodes = 0;
    let node = read(text, parser, 0, &mut nodes)?;
    match node.can_be_empty() {
        true => Err("it matches where nothing is said".to_owned()),
        false => Ok(node),
    }
}

fn read(text: &str, parser: &mut Parser<'_>, depth: usize, nodes: &mut usize) -> Result<Node, String> {
    let mut reading = Reading { text, at: 0, parser, depth, nodes };
    let node = reading.any()?;
    match reading.peek() {
        None => Ok(node),
        Some(c) => Err(format!("there is a \"{c}\" that closes nothing")),
    }
}

struct Reading<'p, 'a> {
    text: &'p str,
    at: usize,
    parser: &'p mut Parser<'a>,
    depth: usize,
    nodes: &'p mut usize,
}

impl Reading<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn any(&mut self) -> Result<Node, String> {
        let mut branches = vec![self.all()?];
        while self.peek() == Some('|') {
            self.at += 1;
            branches.push(self.all()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Any(branches) })
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            let found = match c {
                '|' | ')' | ']' => break,
                c if c.is_whitespace() => {
                    self.at += c.len_utf8();
                    continue;
                }
                '(' => vec![self.bracket(')')?],
                '[' => vec![Node::Maybe(self.bracket(']')?.into())],
                '{' => vec![self.slot()?],
                '<' => vec![self.phrase()?],
                '}' | '>' => return Err(format!("there is a \"{c}\" that closes nothing")),
                _ => self.words(),
            };
            let mut found = found;
            *self.nodes += found.len();
            if *self.nodes > MOST_NODES {
                return Err(format!("it has more than {MOST_NODES} words and slots"));
            }
            if self.peek() == Some('?') {
                self.at += 1;
                if let Some(last) = found.pop() {
                    found.push(Node::Maybe(last.into()));
                }
            }
            nodes.extend(found);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn bracket(&mut self, close: char) -> Result<Node, String> {
        if self.depth == MOST_DEPTH {
            return Err(format!("it is nested more than {MOST_DEPTH} deep"));
        }
        self.at += 1;
        self.depth += 1;
        let node = self.any()?;
        self.depth -= 1;
        if self.peek() != Some(close) {
            return Err(format!("a \"{close}\" is missing"));
        }
        self.at += 1;
        Ok(node)
    }

    /// What stands between the brackets at this place.
    fn between(&mut self, close: char) -> Result<String, String> {
        let rest = &self.text[self.at + 1..];
        let end = rest.find(close).ok_or_else(|| format!("a \"{close}\" is missing"))?;
        self.at += end + 2;
        Ok(rest[..end].trim().to_owned())
    }

    fn slot(&mut self) -> Result<Node, String> {
        let inside = self.between('}')?;
        let (inside, maybe) = inside.strip_suffix('?').map_or((inside.as_str(), false), |rest| (rest, true));
        let (name, kind) = inside.split_once(':').unwrap_or((inside, inside));
        let (name, kind) = (name.trim(), kind.trim());
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name(name) || kind.is_empty() {
            return Err(format!("\"{{{inside}}}\" is no slot; write {{name:kind}}"));
        }
        let (kind, listed) = kind.strip_suffix('!').map_or((kind, false), |rest| (rest, true));
        let of_list = if listed { Kind::Listed } else { Kind::List };
        let known = Kind::named(kind).or_else(|| (self.parser.list)(kind).map(of_list));
        // A slot without a kind that is called like none takes any words.
        let kind = match known {
            Some(kind) => kind,
            None if !inside.contains(':') => Kind::Text,
            None => return Err(format!("there is no kind or vocabulary \"{kind}\"")),
        };
        let slot = (!name.is_empty()).then(|| self.slot_number(name)).transpose()?;
        let node = Node::Slot(slot, kind);
        Ok(if maybe { Node::Maybe(node.into()) } else { node })
    }

    fn slot_number(&mut self, name: &str) -> Result<u16, String> {
        let slots = &mut *self.parser.slots;
        let at = slots.iter().position(|slot| slot == name).unwrap_or_else(|| {
            slots.push(name.to_owned());
            slots.len() - 1
        });
        u16::try_from(at).map_err(|_| "it has too many slots".to_owned())
    }

    /// A phrase of the rule file; `$` in it stands for the name given here.
    fn phrase(&mut self) -> Result<Node, String> {
        let inside = self.between('>')?;
        let (name, given) = inside.split_once(char::is_whitespace).unwrap_or((&inside, ""));
        let phrase = (self.parser.phrase)(name).ok_or_else(|| format!("there is no phrase \"{name}\""))?;
        if self.depth == MOST_DEPTH {
            return Err(format!("it is nested more than {MOST_DEPTH} deep"));
        }
        read(&phrase.replace('$', given.trim()), self.parser, self.depth + 1, self.nodes)
            .map_err(|fault| format!("in <{name}>: {fault}"))
    }

    fn words(&mut self) -> Vec<Node> {
        let rest = &self.text[self.at..];
        let is_end = |c: char| {
            c.is_whitespace() || matches!(c, '|' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '?')
        };
        let end = rest.find(is_end).unwrap_or(rest.len()).max(rest.chars().next().map_or(0, char::len_utf8));
        let piece = &rest[..end];
        self.at += end;
        let words = if piece == "-" { vec![piece.to_owned()] } else { said::words(piece) };
        words.iter().map(|word| Node::Word(self.learn(word))).collect()
    }

    fn learn(&mut self, word: &str) -> WordId {
        self.parser.words.learn(word)
    }
}
