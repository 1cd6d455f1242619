//! Logistic regression with many classes, by steps over small batches.

use super::wording::{BUCKETS, Features};
use super::{Head, Training};

/// How much the errors of all examples weigh beside the size of the weights: few examples say less.
const WEIGHT_OF_FEW: f32 = 15.0;
const WEIGHT_OF_MANY: f32 = 30.0;
/// From so many examples of a class on, they are many.
const MANY: usize = 50;
/// Examples in a step.
const BATCH: usize = 32;
/// How many examples are looked at in all: with many, a few rounds do.
const LOOKS: usize = 90_000;
const MOST_ROUNDS: usize = 80;
const LEAST_ROUNDS: usize = 5;
/// How far the first step goes, and how much of a step goes on in the next.
const STEP: f32 = 12.0;
const MOMENTUM: f32 = 0.9;
/// Errors smaller than this teach nothing.
const LEAST_ERROR: f32 = 5e-4;

/// Fits one direction for each class.
pub(super) fn fit(training: &Training<'_>) -> Option<Head> {
    let width = training.vectors.first()?.len();
    let mean = mean(&training.vectors, width);
    // What all have in common says nothing, and without it steps can be longer.
    let centred: Vec<f32> = training
        .vectors
        .iter()
        .flat_map(|vector| vector.iter().zip(&mean).map(|(value, mean)| value - mean))
        .collect();
    let mut head = Head::zero(width, training.count);
    descend(&mut head, &centred, &training.features, &training.classes);
    // The offset takes up what was taken away.
    for (bias, weights) in head.biases.iter_mut().zip(head.weights.chunks_exact(width)) {
        *bias -= super::dot(weights, &mean);
    }
    Some(head)
}

/// Whether there are few examples of each class.
pub(super) fn are_few(training: &Training<'_>) -> bool {
    !is_many(training.classes.len(), training.count)
}

fn is_many(examples: usize, count: usize) -> bool {
    examples >= MANY * count
}

fn mean(vectors: &[&[f32]], width: usize) -> Vec<f32> {
    let mut mean = vec![0f32; width];
    for vector in vectors {
        mean.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value);
    }
    mean.iter_mut().for_each(|value| *value /= vectors.len() as f32);
    mean
}

fn descend(head: &mut Head, vectors: &[f32], features: &[Features], classes: &[usize]) {
    let (width, count) = (head.width, head.biases.len());
    let rounds = (LOOKS / classes.len().max(1)).clamp(LEAST_ROUNDS, MOST_ROUNDS);
    let weight = if is_many(classes.len(), count) { WEIGHT_OF_MANY } else { WEIGHT_OF_FEW };
    let pull = 1.0 / (weight * classes.len() as f32);
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut slope, mut speed) = (vec![0f32; width], vec![0f32; count * width]);
    let (mut bias_slope, mut bias_speed) = (vec![0f32; count], vec![0f32; count]);
    head.words = vec![0.0; BUCKETS * count];
    // All weights of words shrink with each step; so they are kept as they were, beside one factor for all.
    let mut scale = 1f32;
    // A row for each example of a batch: its logits, then how wrong they are.
    let mut rows = vec![0f32; BATCH * count];
    let steps = rounds * classes.len().div_ceil(BATCH);
    let mut nth = 0;
    for _ in 0..rounds {
        shuffle(&mut order, &mut random);
        for batch in order.chunks(BATCH) {
            let step = STEP * (1.0 - nth as f32 / steps as f32);
            let seen: Vec<&[f32]> = batch.iter().map(|at| &vectors[at * width..(at + 1) * width]).collect();
            meanings(head, &seen, &mut rows);
            for (row, at) in rows.chunks_exact_mut(count).zip(batch) {
                head.add_words(&features[*at], scale, row);
                softmax(row);
                row[classes[*at]] -= 1.0;
                row.iter_mut().for_each(|error| {
                    *error = if error.abs() > LEAST_ERROR { *error / batch.len() as f32 } else { 0.0 };
                });
            }
            scale *= 1.0 - step * pull;
            for (row, at) in rows.chunks_exact(count).zip(batch) {
                for (bucket, value) in &features[*at] {
                    let far = step * value / scale;
                    let weights = &mut head.words[usize::from(*bucket) * count..][..count];
                    weights.iter_mut().zip(row).for_each(|(weight, error)| *weight -= far * error);
                }
            }
            // Class by class, so that what is added up stays close at hand.
            let weights = head.weights.chunks_exact_mut(width).zip(speed.chunks_exact_mut(width));
            for (class, (weights, speed)) in weights.enumerate() {
                slope.fill(0.0);
                bias_slope[class] = 0.0;
                for (at, vector) in seen.iter().enumerate() {
                    let error = rows[at * count + class];
                    if error != 0.0 {
                        bias_slope[class] += error;
                        slope.iter_mut().zip(*vector).for_each(|(slope, value)| *slope += error * value);
                    }
                }
                advance(weights, &slope, speed, step, pull);
            }
            advance(&mut head.biases, &bias_slope, &mut bias_speed, step * 0.1, 0.0);
            nth += 1;
        }
    }
    head.words.iter_mut().for_each(|weight| *weight *= scale);
}

/// What the vectors say of each class, a row for each vector.
fn meanings(head: &Head, vectors: &[&[f32]], rows: &mut [f32]) {
    let count = head.biases.len();
    for (class, weights) in head.weights.chunks_exact(head.width).enumerate() {
        for (nth, some) in vectors.chunks(4).enumerate() {
            let first = nth * 4;
            match some {
                [a, b, c, d] => {
                    for (at, logit) in four_dots(weights, [a, b, c, d]).into_iter().enumerate() {
                        rows[(first + at) * count + class] = logit + head.biases[class];
                    }
                }
                rest => {
                    for (at, vector) in rest.iter().enumerate() {
                        rows[(first + at) * count + class] = super::dot(weights, vector) + head.biases[class];
                    }
                }
            }
        }
    }
}

/// Four at once: each weight is fetched once for all of them.
fn four_dots(weights: &[f32], vectors: [&[f32]; 4]) -> [f32; 4] {
    const LANES: usize = 4;
    let mut sums = [[0f32; LANES]; 4];
    let whole = weights.len() / LANES * LANES;
    for from in (0..whole).step_by(LANES) {
        let weights = &weights[from..from + LANES];
        for (sums, vector) in sums.iter_mut().zip(vectors) {
            let vector = &vector[from..from + LANES];
            for lane in 0..LANES {
                sums[lane] += weights[lane] * vector[lane];
            }
        }
    }
    let rest = |vector: &[f32]| super::dot(&weights[whole..], &vector[whole..]);
    std::array::from_fn(|at| sums[at].iter().sum::<f32>() + rest(vectors[at]))
}

/// A step with momentum that looks ahead (Nesterov).
fn advance(weights: &mut [f32], slope: &[f32], speed: &mut [f32], step: f32, pull: f32) {
    for ((weight, slope), speed) in weights.iter_mut().zip(slope).zip(speed) {
        let slope = slope + pull * *weight;
        *speed = MOMENTUM * *speed + slope;
        *weight -= step * (1.0 - MOMENTUM) * (slope + MOMENTUM * *speed);
    }
}

pub(super) fn softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - most).exp();
        sum += *logit;
    }
    logits.iter_mut().for_each(|logit| *logit /= sum);
}

/// The same order for the same examples: a rule file gives the same classifier each time.
fn shuffle(order: &mut [usize], random: &mut u64) {
    for at in (1..order.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        order.swap(at, (*random % (at as u64 + 1)) as usize);
    }
}
