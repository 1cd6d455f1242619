//! [`Score`]: how sure it is that the answer to one question is right for another.

/// The log-odds that a known answer is right for what is asked; never a NaN and never infinite. Zero is a
/// coin's toss, three is one wrong in twenty.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Score(f32);

impl Score {
    /// Whatever odds lie beyond say no more than these.
    const LIMIT: f32 = 20.0;

    /// A score of these log-odds; `None` where they are none.
    pub fn new(log_odds: f32) -> Option<Self> {
        (!log_odds.is_nan()).then(|| Self(log_odds.clamp(-Self::LIMIT, Self::LIMIT)))
    }

    /// The log-odds.
    pub fn log_odds(self) -> f32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_finite() {
        assert_eq!(Score::new(f32::NAN), None);
        assert_eq!(Score::new(f32::INFINITY).map(Score::log_odds), Some(20.0));
        assert_eq!(Score::new(-1.5).map(Score::log_odds), Some(-1.5));
    }
}
