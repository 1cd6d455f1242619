//! The axis of scores, cut into fixed bins: evidence is counted by bin.

use crate::cache::Score;

/// How many bins there are. The first holds every score below the first edge.
pub(super) const BINS: usize = 16;

/// Where one bin ends and the next begins, in log-odds. They are narrow where it is decided what is served.
const EDGES: [f32; BINS - 1] = [-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0];

/// What a score in each bin says, in log-odds.
pub(super) const MIDDLES: [f64; BINS] =
    [-3.0, -1.5, -0.5, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.5, 7.0, 8.5];

/// The bin of `score`.
pub(super) fn bin(score: Score) -> usize {
    EDGES.iter().take_while(|edge| score.log_odds() >= **edge).count()
}

/// The least score in a bin; `None` for the first bin, which has none, and beyond the last.
pub(super) fn least(bin: usize) -> Option<f32> {
    bin.checked_sub(1).and_then(|edge| EDGES.get(edge)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_question_is_counted_apart_from_all_others() {
        use crate::cache::judge::{OTHER, SAME};
        assert_eq!(bin(Score::new(SAME).unwrap()), BINS - 1);
        assert!(bin(Score::new(OTHER).unwrap()) < BINS - 1);
    }

    #[test]
    fn every_score_has_its_bin() {
        assert_eq!(bin(Score::new(-20.0).unwrap()), 0);
        assert_eq!(bin(Score::new(20.0).unwrap()), BINS - 1);
        for at in 1..BINS {
            let least = least(at).unwrap();
            assert_eq!(bin(Score::new(least).unwrap()), at);
            assert_eq!(bin(Score::new(least - 0.01).unwrap()), at - 1);
        }
        assert_eq!((least(0), least(BINS)), (None, None));
    }
}
