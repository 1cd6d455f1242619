//! From labels to what is believed of each bin: Bayes' rule over a grid.
//!
//! A score of log-odds `s` is wrong with log-odds `offset - slope * s`, but not more seldom than `floor`, and
//! give or take [`STRAY`] in each bin. All three are the ground's: so labels in one bin tell about its
//! neighbours too, and a ground whose near misses are all wrong is not trusted at the top either. What is
//! believed of them before any label is in [`tuning`].
//!
//! A label `different` is not `wrong`: two answers to one question differ with the probability `noise`, which
//! is found out along with the rest. So it has the likelihood `w + (1 - w) * noise`; where the noise is near
//! one, it says nothing.

use super::bins::BINS;
use super::labels::{Labels, Tally};
use super::tuning::{self, FALSE_SAME, FLOORS, NOISE, OFFSETS, RULED_OUT, SLOPES, STRAY};

/// The grid of log-odds, and how fine it is.
const LEAST: f64 = -10.0;
const STEP: f64 = 0.5;
const POINTS: usize = 33;

/// How far from its middle a bell is looked at, in steps: beyond is less than a thousandth of it.
const REACH: usize = 6;

/// How many lines there are.
const LINES: usize = SLOPES.len() * OFFSETS.len() * FLOORS.len();

/// What is believed of the answers in each bin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Belief {
    /// The probability that one is wrong.
    pub(super) wrong: [f32; BINS],
    /// The lines that may be true, and what each says: all bins are off together, or none is.
    pub(super) lines: Vec<Line>,
    /// How often two answers to one question are called different.
    pub(super) noise: f32,
}

/// A line that may be true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// How likely it is. All lines together are sure.
    pub(super) likely: f32,
    /// The probability that an answer is wrong, by bin.
    pub(super) wrong: [f32; BINS],
    /// The variance of that.
    pub(super) own: [f32; BINS],
}

/// What `labels`, and as far as they count those of `others`, say.
pub(super) fn believe(labels: &Labels, others: &Labels) -> Belief {
    let wrong: [f64; POINTS] = std::array::from_fn(|at| 1.0 / (1.0 + (-odds(at)).exp()));
    let bell: [f64; REACH + 1] =
        std::array::from_fn(|steps| (-(steps as f64 * STEP / STRAY).powi(2) / 2.0).exp());
    let mut sum = Sum::default();
    let explained = NOISE.map(|(noise, _)| Explained::by(noise, &wrong, labels, others));
    // The same factor for all of them: only their ratios count.
    let most = explained.iter().map(|explained| explained.log).fold(f64::NEG_INFINITY, f64::max);
    for ((noise, weight), Explained { log, bins }) in NOISE.iter().zip(&explained) {
        let moments = bins.each_ref().map(|likelihood| moments(&bell, &wrong, likelihood));
        sum.add_noise(*noise, weight * (log - most).exp(), &moments);
    }
    let mut belief = sum.belief();
    let totals = std::array::from_fn(|bin| labels.bins[bin].total() + others.bins[bin].total());
    make_monotone(&mut belief.wrong, &totals);
    belief
}

fn odds(at: usize) -> f64 {
    LEAST + STEP * at as f64
}

/// The place of these odds on the grid.
fn place(odds: f64) -> usize {
    ((odds - LEAST) / STEP).round().clamp(0.0, (POINTS - 1) as f64) as usize
}

/// How well one rate of noise explains what was seen.
struct Explained {
    /// The logarithm of how likely the repeats are, and the labels at best.
    log: f64,
    /// The likelihood of each bin's labels, for each probability of being wrong: one at its best.
    bins: [[f64; POINTS]; BINS],
}

impl Explained {
    fn by(noise: f64, wrong: &[f64; POINTS], labels: &Labels, others: &Labels) -> Self {
        let (mine, theirs) = (labels.repeats, others.repeats);
        let mut log = f64::from(mine.different + theirs.different) * noise.ln()
            + f64::from(mine.same + theirs.same) * (1.0 - noise).ln();
        let bins = std::array::from_fn(|bin| {
            let logs = log_likelihood(wrong, [&labels.bins[bin], &others.bins[bin]], noise);
            let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            log += best;
            logs.map(|log| (log - best).exp())
        });
        Self { log, bins }
    }
}

/// How likely the labels are for each probability of being wrong.
fn log_likelihood(wrong: &[f64; POINTS], seen: [&Tally; 2], noise: f64) -> [f64; POINTS] {
    if seen.iter().all(|tally| tally.total() == 0.0) {
        return [0.0; POINTS];
    }
    wrong.map(|w| {
        let different = (w + (1.0 - w) * noise).ln();
        let same = ((1.0 - w) * (1.0 - noise) + w * FALSE_SAME).ln();
        let (is_wrong, is_right) = (w.ln(), (1.0 - w).ln());
        seen.iter().fold(0.0, |sum, tally| {
            sum + f64::from(tally.different) * different
                + f64::from(tally.same) * same
                + f64::from(tally.wrong) * is_wrong
                + f64::from(tally.right) * is_right
        })
    })
}

/// Mean and variance of one bin, if its line were known; and how well that explains what was seen.
#[derive(Clone, Copy, Default)]
struct Moments {
    evidence: f64,
    mean: f64,
    variance: f64,
}

/// The same for each place where the line may be.
fn moments(bell: &[f64; REACH + 1], wrong: &[f64; POINTS], likelihood: &[f64; POINTS]) -> [Moments; POINTS] {
    std::array::from_fn(|middle| {
        let (first, last) = (middle.saturating_sub(REACH), (middle + REACH).min(POINTS - 1));
        let (mut prior, mut mass, mut mean, mut square) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for point in first..=last {
            let weight = bell[point.abs_diff(middle)];
            let posterior = weight * likelihood[point];
            prior += weight;
            mass += posterior;
            mean += posterior * wrong[point];
            square += posterior * wrong[point] * wrong[point];
        }
        // What was seen may be all but impossible around here. The sixteen bins together stay above zero.
        let mass = mass.max(1e-18);
        let mean = mean / mass;
        Moments { evidence: mass / prior, mean, variance: (square / mass - mean * mean).max(0.0) }
    })
}

/// Adds up what each line says, over all rates of noise.
struct Sum {
    noise: f64,
    lines: Vec<Added>,
}

/// What one line says, times how likely it is.
#[derive(Clone, Copy, Default)]
struct Added {
    weight: f64,
    mean: [f64; BINS],
    square: [f64; BINS],
}

impl Default for Sum {
    fn default() -> Self {
        Self { noise: 0.0, lines: vec![Added::default(); LINES] }
    }
}

impl Sum {
    /// All lines, at one rate of noise.
    fn add_noise(&mut self, noise: f64, weight: f64, moments: &[[Moments; POINTS]; BINS]) {
        let mut lines = self.lines.iter_mut();
        for (slope, slope_weight) in SLOPES {
            for (offset, offset_weight) in OFFSETS {
                for (floor, floor_weight) in FLOORS {
                    let line: [Moments; BINS] = std::array::from_fn(|bin| {
                        moments[bin][place(tuning::line(bin, slope, offset, floor))]
                    });
                    let evidence: f64 = line.iter().map(|moments| moments.evidence).product();
                    let weight = weight * slope_weight * offset_weight * floor_weight * evidence;
                    self.noise += weight * noise;
                    if let Some(added) = lines.next() {
                        added.add(weight, &line);
                    }
                }
            }
        }
    }

    fn belief(&self) -> Belief {
        let weight = self.lines.iter().map(|line| line.weight).sum::<f64>().max(f64::MIN_POSITIVE);
        let mean = |bin: usize| self.lines.iter().map(|line| line.mean[bin]).sum::<f64>() / weight;
        Belief {
            noise: (self.noise / weight) as f32,
            wrong: std::array::from_fn(|bin| mean(bin) as f32),
            lines: self.likely(weight),
        }
    }

    /// The lines without those that are as good as ruled out.
    fn likely(&self, weight: f64) -> Vec<Line> {
        let mut lines: Vec<&Added> = self.lines.iter().collect();
        lines.sort_unstable_by(|a, b| b.weight.total_cmp(&a.weight));
        let mut sum = 0.0;
        let kept = lines.iter().take_while(|line| {
            let goes_on = sum < (1.0 - RULED_OUT) * weight;
            sum += line.weight;
            goes_on
        });
        let mut kept: Vec<Line> = kept.map(|line| line.line(weight)).collect();
        let likely: f32 = kept.iter().map(|line| line.likely).sum();
        kept.iter_mut().for_each(|line| line.likely /= likely.max(f32::MIN_POSITIVE));
        kept
    }
}

impl Added {
    fn add(&mut self, weight: f64, moments: &[Moments; BINS]) {
        self.weight += weight;
        for (bin, Moments { mean, variance, .. }) in moments.iter().enumerate() {
            self.mean[bin] += weight * mean;
            self.square[bin] += weight * (variance + mean * mean);
        }
    }

    fn line(&self, weight: f64) -> Line {
        let mean = |bin: usize| self.mean[bin] / self.weight.max(f64::MIN_POSITIVE);
        let square = |bin: usize| self.square[bin] / self.weight.max(f64::MIN_POSITIVE);
        Line {
            likely: (self.weight / weight) as f32,
            wrong: std::array::from_fn(|bin| mean(bin) as f32),
            own: std::array::from_fn(|bin| (square(bin) - mean(bin) * mean(bin)).max(0.0) as f32),
        }
    }
}

/// A higher score is never worse: where the means say so, they are pooled (by the labels behind them).
fn make_monotone(wrong: &mut [f32; BINS], totals: &[f32; BINS]) {
    // Blocks of bins with one mean: how many, their weight, the mean.
    let mut blocks: Vec<(usize, f32, f32)> = Vec::with_capacity(BINS);
    for (mean, total) in wrong.iter().zip(totals) {
        blocks.push((1, total + 1.0, *mean));
        while let [.., (before_bins, before_weight, before), (bins, weight, mean)] = blocks.as_slice() {
            if before >= mean {
                break;
            }
            let weights = before_weight + weight;
            let pooled = (before * before_weight + mean * weight) / weights;
            let block = (before_bins + bins, weights, pooled);
            blocks.truncate(blocks.len() - 2);
            blocks.push(block);
        }
    }
    let means = blocks.iter().flat_map(|(bins, _, mean)| std::iter::repeat_n(*mean, *bins));
    for (slot, mean) in wrong.iter_mut().zip(means) {
        *slot = mean;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::bound::labels::Label;

    fn after(labels: &[(usize, Label, usize)], repeats: (usize, usize)) -> Belief {
        let mut seen = Labels::default();
        for (bin, label, times) in labels {
            (0..*times).for_each(|_| seen.add(*bin, *label));
        }
        (0..repeats.0).for_each(|_| seen.repeat(true));
        (0..repeats.1).for_each(|_| seen.repeat(false));
        believe(&seen, &Labels::default())
    }

    #[test]
    fn without_labels_a_score_is_believed_less_than_its_word() {
        let cold = after(&[], (0, 0));
        assert!(cold.wrong.is_sorted_by(|a, b| a >= b), "{cold:?}");
        for (bin, middle) in super::super::bins::MIDDLES.iter().enumerate().take(BINS - 1) {
            let word = 1.0 / (1.0 + middle.exp());
            assert!(*middle < 0.0 || f64::from(cold.wrong[bin]) > word, "{bin}: {cold:?}");
        }
        assert!(cold.wrong[BINS - 1] < 0.002);
    }

    #[test]
    fn labels_move_their_bin_and_its_neighbours() {
        let cold = after(&[], (0, 0));
        let good = after(&[(9, Label::Same, 60)], (0, 0));
        assert!(good.wrong[9] < 0.03 && good.wrong[9] < cold.wrong[9] / 2.0, "{good:?}");
        assert!(good.wrong[12] < cold.wrong[12], "{good:?}");
        let bad = after(&[(6, Label::Different, 15), (8, Label::Different, 10)], (10, 0));
        assert!(
            bad.wrong[12] > 5.0 * cold.wrong[12],
            "a ground like that is not trusted further up: {bad:?}"
        );
        assert!(bad.wrong[8] > 0.6, "{bad:?}");
    }

    #[test]
    fn where_every_two_answers_differ_a_difference_says_nothing() {
        let cold = after(&[], (0, 0));
        let noisy = after(&[(12, Label::Different, 50)], (0, 400));
        let quiet = after(&[(12, Label::Different, 50)], (40, 0));
        assert!(quiet.wrong[12] > 0.8, "{quiet:?}");
        assert!(
            noisy.wrong[12] < 3.0 * cold.wrong[12] && noisy.wrong[12] > cold.wrong[12] / 2.0,
            "{noisy:?}"
        );
    }

    #[test]
    fn someone_who_knows_is_believed_whatever_the_noise() {
        let told = after(&[(12, Label::Wrong, 6), (12, Label::Right, 2)], (0, 100));
        assert!(told.wrong[12] > 0.3, "{told:?}");
    }

    #[test]
    fn a_higher_score_is_never_worse() {
        let odd = after(&[(8, Label::Same, 40), (10, Label::Different, 20), (10, Label::Same, 20)], (20, 0));
        assert!(odd.wrong.is_sorted_by(|a, b| a >= b), "{odd:?}");
    }
}
