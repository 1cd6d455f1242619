//! `weir replay`

use super::{Outcome, output};
use crate::app::{self, load_encoder};
use crate::cache::Semantic;
use crate::config::{Config, Environment, Overrides, Store};
use crate::embed::{self, Embedder, Encoder as _, SentenceEncoder};
use crate::intent::{Live, RuleSet};
use crate::journal::Keys;
use crate::lab::replay::embeddings::{Known, Remembering};
use crate::lab::replay::{Recordings, Report, Setup, sweep};
use crate::lab::report::{self, Run};
use crate::store::Room;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::error::Error;
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long one text may take: nobody waits for an answer here.
const PATIENCE: Duration = Duration::from_mins(5);
/// The most settings that are compared.
const MOST_SETTINGS: usize = 100;
/// How many, where nobody says.
const USUAL_SETTINGS: usize = 5;

/// `weir replay …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The journal: its folder, or one of its files [default: journal in the data folder]
    journal: Option<PathBuf>,
    /// Set a key of the configuration, as in `--set cache.max_wrong=0.02`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Compare values of a key: `cache.max_wrong=0.005..0.05`, `…=0.005..0.05/10`, or `…=a,b,c`
    #[arg(long, value_name = "KEY=VALUES", conflicts_with = "examples")]
    sweep: Option<String>,
    /// Answer by the rules of these files instead of the configured ones
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// How many decisions that change are shown
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    examples: usize,
    /// Where vectors are kept for the next time [default: replay in the data folder]
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Write a page with pictures, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

type Made<T> = Result<T, Box<dyn Error>>;

pub(super) fn run(args: &Args, overrides: &Overrides, environment: &Environment) -> Outcome {
    let set = args.set.iter().map(|set| key_and_value(set)).collect::<Made<Vec<_>>>()?;
    let overrides = Overrides { set, ..overrides.clone() };
    let values = args.sweep.as_deref().map(values).transpose()?;
    let rules = args.rules.clone();
    let bench = Bench::open(args.journal.clone(), args.embeddings.clone(), rules, (&overrides, environment))?;
    let Some((key, values)) = values else {
        let report = bench.one(&bench.config(&[])?)?;
        let page = || report.page(args.examples);
        output::line(if args.json { serde_json::to_string_pretty(&report)? } else { page() });
        return written(args, &[Run { name: bench.journal().display().to_string(), report }]);
    };
    let configs =
        values.iter().map(|value| bench.config(&[(key.clone(), value.clone())])).collect::<Made<Vec<_>>>()?;
    let reports = bench.all(&configs)?;
    let runs: Vec<(String, Report)> = values.into_iter().zip(reports).collect();
    if args.json {
        let runs = runs.iter().map(|(value, report)| Ok((value.clone(), serde_json::to_value(report)?)));
        let runs: serde_json::Map<_, _> = runs.collect::<Made<_>>()?;
        output::line(serde_json::to_string_pretty(&serde_json::json!({ "key": key, "runs": runs }))?);
    } else {
        output::line(sweep(&key, &runs));
    }
    let named = |(value, report)| Run { name: format!("{key} = {value}"), report };
    written(args, &runs.into_iter().map(named).collect::<Vec<_>>())
}

/// The page, where one is wanted.
fn written(args: &Args, runs: &[Run]) -> Outcome {
    let Some(path) = &args.html else { return Ok(()) };
    let page = report::page("What a cache would save, and how often it would be wrong", runs)?;
    std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    output::note(format!("wrote {}", path.display()));
    Ok(())
}

fn key_and_value(text: &str) -> Made<(String, String)> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("\"{text}\" is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// A key, and the values to compare.
fn values(text: &str) -> Made<(String, Vec<String>)> {
    let (key, values) = key_and_value(text)?;
    let Some((from, to)) = values.split_once("..") else {
        return Ok((key, values.split(',').map(|value| value.trim().to_owned()).collect()));
    };
    let (to, count) = to.split_once('/').unwrap_or((to, ""));
    let count = if count.is_empty() { Ok(USUAL_SETTINGS) } else { count.trim().parse() };
    let (from, to): (f64, f64) = (from.trim().parse()?, to.trim().parse()?);
    let count = count?;
    if !(2..=MOST_SETTINGS).contains(&count) {
        return Err(format!("from 2 to {MOST_SETTINGS} values can be compared, not {count}").into());
    }
    let step = (to - from) / (count - 1) as f64;
    // No more digits than it takes: 0.005, not 0.005000000000000001.
    let value = |at: usize| format!("{:.6}", from + step * at as f64);
    let tidy = |value: String| value.trim_end_matches('0').trim_end_matches('.').to_owned();
    Ok((key, (0..count).map(|at| tidy(value(at))).collect()))
}

/// A journal, and what is needed to ask it again.
pub(super) struct Bench<'e> {
    path: PathBuf,
    keys: Keys,
    recordings: Recordings,
    embedder: Option<Embedder>,
    /// Reads the examples of rules that are learned from them.
    reader: Option<Mutex<SentenceEncoder>>,
    /// Rule files in the place of the configured ones.
    rules: Vec<PathBuf>,
    overrides: &'e Overrides,
    environment: &'e Environment,
}

impl<'e> Bench<'e> {
    /// Opens a journal, that of the data folder where none is named, and reads its words.
    pub(super) fn open(
        journal: Option<PathBuf>,
        embeddings: Option<PathBuf>,
        rules: Vec<PathBuf>,
        (overrides, environment): (&'e Overrides, &'e Environment),
    ) -> Made<Self> {
        let config = Config::load(overrides, environment)?;
        let path = journal.unwrap_or_else(|| config.journal.folder.clone());
        let keys = config.journal.keys.clone();
        let recordings = Recordings::open(&path, &keys)?;
        let (embedder, reader) = encoders(embeddings, &config)?.unzip();
        let reader = reader.map(Mutex::new);
        Ok(Self { path, keys, recordings, embedder, reader, rules, overrides, environment })
    }

    pub(super) fn journal(&self) -> &Path {
        &self.path
    }

    /// What opens it, where it is sealed.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The configuration, with these keys set.
    pub(super) fn config(&self, more: &[(String, String)]) -> Made<Config> {
        let set = self.overrides.set.iter().chain(more).cloned().collect();
        Ok(Config::load(&Overrides { set, ..self.overrides.clone() }, self.environment)?)
    }

    fn setup(&self, config: &Config) -> Made<Setup> {
        let files = if self.rules.is_empty() { &config.rules.files } else { &self.rules };
        let rules = self.learned(app::load_rules(files, config.rules.shipped)?)?;
        let room = match &config.store {
            Store::Memory(room) => *room,
            Store::Embedded(store) => Room { max_entries: store.max_entries, max_bytes: store.max_bytes },
        };
        let embedder = self.embedder.clone().filter(|_| config.cache.semantic != Semantic::Off);
        Ok(Setup { cache: config.cache.clone(), rules, embedder, room, prices: app::prices(config)? })
    }

    /// The rules, and what there is to learn from their examples.
    fn learned(&self, rules: RuleSet) -> Made<Live> {
        let (lessons, live) = (rules.lessons(), Live::from(rules));
        if let (Some(lessons), Some(reader)) = (lessons, &self.reader) {
            let read = app::read_all(&mut *lock(reader), lessons.texts())?;
            live.learn(lessons.trained(&read));
        }
        Ok(live)
    }

    fn read_ahead(&self, config: &Config) -> Outcome {
        if self.embedder.is_none() {
            return Ok(());
        }
        let bar = bar("reading", self.recordings.requests());
        let setup = self.setup(config)?;
        super::runtime()?.block_on(self.recordings.read_ahead(setup, |done| bar.set_position(done)))?;
        bar.finish_and_clear();
        Ok(())
    }

    fn one(&self, config: &Config) -> Made<Report> {
        let bar = bar("asking again", self.recordings.requests());
        let report = replay(&self.recordings, self.setup(config)?, |done| bar.set_position(done))?;
        bar.finish_and_clear();
        Ok(report)
    }

    /// Under each of these. Each has a thread of its own, as many at once as there are cores.
    pub(super) fn all(&self, configs: &[Config]) -> Made<Vec<Report>> {
        if let Some(config) = configs.first() {
            self.read_ahead(config)?;
        }
        let setups = configs.iter().map(|config| self.setup(config)).collect::<Made<Vec<_>>>()?;
        let bar = bar("asking again", self.recordings.requests() * setups.len() as u64);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(setups.len());
        let waiting = Mutex::new(setups.into_iter().enumerate());
        let done: Mutex<Vec<(usize, Result<Report, String>)>> = Mutex::default();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((at, setup)) = lock(&waiting).next() {
                        let before = Cell::new(0);
                        let report = replay(&self.recordings, setup, |done| {
                            bar.inc(done.saturating_sub(before.replace(done)));
                        });
                        lock(&done).push((at, report.map_err(|error| error.to_string())));
                    }
                });
            }
        });
        bar.finish_and_clear();
        let mut reports = std::mem::take(&mut *lock(&done));
        reports.sort_by_key(|(at, _)| *at);
        Ok(reports.into_iter().map(|(_, report)| report).collect::<Result<_, _>>()?)
    }
}

/// Nothing in it is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On one thread: with more it would not always come to the same.
fn replay(recordings: &Recordings, setup: Setup, progress: impl Fn(u64)) -> Made<Report> {
    Ok(super::runtime()?.block_on(recordings.replay(setup, progress))?)
}

/// The encoder, as many times as there are threads, with what it has read before; and once more.
fn encoders(embeddings: Option<PathBuf>, config: &Config) -> Made<Option<(Embedder, SentenceEncoder)>> {
    let mut loaded = match load_encoder(&config.encoder, &config.models_dir) {
        Ok(loaded) => loaded,
        Err(why) => {
            output::note(format!(
                "note: only the same questions are found again, for the model is missing: {why}"
            ));
            return Ok(None);
        }
    };
    let path = embeddings.unwrap_or_else(|| config.data_dir.join("replay/embeddings.bin"));
    let id = loaded.encoder.id().to_owned();
    let width = loaded.encoder.encode(&["how long is a vector?".into()])?;
    let width = width.first().map_or(0, |embedding| embedding.vector.dimensions());
    let known = Known::open(&path, &id, width).map_err(|error| format!("{}: {error}", path.display()))?;
    let patient = embed::Config { deadline: PATIENCE, queue: 1024, ..config.embed };
    let once_more = loaded.encoder.fork();
    let encoders = loaded.each_thread().into_iter().map(|encoder| Remembering::new(encoder, known.clone()));
    let embedder = Embedder::spawn_all(encoders.collect(), patient)?;
    let embedder = embedder.knowing(Arc::new(move |text| known.embedding(text)));
    Ok(Some((embedder, once_more)))
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style =
        ProgressStyle::with_template("{msg:<14} {bar:40} {human_pos}/{human_len}  {per_sec}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_ends_and_no_more_digits_than_it_takes() {
        let (key, all) = values("cache.max_wrong=0.005..0.025/5").unwrap();
        assert_eq!(key, "cache.max_wrong");
        assert_eq!(all, ["0.005", "0.01", "0.015", "0.02", "0.025"]);
        assert_eq!(values("cache.semantic=on,off").unwrap().1, ["on", "off"]);
        assert_eq!(values("a=1..5").unwrap().1, ["1", "2", "3", "4", "5"]);
        for text in ["a", "a=1..x", "a=1..2/1", "a=1..2/1000"] {
            assert!(values(text).is_err(), "{text}");
        }
    }
}
