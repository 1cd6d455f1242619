//! How much may come of many chances: what each line says, weighed by how likely it is.

/// How closely a quantile is looked for, in halvings.
const HALVINGS: usize = 16;

/// One line, and what it says of a sum: how many are wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// How likely this line is.
    pub(super) likely: f64,
    /// What it expects.
    pub(super) mean: f64,
    /// And how far that may be off by chance.
    pub(super) variance: f64,
}

impl Part {
    /// How likely the sum is above `limit`: as in a gamma distribution, by Wilson and Hilferty's cube root.
    /// Few rare events come to much more seldom than a bell says, and not as seldom as it says on the other side.
    fn above(&self, limit: f64) -> f64 {
        if limit < 0.0 {
            return 1.0;
        }
        if self.mean <= 0.0 || self.variance <= 0.0 {
            return f64::from(u8::from(self.mean > limit));
        }
        let spread = self.variance / (9.0 * self.mean * self.mean);
        above_in_bell(((limit / self.mean).cbrt() - 1.0 + spread) / spread.sqrt())
    }
}

/// The chance that the sum is above `limit`.
pub(super) fn above(parts: &[Part], limit: f64) -> f64 {
    parts.iter().map(|part| part.likely * part.above(limit)).sum()
}

/// What the sum is expected to be.
pub(super) fn mean(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.likely * part.mean).sum()
}

/// The least limit above which the sum is with no more than this chance.
pub(super) fn quantile(parts: &[Part], chance: f64) -> f64 {
    let far = |part: &Part| part.mean + 8.0 * part.variance.sqrt();
    let (mut low, mut high) = (0.0, parts.iter().map(far).fold(0.0, f64::max));
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if above(parts, middle) > chance { low = middle } else { high = middle }
    }
    high
}

/// The chance of more than `z` standard deviations (Abramowitz and Stegun 26.2.17: right to seven digits).
fn above_in_bell(z: f64) -> f64 {
    const FACTORS: [f64; 5] = [0.319_381_53, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let sum = FACTORS.iter().rev().fold(0.0, |sum, factor| t * (factor + sum));
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(likely: f64, mean: f64, variance: f64) -> Part {
        Part { likely, mean, variance }
    }

    #[test]
    fn few_rare_events_come_as_often_as_they_do() {
        // Of a Poisson distribution: half a place more, since it comes in whole numbers.
        for (mean, limit, chance) in [(1.0, 2.5, 0.080), (5.0, 8.5, 0.068), (20.0, 28.5, 0.034)] {
            let found = above(&[part(1.0, mean, mean)], limit);
            assert!((found - chance).abs() < 0.015, "{mean} {limit}: {found}");
        }
    }

    #[test]
    fn an_unlikely_line_counts_as_far_as_it_is_likely() {
        let parts = [part(0.96, 1.0, 1.0), part(0.04, 50.0, 50.0)];
        let beyond = above(&parts, 10.0);
        assert!((beyond - 0.04).abs() < 1e-3, "{beyond}");
        assert!(quantile(&parts, 0.05) < 10.0 && quantile(&parts, 0.03) > 40.0);
        assert!((mean(&parts) - 2.96).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_is_where_the_chance_ends() {
        let parts = [part(0.7, 3.0, 4.0), part(0.3, 8.0, 9.0)];
        for chance in [0.05, 0.5, 0.95] {
            assert!((above(&parts, quantile(&parts, chance)) - chance).abs() < 0.002);
        }
    }

    #[test]
    fn what_is_sure_is_sure() {
        assert!(above(&[part(1.0, 0.0, 0.0)], 0.0) < 1e-9);
        assert!(above(&[part(1.0, 2.0, 1.0)], -0.1) > 0.999_999);
    }
}
