//! The kernels for machines with AVX2. A tile is two registers here, `SIDES` of it.

use super::attention::attention;
use super::packed::{BLOCK, BlockFacts, Format, GROUP, GROUPS, Line, Matrix, QuantisedRows, TILE};
use super::{Curve, LANES, Memory, PAGE, Place, lanes};
use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_load_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_xor_si256,
};

const SIDES: usize = 2;
const SIDE: usize = TILE / SIDES;

/// Rows that are multiplied together at most.
const ROWS: usize = 4;

#[target_feature(enable = "avx2,fma")]
pub(super) fn quantise(x: &[f32], rows: &mut QuantisedRows) {
    lanes::quantise(x, rows);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn normalise(x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    lanes::normalise::<true>(x, scale, epsilon, out);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    lanes::add(x, y);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn gate(x: &[f32], width: usize, curve: Curve, out: &mut [f32]) {
    lanes::gate::<true>(x, width, curve, out);
}

attention! {
    "avx2,fma,f16c", 8, 2,
    zero: _mm256_setzero_ps, all: _mm256_set1_ps, times: _mm256_mul_ps, multiply_add: _mm256_fmadd_ps,
    halves: halves, store: store
}

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(x: &QuantisedRows, w: &Matrix, out: &mut [f32], place: Place) {
    for side in 0..w.outputs / SIDE {
        let mut first = 0;
        while first < x.rows() {
            let target = Target { side, first, place };
            first += match x.rows() - first {
                1 => rows::<1>(x, w, target, out),
                2 | 3 => rows::<2>(x, w, target, out),
                _ => rows::<ROWS>(x, w, target, out),
            };
        }
    }
}

/// What is being computed: half a tile of outputs of the rows from `first` on.
#[derive(Clone, Copy)]
struct Target {
    side: usize,
    first: usize,
    place: Place,
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const COUNT: usize>(x: &QuantisedRows, w: &Matrix, target: Target, out: &mut [f32]) -> usize {
    let blocks = w.inputs / BLOCK;
    let Target { side, first, place } = target;
    let (tile, half) = (side / SIDES, side % SIDES);
    let (lines, facts) = (w.format.lines(), w.format.facts());
    let mut sums = [_mm256_setzero_ps(); COUNT];
    for block in 0..blocks {
        let at = tile * blocks + block;
        let lines = &w.weights[at * lines..][..lines];
        let scales = &w.facts[at * facts..][..facts];
        let scale = halves(&scales[half * SIDE..]);
        for (row, sum) in sums.iter_mut().enumerate() {
            let of_row = (first + row) * blocks + block;
            let numbers: &[i8; BLOCK] = &x.numbers.as_chunks().0[of_row];
            let BlockFacts { scale: factor, sum: total, begin: _ } = x.facts[of_row];
            let product = match w.format {
                Format::Nibbles => {
                    let lowest = halves(&scales[TILE + half * SIDE..]);
                    *sum = _mm256_fmadd_ps(lowest, _mm256_set1_ps(total), *sum);
                    nibbles(lines, half, numbers)
                }
                Format::Bytes => bytes(lines, half, numbers),
            };
            let factor = _mm256_mul_ps(scale, _mm256_set1_ps(factor));
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), factor, *sum);
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        store(&mut out[(first + row) * place.stride + place.column + side * SIDE..], sum);
    }
    COUNT
}

/// Sums of 16 bits hold a whole block: it is at most 15 · 127 · 2 · 8.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles(lines: &[Line], half: usize, numbers: &[i8; BLOCK]) -> __m256i {
    let mask = _mm256_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    for (group, line) in lines.iter().enumerate() {
        let both = load(line, half);
        let (low, high) =
            (_mm256_and_si256(both, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low, broadcast(numbers, group)));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high, broadcast(numbers, group + GROUPS / 2)));
    }
    _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
}

/// The instruction wants one side without signs, so the weights' are given to the numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes(lines: &[Line], half: usize, numbers: &[i8; BLOCK]) -> __m256i {
    let (middle, ones) = (_mm256_set1_epi8(i8::MIN), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    for (group, line) in lines.iter().enumerate() {
        let weights = _mm256_xor_si256(load(line, half), middle);
        let numbers = _mm256_sign_epi8(broadcast(numbers, group), weights);
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), numbers);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    sum
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(numbers: &[i8; BLOCK], group: usize) -> __m256i {
    let numbers: [i8; GROUP] = numbers.as_chunks().0[group];
    _mm256_set1_epi32(i32::from_le_bytes(numbers.map(i8::cast_unsigned)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line, half: usize) -> __m256i {
    let side: &[u8; 32] = &line.0.as_chunks().0[half];
    // SAFETY: half a line is as long as the register, and aligned to its length.
    unsafe { _mm256_load_si256(side.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(from: &[u16]) -> __m256 {
    let from: &[u16; SIDE] = &from.as_chunks().0[0];
    // SAFETY: the place is as long as the register.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [f32], numbers: __m256) {
    let to: &mut [f32; SIDE] = &mut to.as_chunks_mut().0[0];
    // SAFETY: the place is as long as the register.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), numbers) };
}
