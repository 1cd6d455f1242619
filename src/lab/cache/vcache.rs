//! The policy of vCache, to compare with: Schroeder et al., "vCache: Verified Semantic Prompt Caching"
//! (arXiv 2502.03771, 2025). Written from the description of the algorithm.
//!
//! Every stored answer learns a logistic model of its own, P(right | similarity) = σ(γ (s − t)), from what became
//! of questions near it. It is served with a probability that keeps the expected share of errors below δ, at the
//! lower end of a confidence interval for `t`; else the model is asked, and the answer tells whether serving would
//! have been right. A question whose nearest would have been right is not stored.

use super::offline::Policy;
use super::order::Random;
use std::collections::HashMap;

/// An answer is not served before it has been compared as often as this, the two given ones among it.
const LEAST_OBSERVATIONS: usize = 6;

/// The confidence levels among which the best is taken.
const LEVELS: usize = 50;

/// What is known of one stored answer: similarities, and whether it would have been right.
#[derive(Clone)]
struct Known {
    seen: Vec<(f64, bool)>,
    model: Option<Model>,
}

impl Default for Known {
    /// It is right for the very same, and wrong for what has nothing in common with it.
    fn default() -> Self {
        Self { seen: vec![(0.0, false), (1.0, true)], model: None }
    }
}

/// A logistic model of one stored answer.
#[derive(Clone, Copy, Debug)]
struct Model {
    threshold: f64,
    steepness: f64,
    /// Of the threshold.
    deviation: f64,
}

/// vCache with an error bound.
pub struct VCache {
    delta: f64,
    /// Confidence levels ε, and how many deviations lie below 1 − ε.
    levels: Vec<(f64, f64)>,
    random: Random,
    known: HashMap<usize, Known>,
}

impl VCache {
    /// At most `delta` wrong, in expectation.
    pub fn new(delta: f64, seed: u64) -> Self {
        let level = |at: usize| (at as f64 + 0.5) / LEVELS as f64;
        let levels = (0..LEVELS).map(|at| (level(at), normal_quantile(1.0 - level(at)))).collect();
        Self { delta, levels, random: Random::new(seed), known: HashMap::new() }
    }

    /// The probability with which the model is asked, that keeps errors below δ.
    fn exploration(&self, model: Model, similarity: f64) -> f64 {
        let tau = |(epsilon, deviations): &(f64, f64)| {
            let upper = model.threshold + deviations * model.deviation;
            let right = (1.0 - epsilon) * sigmoid(model.steepness * (similarity - upper.clamp(0.0, 1.0)));
            1.0 - self.delta / (1.0 - right)
        };
        self.levels.iter().map(tau).fold(1.0, f64::min)
    }
}

impl Policy for VCache {
    fn serves(&mut self, _: usize, known: usize, cosine: f32) -> bool {
        let known = self.known.entry(known).or_default();
        if known.seen.len() < LEAST_OBSERVATIONS {
            return false;
        }
        let model = *known.model.get_or_insert_with(|| fit(&known.seen));
        let tau = self.exploration(model, f64::from(cosine));
        self.random.unit() > tau
    }

    fn learn(&mut self, known: usize, cosine: f32, right: bool) -> bool {
        let known = self.known.entry(known).or_default();
        known.seen.push((f64::from(cosine), right));
        known.model = None;
        !right
    }
}

/// The most likely model of `seen`.
fn fit(seen: &[(f64, bool)]) -> Model {
    let of = |wanted: bool| seen.iter().filter(move |(_, right)| *right == wanted).map(|(at, _)| *at);
    let (wrong, right) = (of(false).fold(0.0, f64::max), of(true).fold(1.0, f64::min));
    match wrong < right {
        true => separable(wrong, right, seen.len()),
        false => overlapping(seen),
    }
}

/// Where a threshold tells all apart, the likelihood has no maximum: the best is a step in the middle of the gap.
/// How uncertain it is falls with the number of observations; the scale is that of the authors' simulations.
fn separable(wrong: f64, right: f64, observations: usize) -> Model {
    /// The log-odds at the ends of the gap, where a solver would stop.
    const SURE: f64 = 18.0;
    const VARIANCE: f64 = 0.21;
    let gap = (right - wrong).max(1e-6);
    Model {
        threshold: f64::midpoint(wrong, right),
        steepness: 2.0 * SURE / gap,
        deviation: (VARIANCE / observations as f64).sqrt(),
    }
}

/// Newton's method; the variance of the threshold by the delta method.
fn overlapping(seen: &[(f64, bool)]) -> Model {
    const STEPS: usize = 50;
    /// Keeps the steps finite, and changes nothing that could be seen.
    const RIDGE: f64 = 1e-6;
    let (mut intercept, mut slope) = (0.0, 0.0);
    let mut curvature = [0.0; 3];
    for _ in 0..STEPS {
        let mut gradient = [-RIDGE * intercept, -RIDGE * slope];
        curvature = [RIDGE, 0.0, RIDGE];
        for (at, right) in seen {
            let p = sigmoid(intercept + slope * at);
            let (residual, weight) = (f64::from(u8::from(*right)) - p, p * (1.0 - p));
            gradient = [gradient[0] + residual, gradient[1] + residual * at];
            curvature = [curvature[0] + weight, curvature[1] + weight * at, curvature[2] + weight * at * at];
        }
        let [a, b, c] = curvature;
        let determinant = (a * c - b * b).max(1e-12);
        let step = [
            (c * gradient[0] - b * gradient[1]) / determinant,
            (a * gradient[1] - b * gradient[0]) / determinant,
        ];
        // A long step is cut short: far from the maximum the curve lies about its distance.
        let length = step[0].hypot(step[1]);
        let scale = if length > 10.0 { 10.0 / length } else { 1.0 };
        intercept += scale * step[0];
        slope += scale * step[1];
        if length < 1e-9 {
            break;
        }
    }
    let steepness = slope.max(1e-6);
    let [a, b, c] = curvature;
    let determinant = (a * c - b * b).max(1e-12);
    let (by_intercept, by_slope) = (-1.0 / steepness, intercept / (steepness * steepness));
    let variance = (c * by_intercept * by_intercept - 2.0 * b * by_intercept * by_slope
        + a * by_slope * by_slope)
        / determinant;
    Model {
        threshold: (-intercept / steepness).clamp(0.0, 1.0),
        steepness,
        deviation: variance.max(0.0).sqrt(),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The quantile of the normal distribution, by bisection on its distribution function.
fn normal_quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if normal(middle) < share { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The distribution function of the normal distribution (Abramowitz and Stegun 26.2.17, to 7.5e-8).
fn normal(x: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let tail = density * B.iter().rev().fold(0.0, |sum, b| (sum + b) * t);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_once_it_is_sure_and_hardly_before() {
        let mut policy = VCache::new(0.01, 1);
        for at in [0.9, 0.92, 0.95] {
            assert!(!policy.learn(7, at, true), "what is right is not stored");
            assert!(!policy.serves(0, 7, 0.99), "too little is known");
        }
        assert!((0..60).all(|_| !policy.learn(7, 0.9, true)));
        let served = (0..1000).filter(|_| policy.serves(0, 7, 0.99)).count();
        assert!(served > 500, "{served}");
        let served = (0..1000).filter(|_| policy.serves(0, 7, 0.05)).count();
        assert!(served < 20, "{served}: not more than what δ allows");
    }

    #[test]
    fn a_model_that_overlaps_lies_between() {
        let seen = [(0.0, false), (0.6, false), (0.7, true), (0.75, false), (0.8, true), (1.0, true)];
        let model = fit(&seen);
        assert!((0.6..0.8).contains(&model.threshold), "{model:?}");
        assert!(model.steepness > 1.0 && model.deviation > 0.0);
    }

    #[test]
    fn the_normal_distribution_is_the_known_one() {
        assert!((normal(1.96) - 0.975_002).abs() < 1e-5);
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-4);
    }
}
