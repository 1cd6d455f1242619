//! The product of whole numbers for machines with AVX-VNNI: the instruction of AVX-512 on half the width. All
//! other steps are those of [`super::avx2`].

use super::TILE;
use super::packed::{INT8_GROUP, Int8Matrix, QuantisedRows, SPAN};
use std::arch::x86_64::{
    _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_load_si256,
    _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_storeu_ps,
};

/// Outputs in a register.
const WIDTH: usize = 8;
/// Registers that are worked on together, for one row. Two lie in each line of weights.
const REGISTERS: usize = 2;
/// Rows that are multiplied together: with two registers each, two for the weights and one for the numbers,
/// it nearly fills the 16.
const ROWS: usize = 6;

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn multiply_int8(x: &QuantisedRows, w: &Int8Matrix, out: &mut [f32]) {
    let rows = x.rows();
    for columns in (0..w.outputs).step_by(WIDTH * REGISTERS) {
        for span in 0..w.inputs / SPAN {
            let mut first = 0;
            while first < rows {
                let left = rows - first;
                match left {
                    1 => block::<1>(x, w, columns, span, first, out),
                    2 => block::<2>(x, w, columns, span, first, out),
                    3 => block::<3>(x, w, columns, span, first, out),
                    4 => block::<4>(x, w, columns, span, first, out),
                    5 => block::<5>(x, w, columns, span, first, out),
                    _ => block::<ROWS>(x, w, columns, span, first, out),
                }
                first += left.min(ROWS);
            }
        }
    }
}

/// Adds the products of some rows with a span of some columns to those of the spans before, or to the bias.
#[target_feature(enable = "avx2,fma,avxvnni")]
fn block<const N: usize>(
    x: &QuantisedRows,
    w: &Int8Matrix,
    columns: usize,
    span: usize,
    first: usize,
    out: &mut [f32],
) {
    const LINES: usize = TILE / (WIDTH * REGISTERS);
    const GROUPS: usize = SPAN / INT8_GROUP;
    let spans = w.inputs / SPAN;
    let rows: [&[u8; SPAN]; N] =
        std::array::from_fn(|row| &x.numbers[(first + row) * w.inputs + span * SPAN..].as_chunks().0[0]);
    let weights = &w.weights[(columns / TILE * spans + span) * GROUPS * LINES..][..GROUPS * LINES];
    let line = columns % TILE / (WIDTH * REGISTERS);
    let mut sums = [[_mm256_setzero_si256(); REGISTERS]; N];
    for group in 0..GROUPS {
        let halves = weights[group * LINES + line].0.as_ptr();
        // SAFETY: a line is 64 aligned bytes: two registers.
        let (left, right) =
            unsafe { (_mm256_load_si256(halves.cast()), _mm256_load_si256(halves.add(32).cast())) };
        for (row, sums) in rows.iter().zip(&mut sums) {
            let four = row.as_chunks::<INT8_GROUP>().0[group];
            let four = _mm256_set1_epi32(i32::from_ne_bytes(four));
            sums[0] = _mm256_dpbusd_avx_epi32(sums[0], four, left);
            sums[1] = _mm256_dpbusd_avx_epi32(sums[1], four, right);
        }
    }
    let at = (columns / TILE * spans + span) * TILE + columns % TILE;
    for (row, sums) in sums.into_iter().enumerate() {
        let fact = (first + row) * spans + span;
        let (scale, lowest) = (_mm256_set1_ps(x.scales[fact]), _mm256_set1_ps(x.lowest[fact]));
        for (register, sum) in sums.into_iter().enumerate() {
            let place = at + register * WIDTH;
            let (scales, lows) = (&w.scales[place..][..WIDTH], &w.sums[place..][..WIDTH]);
            let column = columns + register * WIDTH;
            let out = &mut out[(first + row) * w.outputs + column..][..WIDTH];
            let before = if span == 0 { &w.bias[column..][..WIDTH] } else { &*out };
            // SAFETY: all slices are as long as a register.
            unsafe {
                let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scales.as_ptr()));
                let low = _mm256_mul_ps(lowest, _mm256_loadu_ps(lows.as_ptr()));
                let before = _mm256_add_ps(_mm256_loadu_ps(before.as_ptr()), low);
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_fmadd_ps(scale, product, before));
            }
        }
    }
}
