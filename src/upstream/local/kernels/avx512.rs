//! The kernels for machines with AVX-512 and VNNI.

use super::attention::attention;
use super::packed::{BLOCK, BlockFacts, Format, GROUP, GROUPS, Line, Matrix, QuantisedRows, TILE};
use super::{Curve, LANES, Memory, PAGE, Place, lanes};
use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_si512, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi16,
    _mm512_storeu_ps,
};

/// Rows that are multiplied together at most: their sums, a block of weights and its scales fit the registers.
const ROWS: usize = 12;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn quantise(x: &[f32], rows: &mut QuantisedRows) {
    lanes::quantise(x, rows);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn normalise(x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    lanes::normalise::<true>(x, scale, epsilon, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    lanes::add(x, y);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn gate(x: &[f32], width: usize, curve: Curve, out: &mut [f32]) {
    lanes::gate::<true>(x, width, curve, out);
}

attention! {
    "avx512f,avx512bw,avx512dq,avx512vl,fma", 16, 4,
    zero: _mm512_setzero_ps, all: _mm512_set1_ps, times: _mm512_mul_ps, multiply_add: _mm512_fmadd_ps,
    halves: halves, store: store
}

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn multiply(x: &QuantisedRows, w: &Matrix, out: &mut [f32], place: Place) {
    for tile in 0..w.outputs / TILE {
        // The weights of a tile fit the nearest cache, and are read again for each block of rows.
        let mut first = 0;
        while first < x.rows() {
            let target = Target { tile, first, place };
            first += match x.rows() - first {
                1 => rows::<1>(x, w, target, out),
                2 => rows::<2>(x, w, target, out),
                3 => rows::<3>(x, w, target, out),
                4 | 5 => rows::<4>(x, w, target, out),
                6 | 7 => rows::<6>(x, w, target, out),
                8..ROWS => rows::<8>(x, w, target, out),
                _ => rows::<ROWS>(x, w, target, out),
            };
        }
    }
}

/// What is being computed: a tile of outputs of the rows from `first` on.
#[derive(Clone, Copy)]
struct Target {
    tile: usize,
    first: usize,
    place: Place,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn rows<const COUNT: usize>(x: &QuantisedRows, w: &Matrix, target: Target, out: &mut [f32]) -> usize {
    let sums = match w.format {
        Format::Nibbles => nibbles::<COUNT>(x, w, target),
        Format::Bytes => bytes::<COUNT>(x, w, target),
    };
    let Target { tile, first, place } = target;
    for (row, sum) in sums.into_iter().enumerate() {
        store(&mut out[(first + row) * place.stride + place.column + tile * TILE..], sum);
    }
    COUNT
}

/// Rows and the facts of their blocks, from the first of `COUNT` on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for every tile")]
fn inputs<const COUNT: usize>(
    x: &QuantisedRows,
    first: usize,
) -> ([&[[i8; BLOCK]]; COUNT], [&[BlockFacts]; COUNT]) {
    let blocks = x.width / BLOCK;
    let numbers = x.numbers.as_chunks::<BLOCK>().0;
    (
        std::array::from_fn(|row| &numbers[(first + row) * blocks..][..blocks]),
        std::array::from_fn(|row| &x.facts[(first + row) * blocks..][..blocks]),
    )
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn nibbles<const COUNT: usize>(x: &QuantisedRows, w: &Matrix, target: Target) -> [__m512; COUNT] {
    let blocks = w.inputs / BLOCK;
    let (numbers, facts) = inputs::<COUNT>(x, target.first);
    let lines = w.weights.as_chunks::<{ Format::Nibbles.lines() }>().0;
    let scales = w.facts.as_chunks::<{ Format::Nibbles.facts() }>().0;
    let tile = lines[target.tile * blocks..][..blocks].iter().zip(&scales[target.tile * blocks..][..blocks]);
    let mask = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); COUNT];
    for (block, (lines, scales)) in tile.enumerate() {
        let mut weights = [_mm512_setzero_si512(); GROUPS];
        for (group, line) in lines.iter().enumerate() {
            let both = load(line);
            weights[group] = _mm512_and_si512(both, mask);
            weights[group + GROUPS / 2] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        }
        let (scale, lowest) = (halves(&scales[..TILE]), halves(&scales[TILE..]));
        for row in 0..COUNT {
            let product = products(&weights, &numbers[row][block], _mm512_setzero_si512());
            let facts = facts[row][block];
            sums[row] =
                _mm512_fmadd_ps(product, _mm512_mul_ps(scale, _mm512_set1_ps(facts.scale)), sums[row]);
            sums[row] = _mm512_fmadd_ps(lowest, _mm512_set1_ps(facts.sum), sums[row]);
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn bytes<const COUNT: usize>(x: &QuantisedRows, w: &Matrix, target: Target) -> [__m512; COUNT] {
    let blocks = w.inputs / BLOCK;
    let (numbers, facts) = inputs::<COUNT>(x, target.first);
    let lines = w.weights.as_chunks::<{ Format::Bytes.lines() }>().0;
    let scales = w.facts.as_chunks::<{ Format::Bytes.facts() }>().0;
    let tile = lines[target.tile * blocks..][..blocks].iter().zip(&scales[target.tile * blocks..][..blocks]);
    let mut sums = [_mm512_setzero_ps(); COUNT];
    for (block, (lines, scales)) in tile.enumerate() {
        let mut weights = [_mm512_setzero_si512(); GROUPS];
        for (weights, line) in weights.iter_mut().zip(lines) {
            *weights = load(line);
        }
        let scale = halves(scales);
        for row in 0..COUNT {
            let facts = facts[row][block];
            let product = products(&weights, &numbers[row][block], _mm512_set1_epi32(facts.begin));
            sums[row] =
                _mm512_fmadd_ps(product, _mm512_mul_ps(scale, _mm512_set1_ps(facts.scale)), sums[row]);
        }
    }
    sums
}

/// The products of a block, summed up on top of `begin`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn products(weights: &[__m512i; GROUPS], numbers: &[i8; BLOCK], begin: __m512i) -> __m512 {
    let mut sum = begin;
    for (weights, numbers) in weights.iter().zip(numbers.as_chunks::<GROUP>().0) {
        let numbers = i32::from_le_bytes(numbers.map(i8::cast_unsigned));
        sum = _mm512_dpbusd_epi32(sum, *weights, _mm512_set1_epi32(numbers));
    }
    _mm512_cvtepi32_ps(sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is as long as the register, and aligned to its length.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(from: &[u16]) -> __m512 {
    let from: &[u16; TILE] = &from.as_chunks().0[0];
    // SAFETY: the place is as long as the register.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32], numbers: __m512) {
    let to: &mut [f32; TILE] = &mut to.as_chunks_mut().0[0];
    // SAFETY: the place is as long as the register.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), numbers) };
}
