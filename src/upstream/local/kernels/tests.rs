//! Every kernel of this machine, held to its portable twin and to the definition.

use super::half::from_half;
use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-2.0..2.0f32)).collect()
}

fn matrix(format: Format, inputs: usize, outputs: usize) -> Matrix {
    let mut random = StdRng::seed_from_u64(7);
    let mut matrix = Matrix::new(format, inputs, outputs);
    for output in 0..outputs {
        for block in 0..inputs / BLOCK {
            let scale = to_half(random.random_range(0.001..0.1));
            match format {
                Format::Nibbles => {
                    let numbers = std::array::from_fn(|_| random.random_range(0..16));
                    let lowest = to_half(random.random_range(-0.5..0.1));
                    matrix.set_nibbles((output, block), &numbers, scale, lowest);
                }
                Format::Bytes => {
                    // The whole range, -128 as well: other programs write it.
                    let numbers = std::array::from_fn(|_| random.random());
                    matrix.set_bytes((output, block), &numbers, scale);
                }
            }
        }
    }
    matrix
}

fn product(kernels: Kernels, x: &[f32], w: &Matrix, place: Place) -> Vec<f32> {
    let mut rows = QuantisedRows::default();
    kernels.quantise(x, w.inputs, &mut rows);
    let mut out = vec![0.5; rows.rows() * place.stride];
    kernels.multiply(&rows, w, &mut out, place);
    out
}

fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len());
    let size = theirs.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= tolerance * size, "{what} at {at}: {ours} and {theirs}");
    }
}

#[test]
fn products_are_those_of_the_portable_twin_for_every_number_of_rows() {
    for format in [Format::Nibbles, Format::Bytes] {
        let w = matrix(format, 96, 48);
        let place = Place { stride: 80, column: 16 };
        for rows in 1..=27 {
            let x = numbers(rows as u64, rows * 96);
            let expected = product(Kernels::PORTABLE, &x, &w, place);
            for kernels in Kernels::usable() {
                let what = format!("{format:?}, {rows} rows, {}", kernels.name());
                assert_close(&product(kernels, &x, &w, place), &expected, 1e-5, &what);
            }
        }
    }
}

#[test]
fn a_product_is_near_the_one_in_full() {
    for format in [Format::Nibbles, Format::Bytes] {
        let (w, x) = (matrix(format, 256, 16), numbers(3, 256));
        let mut weights = vec![0.0; 256];
        let expected: Vec<f32> = (0..16)
            .map(|output| {
                w.row(output, &mut weights);
                weights.iter().zip(&x).map(|(weight, x)| weight * x).sum()
            })
            .collect();
        let ours = product(Kernels::PORTABLE, &x, &w, Place { stride: 16, column: 0 });
        assert_close(&ours, &expected, 0.02, "the product");
    }
}

#[test]
fn rounding_to_bytes_keeps_within_half_a_step() {
    let values: [f32; BLOCK] = numbers(5, BLOCK).try_into().unwrap();
    let mut matrix = Matrix::new(Format::Bytes, BLOCK, TILE);
    matrix.set_rounded((3, 0), &values);
    let mut back = [0.0; BLOCK];
    matrix.row(3, &mut back);
    assert_close(&back, &values, 0.51 / 127.0, "a weight");
    matrix.row(4, &mut back);
    assert!(back.iter().all(|weight| weight.abs() < f32::MIN_POSITIVE));
}

#[test]
fn norms_and_gates_are_as_defined() {
    let (x, scale) = (numbers(1, 3 * 64), numbers(2, 64));
    for kernels in Kernels::usable() {
        let mut normal = vec![0.0; x.len()];
        kernels.normalise(&x, &scale, 1e-5, &mut normal);
        let expected: Vec<f32> = x
            .chunks(64)
            .flat_map(|row| {
                let square = row.iter().map(|x| x * x).sum::<f32>() / 64.0;
                row.iter().zip(&scale).map(move |(x, scale)| x / (square + 1e-5).sqrt() * scale)
            })
            .collect();
        assert_close(&normal, &expected, 1e-5, kernels.name());

        let wide: Vec<f32> = numbers(4, 4 * 64).iter().map(|x| x * 60.0).collect();
        let silu = |x: f32| x / (1.0 + (-x).exp());
        let gelu = |x: f32| {
            0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        };
        for (curve, open) in [(Curve::Silu, &silu as &dyn Fn(f32) -> f32), (Curve::Gelu, &gelu)] {
            let mut gated = vec![0.0; 2 * 64];
            kernels.gate(&wide, 64, curve, &mut gated);
            let opened = |row: &[f32]| -> Vec<f32> {
                row[..64].iter().zip(&row[64..]).map(|(gate, value)| open(*gate) * value).collect()
            };
            let expected: Vec<f32> = wide.chunks(128).flat_map(opened).collect();
            assert_close(&gated, &expected, 1e-5, kernels.name());
        }
    }
}

#[test]
fn attention_is_as_defined_for_every_length() {
    for size in [16, 64, 80, 128] {
        for len in [1, 15, 16, 31, 32, 33, 70] {
            let pages: Vec<Arc<[u16]>> = (0..3)
                .map(|page| numbers(page, 8 + 2 * PAGE * size).into_iter().map(to_half).collect())
                .collect();
            let queries = numbers(9, 7 * size);
            for skip in [0, len / 2, len - 1] {
                let memory = Memory { pages: &pages, start: 8, skip, len, size };
                let expected: Vec<f32> =
                    queries.chunks(size).flat_map(|query| attended(query, memory)).collect();
                for kernels in Kernels::usable() {
                    let mut out = vec![0.0; queries.len()];
                    kernels.attend(&queries, memory, &mut Vec::new(), &mut out);
                    assert_close(
                        &out,
                        &expected,
                        1e-4,
                        &format!("{}, {skip} to {len} of {size}", kernels.name()),
                    );
                }
            }
        }
    }
}

/// Attention as one would write it down.
fn attended(query: &[f32], memory: Memory<'_>) -> Vec<f32> {
    let Memory { pages, start, skip, len, size } = memory;
    let key = |at: usize, dimension: usize| {
        let in_page = at % PAGE;
        let place = start + in_page / LANES * LANES * size + dimension * LANES + in_page % LANES;
        from_half(pages[at / PAGE][place])
    };
    let value = |at: usize, dimension: usize| {
        from_half(pages[at / PAGE][start + PAGE * size + at % PAGE * size + dimension])
    };
    let score = |at| (0..size).map(|d| query[d] * key(at, d)).sum::<f32>() / (size as f32).sqrt();
    let scores: Vec<f32> = (skip..len).map(score).collect();
    let most = scores.iter().copied().fold(f32::MIN, f32::max);
    let shares: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f32 = shares.iter().sum();
    (0..size).map(|d| (skip..len).map(|at| shares[at - skip] * value(at, d)).sum::<f32>() / sum).collect()
}
