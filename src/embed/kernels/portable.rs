//! The kernels for any machine, and the reference for the others: [`super::lanes`] as the compiler finds it,
//! and the product of whole numbers as one would write it down.

use super::packed::{Bf16Matrix, INT8_GROUP, Int8Matrix, Line, QuantisedRows, SPAN};
use super::{Heads, Norm, TILE, lanes};

/// Whether multiply-and-add is one instruction wherever this is compiled for. Elsewhere it is a slow call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

pub(super) fn quantise(x: &[f32], factors: &[f32], rows: &mut QuantisedRows) {
    lanes::quantise(x, factors, rows);
}

pub(super) fn multiply_bf16(x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
    lanes::multiply_bf16::<FUSED>(x, w, out);
}

pub(super) fn round_to_bf16(x: &[f32], out: &mut [u16]) {
    lanes::round_to_bf16(x, out);
}

pub(super) fn add_and_normalise(x: &mut [f32], y: &[f32], norm: &Norm) {
    lanes::add_and_normalise::<FUSED>(x, y, norm);
}

pub(super) fn gelu(x: &mut [f32]) {
    lanes::gelu::<FUSED>(x);
}

pub(super) fn attend(qkv: &[f32], heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
    lanes::attend::<FUSED>(qkv, heads, scratch, out);
}

pub(super) fn multiply_int8(x: &QuantisedRows, w: &Int8Matrix, out: &mut [f32]) {
    let spans = w.inputs / SPAN;
    for (row, out) in out.chunks_exact_mut(w.outputs).enumerate() {
        for (tile, out) in out.chunks_exact_mut(TILE).enumerate() {
            out.copy_from_slice(&w.bias[tile * TILE..][..TILE]);
            for span in 0..spans {
                let numbers = &x.numbers[row * w.inputs + span * SPAN..][..SPAN];
                let weights = &w.weights[(tile * spans + span) * SPAN * TILE / 64..][..SPAN * TILE / 64];
                let products = span_products(numbers, weights);
                let (scale, lowest) = (x.scales[row * spans + span], x.lowest[row * spans + span]);
                let at = (tile * spans + span) * TILE;
                let facts = w.scales[at..].iter().zip(&w.sums[at..]);
                for ((out, product), (weight_scale, sum)) in out.iter_mut().zip(products).zip(facts) {
                    *out += scale * (product as f32 * weight_scale) + lowest * sum;
                }
            }
        }
    }
}

/// One row's products with all outputs of a tile, over one span.
fn span_products(numbers: &[u8], weights: &[Line]) -> [i32; TILE] {
    let mut sums = [0i32; TILE];
    for (lines, numbers) in weights.chunks_exact(INT8_GROUP).zip(numbers.chunks_exact(INT8_GROUP)) {
        for (line, sums) in lines.iter().zip(sums.chunks_exact_mut(TILE / INT8_GROUP)) {
            for (weights, sum) in line.0.chunks_exact(INT8_GROUP).zip(sums) {
                for (weight, number) in weights.iter().zip(numbers) {
                    *sum += i32::from(weight.cast_signed()) * i32::from(*number);
                }
            }
        }
    }
    sums
}
