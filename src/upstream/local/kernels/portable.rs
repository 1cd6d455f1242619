//! The kernels for any machine, and the reference for the others: [`super::lanes`] as the compiler finds it, and
//! the products as one would write them down.

use super::half::from_half;
use super::packed::{BLOCK, Format, Matrix, QuantisedRows, TILE};
use super::{Curve, Memory, Place, lanes};

/// Whether multiply-and-add is one instruction wherever this is compiled for. Elsewhere it is a slow call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

pub(super) fn quantise(x: &[f32], rows: &mut QuantisedRows) {
    lanes::quantise(x, rows);
}

pub(super) fn normalise(x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    lanes::normalise::<FUSED>(x, scale, epsilon, out);
}

pub(super) fn add(x: &mut [f32], y: &[f32]) {
    lanes::add(x, y);
}

pub(super) fn gate(x: &[f32], width: usize, curve: Curve, out: &mut [f32]) {
    lanes::gate::<FUSED>(x, width, curve, out);
}

pub(super) fn attend(queries: &[f32], memory: Memory<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    lanes::attend::<FUSED>(queries, memory, scores, out);
}

pub(super) fn multiply(x: &QuantisedRows, w: &Matrix, out: &mut [f32], place: Place) {
    let blocks = w.inputs / BLOCK;
    for (row, out) in out.chunks_exact_mut(place.stride).enumerate() {
        for output in 0..w.outputs {
            let (tile, lane) = (output / TILE, output % TILE);
            let mut sum = 0.0f32;
            for block in 0..blocks {
                let at = tile * blocks + block;
                let numbers = &x.numbers[row * w.inputs + block * BLOCK..][..BLOCK];
                let product =
                    |(input, number): (usize, &i8)| i32::from(w.number(at, lane, input)) * i32::from(*number);
                let product: i32 = numbers.iter().enumerate().map(product).sum();
                let facts = x.facts[row * blocks + block];
                let weight = &w.facts[at * w.format.facts()..][..w.format.facts()];
                let scale = from_half(weight[lane]) * facts.scale;
                sum += match w.format {
                    Format::Nibbles => product as f32 * scale + from_half(weight[TILE + lane]) * facts.sum,
                    Format::Bytes => (facts.begin + product) as f32 * scale,
                };
            }
            out[place.column + output] = sum;
        }
    }
}
