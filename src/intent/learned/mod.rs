//! Intents learned from examples, on vectors that an encoder gives, and on how they are worded.
//!
//! A new set of examples is answered at once by a classifier in closed form ([`lda`]), which is then trained further
//! ([`logistic`]) wherever there is time. What is not clearly one of them is none: the largest logit must reach a
//! bound that was set on the examples themselves and on what is none of them (`examples`), each judged by classifiers
//! that have not seen it.

mod judged;
mod lda;
mod lessons;
mod logistic;
mod wording;

pub use judged::{Judged, judge};
pub use lessons::{Confusion, Lessons, Mark, Mind, Read};

use wording::{Features, Wording};

/// A direction and an offset for each class.
#[derive(Clone, Debug, PartialEq)]
struct Head {
    width: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
    /// For each bucket of [`Wording`] a weight for each class; empty where words are not looked at.
    words: Vec<f32>,
}

impl Head {
    fn zero(width: usize, count: usize) -> Self {
        Self { width, weights: vec![0.0; count * width], biases: vec![0.0; count], words: Vec::new() }
    }

    /// Takes up a little of another head, as much as its logits differ between classes the way the own ones do.
    fn lean(&mut self, other: &Self, vectors: &[&[f32]]) {
        /// How much. From 0.3 to 0.5 it hardly matters.
        const SHARE: f32 = 0.4;
        /// Vectors on which the two are compared.
        const COMPARED: usize = 256;
        let step = vectors.len().div_ceil(COMPARED).max(1);
        let spread = |head: &Self| {
            let mut logits = vec![0f32; head.biases.len()];
            let each = vectors.iter().step_by(step).map(|vector| {
                head.logits(vector, &Features::new(), 1.0, &mut logits);
                let logits = &logits[..other.biases.len()];
                let mean = logits.iter().sum::<f32>() / logits.len() as f32;
                logits.iter().map(|logit| (logit - mean) * (logit - mean)).sum::<f32>()
            });
            each.sum::<f32>().sqrt()
        };
        let share = SHARE * spread(self) / spread(other);
        // One class alone differs from no other.
        if !share.is_finite() {
            return;
        }
        self.weights.iter_mut().zip(&other.weights).for_each(|(own, other)| *own += share * other);
        self.biases.iter_mut().zip(&other.biases).for_each(|(own, other)| *own += share * other);
    }

    /// `scale` is what the weights of words are multiplied by.
    fn logits(&self, vector: &[f32], features: &Features, scale: f32, into: &mut [f32]) {
        into.fill(0.0);
        self.add_words(features, scale, into);
        for ((logit, weights), bias) in
            into.iter_mut().zip(self.weights.chunks_exact(self.width)).zip(&self.biases)
        {
            *logit += dot(weights, vector) + bias;
        }
    }

    /// Adds what the words say to the logits.
    fn add_words(&self, features: &Features, scale: f32, into: &mut [f32]) {
        let count = self.biases.len();
        if self.words.is_empty() {
            return;
        }
        for (bucket, value) in features {
            let row = &self.words[usize::from(*bucket) * count..][..count];
            let value = value * scale;
            into.iter_mut().zip(row).for_each(|(logit, weight)| *logit += value * weight);
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

/// A text to learn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'s> {
    /// What is said.
    pub text: &'s str,
    /// Where it points.
    pub vector: &'s [f32],
    /// What it is; `None` is none of the classes.
    pub class: Option<usize>,
    /// Whether it is what the class is called, and nothing that anybody says.
    pub is_name: bool,
}

/// What a head is fitted to.
struct Training<'s> {
    vectors: Vec<&'s [f32]>,
    /// How each is worded; empty where that is not looked at.
    features: Vec<Features>,
    classes: Vec<usize>,
    /// How many classes there are.
    count: usize,
}

/// A classifier of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    head: Head,
    wording: Option<Wording>,
    /// How many classes there are; what is none of them may have directions of its own behind theirs.
    count: usize,
    /// Below it, a text is none of the classes.
    bound: f32,
}

/// What a text is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The class.
    pub class: usize,
    /// Its logit: how sure it is, on the classifier's own scale.
    pub logit: f32,
    /// Its share of the likelihood of all classes.
    pub share: f32,
}

/// A way to learn.
pub type Learn = fn(&[Sample<'_>], usize) -> Option<Classifier>;

impl Classifier {
    /// Learns from examples in closed form. `None` where there are none, or they have no direction.
    pub fn at_once(samples: &[Sample<'_>], count: usize) -> Option<Self> {
        let (vectors, classes) =
            samples.iter().filter_map(|sample| Some((sample.vector, sample.class?))).unzip();
        let head = lda::fit(&Training { vectors, features: Vec::new(), classes, count })?;
        Some(Self { head, wording: None, count, bound: f32::MIN })
    }

    /// Learns from examples as well as it can. Takes a second or two for fifteen thousand.
    pub fn trained(samples: &[Sample<'_>], count: usize) -> Option<Self> {
        let wording = Wording::new(samples.iter().map(|sample| sample.text));
        let has_none = samples.iter().any(|sample| sample.class.is_none());
        let training = Training {
            vectors: samples.iter().map(|sample| sample.vector).collect(),
            features: samples.iter().map(|sample| wording.features(sample.text)).collect(),
            classes: samples.iter().map(|sample| sample.class.unwrap_or(count)).collect(),
            count: count + usize::from(has_none),
        };
        let mut head = logistic::fit(&training)?;
        // What is none of few examples lies far from all of them, and that is what the closed form knows best.
        if logistic::are_few(&training)
            && let Some(closed) = Self::at_once(samples, count)
        {
            head.lean(&closed.head, &training.vectors);
        }
        Some(Self { head, wording: Some(wording), count, bound: f32::MIN })
    }

    /// With the bound below which a text is none of the classes.
    #[must_use]
    pub fn bounded(self, bound: f32) -> Self {
        Self { bound, ..self }
    }

    /// The likeliest of those classes that `may` allows, however unlikely. `None` where it allows none, or the vector is
    /// of another encoder.
    pub fn guess(&self, text: &str, vector: &[f32], may: impl Fn(usize) -> bool) -> Option<Guess> {
        let logits = self.logits(text, vector)?;
        let allowed = logits.iter().copied().enumerate().take(self.count).filter(|(class, _)| may(*class));
        let (class, logit) = allowed.max_by(|a, b| a.1.total_cmp(&b.1))?;
        let all: f32 = logits.iter().map(|other| (other - logit).exp()).sum();
        Some(Guess { class, logit, share: 1.0 / all })
    }

    /// How far above the bound (or, where it is negative, below) each class is.
    pub fn margins(&self, text: &str, vector: &[f32]) -> Vec<f32> {
        let mut logits = self.logits(text, vector).unwrap_or_default();
        logits.truncate(self.count);
        logits.iter_mut().for_each(|logit| *logit -= self.bound);
        logits
    }

    /// The share of each class in the likelihood of all, what is none of them among these.
    pub fn shares(&self, text: &str, vector: &[f32]) -> Vec<f32> {
        let mut shares = self.logits(text, vector).unwrap_or_default();
        let most = shares.iter().copied().fold(f32::MIN, f32::max);
        shares.iter_mut().for_each(|share| *share = (*share - most).exp());
        let all: f32 = shares.iter().sum();
        shares.truncate(self.count);
        shares.iter_mut().for_each(|share| *share /= all);
        shares
    }

    /// The class, where it is sure of it.
    pub fn classify(&self, text: &str, vector: &[f32], may: impl Fn(usize) -> bool) -> Option<Guess> {
        self.guess(text, vector, may).filter(|guess| guess.logit >= self.bound)
    }

    fn logits(&self, text: &str, vector: &[f32]) -> Option<Vec<f32>> {
        if vector.len() != self.head.width {
            return None;
        }
        let features = self.wording.as_ref().map_or_else(Features::new, |wording| wording.features(text));
        let mut logits = vec![0f32; self.head.biases.len()];
        self.head.logits(vector, &features, 1.0, &mut logits);
        Some(logits)
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

    fn samples<'s>(vectors: &'s [Vec<f32>], classes: &[usize]) -> Vec<Sample<'s>> {
        let sample = |(vector, class): (&'s Vec<f32>, &usize)| Sample {
            text: "",
            vector,
            class: Some(*class),
            is_name: false,
        };
        vectors.iter().zip(classes).map(sample).collect()
    }

    #[test]
    fn both_ways_of_learning_tell_classes_apart_and_reject_what_is_none() {
        let (vectors, classes) = examples(8, 20);
        let samples = samples(&vectors, &classes);
        for learn in [Classifier::at_once as Learn, Classifier::trained as Learn] {
            let classifier = learn(&samples, 8).unwrap();
            let is_right = |(vector, class): &(&Vec<f32>, &usize)| {
                classifier.guess("", vector, |_| true).is_some_and(|guess| guess.class == **class)
            };
            assert!(vectors.iter().zip(&classes).filter(is_right).count() >= 158);
            let bound = Judged::keeping(&judge(&samples, 8, learn), 0.95);
            let classifier = classifier.bounded(bound);
            let kept = |vector: &&Vec<f32>| classifier.classify("", vector, |_| true).is_some();
            assert!(vectors.iter().filter(kept).count() >= 144);
            let none: Vec<f32> = (0..16).map(|at| if at < 8 { 0.0 } else { 0.35 }).collect();
            assert_eq!(classifier.classify("", &none, |_| true), None);
        }
    }

    #[test]
    fn only_what_is_allowed_is_guessed() {
        let (vectors, classes) = examples(3, 5);
        let classifier = Classifier::trained(&samples(&vectors, &classes), 3).unwrap();
        let guess = |may: &dyn Fn(usize) -> bool| classifier.guess("", &vectors[0], may).map(|g| g.class);
        assert_eq!(guess(&|_| true), Some(0));
        assert_ne!(guess(&|class| class != 0), Some(0));
        assert_eq!(guess(&|_| false), None);
        assert_eq!(classifier.guess("", &[1.0], |_| true), None);
    }

    #[test]
    fn words_tell_apart_what_vectors_do_not() {
        let vector = [1.0f32, 0.0];
        let of = |text, class| Sample { text, vector: &vector, class: Some(class), is_name: false };
        let samples = [
            of("my card is lost", 0),
            of("card gone", 0),
            of("my account is lost", 1),
            of("account gone", 1),
        ];
        let classifier = Classifier::trained(&samples, 2).unwrap();
        let class = |text| classifier.guess(text, &vector, |_| true).map(|guess| guess.class);
        assert_eq!((class("where is the card"), class("where is the account")), (Some(0), Some(1)));
    }

    #[test]
    fn the_same_examples_give_the_same_classifier() {
        let (vectors, classes) = examples(3, 5);
        let samples = samples(&vectors, &classes);
        assert_eq!(Classifier::trained(&samples, 3), Classifier::trained(&samples, 3));
        assert_eq!(Classifier::trained(&[], 0), None);
    }
}
