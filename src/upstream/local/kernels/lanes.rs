//! Every step but the products, in plain Rust over sixteen lanes. There are no instructions named here: the loops
//! are of a fixed length and without a branch, so the compiler makes vector code of them for whatever the caller
//! was compiled for. That is why all of them are inlined, always.
#![expect(clippy::inline_always, reason = "code takes the instruction set of the function it is inlined in")]

use super::half::from_half;
use super::packed::{BLOCK, BlockFacts, QuantisedRows};
use super::{Curve, Memory, PAGE};
use std::sync::Arc;

/// Lanes of a register.
pub(in super::super) const LANES: usize = 16;
type Lanes = [f32; LANES];

/// Numbers of a value that are summed up together.
const PART: usize = 64;

/// Adding and subtracting it rounds to a whole number, which then stands in the lowest bits.
const ROUNDING: f32 = 12_582_912.0;

/// Twice the root of 2 / π.
const GELU: f32 = 1.595_769;

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn sum(lanes: Lanes) -> f32 {
    let mut eight = [0.0f32; 8];
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    let mut four = [0.0f32; 4];
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

#[inline(always)]
fn largest(lanes: Lanes) -> f32 {
    let mut eight = [0.0f32; 8];
    for i in 0..8 {
        eight[i] = larger(lanes[i], lanes[i + 8]);
    }
    let mut four = [0.0f32; 4];
    for i in 0..4 {
        four[i] = larger(eight[i], eight[i + 4]);
    }
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

/// e to the power of each, for powers up to 87; below -87 it is as good as zero.
#[inline(always)]
fn exp<const FUSED: bool>(x: Lanes) -> Lanes {
    let mut out = [0.0f32; LANES];
    for i in 0..LANES {
        let power = larger(x[i], -87.0) * std::f32::consts::LOG2_E;
        let shifted = power + ROUNDING;
        let rest = power - (shifted - ROUNDING);
        // 2 to the power of the rest, which is between -1/2 and 1/2.
        let mut p = 1.540_353e-4;
        p = multiply_add::<FUSED>(p, rest, 1.333_355_8e-3);
        p = multiply_add::<FUSED>(p, rest, 9.618_129e-3);
        p = multiply_add::<FUSED>(p, rest, 5.550_411e-2);
        p = multiply_add::<FUSED>(p, rest, 2.402_265e-1);
        p = multiply_add::<FUSED>(p, rest, 6.931_472e-1);
        p = multiply_add::<FUSED>(p, rest, 1.0);
        // The whole part goes where an f32 has its exponent.
        out[i] = p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    }
    out
}

#[inline(always)]
pub(super) fn quantise(x: &[f32], rows: &mut QuantisedRows) {
    let blocks = x.as_chunks::<BLOCK>().0.iter().zip(rows.numbers.as_chunks_mut::<BLOCK>().0);
    for ((x, numbers), facts) in blocks.zip(&mut rows.facts) {
        *facts = quantise_block(x, numbers);
    }
}

#[inline(always)]
fn quantise_block(x: &[f32; BLOCK], numbers: &mut [i8; BLOCK]) -> BlockFacts {
    let mut most = [0.0f32; LANES];
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            most[i] = larger(x[i].abs(), most[i]);
        }
    }
    let scale = largest(most) / 127.0;
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut whole = [0i32; BLOCK];
    let mut total = [0i32; LANES];
    for i in 0..BLOCK {
        whole[i] = (x[i] * factor + ROUNDING).to_bits().wrapping_sub(ROUNDING.to_bits()).cast_signed();
    }
    for i in 0..BLOCK {
        numbers[i] = whole[i] as i8;
    }
    for i in 0..LANES {
        total[i] = whole[i] + whole[i + LANES];
    }
    let total: i32 = total.iter().sum();
    BlockFacts { scale, sum: total as f32 * scale, begin: -128 * total }
}

#[inline(always)]
pub(super) fn normalise<const FUSED: bool>(x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = scale.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mut squares = [0.0f32; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                squares[i] = multiply_add::<FUSED>(x[i], x[i], squares[i]);
            }
        }
        let factor = 1.0 / (sum(squares) / width as f32 + epsilon).sqrt();
        let numbers = x.as_chunks::<LANES>().0.iter().zip(scale.as_chunks::<LANES>().0);
        for ((x, scale), out) in numbers.zip(out.as_chunks_mut::<LANES>().0) {
            for i in 0..LANES {
                out[i] = x[i] * factor * scale[i];
            }
        }
    }
}

#[inline(always)]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
pub(super) fn gate<const FUSED: bool>(x: &[f32], width: usize, curve: Curve, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gates, values) = x.split_at(width);
        let numbers = gates.as_chunks::<LANES>().0.iter().zip(values.as_chunks::<LANES>().0);
        for ((gate, value), out) in numbers.zip(out.as_chunks_mut::<LANES>().0) {
            let mut powers = [0.0f32; LANES];
            for i in 0..LANES {
                let turn = match curve {
                    Curve::Silu => gate[i],
                    // One and a hyperbolic tangent are twice a logistic.
                    Curve::Gelu => GELU * (gate[i] + 0.044_715 * gate[i] * gate[i] * gate[i]),
                };
                // Larger ones are as good as closed, and would overflow.
                powers[i] = -larger(turn, -87.0);
            }
            let e = exp::<FUSED>(powers);
            for i in 0..LANES {
                out[i] = gate[i] / (1.0 + e[i]) * value[i];
            }
        }
    }
}

#[inline(always)]
fn halves(from: &[u16; LANES]) -> Lanes {
    let mut out = [0.0f32; LANES];
    for i in 0..LANES {
        out[i] = from_half(from[i]);
    }
    out
}

#[inline(always)]
pub(super) fn attend<const FUSED: bool>(
    queries: &[f32],
    memory: Memory<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let count = queries.len() / memory.size;
    scores.resize(4 * memory.pages.len() * PAGE, 0.0);
    let mut first = 0;
    while first < count {
        let together = (count - first).min(4);
        let range = first * memory.size..(first + together) * memory.size;
        let (queries, out) = (&queries[range.clone()], &mut out[range]);
        match together {
            1 => attend_together::<FUSED, 1>(queries, memory, scores, out),
            2 => attend_together::<FUSED, 2>(queries, memory, scores, out),
            3 => attend_together::<FUSED, 3>(queries, memory, scores, out),
            _ => attend_together::<FUSED, 4>(queries, memory, scores, out),
        }
        first += together;
    }
}

/// What is loaded of a key or a value serves all the queries.
#[inline(always)]
fn attend_together<const FUSED: bool, const QUERIES: usize>(
    queries: &[f32],
    memory: Memory<'_>,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let Memory { pages, start, skip, len, size } = memory;
    let padded = len.next_multiple_of(LANES);
    let scaling = 1.0 / (size as f32).sqrt();
    let query: [&[f32]; QUERIES] = std::array::from_fn(|query| &queries[query * size..][..size]);
    for block in (0..padded).step_by(LANES) {
        let keys = &pages[block / PAGE][start + block % PAGE * size..][..LANES * size];
        let mut products = [[0.0f32; LANES]; QUERIES];
        for (dimension, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
            let keys = halves(keys);
            for q in 0..QUERIES {
                let part = query[q][dimension];
                for i in 0..LANES {
                    products[q][i] = multiply_add::<FUSED>(part, keys[i], products[q][i]);
                }
            }
        }
        for (q, mut products) in products.into_iter().enumerate() {
            for product in &mut products {
                *product *= scaling;
            }
            scores[q * padded + block..][..LANES].copy_from_slice(&products);
        }
    }
    let scores = &mut scores[..QUERIES * padded];
    let mut shares = [0.0f32; QUERIES];
    for (scores, share) in scores.chunks_exact_mut(padded).zip(&mut shares) {
        *share = soften::<FUSED>(scores, skip, len);
    }
    let values = Values { pages, start: start + PAGE * size, len, size };
    let mut column = 0;
    while column < size {
        if size - column >= PART {
            weigh::<FUSED, QUERIES, { PART / LANES }>(values, column, scores, &shares, out);
            column += PART;
        } else {
            weigh::<FUSED, QUERIES, 1>(values, column, scores, &shares, out);
            column += LANES;
        }
    }
}

/// The scores from `skip` to `len` become e to their power, as a share of the largest; the others become nothing.
/// Gives what they must be multiplied with to add up to one.
#[inline(always)]
pub(super) fn soften<const FUSED: bool>(scores: &mut [f32], skip: usize, len: usize) -> f32 {
    scores[..skip].fill(f32::MIN / 2.0);
    scores[len..].fill(f32::MIN / 2.0);
    let mut most = [f32::MIN; LANES];
    for scores in scores.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            most[i] = larger(most[i], scores[i]);
        }
    }
    let most = largest(most);
    let mut sums = [0.0f32; LANES];
    for scores in scores.as_chunks_mut::<LANES>().0 {
        for score in scores.iter_mut() {
            *score -= most;
        }
        *scores = exp::<FUSED>(*scores);
        for i in 0..LANES {
            sums[i] += scores[i];
        }
    }
    1.0 / sum(sums)
}

#[derive(Clone, Copy)]
struct Values<'a> {
    pages: &'a [Arc<[u16]>],
    start: usize,
    len: usize,
    size: usize,
}

/// The values from `column` on, weighed by the scores.
#[inline(always)]
fn weigh<const FUSED: bool, const QUERIES: usize, const PARTS: usize>(
    values: Values<'_>,
    column: usize,
    scores: &[f32],
    shares: &[f32; QUERIES],
    out: &mut [f32],
) {
    let Values { pages, start, len, size } = values;
    let padded = scores.len() / QUERIES;
    let mut sums = [[[0.0f32; LANES]; PARTS]; QUERIES];
    for (number, page) in pages.iter().enumerate() {
        let first = number * PAGE;
        for at in first..len.min(first + PAGE) {
            let value = &page[start + (at - first) * size + column..][..PARTS * LANES];
            for (part, value) in value.as_chunks::<LANES>().0.iter().enumerate() {
                let value = halves(value);
                for q in 0..QUERIES {
                    let score = scores[q * padded + at];
                    for i in 0..LANES {
                        sums[q][part][i] = multiply_add::<FUSED>(score, value[i], sums[q][part][i]);
                    }
                }
            }
        }
    }
    for q in 0..QUERIES {
        for part in 0..PARTS {
            let out = &mut out[q * size + column + part * LANES..][..LANES];
            for i in 0..LANES {
                out[i] = sums[q][part][i] * shares[q];
            }
        }
    }
}
