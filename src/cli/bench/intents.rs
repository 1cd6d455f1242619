//! `weir bench intents`

use super::super::{Outcome, output};
use crate::app::load_encoder;
use crate::config::Config;
use crate::embed::{Encoder as _, Text};
use crate::intent::Classifier;
use serde::Deserialize;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is none of the intents is labelled so.
const OUT_OF_SCOPE: &str = "oos";
/// The share of what is in scope that is to be kept.
const KEPT: f64 = 0.95;
/// Texts that are embedded together.
const BATCH: usize = 32;

/// `weir bench intents …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Examples to learn from: lines of JSON, {"text": "…", "intent": "…"}
    #[arg(long, value_name = "FILE", required = true)]
    train: Vec<PathBuf>,
    /// Examples to be measured on; the intent "oos" is none
    #[arg(long, value_name = "FILE", required = true)]
    test: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    intent: String,
}

/// Labelled texts and where they point.
struct Set {
    intents: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let (train, test) = (read(&args.train, config)?, read(&args.test, config)?);
    let mut names: Vec<&str> =
        train.intents.iter().map(String::as_str).filter(|name| *name != OUT_OF_SCOPE).collect();
    names.sort_unstable();
    names.dedup();
    let class = |name: &String| names.binary_search(&name.as_str()).ok();
    let (vectors, classes): (Vec<&[f32]>, Vec<usize>) = train
        .intents
        .iter()
        .zip(&train.vectors)
        .filter_map(|(name, vector)| Some((vector.as_slice(), class(name)?)))
        .unzip();
    output::line(format!(
        "{} intents, {} examples, {} tests",
        names.len(),
        vectors.len(),
        test.vectors.len()
    ));
    for (way, learn) in [("at once", Classifier::at_once as Learn), ("trained", Classifier::trained as Learn)]
    {
        let began = Instant::now();
        let classifier = learn(&vectors, &classes, names.len()).ok_or("there is nothing to learn from")?;
        let took = began.elapsed();
        let in_scope = || test.intents.iter().zip(&test.vectors).filter(|(name, _)| *name != OUT_OF_SCOPE);
        let right =
            in_scope().filter(|(name, vector)| Some(classifier.guess(vector).class) == class(name)).count();
        let accuracy = percent(right, in_scope().count());
        let p99 = slowest(&classifier, &test.vectors);
        output::line(format!("{way}: {accuracy} right; learned in {took:?}; one is told in {p99:?} (p99)"));
        let mut logits: Vec<f32> = in_scope().map(|(_, vector)| classifier.guess(vector).logit).collect();
        logits.sort_by(f32::total_cmp);
        let own = logits.get((logits.len() as f64 * (1.0 - KEPT)) as usize).copied().unwrap_or(f32::MIN);
        tell_rejected(&format!("{way}, bound set on the tests"), &classifier, own, &test);
    }
    let classifier =
        Classifier::trained(&vectors, &classes, names.len()).ok_or("there is nothing to learn from")?;
    let bound = Classifier::bound(&vectors, &classes, names.len(), KEPT);
    tell_rejected("trained, bound set on the examples", &classifier, bound, &test);
    Ok(())
}

type Learn = fn(&[&[f32]], &[usize], usize) -> Option<Classifier>;

fn tell_rejected(what: &str, classifier: &Classifier, bound: f32, test: &Set) {
    let reaches = |vector: &&Vec<f32>| classifier.guess(vector).logit >= bound;
    let of = |wanted: bool| {
        let chosen =
            test.intents.iter().zip(&test.vectors).filter(move |(name, _)| (*name == OUT_OF_SCOPE) == wanted);
        chosen.map(|(_, vector)| vector)
    };
    let (inside, outside) = (of(false).count(), of(true).count());
    if outside > 0 {
        let kept = percent(of(false).filter(reaches).count(), inside);
        let rejected = percent(outside - of(true).filter(reaches).count(), outside);
        output::line(format!(
            "{what}: {kept} of what is in scope kept, {rejected} of what is not told as such"
        ));
    }
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64)
}

fn slowest(classifier: &Classifier, vectors: &[Vec<f32>]) -> Duration {
    let mut took: Vec<Duration> = vectors
        .iter()
        .map(|vector| {
            let began = Instant::now();
            black_box(classifier.classify(black_box(vector)));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

fn read(files: &[PathBuf], config: &Config) -> Result<Set, Box<dyn Error>> {
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let (mut intents, mut texts): (Vec<String>, Vec<Text>) = (Vec::new(), Vec::new());
    for file in files {
        let content =
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in content.lines().filter(|line| !line.trim().is_empty()) {
            let Line { text, intent } = serde_json::from_str(line)?;
            intents.push(intent);
            texts.push(text.into());
        }
    }
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        vectors
            .extend(encoder.encode(batch)?.into_iter().map(|embedding| embedding.vector.as_slice().to_vec()));
    }
    Ok(Set { intents, vectors })
}
