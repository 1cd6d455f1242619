//! Examples judged by classifiers that have not seen them, and the bound that is set by that.

use super::{Guess, Learn, Sample};

/// How many parts the examples are divided into: of many, a classifier is set back less by not seeing some.
const FOLDS_OF_FEW: usize = 5;
const FOLDS_OF_MANY: usize = 2;
const MANY: usize = 2500;

/// How often something is asked that is none of the classes, for once that something is. Whoever has rules for all that
/// is asked gets a bound that is too strict, and a request more goes to the cache.
const NONE_FOR_ONE: f64 = 4.0;

/// However well the examples are told apart, no more than this share of them may reach the bound. Where there are many of
/// them, what is none hardly counts beside them, and without this whatever is asked would be taken for something.
const MOST_KEPT: f64 = 0.95;

/// What became of a sample in the hands of a classifier that had not seen it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Which sample.
    pub at: usize,
    /// What it is.
    pub class: Option<usize>,
    /// What it was taken for.
    pub guess: Guess,
}

/// Judges each sample that is no name.
pub fn judge(samples: &[Sample<'_>], count: usize, learn: Learn) -> Vec<Judged> {
    let folds = if samples.len() < MANY { FOLDS_OF_FEW } else { FOLDS_OF_MANY };
    // Each class has its examples spread over all parts.
    let mut counts = vec![0usize; count + 1];
    let fold_of = |sample: &Sample<'_>| {
        let nth = &mut counts[sample.class.unwrap_or(count).min(count)];
        *nth += usize::from(!sample.is_name);
        if sample.is_name { usize::MAX } else { (*nth - 1) % folds }
    };
    let fold_of: Vec<usize> = samples.iter().map(fold_of).collect();
    let mut judged = Vec::with_capacity(samples.len());
    for fold in 0..folds {
        let seen: Vec<Sample<'_>> =
            samples.iter().zip(&fold_of).filter(|(_, of)| **of != fold).map(|(sample, _)| *sample).collect();
        let Some(classifier) = learn(&seen, count) else { continue };
        for (at, sample) in samples.iter().enumerate().filter(|(at, _)| fold_of[*at] == fold) {
            let guess = classifier.guess(sample.text, sample.vector, |_| true);
            judged.extend(guess.map(|guess| Judged { at, class: sample.class, guess }));
        }
    }
    judged
}

impl Judged {
    fn is_right(&self) -> bool {
        self.class == Some(self.guess.class)
    }

    /// The lowest logit from which on a share `precision` of what is taken for something is that, as far as the examples
    /// tell. Nothing reaches it where that share is never reached.
    pub fn bound(judged: &[Self], precision: f64) -> f32 {
        let mut judged = judged.to_vec();
        judged.sort_by(|a, b| b.guess.logit.total_cmp(&a.guess.logit));
        let inside = judged.iter().filter(|judged| judged.class.is_some()).count();
        // Whoever has rules for much of what people ask has some for what is taken for nobody's business: it counts no more
        // than an example.
        let each_none = (NONE_FOR_ONE * inside as f64 / (judged.len() - inside).max(1) as f64).min(1.0);
        let (mut right, mut wrong, mut bound) = (0.0, 0.0, f32::INFINITY);
        for one in &judged {
            match one.class {
                _ if one.is_right() => right += 1.0,
                Some(_) => wrong += 1.0,
                None => wrong += each_none,
            }
            if one.is_right() && right >= precision * (right + wrong) {
                bound = one.guess.logit;
            }
        }
        bound.max(Self::keeping(&judged, MOST_KEPT))
    }

    /// The logit that a share `kept` of what is some class reaches.
    pub fn keeping(judged: &[Self], kept: f64) -> f32 {
        let inside = judged.iter().filter(|judged| judged.class.is_some());
        let mut logits: Vec<f32> = inside.map(|judged| judged.guess.logit).collect();
        logits.sort_by(f32::total_cmp);
        // A fifth of five is one, whatever rounding makes of it.
        let at = (logits.len() as f64 * (1.0 - kept) + 1e-9) as usize;
        logits.get(at).copied().unwrap_or(f32::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(logit: f32, class: Option<usize>) -> Judged {
        Judged { at: 0, class, guess: Guess { class: 1, logit, share: 1.0 } }
    }

    #[test]
    fn the_bound_is_as_low_as_the_wanted_precision_allows() {
        let judged = [
            told(9.0, Some(1)),
            told(8.0, Some(1)),
            told(7.0, Some(0)),
            told(6.0, Some(1)),
            told(5.0, Some(1)),
            told(4.0, None),
        ];
        let told = [
            Judged::bound(&judged, 0.75),
            Judged::bound(&judged, 0.9),
            Judged::bound(&judged[2..3], 0.9),
            Judged::bound(&[], 0.9),
            Judged::keeping(&judged, 0.8),
        ];
        let wanted = [5.0f32, 8.0, f32::INFINITY, f32::INFINITY, 6.0];
        assert!(told.iter().zip(&wanted).all(|(told, wanted)| told.total_cmp(wanted).is_eq()), "{told:?}");
    }

    #[test]
    fn however_precise_it_is_the_least_sure_of_many_examples_are_left_alone() {
        let judged: Vec<Judged> = (0..1000u16).map(|nth| told(f32::from(nth), Some(1))).collect();
        assert!((Judged::bound(&judged, 0.9) - 50.0).abs() < f32::EPSILON);
    }
}
