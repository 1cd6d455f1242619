//! The pieces that JSON is made of.

use super::Refused;
use super::graph::{At, Graph, Rule};

/// What may stand between two tokens of JSON: nothing, a space, or a new line and so many spaces. More would only
/// be a way to write nothing for ever.
const INDENT: usize = 16;
/// Digits before the point, and after it: as many as a number of 64 bits holds for certain.
const DIGITS: usize = 15;
/// Larger bounds on the number of characters are as good as none: nobody waits for that many.
pub(super) const CHARACTERS: usize = 2_000;

const DIGIT: [(u8, u8); 1] = [(b'0', b'9')];
const HEX: [(u8, u8); 3] = [(b'0', b'9'), (b'a', b'f'), (b'A', b'F')];
const FOLLOWING: (u8, u8) = (0x80, 0xBF);

impl Graph {
    /// Space, before `next`.
    pub(super) fn space(&mut self, next: At) -> Result<At, Refused> {
        let rule = self.space_rule()?;
        self.call(rule, next)
    }

    fn space_rule(&mut self) -> Result<Rule, Refused> {
        if let Some(rule) = self.space {
            return Ok(rule);
        }
        let rule = self.rule();
        let indent = self.times((0, Some(INDENT)), Self::END, |graph, next| graph.text(" ", next))?;
        let line = self.text("\n", indent)?;
        let one = self.text(" ", Self::END)?;
        let begin = self.either(&[Self::END, one, line])?;
        self.begin(rule, begin);
        self.space = Some(rule);
        Ok(rule)
    }

    /// A comma, with space after it.
    pub(super) fn comma(&mut self, next: At) -> Result<At, Refused> {
        let space = self.space(next)?;
        self.text(",", space)
    }

    /// A colon, and a space or none.
    pub(super) fn colon(&mut self, next: At) -> Result<At, Refused> {
        let space = self.text(" ", next)?;
        let rest = self.either(&[space, next])?;
        self.text(":", rest)
    }

    /// A character of a string, as it may be written in JSON.
    pub(super) fn character(&mut self, next: At) -> Result<At, Refused> {
        let one = self.one_of(&[FOLLOWING], next)?;
        let two = self.one_of(&[FOLLOWING], one)?;
        // Only what is UTF-8: nothing longer than it need be, and no half of a pair.
        let ways = [
            self.one_of(&[(b' ', b'!'), (b'#', b'['), (b']', 0x7F)], next)?,
            self.one_of(&[(0xC2, 0xDF)], one)?,
            self.after(0xE0, (0xA0, 0xBF), one)?,
            self.one_of(&[(0xE1, 0xEC), (0xEE, 0xEF)], two)?,
            self.after(0xED, (0x80, 0x9F), one)?,
            self.after(0xF0, (0x90, 0xBF), two)?,
            self.four(two)?,
            self.after(0xF4, (0x80, 0x8F), two)?,
            self.escape(next)?,
        ];
        self.either(&ways)
    }

    fn four(&mut self, two: At) -> Result<At, Refused> {
        let three = self.one_of(&[FOLLOWING], two)?;
        self.one_of(&[(0xF1, 0xF3)], three)
    }

    fn after(&mut self, first: u8, second: (u8, u8), next: At) -> Result<At, Refused> {
        let second = self.one_of(&[second], next)?;
        self.one_of(&[(first, first)], second)
    }

    /// A backslash and what may follow it: no halves of pairs, since one alone is no character.
    fn escape(&mut self, next: At) -> Result<At, Refused> {
        let third = self.one_of(&HEX, next)?;
        let second = self.one_of(&HEX, third)?;
        let first = self.one_of(&HEX, second)?;
        let no_half = self.one_of(&[(b'0', b'7')], second)?;
        let halves = self.one_of(&[(b'd', b'd'), (b'D', b'D')], no_half)?;
        let whole =
            self.one_of(&[(b'0', b'9'), (b'a', b'c'), (b'A', b'C'), (b'e', b'f'), (b'E', b'F')], first)?;
        let number = self.either(&[whole, halves])?;
        let number = self.text("u", number)?;
        let short: Vec<(u8, u8)> = b"\"\\/bfnrt".iter().map(|&byte| (byte, byte)).collect();
        let short = self.one_of(&short, next)?;
        let rest = self.either(&[short, number])?;
        self.text("\\", rest)
    }

    /// A string of any length.
    pub(super) fn string(&mut self, next: At) -> Result<At, Refused> {
        let close = self.text("\"", next)?;
        let body = self.times((0, None), close, Self::character)?;
        self.text("\"", body)
    }

    /// A string of so many characters, each an instance of the rule `character`.
    pub(super) fn string_of(
        &mut self,
        counts: (usize, Option<usize>),
        character: Rule,
        next: At,
    ) -> Result<At, Refused> {
        let close = self.text("\"", next)?;
        let body = self.times(counts, close, |graph, next| graph.call(character, next))?;
        self.text("\"", body)
    }

    /// Digits, from `least` to `most`.
    pub(super) fn digits(&mut self, least: usize, most: usize, next: At) -> Result<At, Refused> {
        self.times((least, Some(most)), next, |graph, next| graph.one_of(&DIGIT, next))
    }

    /// A whole number without a sign.
    fn natural(&mut self, next: At) -> Result<At, Refused> {
        let rest = self.digits(0, DIGITS - 1, next)?;
        let some = self.one_of(&[(b'1', b'9')], rest)?;
        let zero = self.text("0", next)?;
        self.either(&[zero, some])
    }

    /// A whole number. No -0: many readers take that for a fraction.
    pub(super) fn integer(&mut self, next: At) -> Result<At, Refused> {
        let natural = self.natural(next)?;
        let rest = self.digits(0, DIGITS - 1, next)?;
        let some = self.one_of(&[(b'1', b'9')], rest)?;
        let negative = self.text("-", some)?;
        self.either(&[natural, negative])
    }

    /// What may follow the whole part of a number: a point and digits.
    pub(super) fn fraction(&mut self, next: At) -> Result<At, Refused> {
        let digits = self.digits(1, DIGITS, next)?;
        let point = self.text(".", digits)?;
        self.either(&[next, point])
    }

    /// Any number.
    pub(super) fn number(&mut self, next: At) -> Result<At, Refused> {
        let power = self.digits(1, 2, next)?;
        let sign = self.one_of(&[(b'+', b'+'), (b'-', b'-')], power)?;
        let power = self.either(&[power, sign])?;
        let power = self.one_of(&[(b'e', b'e'), (b'E', b'E')], power)?;
        let power = self.either(&[next, power])?;
        let fraction = self.fraction(power)?;
        let natural = self.natural(fraction)?;
        let negative = self.text("-", natural)?;
        self.either(&[natural, negative])
    }

    /// `[`, from so many to so many of what `item` puts in front of a place, `]`.
    pub(super) fn array(
        &mut self,
        (least, most): (usize, Option<usize>),
        next: At,
        item: Rule,
    ) -> Result<At, Refused> {
        let close = self.text("]", next)?;
        let spaced = self.space(close)?;
        if most == Some(0) {
            return self.text("[", close);
        }
        let another = self.rule();
        let begin = self.call(item, Self::END)?;
        let begin = self.comma(begin)?;
        self.begin(another, begin);
        let others = (least.saturating_sub(1), most.map(|most| most - 1));
        let others = self.times(others, spaced, |graph, next| graph.call(another, next))?;
        let first = self.call(item, others)?;
        let mut first = self.space(first)?;
        if least == 0 {
            first = self.either(&[first, close])?;
        }
        self.text("[", first)
    }

    /// An object of any keys, with values of the rule `value`.
    pub(super) fn object_of(&mut self, least: usize, value: Rule, next: At) -> Result<At, Refused> {
        let close = self.text("}", next)?;
        let spaced = self.space(close)?;
        let more = self.later()?;
        let value = self.call(value, more)?;
        let colon = self.colon(value)?;
        let pair = self.string(colon)?;
        let comma = self.comma(pair)?;
        self.fill(more, vec![comma, spaced]);
        let mut first = self.space(pair)?;
        if least == 0 {
            first = self.either(&[first, close])?;
        }
        self.text("{", first)
    }

    /// A rule for any value.
    pub(super) fn any(&mut self) -> Result<Rule, Refused> {
        let value = self.rule();
        let ways = [
            self.string(Self::END)?,
            self.number(Self::END)?,
            self.object_of(0, value, Self::END)?,
            self.array((0, None), Self::END, value)?,
            self.text("true", Self::END)?,
            self.text("false", Self::END)?,
            self.text("null", Self::END)?,
        ];
        let begin = self.either(&ways)?;
        self.begin(value, begin);
        Ok(value)
    }

    /// A whole number without a sign from `low` to `high`.
    pub(super) fn between(&mut self, low: u64, high: u64, next: At) -> Result<At, Refused> {
        let (lows, highs) = (low.to_string(), high.to_string());
        let mut ways = Vec::new();
        for digits in lows.len()..=highs.len() {
            let least =
                if digits == lows.len() { lows.clone() } else { format!("1{}", "0".repeat(digits - 1)) };
            let most = if digits == highs.len() { highs.clone() } else { "9".repeat(digits) };
            ways.push(self.as_long(least.as_bytes(), most.as_bytes(), next)?);
        }
        self.either(&ways)
    }

    /// Numbers of as many digits as `low` and `high` both have.
    fn as_long(&mut self, low: &[u8], high: &[u8], next: At) -> Result<At, Refused> {
        let ([first, low_rest @ ..], [last, high_rest @ ..]) = (low, high) else { return Ok(next) };
        if low_rest.iter().all(|&digit| digit == b'0') && high_rest.iter().all(|&digit| digit == b'9') {
            let rest = self.digits(low_rest.len(), low_rest.len(), next)?;
            return self.one_of(&[(*first, *last)], rest);
        }
        if first == last {
            let rest = self.as_long(low_rest, high_rest, next)?;
            return self.one_of(&[(*first, *first)], rest);
        }
        let nines = vec![b'9'; low_rest.len()];
        let zeros = vec![b'0'; low_rest.len()];
        let lowest = self.as_long(low_rest, &nines, next)?;
        let highest = self.as_long(&zeros, high_rest, next)?;
        let mut ways =
            vec![self.one_of(&[(*first, *first)], lowest)?, self.one_of(&[(*last, *last)], highest)?];
        if first + 1 < *last {
            let rest = self.digits(low_rest.len(), low_rest.len(), next)?;
            ways.push(self.one_of(&[(first + 1, last - 1)], rest)?);
        }
        self.either(&ways)
    }
}
