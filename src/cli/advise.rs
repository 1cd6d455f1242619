//! `weir advise`

use super::replay::Bench;
use super::{Outcome, output};
use crate::cache::Semantic;
use crate::config::{Environment, Overrides};
use crate::intent::mine;
use crate::lab::advise::{Advice, Findings, advise};
use crate::lab::questions::questions;
use std::path::PathBuf;

/// The bounds that are tried.
const BOUNDS: [f64; 4] = [0.005, 0.01, 0.02, 0.05];
/// An answer that never grows old: ten years, in seconds.
const AGELESS: &str = "315360000";
/// What is asked less often needs no rule.
const LEAST: usize = 5;
/// The most questions that are looked at for rules.
const MOST_QUESTIONS: usize = 50_000;

/// `weir advise …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The journal: its folder, or one of its files [default: journal in the data folder]
    journal: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, overrides: &Overrides, environment: &Environment) -> Outcome {
    let bench = Bench::open(args.journal.clone(), None, Vec::new(), (overrides, environment))?;
    let set = |key: &str, value: &str| bench.config(&[(key.to_owned(), value.to_owned())]);
    let mut configs = vec![
        bench.config(&[])?,
        set("cache.semantic", Semantic::Off.name())?,
        set("cache.ttl_seconds", AGELESS)?,
    ];
    for bound in BOUNDS {
        configs.push(set("cache.max_wrong", &bound.to_string())?);
    }
    let mut reports = bench.all(&configs)?.into_iter();
    let (Some(now), Some(exact_only), Some(ageless)) = (reports.next(), reports.next(), reports.next())
    else {
        return Err("a replay is missing".into());
    };
    let bounds: Vec<_> = BOUNDS.into_iter().zip(reports).collect();
    let rules = mined(&bench)?;
    let findings = Findings { now: &now, exact_only: &exact_only, bounds: &bounds, ageless: &ageless, rules };
    let advice = advise(&findings);
    if args.json {
        output::line(serde_json::to_string_pretty(&advice)?);
        return Ok(());
    }
    for Advice { what, setting, evidence } in &advice {
        output::line(format!("{what}.\n  {evidence}."));
        for line in setting.iter().flat_map(|setting| setting.lines()) {
            output::line(format!("    {line}"));
        }
        output::line("");
    }
    Ok(())
}

/// How many rules the questions that reach a model ask for, and which share of them these catch.
fn mined(bench: &Bench<'_>) -> Result<(usize, f64), Box<dyn std::error::Error>> {
    let texts = questions(bench.journal(), None, MOST_QUESTIONS, bench.keys())?;
    let Ok(found) = mine(texts.iter().map(String::as_str), LEAST) else { return Ok((0, 0.0)) };
    Ok((found.proposals.len(), found.caught as f64 / found.held_back.max(1) as f64))
}
