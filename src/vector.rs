//! [`UnitVector`]: length one by construction, so a cosine is a dot product.

use std::sync::Arc;

/// A vector of length one. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitVector(Arc<[f32]>);

/// Why some numbers are not a [`UnitVector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUnitVector {
    /// There is no direction in it: empty, or all zero.
    #[error("the vector has no direction")]
    NoDirection,
    /// It holds an infinity or a NaN.
    #[error("the vector holds a value that is not finite")]
    NotFinite,
}

/// How far rounding to `f32` takes a length of one, at most.
const ROUNDING: f64 = 1e-6;

impl UnitVector {
    /// Scales `values` to length one. Those of a unit vector are kept bit for bit, so that one read back
    /// from disk equals the one that was written.
    pub fn new(mut values: Vec<f32>) -> Result<Self, NotAUnitVector> {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Err(NotAUnitVector::NotFinite);
        }
        if norm < 1e-12 {
            return Err(NotAUnitVector::NoDirection);
        }
        if (norm - 1.0).abs() > ROUNDING {
            for value in &mut values {
                *value = (f64::from(*value) / norm) as f32;
            }
        }
        Ok(Self(values.into()))
    }

    /// The cosine of the angle between the two, in [-1, 1]. Vectors of different models never meet (the
    /// store keeps whose each one is), so a difference in length is a fault in the program.
    pub fn cosine(&self, other: &Self) -> f32 {
        debug_assert_eq!(self.0.len(), other.0.len(), "vectors of different models met");
        dot(&self.0, &other.0).clamp(-1.0, 1.0)
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// How many numbers there are.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }
}

/// Sum of products, in eight independent lanes so that the compiler can use the vector units.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    let mut lanes = [0.0f32; LANES];
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_has_no_direction() {
        assert_eq!(UnitVector::new(vec![]), Err(NotAUnitVector::NoDirection));
        assert_eq!(UnitVector::new(vec![0.0; 4]), Err(NotAUnitVector::NoDirection));
        assert_eq!(UnitVector::new(vec![1.0, f32::NAN]), Err(NotAUnitVector::NotFinite));
    }

    #[test]
    fn opposites_have_cosine_minus_one() {
        let ahead = UnitVector::new(vec![3.0, 4.0]).unwrap();
        let back = UnitVector::new(vec![-3.0, -4.0]).unwrap();
        assert!((ahead.cosine(&ahead) - 1.0).abs() < 1e-6);
        assert!((ahead.cosine(&back) + 1.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn length_is_one(values in prop::collection::vec(-1e6f32..1e6, 1..400)) {
            if let Ok(unit) = UnitVector::new(values) {
                prop_assert!((dot(unit.as_slice(), unit.as_slice()) - 1.0).abs() < 1e-4);
                prop_assert_eq!(UnitVector::new(unit.as_slice().to_vec()), Ok(unit), "made again, it is the same");
            }
        }
    }
}
