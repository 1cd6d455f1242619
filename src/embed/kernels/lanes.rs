//! Every step once, in plain Rust over sixteen lanes. There are no instructions named here: the loops are of a
//! fixed length and without a branch, so the compiler makes vector code of them for whatever the caller was
//! compiled for. That is why all of them are inlined, always.
#![expect(clippy::inline_always, reason = "code takes the instruction set of the function it is inlined in")]

use super::packed::{BF16_GROUP, Bf16Matrix, QuantisedRows, ROUNDING, SPAN, from_bf16, to_bf16};
use super::{Heads, Norm, TILE};

pub(super) const LANES: usize = 16;
type Lanes = [f32; LANES];

/// Rows of a matrix, or queries of a text, that are worked on together: what is loaded for one serves all.
const TOGETHER: usize = 4;

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
        let mut p = 1.333_355_8e-3;
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
pub(super) fn quantise(x: &[f32], factors: &[f32], rows: &mut QuantisedRows) {
    let spans = x.as_chunks::<SPAN>().0.iter().zip(factors.as_chunks::<SPAN>().0.iter().cycle());
    let facts = rows.scales.iter_mut().zip(&mut rows.lowest);
    for (((x, factors), numbers), (scale, lowest)) in spans.zip(rows.numbers.as_chunks_mut().0).zip(facts) {
        (*scale, *lowest) = quantise_span(x, factors, numbers);
    }
}

#[inline(always)]
fn quantise_span(x: &[f32; SPAN], factors: &[f32; SPAN], numbers: &mut [u8; SPAN]) -> (f32, f32) {
    let mut scaled = [0.0f32; SPAN];
    for i in 0..SPAN {
        scaled[i] = x[i] * factors[i];
    }
    let (mut high, mut low) = ([f32::MIN; LANES], [f32::MIN; LANES]);
    for scaled in scaled.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            high[i] = larger(high[i], scaled[i]);
            low[i] = larger(low[i], -scaled[i]);
        }
    }
    let lowest = -largest(low);
    let range = larger(largest(high) - lowest, 1e-12);
    let factor = 255.0 / range;
    for i in 0..SPAN {
        numbers[i] = ((scaled[i] - lowest) * factor + ROUNDING).to_bits() as u8;
    }
    (range / 255.0, lowest)
}

#[inline(always)]
pub(super) fn round_to_bf16(x: &[f32], out: &mut [u16]) {
    for (x, out) in x.iter().zip(out) {
        *out = to_bf16(*x);
    }
}

#[inline(always)]
pub(super) fn multiply_bf16<const FUSED: bool>(x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
    const LINES: usize = TILE * BF16_GROUP * 2 / 64;
    for (tile, weights) in w.weights.chunks_exact(w.inputs * TILE * 2 / 64).enumerate() {
        let bias = &w.bias[tile * TILE..][..TILE];
        for (row, numbers) in x.chunks_exact(w.inputs).enumerate() {
            let mut sums = [[0.0f32; LANES]; LINES];
            for (lines, numbers) in weights.chunks_exact(LINES).zip(numbers.as_chunks::<BF16_GROUP>().0) {
                let (even, odd) = (from_bf16(numbers[0]), from_bf16(numbers[1]));
                for (line, sums) in lines.iter().zip(&mut sums) {
                    let pairs = line.0.as_chunks::<4>().0;
                    for i in 0..LANES {
                        let pair = u32::from_le_bytes(pairs[i]);
                        let (first, second) =
                            (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000));
                        sums[i] = multiply_add::<FUSED>(first, even, sums[i]);
                        sums[i] = multiply_add::<FUSED>(second, odd, sums[i]);
                    }
                }
            }
            let out = &mut out[row * w.outputs + tile * TILE..][..TILE];
            for ((out, sum), bias) in out.iter_mut().zip(sums.as_flattened()).zip(bias) {
                *out = sum + bias;
            }
        }
    }
}

#[inline(always)]
pub(super) fn add_and_normalise<const FUSED: bool>(x: &mut [f32], y: &[f32], norm: &Norm) {
    let width = norm.scale.len();
    let (scale, shift) = (norm.scale.as_chunks::<LANES>().0, norm.shift.as_chunks::<LANES>().0);
    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        let (x, y) = (x.as_chunks_mut::<LANES>().0, y.as_chunks::<LANES>().0);
        let (mut sums, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        for (x, y) in x.iter_mut().zip(y) {
            for i in 0..LANES {
                x[i] += y[i];
                sums[i] += x[i];
            }
        }
        let mean = sum(sums) / width as f32;
        for x in x.iter_mut() {
            for i in 0..LANES {
                x[i] -= mean;
                squares[i] = multiply_add::<FUSED>(x[i], x[i], squares[i]);
            }
        }
        let factor = 1.0 / (sum(squares) / width as f32 + norm.epsilon).sqrt();
        for ((x, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
            for i in 0..LANES {
                x[i] = multiply_add::<FUSED>(x[i] * factor, scale[i], shift[i]);
            }
        }
    }
}

#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: &mut [f32]) {
    for x in x.as_chunks_mut::<LANES>().0 {
        // The error function by formula 7.1.26 of Abramowitz and Stegun; it is off by 1.5e-7 at most.
        let (mut powers, mut p) = ([0.0f32; LANES], [0.0f32; LANES]);
        for i in 0..LANES {
            let z = x[i].abs() * std::f32::consts::FRAC_1_SQRT_2;
            let t = 1.0 / multiply_add::<FUSED>(z, 0.327_591_1, 1.0);
            let mut sum = 1.061_405_4;
            sum = multiply_add::<FUSED>(sum, t, -1.453_152);
            sum = multiply_add::<FUSED>(sum, t, 1.421_413_7);
            sum = multiply_add::<FUSED>(sum, t, -0.284_496_74);
            sum = multiply_add::<FUSED>(sum, t, 0.254_829_6);
            p[i] = sum * t;
            powers[i] = -z * z;
        }
        let e = exp::<FUSED>(powers);
        for i in 0..LANES {
            let erf = (1.0 - p[i] * e[i]).copysign(x[i]);
            let half = 0.5 * x[i];
            x[i] = multiply_add::<FUSED>(half, erf, half);
        }
    }
}

#[inline(always)]
pub(super) fn attend<const FUSED: bool>(qkv: &[f32], heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
    let width = heads.count * heads.size;
    let rows = out.len() / width;
    let padded = rows.next_multiple_of(LANES);
    scratch.clear();
    scratch.resize(padded * (heads.size + TOGETHER), 0.0);
    let (keys, scores) = scratch.split_at_mut(padded * heads.size);
    for head in 0..heads.count {
        let place = head * heads.size;
        for (row, qkv) in qkv.chunks_exact(3 * width).enumerate() {
            for (dimension, key) in qkv[width + place..][..heads.size].iter().enumerate() {
                keys[dimension * padded + row] = *key;
            }
        }
        let mut first = 0;
        while first < rows {
            // Together they must be full: the last ones of a text are joined by some that are done already.
            if rows >= TOGETHER {
                first = first.min(rows - TOGETHER);
                attend_rows::<FUSED, TOGETHER>(qkv, heads, place, first, keys, scores, out);
                first += TOGETHER;
            } else {
                attend_rows::<FUSED, 1>(qkv, heads, place, first, keys, scores, out);
                first += 1;
            }
        }
    }
}

/// The rows from `first` on, with one head.
#[inline(always)]
fn attend_rows<const FUSED: bool, const ROWS: usize>(
    qkv: &[f32],
    heads: Heads,
    place: usize,
    first: usize,
    keys: &[f32],
    scores: &mut [f32],
    out: &mut [f32],
) {
    let width = heads.count * heads.size;
    let rows = out.len() / width;
    let padded = keys.len() / heads.size;
    let scaling = 1.0 / (heads.size as f32).sqrt();
    let queries: [&[f32]; ROWS] =
        std::array::from_fn(|row| &qkv[(first + row) * 3 * width + place..][..heads.size]);
    let mut most = [[f32::MIN; LANES]; ROWS];
    for block in (0..padded).step_by(LANES) {
        let mut products = [[0.0f32; LANES]; ROWS];
        for dimension in 0..heads.size {
            let keys = &keys[dimension * padded + block..][..LANES];
            for row in 0..ROWS {
                let query = queries[row][dimension];
                for i in 0..LANES {
                    products[row][i] = multiply_add::<FUSED>(query, keys[i], products[row][i]);
                }
            }
        }
        for row in 0..ROWS {
            for i in 0..LANES {
                products[row][i] = if block + i < rows { products[row][i] * scaling } else { f32::MIN / 2.0 };
                most[row][i] = larger(most[row][i], products[row][i]);
            }
            scores[row * padded + block..][..LANES].copy_from_slice(&products[row]);
        }
    }
    let mut shares = [0.0f32; ROWS];
    for row in 0..ROWS {
        let most = largest(most[row]);
        let mut sums = [0.0f32; LANES];
        for score in scores[row * padded..][..padded].as_chunks_mut::<LANES>().0 {
            for score in score.iter_mut() {
                *score -= most;
            }
            *score = exp::<FUSED>(*score);
            for i in 0..LANES {
                sums[i] += score[i];
            }
        }
        shares[row] = 1.0 / sum(sums);
    }
    for part in (0..heads.size).step_by(LANES) {
        let mut sums = [[0.0f32; LANES]; ROWS];
        for (at, qkv) in qkv.chunks_exact(3 * width).enumerate() {
            let values = &qkv[2 * width + place + part..][..LANES];
            for row in 0..ROWS {
                let score = scores[row * padded + at];
                for i in 0..LANES {
                    sums[row][i] = multiply_add::<FUSED>(score, values[i], sums[row][i]);
                }
            }
        }
        for row in 0..ROWS {
            let out = &mut out[(first + row) * width + place + part..][..LANES];
            for i in 0..LANES {
                out[i] = sums[row][i] * shares[row];
            }
        }
    }
}
