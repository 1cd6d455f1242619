//! Logistic regression with many classes, by steps over small batches.

use super::Head;

/// How much the errors of all examples weigh beside the size of the weights: few examples say less.
const WEIGHT_OF_FEW: f32 = 10.0;
const WEIGHT_OF_MANY: f32 = 30.0;
/// From so many examples of a class on, they are many.
const MANY: usize = 50;
/// Examples in a step.
const BATCH: usize = 32;
/// How many examples are looked at in all: with many, a few rounds do.
const LOOKS: usize = 120_000;
const MOST_ROUNDS: usize = 80;
const LEAST_ROUNDS: usize = 6;
/// How far the first step goes, and how much of a step goes on in the next.
const STEP: f32 = 12.0;
const MOMENTUM: f32 = 0.9;
/// Errors smaller than this teach nothing.
const LEAST_ERROR: f32 = 1e-4;

/// Fits one direction for each class.
pub(super) fn fit(vectors: &[&[f32]], classes: &[usize], count: usize) -> Option<Head> {
    let width = vectors.first()?.len();
    let mean = mean(vectors, width);
    // What all have in common says nothing, and without it steps can be longer.
    let centred: Vec<f32> = vectors
        .iter()
        .flat_map(|vector| vector.iter().zip(&mean).map(|(value, mean)| value - mean))
        .collect();
    let mut head = Head { width, weights: vec![0.0; count * width], biases: vec![0.0; count] };
    descend(&mut head, &centred, classes);
    // The offset takes up what was taken away.
    for (bias, weights) in head.biases.iter_mut().zip(head.weights.chunks_exact(width)) {
        *bias -= super::dot(weights, &mean);
    }
    Some(head)
}

fn mean(vectors: &[&[f32]], width: usize) -> Vec<f32> {
    let mut mean = vec![0f32; width];
    for vector in vectors {
        mean.iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value);
    }
    mean.iter_mut().for_each(|value| *value /= vectors.len() as f32);
    mean
}

fn descend(head: &mut Head, vectors: &[f32], classes: &[usize]) {
    let (width, count) = (head.width, head.biases.len());
    let rounds = (LOOKS / classes.len().max(1)).clamp(LEAST_ROUNDS, MOST_ROUNDS);
    let weight = if classes.len() >= MANY * count { WEIGHT_OF_MANY } else { WEIGHT_OF_FEW };
    let pull = 1.0 / (weight * classes.len() as f32);
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut slope, mut speed) = (vec![0f32; count * width], vec![0f32; count * width]);
    let (mut bias_slope, mut bias_speed) = (vec![0f32; count], vec![0f32; count]);
    let mut logits = vec![0f32; count];
    let steps = rounds * classes.len().div_ceil(BATCH);
    let mut nth = 0;
    for _ in 0..rounds {
        shuffle(&mut order, &mut random);
        for batch in order.chunks(BATCH) {
            slope.fill(0.0);
            bias_slope.fill(0.0);
            for at in batch {
                let vector = &vectors[at * width..(at + 1) * width];
                head.logits(vector, &mut logits);
                softmax(&mut logits);
                logits[classes[*at]] -= 1.0;
                for (class, error) in logits.iter().enumerate().filter(|(_, error)| error.abs() > LEAST_ERROR)
                {
                    let share = error / batch.len() as f32;
                    bias_slope[class] += share;
                    let row = &mut slope[class * width..(class + 1) * width];
                    row.iter_mut().zip(vector).for_each(|(slope, value)| *slope += share * value);
                }
            }
            let step = STEP * (1.0 - nth as f32 / steps as f32);
            advance(&mut head.weights, &slope, &mut speed, step, pull);
            advance(&mut head.biases, &bias_slope, &mut bias_speed, step * 0.1, 0.0);
            nth += 1;
        }
    }
}

/// A step with momentum that looks ahead (Nesterov).
fn advance(weights: &mut [f32], slope: &[f32], speed: &mut [f32], step: f32, pull: f32) {
    for ((weight, slope), speed) in weights.iter_mut().zip(slope).zip(speed) {
        let slope = slope + pull * *weight;
        *speed = MOMENTUM * *speed + slope;
        *weight -= step * (1.0 - MOMENTUM) * (slope + MOMENTUM * *speed);
    }
}

fn softmax(logits: &mut [f32]) {
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
