//! `weir bench cache`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use super::http::Http;
use crate::app::load_encoder;
use crate::cache::judge::{Question, judge};
use crate::cache::{self, CANDIDATES, Score, bound};
use crate::config::Config;
use crate::embed::{self, Embedder};
use crate::lab::cache::answers::Answers;
use crate::lab::cache::data::{Line, Pair, Questions, Set, read};
use crate::lab::cache::decisions::Decisions;
use crate::lab::cache::drive::{self, InProcess};
use crate::lab::cache::encoder::{Once, vectors};
use crate::lab::cache::offline::Space;
use crate::lab::cache::order::order;
use crate::lab::cache::report::{PairsReport, PairsRow, Row, StreamReport, markdown};
use crate::lab::cache::tally::{self, Run};
use crate::lab::cache::{Ours, answers_to_pairs, answers_to_stream, pair_references, pipeline, references};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// How long one text may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(1);

/// `weir bench cache …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of labelled questions, or folders of them
    #[arg(long, value_name = "PATH", num_args = 1.., default_value = "fixtures/decisions")]
    data: Vec<PathBuf>,
    /// How many orders of each stream: as in the file, then shuffled
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The shares of wrong answers that are compared at
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.01,0.02")]
    max_wrong: Vec<f64>,
    /// What the upstream says: words that the class determines, or the name of the question
    #[arg(long, value_name = "class|id", default_value = "class")]
    answers: Answers,
    /// Of each file only the first so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Ask over HTTP too
    #[arg(long)]
    http: bool,
    /// Print a line of JSON for each file
    #[arg(long)]
    json: bool,
    /// Print the streams side by side, as the table in the README
    #[arg(long, conflicts_with_all = ["json", "http"])]
    table: bool,
}

/// So many questions of each stream, where little time is to be spent.
const A_FEW: usize = 500;

/// What a short run finds.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let args = Args {
        data: vec!["fixtures/decisions".into()],
        seeds: 1,
        max_wrong: vec![config.cache.bound.max_wrong],
        answers: Answers::default(),
        limit: Some(A_FEW),
        http: false,
        json: false,
        table: true,
    };
    let reports = streams(&args, config)?;
    let ours = |report: StreamReport| {
        let row = report.policies.into_iter().find(|row| row.policy.starts_with("weir"))?;
        let value = format!("{:.1} % hits, {:.2} % wrong", 100.0 * row.hit, 100.0 * row.wrong);
        Some(figure(format!("{}, {} requests", report.stream, report.requests), value))
    };
    Ok(reports.into_iter().filter_map(ours).collect())
}

/// The reports of the streams.
fn streams(args: &Args, config: &Config) -> Result<Vec<StreamReport>, Box<dyn Error>> {
    let (sets, bench) = (read(&args.data)?, Bench::new(args, config)?);
    super::super::runtime()?.block_on(async {
        let mut reports = Vec::new();
        for set in sets {
            if let Questions::Stream(mut lines) = set.questions {
                lines.truncate(args.limit.unwrap_or(usize::MAX));
                reports.push(bench.stream(set.name, &lines).await?);
            }
        }
        Ok(reports)
    })
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    if let Some(share) = args.max_wrong.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        return Err(format!("--max-wrong: {share} is no share").into());
    }
    if args.table {
        output::line(markdown(&streams(args, config)?));
        return Ok(());
    }
    let (sets, bench) = (read(&args.data)?, Bench::new(args, config)?);
    super::super::runtime()?.block_on(async {
        for set in sets {
            bench.set(set).await?;
        }
        Ok(())
    })
}

struct Bench<'a> {
    args: &'a Args,
    cache: cache::Config,
    embedder: Embedder,
}

/// One way to run the cache.
struct Setting {
    name: String,
    max_wrong: f64,
    cache: cache::Config,
}

impl Setting {
    /// The same, with hits picked for a check as `seed` says.
    fn config(&self, seed: u64) -> cache::Config {
        let bound = bound::Config { seed: Some(seed + 1), ..self.cache.bound.clone() };
        cache::Config { bound, ..self.cache.clone() }
    }
}

type Found<T> = Result<T, Box<dyn Error>>;

/// How sure the cache is that the answer to one of `texts` is right for another.
fn score(questions: &[Question]) -> impl Fn(usize, usize, f32) -> Option<f32> {
    move |asked, known, cosine| judge(&questions[asked], &questions[known], cosine).ok().map(Score::log_odds)
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, config: &Config) -> Found<Self> {
        let encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
        // One thread: the questions come one by one, and what it knows must be known to all.
        // Nobody waits for an answer here, so an embedding may take its time.
        let patient = embed::Config { deadline: PATIENCE, ..config.embed };
        let embedder = Embedder::spawn(Once::new(encoder), patient)?;
        Ok(Self { args, cache: config.cache.clone(), embedder })
    }

    async fn set(&self, set: Set) -> Outcome {
        let most = self.args.limit.unwrap_or(usize::MAX);
        let (json, page) = match set.questions {
            Questions::Stream(mut lines) => {
                lines.truncate(most);
                let report = self.stream(set.name, &lines).await?;
                (serde_json::to_string(&report)?, report.page())
            }
            Questions::Pairs(mut pairs) => {
                pairs.truncate(most);
                let report = self.pairs(set.name, &pairs).await?;
                (serde_json::to_string(&report)?, report.page())
            }
        };
        output::line(if self.args.json { json } else { page });
        Ok(())
    }

    /// As configured, but for the bound.
    fn settings(&self) -> Vec<Setting> {
        let at = |max_wrong: &f64| {
            let bound = bound::Config { max_wrong: *max_wrong, ..self.cache.bound.clone() };
            let cache = cache::Config { bound, ..self.cache.clone() };
            Setting { name: format!("weir at {} %", 100.0 * max_wrong), max_wrong: *max_wrong, cache }
        };
        self.args.max_wrong.iter().map(at).collect()
    }

    async fn stream(&self, name: String, lines: &[Line]) -> Found<StreamReport> {
        let questions: Vec<Question> = lines.iter().map(|line| Question::new(&line.text)).collect();
        let texts: Vec<&str> = questions.iter().map(Question::canonical).collect();
        let vectors = vectors(&self.embedder, &texts).await?;
        let ours = Ours { vectors: &vectors, score: &score(&questions), candidates: CANDIDATES };
        let mut policies = references(lines, &vectors, &ours, self.args.seeds, &self.args.max_wrong);
        for setting in self.settings() {
            policies.push(self.row(&setting, lines, false).await?);
            if self.args.http {
                policies.push(self.row(&setting, lines, true).await?);
            }
        }
        let attainable = tally::attainable(lines);
        let space = Space::new(lines, &vectors);
        let decisions = Decisions::time(&space, CANDIDATES, |asked, near| {
            let asked = Question::new(&lines[asked].text);
            for (known, cosine) in near {
                std::hint::black_box(judge(&asked, &questions[*known], *cosine).ok());
            }
        });
        Ok(StreamReport { stream: name, requests: lines.len(), attainable, policies, decisions })
    }

    async fn row(&self, setting: &Setting, lines: &[Line], http: bool) -> Found<Row> {
        let mut runs = Vec::new();
        for seed in 0..self.args.seeds {
            runs.push(self.run(setting.config(seed), lines, &order(lines.len(), seed), http).await?);
        }
        Ok(Row::of_runs(named(&setting.name, http), Some(setting.max_wrong), runs))
    }

    async fn run(&self, cache: cache::Config, lines: &[Line], order: &[usize], http: bool) -> Found<Run> {
        let answers = answers_to_stream(self.args.answers, lines);
        let pipeline = pipeline(cache, &self.embedder, answers);
        let given = if http {
            let sidecar = Http::start(pipeline).await?;
            let given = drive::stream(&sidecar, lines, order).await;
            sidecar.stop().await;
            given?
        } else {
            drive::stream(&InProcess::new(pipeline), lines, order).await?
        };
        Ok(tally::run(lines, order, &given)?)
    }

    async fn pairs(&self, name: String, pairs: &[Pair]) -> Found<PairsReport> {
        let questions: Vec<Question> =
            pairs.iter().flat_map(|pair| [&pair.a, &pair.b]).map(|text| Question::new(text)).collect();
        let texts: Vec<&str> = questions.iter().map(Question::canonical).collect();
        let vectors = vectors(&self.embedder, &texts).await?;
        let ours = Ours { vectors: &vectors, score: &score(&questions), candidates: CANDIDATES };
        let mut policies = pair_references(pairs, &vectors, &ours);
        for setting in self.settings() {
            for http in [false, true].into_iter().filter(|http| !http || self.args.http) {
                let served = self.served(&setting, pairs, http).await?;
                policies.push(PairsRow::new(named(&setting.name, http), tally::pairs(pairs, &served)));
            }
        }
        Ok(PairsReport { pairs: name, policies })
    }

    async fn served(&self, setting: &Setting, pairs: &[Pair], http: bool) -> Found<Vec<bool>> {
        let answers = answers_to_pairs(self.args.answers, pairs);
        let pipeline = pipeline(setting.config(0), &self.embedder, answers);
        if http {
            let sidecar = Http::start(pipeline).await?;
            let served = drive::pairs(&sidecar, pairs).await;
            sidecar.stop().await;
            Ok(served?)
        } else {
            Ok(drive::pairs(&InProcess::new(pipeline), pairs).await?)
        }
    }
}

fn named(setting: &str, http: bool) -> String {
    if http { format!("{setting}, over HTTP") } else { format!("{setting}, in process") }
}
