//! Numbers without rounding: fractions of whole numbers, as people write and reckon with them.

use std::fmt;

/// A fraction in its lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    over: i128,
    under: i128,
}

/// The most digits behind the point that are shown of a number that has no end.
const SHOWN_DIGITS: usize = 6;

impl Exact {
    /// Zero.
    #[cfg(test)]
    pub(super) const ZERO: Self = Self { over: 0, under: 1 };

    /// A whole number.
    pub(super) fn whole(number: i128) -> Self {
        Self { over: number, under: 1 }
    }

    /// `over / under`; `None` where `under` is zero, or one of them is too large.
    pub(super) fn fraction(over: i128, under: i128) -> Option<Self> {
        if under == 0 {
            return None;
        }
        let common = greatest_common_divisor(over.unsigned_abs(), under.unsigned_abs());
        let common = i128::try_from(common).ok()?;
        let (over, under) = (over / common, under / common);
        if under < 0 {
            return Some(Self { over: over.checked_neg()?, under: under.checked_neg()? });
        }
        Some(Self { over, under })
    }

    /// The number that `text` writes in digits, with or without a point and a sign.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && behind.is_empty() || !all_digits(whole) || !all_digits(behind) {
            return None;
        }
        let mut over: i128 = 0;
        for digit in whole.bytes().chain(behind.bytes()) {
            over = over.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        let under = 10i128.checked_pow(u32::try_from(behind.len()).ok()?)?;
        Self::fraction(if negative { -over } else { over }, under)
    }

    /// The sum.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let left = self.over.checked_mul(other.under)?;
        let right = other.over.checked_mul(self.under)?;
        Self::fraction(left.checked_add(right)?, self.under.checked_mul(other.under)?)
    }

    /// The difference.
    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negated()?)
    }

    /// The product.
    pub(super) fn times(self, other: Self) -> Option<Self> {
        // Shortened crosswise first, so that what fits in the end does not overflow on the way.
        let one = Self::fraction(self.over, other.under)?;
        let two = Self::fraction(other.over, self.under)?;
        Self::fraction(one.over.checked_mul(two.over)?, one.under.checked_mul(two.under)?)
    }

    /// The quotient; `None` where `other` is zero.
    pub(super) fn by(self, other: Self) -> Option<Self> {
        self.times(Self::fraction(other.under, other.over)?)
    }

    /// This many times itself; only small whole powers.
    pub(super) fn power(self, times: Self) -> Option<Self> {
        let times = u32::try_from(times.as_whole()?).ok().filter(|times| *times <= 64)?;
        (0..times).try_fold(Self::whole(1), |product, _| product.times(self))
    }

    /// With the other sign.
    pub(super) fn negated(self) -> Option<Self> {
        Some(Self { over: self.over.checked_neg()?, under: self.under })
    }

    /// The whole number that it is, if it is one.
    pub(super) fn as_whole(self) -> Option<i128> {
        (self.under == 1).then_some(self.over)
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (over, under) = (self.over.unsigned_abs(), self.under.unsigned_abs());
        let scale = 10u128.pow(SHOWN_DIGITS as u32);
        let (mut whole, rest) = (over / under, over % under);
        // Half is rounded up. What is too large to be scaled is shown without its fraction.
        let mut behind = rest.checked_mul(scale).map_or(0, |scaled| (scaled + under / 2) / under);
        if behind == scale {
            (whole, behind) = (whole + 1, 0);
        }
        let sign = if self.over < 0 && (whole, behind) != (0, 0) { "-" } else { "" };
        let digits = format!("{behind:0SHOWN_DIGITS$}");
        match digits.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            digits => write!(f, "{sign}{whole}.{digits}"),
        }
    }
}

fn greatest_common_divisor(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Exact {
        Exact::parse(text).unwrap()
    }

    #[test]
    fn nothing_is_rounded_on_the_way() {
        assert_eq!(number("0.1").plus(number("0.2")).unwrap().to_string(), "0.3");
        let third = number("1").by(number("3")).unwrap();
        assert_eq!(third.times(number("3")).unwrap().to_string(), "1");
        assert_eq!(third.to_string(), "0.333333");
        assert_eq!(number("-2").by(number("3")).unwrap().to_string(), "-0.666667");
    }

    #[test]
    fn numbers_are_written_one_way() {
        for (text, shown) in [("2.50", "2.5"), ("-12", "-12"), ("+3", "3"), ("007", "7"), ("-0", "0")] {
            assert_eq!(number(text).to_string(), shown);
        }
        for text in ["", "-", ".", "1.2.3", "x", "1e3"] {
            assert_eq!(Exact::parse(text), None, "{text}");
        }
        assert_eq!(Exact::parse(&"9".repeat(60)), None);
    }

    #[test]
    fn what_has_no_answer_gives_none() {
        assert_eq!(number("1").by(Exact::ZERO), None);
        assert_eq!(number("2").power(number("0.5")), None);
        assert_eq!(number("2").power(number("10")).unwrap().to_string(), "1024");
    }
}
