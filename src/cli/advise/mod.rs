//! `weir advise`

mod running;

use super::replay::Bench;
use super::sidecar::Sidecar;
use super::{Outcome, output};
use crate::cache::Semantic;
use crate::config::{Config, Environment, Overrides};
use crate::intent::mine;
use crate::lab::advise::{Advice, Findings, advise, advise_running};
use crate::lab::questions::questions;
use std::error::Error;
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
    #[arg(conflicts_with = "url")]
    journal: Option<PathBuf>,
    /// Ask the sidecar that runs there: by its journal, where it writes one that can be read from here, and else by
    /// what it has counted
    #[arg(long)]
    url: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

type Made<T> = Result<T, Box<dyn Error>>;

pub(super) fn run(args: &Args, overrides: &Overrides, environment: &Environment) -> Outcome {
    let advice = match &args.url {
        None => of_journal(args.journal.clone(), overrides, environment)?,
        Some(url) => of_sidecar(url, overrides, environment)?,
    };
    shown(&advice, args.json)
}

/// By what a running sidecar has written down, or else by what it has counted.
fn of_sidecar(url: &str, overrides: &Overrides, environment: &Environment) -> Made<Vec<Advice>> {
    let load = || Config::load(overrides, environment).map_err(Into::into);
    let sidecar = Sidecar::find(Some(url.to_owned()), environment, load)?;
    let runtime = super::runtime()?;
    let status = runtime.block_on(running::status(&sidecar))?;
    let folder = status.journal.as_ref().map(|journal| journal.folder.clone());
    let note = match folder {
        // Whoever may not read the folder, or is on another machine, is not wrong to ask.
        Some(folder) => match of_journal(Some(folder), overrides, environment) {
            Ok(advice) => return Ok(advice),
            Err(why) => format!("its journal cannot be replayed here ({why})"),
        },
        None => "it writes no journal".to_owned(),
    };
    let counted = runtime.block_on(running::counted(&sidecar, status))?;
    let Some(advice) = advise_running(&counted) else {
        return Err(format!(
            "{note}, and it has answered {} requests since it was started: too few to say anything. Set `[journal] \
             enabled = true`, or ask again when it has answered more",
            counted.requests()
        )
        .into());
    };
    output::note(format!("{note}; this is by what it has counted since it was started"));
    Ok(advice)
}

/// By what a journal holds.
fn of_journal(
    journal: Option<PathBuf>,
    overrides: &Overrides,
    environment: &Environment,
) -> Made<Vec<Advice>> {
    let bench = Bench::open(journal, None, Vec::new(), (overrides, environment))?;
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
    let texts = questions(bench.journal(), None, MOST_QUESTIONS, bench.keys())?;
    let rules = mined_from(&texts);
    Ok(advise(&Findings { now: &now, exact_only: &exact_only, bounds: &bounds, ageless: &ageless, rules }))
}

fn shown(advice: &[Advice], json: bool) -> Outcome {
    if json {
        output::line(serde_json::to_string_pretty(advice)?);
        return Ok(());
    }
    for Advice { what, setting, evidence } in advice {
        output::line(format!("{what}.\n  {evidence}."));
        for line in setting.iter().flat_map(|setting| setting.lines()) {
            output::line(format!("    {line}"));
        }
        output::line("");
    }
    Ok(())
}

/// How many rules the questions that reach a model ask for, and which share of them these catch.
fn mined_from(texts: &[String]) -> (usize, f64) {
    let found = mine(texts.iter().map(String::as_str), LEAST);
    found.map_or((0, 0.0), |found| {
        (found.proposals.len(), found.caught as f64 / found.held_back.max(1) as f64)
    })
}
