//! The kernels for machines with AVX2 and FMA.

use super::packed::{Bf16Matrix, INT8_GROUP, Int8Matrix, QuantisedRows, SPAN};
use super::{Heads, Norm, TILE, lanes};
use std::arch::x86_64::{
    _mm_load_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16,
    _mm256_madd_epi16, _mm256_setzero_si256, _mm256_storeu_si256,
};

/// Outputs whose weights for a group are widened into one register.
const OUTPUTS: usize = 4;
/// Registers that are worked on together, for one row.
const REGISTERS: usize = 4;
/// Rows that are multiplied together.
const ROWS: usize = 2;

#[target_feature(enable = "avx2,fma")]
pub(super) fn quantise(x: &[f32], factors: &[f32], rows: &mut QuantisedRows) {
    lanes::quantise(x, factors, rows);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply_bf16(x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
    lanes::multiply_bf16::<true>(x, w, out);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn round_to_bf16(x: &[f32], out: &mut [u16]) {
    lanes::round_to_bf16(x, out);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn add_and_normalise(x: &mut [f32], y: &[f32], norm: &Norm) {
    lanes::add_and_normalise::<true>(x, y, norm);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn gelu(x: &mut [f32]) {
    lanes::gelu::<true>(x);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn attend(qkv: &[f32], heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
    lanes::attend::<true>(qkv, heads, scratch, out);
}

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
///
/// AVX2 multiplies bytes only with sums of 16 bits, which overflow. So both factors are widened first: half the
/// speed, and every sum exact.
#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply_int8(x: &QuantisedRows, w: &Int8Matrix, out: &mut [f32]) {
    for out in out.chunks_exact_mut(w.outputs) {
        out.copy_from_slice(&w.bias);
    }
    let rows = x.rows();
    for columns in (0..w.outputs).step_by(OUTPUTS * REGISTERS) {
        for span in 0..w.inputs / SPAN {
            let mut first = 0;
            while first + ROWS <= rows {
                block::<ROWS>(x, w, columns, span, first, out);
                first += ROWS;
            }
            while first < rows {
                block::<1>(x, w, columns, span, first, out);
                first += 1;
            }
        }
    }
}

/// Adds the products of some rows with a span of some columns to what is there already.
#[target_feature(enable = "avx2,fma")]
fn block<const N: usize>(
    x: &QuantisedRows,
    w: &Int8Matrix,
    columns: usize,
    span: usize,
    first: usize,
    out: &mut [f32],
) {
    const LINES: usize = TILE / (OUTPUTS * REGISTERS);
    const GROUPS: usize = SPAN / INT8_GROUP;
    let spans = w.inputs / SPAN;
    let rows: [&[u8; SPAN]; N] =
        std::array::from_fn(|row| &x.numbers[(first + row) * w.inputs + span * SPAN..].as_chunks().0[0]);
    let weights = &w.weights[(columns / TILE * spans + span) * GROUPS * LINES..][..GROUPS * LINES];
    let line = columns % TILE / (OUTPUTS * REGISTERS);
    // Two sums for each output: of the first and second number of each group, and of the third and fourth.
    let mut sums = [[_mm256_setzero_si256(); REGISTERS]; N];
    for group in 0..GROUPS {
        let bytes = weights[group * LINES + line].0.as_ptr();
        let mut wide = [_mm256_setzero_si256(); REGISTERS];
        for (register, wide) in wide.iter_mut().enumerate() {
            // SAFETY: a line is 64 aligned bytes, `REGISTERS` times 16.
            *wide = _mm256_cvtepi8_epi16(unsafe { _mm_load_si128(bytes.add(register * 16).cast()) });
        }
        for (row, sums) in rows.iter().zip(&mut sums) {
            let four = row.as_chunks::<INT8_GROUP>().0[group];
            let four = _mm256_cvtepu8_epi16(_mm_set1_epi32(i32::from_ne_bytes(four)));
            for (sum, wide) in sums.iter_mut().zip(wide) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(wide, four));
            }
        }
    }
    let at = (columns / TILE * spans + span) * TILE + columns % TILE;
    for (row, sums) in sums.into_iter().enumerate() {
        let fact = (first + row) * spans + span;
        let (scale, lowest) = (x.scales[fact], x.lowest[fact]);
        for (register, sum) in sums.into_iter().enumerate() {
            let mut pairs = [0i32; 2 * OUTPUTS];
            // SAFETY: the array is as long as the register.
            unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), sum) };
            let place = at + register * OUTPUTS;
            let (scales, lows) = (&w.scales[place..][..OUTPUTS], &w.sums[place..][..OUTPUTS]);
            let out = &mut out[(first + row) * w.outputs + columns + register * OUTPUTS..][..OUTPUTS];
            for (output, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
                let product = (pair[0] + pair[1]) as f32 * scales[output];
                out[output] += scale * product + lowest * lows[output];
            }
        }
    }
}
