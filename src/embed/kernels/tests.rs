//! Every kind of kernels that this machine can run, against the portable ones, and those against plain arithmetic.

use super::packed::from_bf16;
use super::{Bf16Matrix, Heads, Int8Matrix, Kernels, Norm, QuantisedRows, SPAN, TILE, to_bf16};
use proptest::prelude::*;

/// Rows × inputs × outputs, and numbers to fill them with.
#[derive(Clone, Debug)]
struct Product {
    rows: usize,
    inputs: usize,
    outputs: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    factors: Vec<f32>,
}

fn product() -> impl Strategy<Value = Product> {
    (1usize..20, 1usize..3, 1usize..3).prop_flat_map(|(rows, inputs, outputs)| {
        let (inputs, outputs) = (inputs * SPAN, outputs * TILE);
        let x = prop::collection::vec(-8.0f32..8.0, rows * inputs);
        let w = prop::collection::vec(-1.0f32..1.0, inputs * outputs);
        let bias = prop::collection::vec(-1.0f32..1.0, outputs);
        let factors = prop::collection::vec(0.5f32..2.0, inputs);
        (x, w, bias, factors).prop_map(move |(x, w, bias, factors)| Product {
            rows,
            inputs,
            outputs,
            x,
            w,
            bias,
            factors,
        })
    })
}

fn others() -> impl Iterator<Item = Kernels> {
    Kernels::usable().into_iter().filter(|kernels| *kernels != Kernels::PORTABLE)
}

/// The largest difference, measured by the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

impl Product {
    /// As one would write it down, in double precision.
    fn plain(&self) -> Vec<f32> {
        let Self { inputs, outputs, x, w, bias, .. } = self;
        let mut out = Vec::new();
        for x in x.chunks_exact(*inputs) {
            for output in 0..*outputs {
                let w = &w[output * inputs..][..*inputs];
                let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                out.push((sum + f64::from(bias[output])) as f32);
            }
        }
        out
    }

    fn int8(&self, kernels: Kernels) -> Vec<f32> {
        let matrix = Int8Matrix::pack(&self.w, self.bias.clone(), self.factors.clone());
        let mut rows = QuantisedRows::default();
        kernels.quantise(&self.x, &matrix.factors, &mut rows);
        let mut out = vec![0.0; self.rows * self.outputs];
        kernels.multiply_int8(&rows, &matrix, &mut out);
        out
    }

    fn bf16(&self, kernels: Kernels) -> Vec<f32> {
        let matrix = Bf16Matrix::pack(&self.w, self.bias.clone());
        let mut halves = Vec::new();
        kernels.round_to_bf16(&self.x, &mut halves);
        let mut out = vec![0.0; self.rows * self.outputs];
        kernels.multiply_bf16(&halves, &matrix, &mut out);
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_bytes_agree(product in product()) {
        let portable = product.int8(Kernels::PORTABLE);
        // Of numbers without any pattern, each loses up to half a step of 254, and roots of their count add up.
        prop_assert!(difference(&portable, &product.plain()) < 0.05);
        for kernels in others() {
            prop_assert!(difference(&product.int8(kernels), &portable) < 1e-5, "{}", kernels.name());
        }
    }

    #[test]
    fn products_of_halves_agree(product in product()) {
        let portable = product.bf16(Kernels::PORTABLE);
        prop_assert!(difference(&portable, &product.plain()) < 0.01);
        for kernels in others() {
            prop_assert!(difference(&product.bf16(kernels), &portable) < 1e-5, "{}", kernels.name());
        }
    }

    #[test]
    fn rows_are_quantised_alike(x in prop::collection::vec(-1e3f32..1e3, 6 * SPAN), factors in prop::collection::vec(1e-3f32..1e3, 2 * SPAN)) {
        let mut portable = QuantisedRows::default();
        Kernels::PORTABLE.quantise(&x, &factors, &mut portable);
        for (at, (number, x)) in portable.numbers.iter().zip(&x).enumerate() {
            let (scale, lowest) = (portable.scales[at / SPAN], portable.lowest[at / SPAN]);
            let back = f32::from(*number) * scale + lowest;
            prop_assert!((back - x * factors[at % (2 * SPAN)]).abs() <= 0.51 * scale);
        }
        for kernels in others() {
            let mut rows = QuantisedRows::default();
            kernels.quantise(&x, &factors, &mut rows);
            prop_assert_eq!(&rows.numbers, &portable.numbers);
            prop_assert_eq!(&rows.scales, &portable.scales);
            prop_assert_eq!(&rows.lowest, &portable.lowest);
        }
    }

    #[test]
    fn the_small_steps_agree(x in prop::collection::vec(-12.0f32..12.0, 4 * TILE), y in prop::collection::vec(-2.0f32..2.0, 4 * TILE), scale in prop::collection::vec(-2.0f32..2.0, TILE)) {
        let norm = Norm { shift: scale.iter().map(|scale| scale / 3.0).collect(), scale, epsilon: 1e-12 };
        let (mut normalised, mut activated) = (x.clone(), x.clone());
        Kernels::PORTABLE.add_and_normalise(&mut normalised, &y, &norm);
        Kernels::PORTABLE.gelu(&mut activated);
        prop_assert!(difference(&normalised, &plain_norm(&x, &y, &norm)) < 1e-5);
        let plain: Vec<f32> = x.iter().map(|x| plain_gelu(f64::from(*x)) as f32).collect();
        prop_assert!(difference(&activated, &plain) < 1e-6);
        for kernels in others() {
            let (mut a, mut b, mut halves) = (x.clone(), x.clone(), Vec::new());
            kernels.add_and_normalise(&mut a, &y, &norm);
            kernels.gelu(&mut b);
            kernels.round_to_bf16(&x, &mut halves);
            prop_assert!(difference(&a, &normalised) < 1e-5, "{}", kernels.name());
            prop_assert!(difference(&b, &activated) < 1e-6, "{}", kernels.name());
            prop_assert!(halves.iter().zip(&x).all(|(half, x)| *half == to_bf16(*x)));
        }
    }

    #[test]
    fn attention_agrees((rows, qkv) in (1usize..40).prop_flat_map(|rows| {
        (Just(rows), prop::collection::vec(-4.0f32..4.0, rows * 3 * 64))
    })) {
        let heads = Heads { count: 2, size: 32 };
        let attend = |kernels: Kernels| {
            let (mut scratch, mut out) = (vec![f32::NAN; 7], vec![f32::NAN; rows * 64]);
            kernels.attend(&qkv, heads, &mut scratch, &mut out);
            out
        };
        let portable = attend(Kernels::PORTABLE);
        prop_assert!(difference(&portable, &plain_attention(&qkv, heads)) < 1e-5);
        for kernels in others() {
            prop_assert!(difference(&attend(kernels), &portable) < 1e-5, "{}", kernels.name());
        }
    }
}

fn plain_norm(x: &[f32], y: &[f32], norm: &Norm) -> Vec<f32> {
    let width = norm.scale.len();
    let mut out = Vec::new();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact(width)) {
        let sums: Vec<f64> = x.iter().zip(y).map(|(x, y)| f64::from(*x) + f64::from(*y)).collect();
        let mean = sums.iter().sum::<f64>() / width as f64;
        let variance = sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / width as f64;
        for ((sum, scale), shift) in sums.iter().zip(&norm.scale).zip(&norm.shift) {
            let normal = (sum - mean) / (variance + f64::from(norm.epsilon)).sqrt();
            out.push((normal * f64::from(*scale) + f64::from(*shift)) as f32);
        }
    }
    out
}

/// By the series of the error function where it is quick, and by its limit beyond.
fn plain_gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let erf = if z.abs() > 5.0 {
        z.signum()
    } else {
        let (mut sum, mut term) = (z, z);
        for n in 1..200 {
            let n = f64::from(n);
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    };
    0.5 * x * (1.0 + erf)
}

fn plain_attention(qkv: &[f32], heads: Heads) -> Vec<f32> {
    let width = heads.count * heads.size;
    let rows = qkv.len() / (3 * width);
    let at = |row: usize, part: usize, head: usize, dimension: usize| {
        f64::from(qkv[row * 3 * width + part * width + head * heads.size + dimension])
    };
    let mut out = vec![0.0f32; rows * width];
    for head in 0..heads.count {
        for row in 0..rows {
            let score = |other: usize| {
                let product: f64 = (0..heads.size).map(|d| at(row, 0, head, d) * at(other, 1, head, d)).sum();
                (product / (heads.size as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..rows).map(score).collect();
            let total: f64 = scores.iter().sum();
            for d in 0..heads.size {
                let sum: f64 = (0..rows).map(|other| scores[other] * at(other, 2, head, d)).sum();
                out[row * width + head * heads.size + d] = (sum / total) as f32;
            }
        }
    }
    out
}

#[test]
fn ties_of_bfloat16_go_to_even() {
    for (value, half) in [(1.0, 0x3f80), (1.003_906_2, 0x3f80), (1.011_718_8, 0x3f82), (-0.0, 0x8000)] {
        assert_eq!(to_bf16(value), half, "{value}");
    }
    assert!((from_bf16(to_bf16(3.3)) - 3.3).abs() < 0.01);
}

#[test]
fn rows_of_nothing_but_zeros_and_of_extremes_make_no_trouble() {
    let factors = vec![1.0; SPAN];
    let matrix = Int8Matrix::pack(&vec![0.0; SPAN * TILE], vec![0.5; TILE], factors.clone());
    for kernels in Kernels::usable() {
        let multiplied = |value: f32| {
            let (mut rows, mut out) = (QuantisedRows::default(), vec![0.0; 2 * TILE]);
            kernels.quantise(&vec![value; 2 * SPAN], &factors, &mut rows);
            kernels.multiply_int8(&rows, &matrix, &mut out);
            out
        };
        for value in [f32::MIN_POSITIVE, 1e30, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            multiplied(value);
        }
        for value in [0.0, -0.0, 7.0, -7.0] {
            let out = multiplied(value);
            assert!(out.iter().all(|value| (*value - 0.5).abs() < 1e-6), "{}: {value}", kernels.name());
        }
    }
}

#[test]
fn a_row_of_one_number_is_multiplied_exactly() {
    let weights: Vec<f32> = (0..SPAN * TILE).map(|at| (at % 7) as f32 - 3.0).collect();
    let sums = weights.chunks_exact(SPAN).map(|row| row.iter().sum::<f32>());
    let wanted: Vec<f32> = sums.map(|sum| sum * -2.5).collect();
    let matrix = Int8Matrix::pack(&weights, vec![0.0; TILE], vec![1.0; SPAN]);
    for kernels in Kernels::usable() {
        let (mut rows, mut out) = (QuantisedRows::default(), vec![0.0; TILE]);
        kernels.quantise(&[-2.5; SPAN], &matrix.factors, &mut rows);
        kernels.multiply_int8(&rows, &matrix, &mut out);
        assert!(difference(&out, &wanted) < 0.01, "{}", kernels.name());
    }
}

#[test]
fn the_machine_uses_the_best_it_has() {
    assert_eq!(Kernels::usable().last(), Some(&Kernels::best()));
    assert_eq!(Kernels::usable()[0], Kernels::PORTABLE);
}
