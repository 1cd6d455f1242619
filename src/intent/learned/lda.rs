//! Linear discriminant analysis: a classifier in closed form, there at once.

use super::{Head, Training};

/// How far the covariance is drawn towards a sphere: the farther, the less the examples tell. Chosen like the weight of
/// words, by drawing 5 and 10 examples of each class; of many, on the validation parts.
const SHRINKAGE_OF_FEW: f64 = 0.8;
const SHRINKAGE_OF_MANY: f64 = 0.4;
/// From so many examples on, they are many.
const MANY: usize = 4096;

/// Fits one direction for each class. `None` where the examples give none.
pub(super) fn fit(training: &Training<'_>) -> Option<Head> {
    let Training { vectors, features: _, classes, count } = training;
    let width = vectors.first()?.len();
    let shrinkage = if vectors.len() < MANY { SHRINKAGE_OF_FEW } else { SHRINKAGE_OF_MANY };
    let means = means(vectors, classes, *count, width);
    let mut covariance = scatter(vectors, classes, &means, width);
    let scale = 1.0 / vectors.len() as f64;
    let sphere = (0..width).map(|at| covariance[at * width + at]).sum::<f64>() * scale / width as f64;
    for (at, value) in covariance.iter_mut().enumerate() {
        *value *= scale * (1.0 - shrinkage);
        if at % (width + 1) == 0 {
            *value += sphere.max(1e-9) * shrinkage;
        }
    }
    cholesky(&mut covariance, width)?;
    let mut weights = Vec::with_capacity(count * width);
    let mut biases = Vec::with_capacity(*count);
    for mean in means.chunks_exact(width) {
        let mean: Vec<f64> = mean.iter().copied().map(f64::from).collect();
        let direction = solve(&covariance, width, &mean);
        let bias = -0.5 * direction.iter().zip(&mean).map(|(a, b)| a * b).sum::<f64>();
        weights.extend(direction.iter().map(|value| *value as f32));
        biases.push(bias as f32);
    }
    Some(Head { width, weights, biases, words: Vec::new() })
}

/// How the examples lie around the means of their classes; only the lower triangle.
fn scatter(vectors: &[&[f32]], classes: &[usize], means: &[f32], width: usize) -> Vec<f64> {
    /// So many are summed with short numbers before they are added to the long ones.
    const BLOCK: usize = 256;
    let mut sums = vec![0f64; width * width];
    let mut block = vec![0f32; width * width];
    let mut centred = vec![0f32; width];
    for (vectors, classes) in vectors.chunks(BLOCK).zip(classes.chunks(BLOCK)) {
        block.fill(0.0);
        for (vector, class) in vectors.iter().zip(classes) {
            let mean = &means[class * width..(class + 1) * width];
            centred
                .iter_mut()
                .zip(vector.iter().zip(mean))
                .for_each(|(to, (value, mean))| *to = value - mean);
            for (at, row) in block.chunks_exact_mut(width).enumerate() {
                let value = centred[at];
                row[..=at].iter_mut().zip(&centred).for_each(|(sum, other)| *sum += value * other);
            }
        }
        sums.iter_mut().zip(&block).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums
}

fn means(vectors: &[&[f32]], classes: &[usize], count: usize, width: usize) -> Vec<f32> {
    let mut means = vec![0f32; count * width];
    let mut sizes = vec![0usize; count];
    for (vector, class) in vectors.iter().zip(classes) {
        sizes[*class] += 1;
        for (sum, value) in means[class * width..(class + 1) * width].iter_mut().zip(*vector) {
            *sum += value;
        }
    }
    for (mean, size) in means.chunks_exact_mut(width).zip(sizes) {
        mean.iter_mut().for_each(|value| *value /= size.max(1) as f32);
    }
    means
}

/// The lower triangle whose product with itself is `matrix`, in its place. `None` where there is none.
fn cholesky(matrix: &mut [f64], width: usize) -> Option<()> {
    for column in 0..width {
        for row in column..width {
            let (before, rest) = matrix.split_at_mut(row * width);
            let (own, other) = match row == column {
                true => (rest[..column].to_vec(), None),
                false => (Vec::new(), Some(&before[column * width..column * width + column])),
            };
            let dot: f64 = match other {
                None => own.iter().map(|value| value * value).sum(),
                Some(other) => rest[..column].iter().zip(other).map(|(a, b)| a * b).sum(),
            };
            let value = rest[column] - dot;
            rest[column] = match row == column {
                true if value > 0.0 => value.sqrt(),
                true => return None,
                false => value / before[column * width + column],
            };
        }
    }
    Some(())
}

/// `matrix · x = right`, where `lower` is the matrix's triangle.
fn solve(lower: &[f64], width: usize, right: &[f64]) -> Vec<f64> {
    let mut x = right.to_vec();
    for row in 0..width {
        let known: f64 = (0..row).map(|at| lower[row * width + at] * x[at]).sum();
        x[row] = (x[row] - known) / lower[row * width + row];
    }
    for row in (0..width).rev() {
        let known: f64 = (row + 1..width).map(|at| lower[at * width + row] * x[at]).sum();
        x[row] = (x[row] - known) / lower[row * width + row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triangle_solves_what_its_matrix_asks() {
        let mut matrix = vec![4.0, 2.0, 0.5, 2.0, 3.0, 1.0, 0.5, 1.0, 2.0];
        let full = matrix.clone();
        cholesky(&mut matrix, 3).unwrap();
        let x = solve(&matrix, 3, &[1.0, 2.0, 3.0]);
        for (row, wanted) in full.chunks_exact(3).zip([1.0, 2.0, 3.0]) {
            let got: f64 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((got - wanted).abs() < 1e-9, "{got}");
        }
        assert_eq!(cholesky(&mut [0.0, 0.0, 0.0, 0.0], 2), None);
    }
}
