//! `weir bench serve`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use super::http::Http;
use crate::app::load_encoder;
use crate::cache::bound;
use crate::config::Config;
use crate::embed::Embedder;
use crate::lab::cache::pipeline_before;
use crate::lab::serve::steady::Steady;
use crate::lab::serve::tally::{self, Report, Sample};
use crate::lab::serve::{Arrival, Kind, Load, MOST, Mix, known, schedule};
use reqwest::Client;
use serde_json::json;
use std::error::Error;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most requests under way; whoever comes then is counted as failed, as a client without sockets would be.
const MOST_AT_ONCE: usize = 4096;
/// How long what was just answered gets to be remembered.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of a page of memory.
const PAGE: u64 = 4096;

/// `weir bench serve …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A sidecar that runs, as http://127.0.0.1:4100; what it does not know, it asks its upstreams [default: one that is
    /// started here, in front of an upstream that follows a script]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The model that is asked for
    #[arg(long, default_value = "bench")]
    model: String,
    /// Requests a second
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// For how many seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// What is asked: known questions, known ones in other words, new ones
    #[arg(long, default_value_t)]
    mix: Mix,
    /// The share of requests that are asked for as streams
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    streams: f64,
    /// How many questions are known
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    known: u32,
    /// How long the scripted upstream takes, in milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    upstream_ms: u32,
    /// Begins the numbers by which the schedule is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// A short run.
    fn short() -> Self {
        Self {
            url: None,
            model: "bench".to_owned(),
            rate: 100.0,
            seconds: 5,
            mix: Mix::default(),
            streams: 0.5,
            known: 50,
            upstream_ms: 20,
            seed: 1,
            json: false,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.1..=100_000.0).contains(rate))
        .ok_or_else(|| format!("\"{text}\" is no rate"))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("\"{text}\" is no share"))
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let report = measure(args, config)?;
    output::line(if args.json { serde_json::to_string_pretty(&report)? } else { report.page() });
    Ok(())
}

/// What a short run finds.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let report = measure(&Args::short(), config)?;
    let figures = report.answers.iter().map(|(name, times)| {
        let added = times.added_ms.map_or_else(String::new, |added| format!("; {added:.2} ms are added"));
        let [p50, _, p99] = times.last_ms;
        figure(format!("{name}, whole"), format!("{p50:.2} ms at p50, {p99:.2} at p99{added}"))
    });
    let failed = report.requests - report.answered;
    let answered = format!("{:.0}/s, {failed} failed", report.answers_per_second);
    Ok(std::iter::once(figure("answers", answered)).chain(figures).collect())
}

fn measure(args: &Args, config: &Config) -> Result<Report, Box<dyn Error>> {
    let load = Load {
        rate: args.rate,
        time: Duration::from_secs(args.seconds.into()),
        mix: args.mix,
        streams: args.streams,
        known: args.known,
        seed: args.seed,
    };
    if load.rate * load.time.as_secs_f64() > MOST as f64 {
        return Err(format!("that is more than {MOST} requests").into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (own, url) = if let Some(url) = &args.url {
            (None, format!("{}/v1/chat/completions", url.trim_end_matches('/')))
        } else {
            let own = start(args, config).await?;
            let url = own.url().to_owned();
            (Some(own), url)
        };
        // Installing it twice is no fault: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE).build()?;
        let asker = Arc::new(Asker { client, url, model: args.model.clone() });
        asker.prepare(&load).await?;
        let upstream = own.as_ref().map(|_| Duration::from_millis(args.upstream_ms.into()));
        let before = own.as_ref().and_then(|_| resident());
        let (samples, took) = asker.load(&load).await?;
        let after = own.as_ref().and_then(|_| resident());
        let report = tally::report(&samples, load.rate, took, upstream);
        if let Some(own) = own {
            own.stop().await;
        }
        Ok(Report { memory: before.zip(after).map(|(before, after)| [before, after]), ..report })
    })
}

/// A sidecar as configured, with an empty memory, in front of an upstream that always takes the same time.
async fn start(args: &Args, config: &Config) -> Result<Http, Box<dyn Error>> {
    let embedder = match load_encoder(&config.encoder, &config.models_dir) {
        Ok(loaded) => Some(Embedder::spawn_all(loaded.each_thread(), config.embed)?),
        Err(why) => {
            output::note(format!("note: nothing is found in other words, for the model is missing: {why}"));
            None
        }
    };
    let upstream = Arc::new(Steady::new(Duration::from_millis(args.upstream_ms.into())));
    // The same hits are checked in each run.
    let bound = bound::Config { seed: Some(args.seed), ..config.cache.bound.clone() };
    let cache = crate::cache::Config { bound, ..config.cache.clone() };
    Http::start(pipeline_before(cache, embedder.as_ref(), upstream)).await
}

/// Who asks.
struct Asker {
    client: Client,
    url: String,
    model: String,
}

impl Asker {
    /// Has the sidecar know what is to be known.
    async fn prepare(&self, load: &Load) -> Outcome {
        for text in known(load) {
            let now = Instant::now();
            let arrival = Arrival { at: Duration::ZERO, kind: Kind::Exact, text, stream: false };
            self.ask(&arrival, now).await.source?;
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Asks what is due when it is due, whatever has become of those before. And how long it took in all.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own sleeps, and no task waits for it")]
    async fn load(self: &Arc<Self>, load: &Load) -> Result<(Vec<Sample>, Duration), Box<dyn Error>> {
        let arrivals = schedule(load);
        let (count, room) = (arrivals.len(), Arc::new(Semaphore::new(MOST_AT_ONCE)));
        let (done, samples) = mpsc::sync_channel(count.max(1));
        let (asker, runtime) = (Arc::clone(self), Handle::current());
        let begin = Instant::now();
        // A thread of its own: timers of the runtime are only good to the millisecond, which is more than a hit takes.
        thread::Builder::new().name("load".to_owned()).spawn(move || {
            for arrival in arrivals {
                let due = begin + arrival.at;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let (asker, done, room) = (Arc::clone(&asker), done.clone(), Arc::clone(&room));
                runtime.spawn(async move {
                    let sample = match room.try_acquire() {
                        Ok(_permit) => asker.ask(&arrival, due).await,
                        Err(_) => Sample {
                            source: Err(format!("more than {MOST_AT_ONCE} were under way")),
                            stream: arrival.stream,
                            sent: due.elapsed(),
                            first: due.elapsed(),
                            last: due.elapsed(),
                        },
                    };
                    // There is room for all.
                    let _ = done.try_send(sample);
                });
            }
        })?;
        let samples = tokio::task::spawn_blocking(move || samples.iter().collect::<Vec<_>>()).await?;
        Ok((samples, begin.elapsed()))
    }

    /// Asks, and reads the answer to its end.
    async fn ask(&self, arrival: &Arrival, due: Instant) -> Sample {
        let sent = due.elapsed();
        let mut first = None;
        let source = self.answer(arrival, due, &mut first).await;
        let last = due.elapsed();
        Sample { source, stream: arrival.stream, sent, first: first.unwrap_or(last), last }
    }

    async fn answer(
        &self,
        arrival: &Arrival,
        due: Instant,
        first: &mut Option<Duration>,
    ) -> Result<String, String> {
        let body = json!({
            "model": self.model, "temperature": 0, "stream": arrival.stream,
            "messages": [{ "role": "user", "content": arrival.text }],
        });
        let asked = self.client.post(&self.url).header("x-weir-project", "bench").body(body.to_string());
        let failed = |error: reqwest::Error| match error {
            error if error.is_timeout() => "no answer in time".to_owned(),
            error if error.is_connect() => "it cannot be reached".to_owned(),
            _ => "the connection broke".to_owned(),
        };
        let mut response = asked.send().await.map_err(failed)?;
        let status = response.status();
        let source = response.headers().get("x-weir-source").and_then(|value| value.to_str().ok());
        let source = source.unwrap_or("unnamed").to_owned();
        while response.chunk().await.map_err(failed)?.is_some() {
            first.get_or_insert_with(|| due.elapsed());
        }
        if status.is_success() { Ok(source) } else { Err(format!("status {}", status.as_u16())) }
    }
}

/// What this process holds in memory, where the system tells it.
fn resident() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/statm").ok()?;
    told.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(PAGE)
}
