//! How well a model names intents that examples leave open: `weir bench intents --model …`.

use super::super::{Outcome, output};
use super::intents::percent;
use crate::app::{load_encoder, load_namer, read_all};
use crate::config::Config;
use crate::intent::{self, Circumstances, Mind, Naming, Offered, Read, RuleSet};
use crate::pipeline::{Namer, Opinion, WhyNothing};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing is left out for want of time.
const DEADLINE: Duration = Duration::from_mins(1);
/// How sure the model must be, from its bare word on.
const SURE: [f32; 6] = [0.0, 0.5, 0.8, 0.9, 0.95, 0.99];
/// So sure of whatever it says.
const BARELY: f64 = f64::MIN_POSITIVE;

/// Texts, and what is meant by each.
pub(super) type Labelled = (Vec<String>, Vec<String>);

/// What a model was asked, and said.
struct Asked<'t> {
    /// What is meant; `None`: none of the intents.
    meant: Option<&'t str>,
    /// Whether that was among what was offered.
    offered: bool,
    /// What it said, and how sure it was.
    said: Option<(String, f32)>,
    took: Duration,
}

/// Learns from `train` as the rules of a file would, and has `model` asked of `test` where a request would.
pub(super) async fn run(model: &str, train: &Labelled, test: &Labelled, config: &Config) -> Outcome {
    let rules = intent::parse(&rule_file(train))?;
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let lessons = rules.lessons().ok_or("there is nothing to learn from")?;
    let read = read_all(&mut encoder, lessons.texts())?;
    let mind = lessons.trained(&read).ok_or("nothing can be learned from the examples")?;
    let read = read_all(&mut encoder, test.1.iter().map(String::as_str))?;
    let naming = Naming { sure: BARELY, deadline: DEADLINE, ..Naming::by(model) };
    let namer = load_namer(config, naming).await?;
    let tests: Vec<(Option<&str>, &str, Read)> = test
        .0
        .iter()
        .zip(&test.1)
        .zip(read)
        .filter_map(|((intent, text), read)| Some((known(&rules, intent), text.as_str(), read?)))
        .collect();
    let around = Circumstances::default();
    let by_examples = |text: &str, read: &Read| rules.by_examples(&mind, "", text, &around, read);
    let taken: Vec<bool> = tests
        .iter()
        .filter_map(|(meant, text, read)| Some(by_examples(text, read)?.intent == meant.unwrap_or_default()))
        .collect();
    let right = taken.iter().filter(|right| **right).count();
    let inside = tests.iter().filter(|(meant, ..)| meant.is_some()).count();
    output::line(format!(
        "{} intents, {inside} tests in scope, {} out of it; by examples {} are taken, {} of them rightly",
        rules.rules().len(),
        tests.len() - inside,
        taken.len(),
        percent(right, taken.len()),
    ));
    let open = tests.iter().filter(|(_, text, read)| by_examples(text, read).is_none());
    let open = open.map(|(meant, text, read)| (*meant, *text, Some((&mind, read))));
    tell("what examples leave open", &ask(&rules, &namer, open).await?);
    let all = tests.iter().map(|(meant, text, _)| (*meant, *text, None));
    tell("everything, without examples' word", &ask(&rules, &namer, all).await?);
    Ok(())
}

fn known<'r>(rules: &'r RuleSet, intent: &str) -> Option<&'r str> {
    rules.rules().iter().map(|rule| rule.intent.as_str()).find(|known| *known == intent)
}

async fn ask<'t>(
    rules: &RuleSet,
    namer: &Namer,
    texts: impl Iterator<Item = (Option<&'t str>, &'t str, Option<(&Mind, &Read)>)>,
) -> Result<Vec<Asked<'t>>, Box<dyn Error>> {
    let nobody = Arc::from("");
    let mut all = Vec::new();
    for (meant, text, learned) in texts {
        let offered = rules.offered("", text, &Circumstances::default(), learned);
        if offered.is_empty() {
            continue;
        }
        let began = Instant::now();
        let said = match namer.ask((&nobody, ""), text, &offered).await {
            Opinion::Names(nth, share) => {
                offered.get(nth).map(|one| (one.name.clone(), share.unwrap_or_default()))
            }
            Opinion::Nothing(WhyNothing::None | WhyNothing::Unsure | WhyNothing::Unclear) => None,
            Opinion::Nothing(why) => {
                return Err(format!("{} does not answer: {}", namer.model(), why.name()).into());
            }
        };
        let took = began.elapsed();
        let offered = meant.is_some_and(|meant| offered.iter().any(|Offered { name, .. }| name == meant));
        all.push(Asked { meant, offered, said, took });
    }
    Ok(all)
}

fn tell(what: &str, asked: &[Asked<'_>]) {
    let inside = asked.iter().filter(|asked| asked.meant.is_some()).count();
    let offered = asked.iter().filter(|asked| asked.offered).count();
    let mut took: Vec<Duration> = asked.iter().map(|asked| asked.took).collect();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    output::line(format!(
        "{what}: the model is asked of {inside} in scope (the right one among what is offered to {offered}) and {} out of it; p50 {:.0?}, p99 {:.0?}",
        asked.len() - inside,
        at(50),
        at(99)
    ));
    for sure in SURE {
        let named = asked.iter().filter_map(|asked| Some((asked.meant, asked.said.as_ref()?)));
        let named: Vec<_> = named.filter(|(_, (_, share))| *share >= sure).collect();
        let right = named.iter().filter(|(meant, (name, _))| *meant == Some(name.as_str())).count();
        output::line(format!(
            "  at least {sure} sure: {} named, {} of them rightly",
            named.len(),
            percent(right, named.len())
        ));
    }
}

/// A rule for each intent that is one.
fn rule_file((intents, texts): &Labelled) -> String {
    let mut examples: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (intent, text) in
        intents.iter().zip(texts).filter(|(intent, _)| *intent != super::intents::OUT_OF_SCOPE)
    {
        examples.entry(intent).or_default().push(text);
    }
    let rule = |(intent, examples): (&str, Vec<&str>)| {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let examples: Vec<String> = examples.into_iter().map(quoted).collect();
        format!("[[rule]]\nname = {}\nanswer = \"x\"\nexamples = [{}]\n", quoted(intent), examples.join(", "))
    };
    examples.into_iter().map(rule).collect()
}
