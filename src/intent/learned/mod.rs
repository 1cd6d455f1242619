//! Intents learned from examples, on vectors that an encoder gives.
//!
//! A new set of examples is answered at once by a classifier in closed form ([`lda`]), which is then trained further
//! ([`logistic`]) wherever there is time. What is not clearly one of them is none: the largest logit must reach a
//! bound that was set on the examples themselves, each judged by classifiers that have not seen it.

mod lda;
mod logistic;

/// How many parts the examples are divided into to set the bound.
const FOLDS: usize = 5;

/// A direction and an offset for each class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    width: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl Head {
    fn logits(&self, vector: &[f32], into: &mut [f32]) {
        for ((logit, weights), bias) in
            into.iter_mut().zip(self.weights.chunks_exact(self.width)).zip(&self.biases)
        {
            *logit = dot(weights, vector) + bias;
        }
    }
}

/// In eight sums at once, so that the processor need not wait for the one before.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (one, other) in ones.zip(others) {
        for at in 0..8 {
            sums[at] += one[at] * other[at];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// A classifier of vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    head: Head,
    /// Below it, a text is none of the classes.
    bound: f32,
}

/// What a vector is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The class.
    pub class: usize,
    /// Its logit: how sure it is, on the classifier's own scale.
    pub logit: f32,
}

impl Classifier {
    /// Learns from examples in closed form. `None` where there are none, or they have no direction.
    pub fn at_once(vectors: &[&[f32]], classes: &[usize], count: usize) -> Option<Self> {
        Some(Self { head: lda::fit(vectors, classes, count)?, bound: f32::MIN })
    }

    /// Learns from examples as well as it can. Takes a second or two for ten thousand.
    pub fn trained(vectors: &[&[f32]], classes: &[usize], count: usize) -> Option<Self> {
        Some(Self { head: logistic::fit(vectors, classes, count)?, bound: f32::MIN })
    }

    /// The logit that a share `kept` of the examples reach, each told by a classifier that has not seen it: the bound
    /// below which a text is rather none of them.
    pub fn bound(vectors: &[&[f32]], classes: &[usize], count: usize, kept: f64) -> f32 {
        let mut logits: Vec<f32> = Vec::with_capacity(vectors.len());
        for fold in 0..FOLDS {
            let is_told = |at: &usize| at % FOLDS == fold;
            let (told, seen): (Vec<usize>, Vec<usize>) = (0..vectors.len()).partition(is_told);
            let seen_vectors: Vec<&[f32]> = seen.iter().map(|at| vectors[*at]).collect();
            let seen_classes: Vec<usize> = seen.iter().map(|at| classes[*at]).collect();
            let Some(classifier) = Self::trained(&seen_vectors, &seen_classes, count) else { continue };
            logits.extend(told.iter().map(|at| classifier.guess(vectors[*at]).logit));
        }
        logits.sort_by(f32::total_cmp);
        let at = (logits.len() as f64 * (1.0 - kept)) as usize;
        logits.get(at).copied().unwrap_or(f32::MIN)
    }

    /// With the bound below which a text is none of the classes.
    #[must_use]
    pub fn bounded(self, bound: f32) -> Self {
        Self { bound, ..self }
    }

    /// The likeliest class, however unlikely.
    pub fn guess(&self, vector: &[f32]) -> Guess {
        let mut logits = vec![0f32; self.head.biases.len()];
        self.head.logits(vector, &mut logits);
        let best = logits.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(Guess { class: 0, logit: f32::MIN }, |(class, logit)| Guess { class, logit })
    }

    /// The class, where it is sure of it.
    pub fn classify(&self, vector: &[f32]) -> Option<Guess> {
        Some(self.guess(vector)).filter(|guess| guess.logit >= self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directions around one axis for each class, and between them.
    fn examples(count: usize, each: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut random = 7u64;
        let mut noise = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % 1000) as f32 / 1000.0 - 0.5
        };
        let mut vectors = Vec::new();
        let mut classes = Vec::new();
        for nth in 0..count * each {
            let class = nth % count;
            let vector: Vec<f32> =
                (0..count * 2).map(|at| if at == class { 1.0 } else { 0.0 } + noise() * 0.5).collect();
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vectors.push(vector.iter().map(|value| value / length).collect());
            classes.push(class);
        }
        (vectors, classes)
    }

    #[test]
    fn both_ways_of_learning_tell_classes_apart_and_reject_what_is_none() {
        let (vectors, classes) = examples(8, 20);
        let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let bound = Classifier::bound(&vectors, &classes, 8, 0.95);
        for classifier in [Classifier::at_once, Classifier::trained] {
            let classifier = classifier(&vectors, &classes, 8).unwrap();
            let right =
                vectors.iter().zip(&classes).filter(|(v, class)| classifier.guess(v).class == **class);
            assert!(right.count() >= 158);
        }
        let classifier = Classifier::trained(&vectors, &classes, 8).unwrap().bounded(bound);
        let kept = vectors.iter().filter(|vector| classifier.classify(vector).is_some()).count();
        assert!(kept >= 144, "{kept}");
        let none: Vec<f32> = (0..16).map(|at| if at < 8 { 0.0 } else { 0.35 }).collect();
        assert_eq!(classifier.classify(&none), None);
    }

    #[test]
    fn the_same_examples_give_the_same_classifier() {
        let (vectors, classes) = examples(3, 5);
        let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        assert_eq!(Classifier::trained(&vectors, &classes, 3), Classifier::trained(&vectors, &classes, 3));
        assert_eq!(Classifier::trained(&[], &[], 0), None);
    }
}
