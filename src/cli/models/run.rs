//! `weir models run`: a question to a local model, without a sidecar. The answer is printed as it is written.

use crate::chat::{Event, Finish, Message, Request, ResponseFormat, Role, Sampling, Usage};
use crate::cli::output;
use crate::clock::SystemClock;
use crate::models::{self, Fault, Installed, InstalledError};
use crate::upstream::local::{self, Local, Status};
use crate::upstream::{self, Call, Upstream as _};
use futures_util::StreamExt as _;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More than any model here reads, and little enough to hold.
const LONGEST_PROMPT: u64 = 1 << 20;
/// The longest schema.
const LONGEST_SCHEMA: u64 = 1 << 20;
/// Tokens of the conversation and its answer together.
const CONTEXT: usize = 4096;
/// For a whole answer, on a slow machine.
const PATIENCE: Duration = Duration::from_hours(1);

/// `weir models run …`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The model: a name from `weir models list`, or a GGUF file
    #[arg(value_name = "NAME")]
    name: String,
    /// What it is asked [default: what standard input says]
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// What the system says first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The most tokens of the answer
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    max_tokens: u32,
    /// How freely it chooses its words; 0 is always the likeliest
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw the same again
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Answer with a JSON object
    #[arg(long)]
    json: bool,
    /// Answer with JSON that fits the schema in this file
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    schema: Option<PathBuf>,
    /// Say on standard error how long it took
    #[arg(long)]
    stats: bool,
}

/// Why a model did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such model.
    #[error("there is no model called `{name}`, and no such file: see `weir models list`")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Its file is not here.
    #[error("{name} is not here: run `weir models fetch {name}`")]
    NotFetched {
        /// The model.
        name: String,
    },
    /// It is here, and not what it should be.
    #[error(transparent)]
    Faulty(Fault),
    /// It does something else.
    #[error("{name} is no language model: it is for {purpose}")]
    NoLanguageModel {
        /// The model.
        name: String,
        /// What it is for.
        purpose: String,
    },
    /// What it is to answer cannot be read.
    #[error("cannot read what to ask from standard input: {0}")]
    Input(std::io::Error),
    /// Nothing is asked.
    #[error("there is nothing to answer: weir models run {0} \"…\"")]
    Nothing(String),
    /// The schema cannot be read.
    #[error("{}: {reason}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The temperature is none.
    #[error("a temperature is a number from 0 to 2, not {0}")]
    Temperature(f64),
    /// The model cannot be used.
    #[error("{}: {reason}", file.display())]
    Unusable {
        /// Its file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The models that are there cannot be listed.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// It could not answer, or not to the end.
    #[error(transparent)]
    Answer(#[from] upstream::Error),
    /// There is no thread for it.
    #[error("cannot start a thread for the model: {0}")]
    Thread(std::io::Error),
    /// Ctrl-C.
    #[error("interrupted: the answer is not whole")]
    Interrupted,
    /// A helper thread has died.
    #[error("a helper thread has died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// Asks the model and prints what it answers.
pub(super) async fn run(args: Args, models_dir: &Path) -> Result<(), Error> {
    // Before the model is read, which takes longer than to see that nothing is asked.
    let request = request(&args)?;
    tokio::select! {
        answered = answer(&args, &request, models_dir) => answered,
        _ = tokio::signal::ctrl_c() => {
            // Dropping the answer ends the work on it.
            output::line("");
            Err(Error::Interrupted)
        }
    }
}

async fn answer(args: &Args, request: &Request, models_dir: &Path) -> Result<(), Error> {
    let (name, folder) = (args.name.clone(), models_dir.to_owned());
    let file = tokio::task::spawn_blocking(move || find(&name, &folder)).await??;
    let began = Instant::now();
    let config = local::Config {
        file: file.clone(),
        context: CONTEXT,
        max_tokens: args.max_tokens,
        too_long: local::TooLong::Refuse,
        ..local::Config::default()
    };
    let local = Local::spawn("local", config, Arc::new(SystemClock)).map_err(Error::Thread)?;
    if let Status::Failed(reason) = local.settled().await {
        return Err(Error::Unusable { file, reason });
    }
    let mut told = Told { loaded: began.elapsed(), asked: Instant::now(), ..Told::default() };
    let mut opened = local.open(request, &Call::within(PATIENCE)).await?;
    while let Some(chunk) = opened.chunks.next().await {
        let chunk = chunk.inspect_err(|_| output::line(""))?;
        chunk.events.iter().for_each(|event| told.hear(event));
    }
    output::line("");
    if args.stats {
        output::note(told.line());
    }
    Ok(())
}

/// The file of the model that is called `name`, every byte of it checked where it is known what it should be.
fn find(name: &str, models_dir: &Path) -> Result<PathBuf, Error> {
    if let Some(model) = Installed::read(models_dir)?.get(name) {
        let gguf = model.files.first().filter(|file| is_gguf(Path::new(&file.path)));
        let file = gguf.ok_or_else(|| Error::NoLanguageModel {
            name: name.to_owned(),
            purpose: model.purpose.clone(),
        })?;
        return match models::verify(models_dir, model) {
            Ok(()) => Ok(models::path(models_dir, file)),
            Err(Fault::Missing { .. }) => Err(Error::NotFetched { name: name.to_owned() }),
            Err(fault) => Err(Error::Faulty(fault)),
        };
    }
    let path = Path::new(name);
    if path.is_file() { Ok(path.to_owned()) } else { Err(Error::Unknown { name: name.to_owned() }) }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn request(args: &Args) -> Result<Request, Error> {
    if let Some(wrong) = args.temperature.filter(|number| !(0.0..=2.0).contains(number)) {
        return Err(Error::Temperature(wrong));
    }
    let response_format = match &args.schema {
        Some(path) => Some(schema(path)?),
        None => args.json.then_some(ResponseFormat::Json),
    };
    let text = match &args.text {
        Some(text) => text.clone(),
        None => from_input(&args.name)?,
    };
    if text.trim().is_empty() {
        return Err(Error::Nothing(args.name.clone()));
    }
    let system = args.system.iter().map(|text| Message::text(Role::System, text));
    Ok(Request {
        messages: system.chain([Message::text(Role::User, &text)]).collect(),
        response_format,
        sampling: Sampling {
            temperature: args.temperature,
            seed: args.seed,
            max_tokens: Some(args.max_tokens),
            ..Sampling::default()
        },
        ..Request::default()
    })
}

fn from_input(name: &str) -> Result<String, Error> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Err(Error::Nothing(name.to_owned()));
    }
    read(input.lock(), LONGEST_PROMPT).map_err(Error::Input)
}

fn schema(path: &Path) -> Result<ResponseFormat, Error> {
    let wrong = |reason: String| Error::Schema { path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let text = read(file, LONGEST_SCHEMA).map_err(|error| wrong(error.to_string()))?;
    let schema = serde_json::from_str(&text).map_err(|error| wrong(format!("is no JSON: {error}")))?;
    Ok(ResponseFormat::Schema { name: None, description: None, schema, strict: None })
}

/// All that `from` says, if it is no longer than `most`.
fn read(from: impl std::io::Read, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(std::io::Error::other(format!("it is longer than {most} bytes")));
    }
    Ok(text)
}

/// What can be told of an answer.
#[derive(Debug)]
struct Told {
    loaded: Duration,
    asked: Instant,
    first: Option<Duration>,
    last: Duration,
    usage: Usage,
    cut: bool,
}

impl Default for Told {
    fn default() -> Self {
        let (loaded, last) = (Duration::ZERO, Duration::ZERO);
        Self { loaded, asked: Instant::now(), first: None, last, usage: Usage::default(), cut: false }
    }
}

impl Told {
    /// Prints what is said, and takes down what is to be told at the end.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Text { text, .. } => {
                self.first.get_or_insert_with(|| self.asked.elapsed());
                output::piece(text);
            }
            Event::Finish { reason, .. } => {
                self.cut = *reason == Finish::Length;
                self.last = self.asked.elapsed();
            }
            Event::Usage(usage) => self.usage = *usage,
            _ => {}
        }
    }

    /// `[loaded in 0.50 s · 40 tokens read, first word after 90 ms · 20 tokens written, 100.0 a second]`
    fn line(&self) -> String {
        let Self { loaded, first, last, usage, cut, .. } = self;
        let first = first.unwrap_or(*last);
        // The first word ends the reading; what comes after it is written.
        let (further, seconds) = (usage.output.saturating_sub(1), last.saturating_sub(first).as_secs_f64());
        let pace = if further > 0 && seconds > 0.0 {
            format!(", {:.1} a second", further as f64 / seconds)
        } else {
            String::new()
        };
        let cut = if *cut { ", cut at the limit" } else { "" };
        format!(
            "[loaded in {:.2} s · {} tokens read, first word after {:.0} ms · {} tokens written{pace}{cut}]",
            loaded.as_secs_f64(),
            usage.input,
            first.as_secs_f64() * 1e3,
            usage.output,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_what_comes_after_the_first_word() {
        let usage = Usage { input: 40, output: 21, ..Usage::default() };
        let mut told = Told { loaded: Duration::from_millis(500), usage, ..Told::default() };
        told.first = Some(Duration::from_millis(90));
        told.last = Duration::from_millis(290);
        let expected =
            "[loaded in 0.50 s · 40 tokens read, first word after 90 ms · 21 tokens written, 100.0 a second]";
        assert_eq!(told.line(), expected);
        told.usage.output = 1;
        told.cut = true;
        assert!(told.line().ends_with("1 tokens written, cut at the limit]"), "{}", told.line());
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        assert_eq!(read(&b"abc"[..], 3).unwrap(), "abc");
        assert_eq!(read(&b"abcd"[..], 3).unwrap_err().to_string(), "it is longer than 3 bytes");
    }
}
