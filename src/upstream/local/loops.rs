//! Small models get into loops: they say a passage again, and each time it becomes likelier that they go on with it.

/// A passage may be said again as far as this.
const ALLOWED: usize = 8;
/// How much less likely each further token of it gets than the one before, in logits.
const STEP: f32 = 0.5;
/// Longer passages are not compared further: by then the penalty has long won.
const LONGEST: usize = 64;

/// What was drawn, in order.
#[derive(Debug, Default)]
pub(super) struct Loops {
    drawn: Vec<u32>,
}

impl Loops {
    pub(super) fn push(&mut self, token: u32) {
        self.drawn.push(token);
    }

    /// The tokens that would go on with a passage which is being said again, and what they lose.
    pub(super) fn penalties(&self) -> Vec<(u32, f32)> {
        let mut penalties: Vec<(u32, f32)> = Vec::new();
        for at in ALLOWED..self.drawn.len() {
            let same = self.drawn[..at].iter().rev().zip(self.drawn.iter().rev());
            let length = same.take(LONGEST).take_while(|(earlier, now)| earlier == now).count();
            if length <= ALLOWED {
                continue;
            }
            let (token, loss) = (self.drawn[at], STEP * (length - ALLOWED) as f32);
            match penalties.iter_mut().find(|(other, _)| *other == token) {
                Some((_, most)) => *most = most.max(loss),
                None => penalties.push((token, loss)),
            }
        }
        penalties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(drawn: impl IntoIterator<Item = u32>) -> Vec<(u32, f32)> {
        let mut loops = Loops::default();
        drawn.into_iter().for_each(|token| loops.push(token));
        loops.penalties()
    }

    #[test]
    fn what_is_said_for_the_first_time_loses_nothing() {
        assert_eq!(after(0..500), []);
        assert_eq!(after((0..20).chain(0..8)), []);
    }

    #[test]
    fn a_passage_that_is_said_again_loses_more_with_each_token() {
        assert_eq!(after((0..20).chain(0..9)), [(9, STEP)]);
        assert_eq!(after((0..20).chain(0..15)), [(15, 7.0 * STEP)]);
        // What comes after it may be another thing each time.
        assert_eq!(after((0..12).chain([50]).chain(0..12).chain([51]).chain(0..12)), [(50, 2.0), (51, 2.0)]);
    }

    #[test]
    fn one_word_over_and_over_is_a_passage_too() {
        let penalties = after([7; 40]);
        assert_eq!(penalties.len(), 1);
        assert!(penalties[0].0 == 7 && penalties[0].1 > 10.0, "{penalties:?}");
    }
}
