//! The judge: is the answer to one question right for another? Similarity only nominates.
//!
//! A text is cut into `tokens`, said in one way (`rewrite`), and taken apart once into a [`Question`]: its words,
//! with what the `lexicon` knows of them, and the `facts` that must be the same. `vetoes` are reasons why two
//! questions must not share an answer; they fail closed. What passes is aligned word by word (`compare`), looked
//! at in some sixty ways (`features`), and weighed by a small learned model (`trees`), whose weights `make train`
//! makes from the labelled questions in `fixtures`.

mod compare;
mod facts;
pub mod features;
mod lexicon;
mod question;
mod recent;
mod rewrite;
mod sides;
mod tokens;
pub mod trees;
mod vetoes;

pub use question::Question;
pub use recent::Recent;

#[cfg(test)]
mod tests;

use super::{Miss, Score};
use compare::Comparison;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;
use trees::{Trees, Walkable};

/// Changes whenever the canonical text does: vectors of another version's texts are not compared.
const CANONICAL_VERSION: u32 = 1;

/// What makes the vectors of questions comparable: the encoder with this id, and the canonical text.
pub fn space(encoder: &str) -> String {
    format!("{encoder} of canonical text {CANONICAL_VERSION}")
}

/// The least log-odds of a question that is the same but for its dress.
pub(super) const SAME: f32 = 9.0;

/// The most of any other: the bound counts the two apart, so that a guess never passes for the same question.
pub(super) const OTHER: f32 = 7.9;

static SHIPPED: LazyLock<Option<Shipped>> = LazyLock::new(|| {
    let weights = Weights::read(include_str!("weights.json"))?;
    Some(Shipped { walkable: Walkable::new(&weights.trees)?, weights })
});

/// The weights that are shipped, and their trees once more, to be walked fast.
struct Shipped {
    weights: Weights,
    walkable: Walkable,
}

/// What was learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Tells these from others: evidence about the scores of one says little about those of another.
    pub version: String,
    /// The trees.
    pub trees: Trees,
    /// What they say of a pair of which nothing is known.
    pub base: f32,
    /// From what they say, and the cosine, to log-odds.
    pub calibration: Calibration,
}

/// From what the trees say, and the cosine, to log-odds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What a unit of the trees' sum is worth.
    pub trees: f32,
    /// What a unit of cosine is worth.
    pub cosine: f32,
    /// What is added.
    pub bias: f32,
}

impl Weights {
    /// Those that are shipped; `None` if they cannot be understood, and then nothing is sure.
    pub fn shipped() -> Option<&'static Self> {
        SHIPPED.as_ref().map(|shipped| &shipped.weights)
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|weights: &Self| weights.trees.is_sound(features::COUNT))
    }

    /// The log-odds that the answer is right.
    pub fn log_odds(&self, features: &[f32; features::COUNT]) -> f32 {
        self.log_odds_of(self.trees.sum(features), features)
    }

    fn log_odds_of(&self, sum: f32, features: &[f32; features::COUNT]) -> f32 {
        let Calibration { trees, cosine, bias } = self.calibration;
        trees * (self.base + sum) + cosine * features[0] + bias
    }
}

/// Reads the word lists and the weights, so that the first request need not: it takes some milliseconds.
pub fn prepare() {
    let question = Question::new("how many questions is this");
    let _ = judge(&question, &question, 1.0);
}

/// Which scores these are. What was learned of others says little about them.
pub fn version() -> &'static str {
    Weights::shipped().map_or("none", |weights| weights.version.as_str())
}

/// How sure it is that the answer to `known` is right for what is `asked`, or why it must not be served.
pub fn judge(asked: &Question, known: &Question, cosine: f32) -> Result<Score, Miss> {
    let features = features_of(asked, known, cosine)?;
    let Shipped { weights, walkable } = SHIPPED.as_ref().ok_or(Miss::Unsure)?;
    let log_odds = weights.log_odds_of(walkable.sum(&features), &features);
    // The same question but for its dress: there is nothing left to weigh.
    let same = asked.canonical() == known.canonical();
    Score::new(if same { log_odds.max(SAME) } else { log_odds.min(OTHER) }).ok_or(Miss::Unsure)
}

/// What the learned score looks at, or why it does not matter.
pub fn features_of(asked: &Question, known: &Question, cosine: f32) -> Result<[f32; features::COUNT], Miss> {
    if !(-1.01..=1.01).contains(&cosine) {
        return Err(Miss::TooFar);
    }
    if let Some(veto) = vetoes::veto(asked, known) {
        return Err(veto);
    }
    let pair = Comparison::new(asked, known);
    if vetoes::have_swapped(&pair) {
        return Err(Miss::OtherRoles);
    }
    Ok(features::features(&pair, cosine))
}

/// The verdict of each guard on a pair, by name: whether it forbids.
pub fn verdicts(asked: &Question, known: &Question) -> Vec<(&'static str, bool)> {
    let swapped =
        !asked.is_too_long && !known.is_too_long && { vetoes::have_swapped(&Comparison::new(asked, known)) };
    vetoes::verdicts(asked, known)
        .map(|(miss, forbids)| (miss.name(), forbids || (miss == Miss::OtherRoles && swapped)))
        .collect()
}
