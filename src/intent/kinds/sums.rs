//! Sums, as people say and write them, done exactly.

use crate::intent::exact::Exact;
use crate::intent::heard::{Ease, Heard};
use crate::intent::said;

/// How deeply brackets may be nested.
const MOST_BRACKETS: usize = 16;

pub(super) fn words() -> impl Iterator<Item = String> {
    let words =
        ["plus", "minus", "times", "multiplied", "divided", "over", "squared", "cubed", "power", "raised"];
    words.into_iter().map(str::to_owned)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Plus,
    Minus,
    Times,
    By,
    Power,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Plus => " + ",
            Self::Minus => " - ",
            Self::Times => " * ",
            Self::By => " / ",
            Self::Power => " ^ ",
        }
    }

    fn apply(self, one: Exact, other: Exact) -> Option<Exact> {
        match self {
            Self::Plus => one.plus(other),
            Self::Minus => one.minus(other),
            Self::Times => one.times(other),
            Self::By => one.by(other),
            Self::Power => one.power(other),
        }
    }
}

/// A part of a sum: what it comes to, and how it is written.
struct Term {
    value: Exact,
    written: String,
}

struct Reader<'h, 't> {
    heard: &'h Heard<'t>,
    at: usize,
    ease: Ease,
    operators: usize,
    brackets: usize,
}

/// The sum that begins at this place, in one way of writing, and where it ends. It has at least one operation, and it
/// can be worked out.
pub(in crate::intent) fn sum(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, String)> {
    let mut reader = Reader { heard, at, ease, operators: 0, brackets: 0 };
    let term = reader.sums()?;
    (reader.operators > 0).then_some((reader.at, term.written))
}

/// What `text`, a sum, comes to.
pub(in crate::intent) fn evaluate(text: &str) -> Option<Exact> {
    let words = crate::intent::words::Words::default();
    let heard = Heard::new(text, &words, &[])?;
    if said::cut(text).len() > said::MOST_TOKENS {
        return None;
    }
    let mut reader = Reader { heard: &heard, at: 0, ease: Ease::default(), operators: 0, brackets: 0 };
    let term = reader.sums()?;
    (reader.at == heard.len()).then_some(term.value)
}

impl Reader<'_, '_> {
    fn is(&self, offset: usize, word: &str) -> bool {
        self.heard.is_one_of(self.at + offset, self.ease, &[word])
    }

    /// The operator at this place, and how many words it has.
    fn operator(&self) -> Option<(Operator, usize)> {
        let word = self.heard.tokens.get(self.at)?;
        let found = match word.word.as_str() {
            "+" => (Operator::Plus, 1),
            "-" => (Operator::Minus, 1),
            "*" | "x" => (Operator::Times, 1),
            "/" => (Operator::By, 1),
            "^" => (Operator::Power, 1),
            _ if self.is(0, "plus") => (Operator::Plus, 1),
            _ if self.is(0, "minus") => (Operator::Minus, 1),
            _ if self.is(0, "times") => (Operator::Times, 1),
            _ if self.is(0, "over") => (Operator::By, 1),
            _ if self.is(0, "multiplied") && self.is(1, "by") => (Operator::Times, 2),
            _ if self.is(0, "divided") && self.is(1, "by") => (Operator::By, 2),
            _ if self.is(0, "to") && self.is(1, "power") => {
                (Operator::Power, if self.is(2, "of") { 3 } else { 2 })
            }
            // "5 -3" is a difference.
            _ if word.number.is_some() && word.word.starts_with('-') => (Operator::Plus, 0),
            _ => return None,
        };
        Some(found)
    }

    fn sums(&mut self) -> Option<Term> {
        let mut term = self.products()?;
        while let Some((operator @ (Operator::Plus | Operator::Minus), length)) = self.operator() {
            let Some(next) = self.following(length, Self::products) else { break };
            term = joined(&term, operator, &next)?;
        }
        Some(term)
    }

    fn products(&mut self) -> Option<Term> {
        let mut term = self.powers()?;
        while let Some((operator @ (Operator::Times | Operator::By), length)) = self.operator() {
            let Some(next) = self.following(length, Self::powers) else { break };
            term = joined(&term, operator, &next)?;
        }
        Some(term)
    }

    fn powers(&mut self) -> Option<Term> {
        let mut term = self.atom()?;
        loop {
            let power = match () {
                () if self.is(0, "squared") => 2,
                () if self.is(0, "cubed") => 3,
                () => break,
            };
            self.at += 1;
            self.operators += 1;
            let power = Term { value: Exact::whole(power), written: power.to_string() };
            term = joined(&term, Operator::Power, &power)?;
        }
        if let Some((operator @ Operator::Power, length)) = self.operator()
            && let Some(next) = self.following(length, Self::powers)
        {
            term = joined(&term, operator, &next)?;
        }
        Some(term)
    }

    /// What follows an operator of so many words; else nothing is read.
    fn following(&mut self, length: usize, what: impl FnOnce(&mut Self) -> Option<Term>) -> Option<Term> {
        let before = (self.at, self.operators);
        self.at += length;
        self.operators += 1;
        let found = what(self);
        if found.is_none() {
            (self.at, self.operators) = before;
        }
        found
    }

    fn atom(&mut self) -> Option<Term> {
        if self.is(0, "(") {
            if self.brackets == MOST_BRACKETS {
                return None;
            }
            self.at += 1;
            self.brackets += 1;
            let term = self.sums()?;
            self.brackets -= 1;
            let closed = self.is(0, ")");
            self.at += 1;
            return closed.then(|| Term { written: format!("({})", term.written), ..term });
        }
        let (end, value) = match self.heard.tokens.get(self.at)?.number {
            Some(value) => (self.at + 1, value),
            None => super::number(self.heard, self.at, self.ease)?,
        };
        self.at = end;
        Some(Term { value, written: value.to_string() })
    }
}

fn joined(one: &Term, operator: Operator, other: &Term) -> Option<Term> {
    let value = operator.apply(one.value, other.value)?;
    Some(Term { value, written: format!("{}{}{}", one.written, operator.sign(), other.written) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::kinds::Language;
    use crate::intent::words::Words;

    fn read(text: &str) -> Option<(String, String)> {
        let mut words = Words::default();
        super::super::learn(&mut words, &[Language::En]);
        let heard = Heard::new(text, &words, &[Language::En])?;
        let (end, written) = sum(&heard, 0, Ease { misspelt: true, open: false })?;
        let value = evaluate(&written)?.to_string();
        (end == heard.len()).then_some((written, value))
    }

    #[test]
    fn sums_are_done_exactly_and_in_order() {
        let cases = [
            ("2 + 3 * 4", "2 + 3 * 4", "14"),
            ("(2 + 3) * 4", "(2 + 3) * 4", "20"),
            ("twelve times twelve", "12 * 12", "144"),
            ("10 divided by four", "10 / 4", "2.5"),
            ("0.1 plus 0.2", "0.1 + 0.2", "0.3"),
            ("2 to the power of 10", "2 ^ 10", "1024"),
            ("5 squared minus 1", "5 ^ 2 - 1", "24"),
            ("7 - 10", "7 - 10", "-3"),
            ("7 -10", "7 + -10", "-3"),
            ("3 x 4", "3 * 4", "12"),
            ("2^3^2", "2 ^ 3 ^ 2", "512"),
        ];
        for (text, written, value) in cases {
            assert_eq!(read(text), Some((written.to_owned(), value.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_worked_out_is_no_sum() {
        for text in ["5", "1 / 0", "plus", "(1 + 2", "2 ^ 1000", "9999999999 ^ 60", "2 + x"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&format!("{}1 + 1{}", "(".repeat(30), ")".repeat(30))), None);
    }
}
