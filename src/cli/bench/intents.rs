//! `weir bench intents`

use super::super::{Outcome, output, runtime};
use super::all::{Figure, figure};
use super::naming;
use crate::app::{load_encoder, read_all};
use crate::config::Config;
use crate::intent::{Classifier, Judged, Learn, Lessons, Read, Sample, judge};
use serde::Deserialize;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is none of the intents is labelled so.
pub(super) const OUT_OF_SCOPE: &str = "oos";
/// The share of what is in scope that is to be kept.
const KEPT: f64 = 0.95;
/// Of what is taken for an intent, the share that is to be it.
const PRECISION: f64 = 0.95;
/// `weir bench intents …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Examples to learn from: lines of JSON, {"text": "…", "intent": "…"}
    #[arg(long, value_name = "FILE", required = true)]
    train: Vec<PathBuf>,
    /// Examples to be measured on; the intent "oos" is none
    #[arg(long, value_name = "FILE", required = true)]
    test: Vec<PathBuf>,
    /// A model that names what examples leave open, as `rules.model` would have it asked
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    intent: String,
}

/// Labelled texts, as the encoder has read them.
struct Set {
    intents: Vec<String>,
    read: Vec<Option<Read>>,
}

impl Set {
    /// Those that could be read, with their class; what is none of `names` has none.
    fn samples<'s>(&'s self, names: &[String]) -> Vec<Sample<'s>> {
        let sample = |(intent, read): (&'s String, &'s Option<Read>)| {
            let Read { text, vector } = read.as_ref()?;
            let class = names.binary_search(intent).ok();
            Some(Sample { text, vector: vector.as_slice(), class, is_name: false })
        };
        self.intents.iter().zip(&self.read).filter_map(sample).collect()
    }
}

/// The shipped questions whose classes are what customers want.
const SHIPPED: &str = "fixtures/decisions/cache_faq_banking77.jsonl";

/// A line of the shipped questions.
#[derive(Deserialize)]
struct Shipped {
    text: String,
    answer_class: String,
}

/// What a short run finds: half of the shipped questions are learned from, the other half is told.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let content = std::fs::read_to_string(SHIPPED).map_err(|error| format!("{SHIPPED}: {error}"))?;
    let (mut train, mut test) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (at, line) in content.lines().enumerate() {
        let Shipped { text, answer_class } = serde_json::from_str(line)?;
        let half = if at % 2 == 0 { &mut train } else { &mut test };
        half.0.push(answer_class);
        half.1.push(text);
    }
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let (names, lessons) = taught(&train.0, &train.1);
    let read = read_all(&mut encoder, lessons.texts())?;
    let samples = lessons.samples(&read);
    let test = Set { intents: test.0, read: read_all(&mut encoder, test.1.iter().map(String::as_str))? };
    let tests = test.samples(&names);
    let began = Instant::now();
    let classifier = Classifier::at_once(&samples, names.len()).ok_or("there is nothing to learn from")?;
    let took = began.elapsed();
    let (inside, _): (Vec<_>, Vec<_>) = tests.iter().partition(|sample| sample.class.is_some());
    let guessed = |sample: &&&Sample<'_>| {
        classifier.guess(sample.text, sample.vector, |_| true).map(|guess| guess.class) == sample.class
    };
    let right = percent(inside.iter().filter(guessed).count(), inside.len());
    Ok(vec![
        figure(format!("{} intents, {} tests", names.len(), inside.len()), format!("{right} right")),
        figure(format!("learning {} examples", samples.len()), format!("{took:.2?}")),
        figure("telling one", format!("{:.1?} at p99", slowest(&classifier, &tests))),
    ])
}

/// The names of the intents, and what is to be learned: as the rules of a file are, with what they are called, and
/// with what is none of them.
fn taught(intents: &[String], texts: &[String]) -> (Vec<String>, Lessons) {
    let mut names: Vec<String> = intents.iter().filter(|name| *name != OUT_OF_SCOPE).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let mut lessons = Lessons::new(PRECISION);
    for name in &names {
        let of_name = intents.iter().zip(texts).filter(|(intent, _)| *intent == name);
        lessons.add(name, name, of_name.map(|(_, text)| text.as_str()), std::iter::empty());
    }
    (names, lessons.ready())
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    if let Some(model) = &args.model {
        let (train, test) = (lines(&args.train)?, lines(&args.test)?);
        return runtime()?.block_on(naming::run(model, &train, &test, config));
    }
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let (train, train_texts) = lines(&args.train)?;
    let (intents, test_texts) = lines(&args.test)?;
    let (names, lessons) = taught(&train, &train_texts);
    let read = read_all(&mut encoder, lessons.texts())?;
    let samples = lessons.samples(&read);
    let test = Set { intents, read: read_all(&mut encoder, test_texts.iter().map(String::as_str))? };
    let examples = samples.iter().filter(|sample| sample.class.is_some() && !sample.is_name).count();
    output::line(format!("{} intents, {examples} examples, {} tests", names.len(), test.read.len()));
    let tests = test.samples(&names);
    for (way, learn) in [("at once", Classifier::at_once as Learn), ("trained", Classifier::trained as Learn)]
    {
        measure(way, learn, &samples, &tests, names.len())?;
    }
    Ok(())
}

fn measure(way: &str, learn: Learn, samples: &[Sample<'_>], tests: &[Sample<'_>], count: usize) -> Outcome {
    let began = Instant::now();
    let classifier = learn(samples, count).ok_or("there is nothing to learn from")?;
    let took = began.elapsed();
    let guess = |sample: &Sample<'_>| classifier.guess(sample.text, sample.vector, |_| true);
    let (inside, outside): (Vec<_>, Vec<_>) = tests.iter().partition(|sample| sample.class.is_some());
    let is_right = |sample: &&&Sample<'_>| guess(sample).map(|guess| guess.class) == sample.class;
    let right = percent(inside.iter().filter(is_right).count(), inside.len());
    let p99 = slowest(&classifier, tests);
    output::line(format!("{way}: {right} right; learned in {took:?}; one is told in {p99:?} (p99)"));
    let mut logits: Vec<f32> = inside.iter().filter_map(|sample| Some(guess(sample)?.logit)).collect();
    logits.sort_by(f32::total_cmp);
    let own = logits.get((logits.len() as f64 * (1.0 - KEPT)) as usize).copied().unwrap_or(f32::MIN);
    let judged = judge(samples, count, learn);
    let bounds = [
        ("that keeps 95 % of the tests", own),
        ("that keeps 95 % of the examples", Judged::keeping(&judged, KEPT)),
        ("of the rules (95 % precise)", Judged::bound(&judged, PRECISION)),
    ];
    for (what, bound) in bounds {
        let takes = |sample: &&&Sample<'_>| guess(sample).is_some_and(|guess| guess.logit >= bound);
        let (kept, taken) = (inside.iter().filter(takes).count(), outside.iter().filter(takes).count());
        let right = inside.iter().filter(takes).filter(is_right).count();
        let rejected = match outside.len() {
            0 => String::new(),
            all => format!(", {} of what is not told as such", percent(all - taken, all)),
        };
        output::line(format!(
            "{way}, with the bound {what}: {} of what is in scope taken, {} of it rightly{rejected}",
            percent(kept, inside.len()),
            percent(right, kept)
        ));
    }
    Ok(())
}

pub(super) fn percent(part: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64)
}

fn slowest(classifier: &Classifier, tests: &[Sample<'_>]) -> Duration {
    let mut took: Vec<Duration> = tests
        .iter()
        .map(|sample| {
            let began = Instant::now();
            black_box(classifier.classify(black_box(sample.text), sample.vector, |_| true));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

/// Intents and texts.
fn lines(files: &[PathBuf]) -> Result<(Vec<String>, Vec<String>), Box<dyn Error>> {
    let (mut intents, mut texts) = (Vec::new(), Vec::new());
    for file in files {
        let content =
            std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in content.lines().filter(|line| !line.trim().is_empty()) {
            let Line { text, intent } = serde_json::from_str(line)?;
            intents.push(intent);
            texts.push(text);
        }
    }
    Ok((intents, texts))
}
