//! The kernels for machines with AVX-512 and VNNI.

use super::packed::{BF16_GROUP, Bf16Matrix, INT8_GROUP, Int8Matrix, QuantisedRows, SPAN};
use super::{Heads, Norm, TILE, lanes};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm_storeu_si128, _mm512_add_ps, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps,
    _mm512_cvtps_epi32, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_reduce_min_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// Registers that hold the outputs of a tile, for one row.
const REGISTERS: usize = TILE / 16;
/// Rows that are multiplied together: with four registers each, and four for the weights, it fills the 32.
const ROWS: usize = 6;

/// Numbers in a register.
const WIDTH: usize = 16;

/// The compiler does not find its way through the steps of [`lanes::quantise`], so they are written out.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn quantise(x: &[f32], factors: &[f32], rows: &mut QuantisedRows) {
    let spans = x.as_chunks::<SPAN>().0.iter().zip(factors.as_chunks::<SPAN>().0.iter().cycle());
    let facts = rows.scales.iter_mut().zip(&mut rows.lowest);
    for (((x, factors), numbers), (scale, lowest)) in spans.zip(rows.numbers.as_chunks_mut().0).zip(facts) {
        (*scale, *lowest) = quantise_span(x, factors, numbers);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn quantise_span(x: &[f32; SPAN], factors: &[f32; SPAN], numbers: &mut [u8; SPAN]) -> (f32, f32) {
    let (mut high, mut low) = (_mm512_set1_ps(f32::MIN), _mm512_set1_ps(f32::MAX));
    let mut scaled = [_mm512_setzero_ps(); SPAN / WIDTH];
    for (register, scaled) in scaled.iter_mut().enumerate() {
        *scaled = _mm512_mul_ps(load(&x[register * WIDTH..]), load(&factors[register * WIDTH..]));
        // In this order a number that is none is passed over.
        high = _mm512_max_ps(*scaled, high);
        low = _mm512_min_ps(*scaled, low);
    }
    let lowest = _mm512_reduce_min_ps(low);
    let range = (_mm512_reduce_max_ps(high) - lowest).max(1e-12);
    let (shift, factor) = (_mm512_set1_ps(lowest), _mm512_set1_ps(255.0 / range));
    for (scaled, numbers) in scaled.into_iter().zip(numbers.as_chunks_mut::<WIDTH>().0) {
        let whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(scaled, shift), factor));
        // SAFETY: the place is as long as the register.
        unsafe { _mm_storeu_si128(numbers.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(whole)) };
    }
    (range / 255.0, lowest)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32]) -> __m512 {
    let x: &[f32; WIDTH] = &x.as_chunks().0[0];
    // SAFETY: the place is as long as the register.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: &mut [f32], value: __m512) {
    let x: &mut [f32; WIDTH] = &mut x.as_chunks_mut().0[0];
    // SAFETY: the place is as long as the register.
    unsafe { _mm512_storeu_ps(x.as_mut_ptr(), value) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn round_to_bf16(x: &[f32], out: &mut [u16]) {
    lanes::round_to_bf16(x, out);
}

/// Written out for the same reason as [`quantise`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn add_and_normalise(x: &mut [f32], y: &[f32], norm: &Norm) {
    let width = norm.scale.len();
    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        let mut sums = _mm512_setzero_ps();
        for at in (0..width).step_by(WIDTH) {
            let sum = _mm512_add_ps(load(&x[at..]), load(&y[at..]));
            sums = _mm512_add_ps(sums, sum);
            store(&mut x[at..], sum);
        }
        let mean = _mm512_set1_ps(_mm512_reduce_add_ps(sums) / width as f32);
        let mut squares = _mm512_setzero_ps();
        for at in (0..width).step_by(WIDTH) {
            let centred = _mm512_sub_ps(load(&x[at..]), mean);
            squares = _mm512_fmadd_ps(centred, centred, squares);
        }
        let variance = _mm512_reduce_add_ps(squares) / width as f32;
        let factor = _mm512_set1_ps(1.0 / (variance + norm.epsilon).sqrt());
        for at in (0..width).step_by(WIDTH) {
            let normal = _mm512_mul_ps(_mm512_sub_ps(load(&x[at..]), mean), factor);
            store(&mut x[at..], _mm512_fmadd_ps(normal, load(&norm.scale[at..]), load(&norm.shift[at..])));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn gelu(x: &mut [f32]) {
    lanes::gelu::<true>(x);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn attend(qkv: &[f32], heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
    lanes::attend::<true>(qkv, heads, scratch, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) fn multiply_bf16(x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
    lanes::multiply_bf16::<true>(x, w, out);
}

/// The number of blocks of at most [`ROWS`] rows, and the rows cut into that many as evenly as can be.
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(ROWS).max(1);
    (0..count).map(move |block| (rows * block / count, rows * (block + 1) / count))
}

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
pub(super) fn multiply_int8(x: &QuantisedRows, w: &Int8Matrix, out: &mut [f32]) {
    for tile in 0..w.outputs / TILE {
        // The weights of a tile's span fit the nearest cache, and are read again for each block of rows.
        for span in 0..w.inputs / SPAN {
            for (first, end) in blocks(x.rows()) {
                match end - first {
                    1 => int8_block::<1>(x, w, tile, span, first, out),
                    2 => int8_block::<2>(x, w, tile, span, first, out),
                    3 => int8_block::<3>(x, w, tile, span, first, out),
                    4 => int8_block::<4>(x, w, tile, span, first, out),
                    5 => int8_block::<5>(x, w, tile, span, first, out),
                    6 => int8_block::<6>(x, w, tile, span, first, out),
                    _ => {}
                }
            }
        }
    }
}

/// Adds the products of some rows with a tile's span to those of the spans before, or to the bias.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")]
fn int8_block<const N: usize>(
    x: &QuantisedRows,
    w: &Int8Matrix,
    tile: usize,
    span: usize,
    first: usize,
    out: &mut [f32],
) {
    const GROUPS: usize = SPAN / INT8_GROUP;
    let spans = w.inputs / SPAN;
    let rows: [&[u8; SPAN]; N] =
        std::array::from_fn(|row| &x.numbers[(first + row) * w.inputs + span * SPAN..].as_chunks().0[0]);
    let weights = &w.weights[(tile * spans + span) * GROUPS * REGISTERS..][..GROUPS * REGISTERS];
    let mut sums = [[_mm512_setzero_si512(); REGISTERS]; N];
    for group in 0..GROUPS {
        let mut columns = [_mm512_setzero_si512(); REGISTERS];
        for (register, columns) in columns.iter_mut().enumerate() {
            // SAFETY: `weights` has `REGISTERS` lines of 64 aligned bytes for each group.
            *columns =
                unsafe { _mm512_load_si512(weights.as_ptr().add(group * REGISTERS + register).cast()) };
        }
        for (row, sums) in rows.iter().zip(&mut sums) {
            let four = row.as_chunks::<INT8_GROUP>().0[group];
            let four = _mm512_set1_epi32(i32::from_ne_bytes(four));
            for (sum, columns) in sums.iter_mut().zip(columns) {
                *sum = _mm512_dpbusd_epi32(*sum, four, columns);
            }
        }
    }
    let at = (tile * spans + span) * TILE;
    let (scales, lows) = (&w.scales[at..][..TILE], &w.sums[at..][..TILE]);
    for (row, sums) in sums.into_iter().enumerate() {
        let fact = (first + row) * spans + span;
        let (scale, lowest) = (_mm512_set1_ps(x.scales[fact]), _mm512_set1_ps(x.lowest[fact]));
        let out = &mut out[(first + row) * w.outputs + tile * TILE..][..TILE];
        for (register, sum) in sums.into_iter().enumerate() {
            let place = register * WIDTH;
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), load(&scales[place..]));
            let before = if span == 0 { load(&w.bias[tile * TILE + place..]) } else { load(&out[place..]) };
            let low = _mm512_fmadd_ps(lowest, load(&lows[place..]), before);
            store(&mut out[place..], _mm512_fmadd_ps(scale, product, low));
        }
    }
}

/// Safe for any machine with these features as long as the lengths fit, which [`super::Kernels`] checks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
pub(super) fn multiply_bf16_natively(x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
    for tile in 0..w.outputs / TILE {
        for (first, end) in blocks(x.len() / w.inputs) {
            match end - first {
                1 => bf16_block::<1>(x, w, tile, first, out),
                2 => bf16_block::<2>(x, w, tile, first, out),
                3 => bf16_block::<3>(x, w, tile, first, out),
                4 => bf16_block::<4>(x, w, tile, first, out),
                5 => bf16_block::<5>(x, w, tile, first, out),
                6 => bf16_block::<6>(x, w, tile, first, out),
                _ => {}
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
fn bf16_block<const N: usize>(x: &[u16], w: &Bf16Matrix, tile: usize, first: usize, out: &mut [f32]) {
    let numbers = &x[first * w.inputs..][..N * w.inputs];
    let groups = w.inputs / BF16_GROUP;
    let weights = &w.weights[tile * groups * REGISTERS..][..groups * REGISTERS];
    let mut sums = [[_mm512_setzero_ps(); REGISTERS]; N];
    for group in 0..groups {
        let mut columns = [_mm512_setzero_si512(); REGISTERS];
        for (register, columns) in columns.iter_mut().enumerate() {
            // SAFETY: `weights` has `REGISTERS` lines of 64 aligned bytes for each group.
            *columns =
                unsafe { _mm512_load_si512(weights.as_ptr().add(group * REGISTERS + register).cast()) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `numbers` has `BF16_GROUP` halves for each group of each row, which are the four bytes of
            // an i32; 16 of those are 32 halves.
            let pair = unsafe {
                let pair = numbers.as_ptr().add(row * w.inputs + group * BF16_GROUP);
                let pair = _mm512_set1_epi32(pair.cast::<i32>().read_unaligned());
                std::mem::transmute::<__m512i, __m512bh>(pair)
            };
            for (sum, columns) in sums.iter_mut().zip(columns) {
                // SAFETY: 64 bytes are 32 halves.
                let columns = unsafe { std::mem::transmute::<__m512i, __m512bh>(columns) };
                *sum = _mm512_dpbf16_ps(*sum, columns, pair);
            }
        }
    }
    let columns = tile * TILE;
    let bias = &w.bias[columns..][..TILE];
    for (row, sums) in sums.into_iter().enumerate() {
        let out = &mut out[(first + row) * w.outputs + columns..][..TILE];
        for (register, sum) in sums.into_iter().enumerate() {
            // SAFETY: both slices are `TILE` long, and a register is a `REGISTERS`th of that.
            unsafe {
                let bias = _mm512_loadu_ps(bias.as_ptr().add(register * 16));
                _mm512_storeu_ps(out.as_mut_ptr().add(register * 16), _mm512_add_ps(sum, bias));
            }
        }
    }
}
