//! `weir journal`

use super::{Outcome, output};
use crate::chat::{Choice, Message};
use crate::clock::date;
use crate::config::Config;
use crate::journal::{Content, Head, Keys, Line, Reader, Row, Scrubber, compose, files, is_sealed};
use crate::lab::import::{self, Format, Place};
use crate::lab::replay::request;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// `weir journal …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List its files
    Ls {
        /// The journal: its folder, or one of its files [default: journal in the data folder]
        journal: Option<PathBuf>,
    },
    /// Show requests, the oldest first: when, who answered, what was asked
    Show {
        #[command(flatten)]
        of: Of,
        /// The most requests to show, counted from the end
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// With the answers
        #[arg(long)]
        answers: bool,
    },
    /// Count requests: by who answered, by project and model, with times and tokens
    Stats {
        #[command(flatten)]
        of: Of,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write requests to standard output
    Export {
        #[command(flatten)]
        of: Of,
        /// As lines of a journal, or as plain questions
        #[arg(long, value_enum, default_value_t)]
        format: ExportFormat,
    },
    /// Write a copy without more of what nobody may read
    Redact {
        /// The journal: its folder, or one of its files
        journal: PathBuf,
        /// What is taken out beside keys, passwords, addresses and numbers of cards: expressions
        #[arg(long, value_name = "EXPRESSION")]
        pattern: Vec<String>,
        /// No words at all
        #[arg(long)]
        hashes: bool,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make a journal of another program's record
    Import {
        /// The record
        file: PathBuf,
        /// What it looks like
        #[arg(long, value_enum)]
        format: ImportFormat,
        /// Answers to the requests, where they stand in a file of their own (OpenAI's batches)
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
        /// The project of requests that name none
        #[arg(long, default_value = "default")]
        project: String,
        /// The model of requests that name none
        #[arg(long, default_value = "unknown")]
        model: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Which requests.
#[derive(Debug, clap::Args)]
struct Of {
    /// The journal: its folder, or one of its files [default: journal in the data folder]
    journal: Option<PathBuf>,
    /// Only those of this project
    #[arg(long)]
    project: Option<String>,
    /// Only those that this has answered: rule, exact, semantic, upstream, local
    #[arg(long)]
    source: Option<String>,
    /// Only those that hold this text
    #[arg(long)]
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ExportFormat {
    /// Lines of a journal
    #[default]
    Jsonl,
    /// A question on each line
    Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ImportFormat {
    /// A question on each line
    Text,
    /// Columns with a head: question, answer, project, model, time, id
    Csv,
    /// OpenAI's batch or evaluation files
    Openai,
    /// LiteLLM's logs
    Litellm,
}

impl From<ImportFormat> for Format {
    fn from(format: ImportFormat) -> Self {
        match format {
            ImportFormat::Text => Self::Text,
            ImportFormat::Csv => Self::Csv,
            ImportFormat::Openai => Self::OpenAi,
            ImportFormat::Litellm => Self::LiteLlm,
        }
    }
}

type Made<T> = Result<T, Box<dyn Error>>;

pub(super) fn run(args: Args, load: impl FnOnce() -> Made<Config>) -> Outcome {
    let found = |journal| Found::of(journal, load);
    match args.command {
        Command::Ls { journal } => ls(&found(journal)?),
        Command::Show { of, limit, answers } => show(&found(of.journal.clone())?, &of, limit, answers),
        Command::Stats { of, json } => {
            let stats = stats(&found(of.journal.clone())?, &of)?;
            output::line(if json { serde_json::to_string_pretty(&stats)? } else { stats.page() });
            Ok(())
        }
        Command::Export { of, format } => export(&found(of.journal.clone())?, &of, format),
        Command::Redact { journal, pattern, hashes, output } => {
            let content = if hashes { Content::Hashes } else { Content::Redacted };
            redact(&found(Some(journal))?, &pattern, content, &output)
        }
        Command::Import { file, format, answers, project, model, output } => {
            let place = Place { project, model };
            import(&file, format.into(), answers.as_deref(), &place, &output)
        }
    }
}

/// The files of a journal, and what opens them.
struct Found {
    files: Vec<PathBuf>,
    keys: Keys,
}

impl Found {
    fn of(journal: Option<PathBuf>, load: impl FnOnce() -> Made<Config>) -> Made<Self> {
        // The configuration is not needed to read a journal that is named and lies in the clear.
        if let Some(path) = journal {
            let files = files(&path)?;
            let keys = keys(&files, load)?;
            return Ok(Self { files, keys });
        }
        let config = load()?.journal;
        Ok(Self { files: files(&config.folder)?, keys: config.keys })
    }
}

/// What opens these files: the configuration is asked only where one is sealed.
pub(super) fn keys(files: &[PathBuf], load: impl FnOnce() -> Made<Config>) -> Made<Keys> {
    Ok(if files.iter().any(|path| is_sealed(path)) { load()?.journal.keys } else { Keys::default() })
}

/// Each line of all files.
fn each(Found { files, keys }: &Found, mut line: impl FnMut(Line) -> Outcome) -> Made<u64> {
    files.iter().try_fold(0, |unreadable, path| Ok(unreadable + each_of(path, keys, &mut line)?))
}

/// Each line of a file; and how many cannot be read.
fn each_of(path: &Path, keys: &Keys, mut line: impl FnMut(Line) -> Outcome) -> Made<u64> {
    let mut reader = Reader::open(path, keys)?;
    for read in reader.by_ref() {
        line(read?)?;
    }
    Ok(reader.unreadable())
}

impl Of {
    fn has(&self, row: &Row) -> bool {
        let body = || row.body.as_ref().map_or("", |body| body.get());
        self.project.as_ref().is_none_or(|project| *project == row.project)
            && self.source.as_ref().is_none_or(|source| row.source.as_ref() == Some(source))
            && self.text.as_ref().is_none_or(|text| {
                asked(row).is_some_and(|asked| asked.contains(text.as_str()))
                    || body().contains(text.as_str())
            })
    }
}

/// What a request asks.
fn asked(row: &Row) -> Option<String> {
    request(row)?.question().map(Message::plain_text)
}

fn ls(Found { files, keys }: &Found) -> Outcome {
    output::line(format!("{:<28}{:>10}{:>12}  {:<18}{}", "file", "MiB", "requests", "from", "to"));
    for path in files {
        let (mut requests, mut from, mut to) = (0u64, u64::MAX, 0);
        each_of(path, keys, |line| {
            if let Line::Request(row) = line {
                requests += 1;
                (from, to) = (from.min(row.at), to.max(row.ended_at()));
            }
            Ok(())
        })?;
        let mib = std::fs::metadata(path).map_or(0.0, |facts| facts.len() as f64 / f64::from(1 << 20));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What another program has kept may not say when it was.
        let time = |at: u64| if requests == 0 || at == 0 { "-".to_owned() } else { minute(at) };
        output::line(format!("{name:<28}{mib:>10.2}{requests:>12}  {:<18}{}", time(from), time(to)));
    }
    Ok(())
}

/// `2026-11-26 01:02`, in UTC.
fn minute(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, second) = (i64::try_from(seconds / 86_400).unwrap_or_default(), seconds % 86_400);
    let (year, month, day) = date(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", second / 3_600, second / 60 % 60)
}

fn show(found: &Found, of: &Of, limit: usize, answers: bool) -> Outcome {
    let mut last = std::collections::VecDeque::new();
    each(found, |line| {
        if let Line::Request(row) = line
            && of.has(&row)
        {
            last.push_back(row);
            if last.len() > limit {
                last.pop_front();
            }
        }
        Ok(())
    })?;
    for row in last {
        let who = row.source.as_deref().unwrap_or(&row.ended);
        let rule = row.rule.as_ref().map(|rule| format!(" {rule}")).unwrap_or_default();
        let asked = asked(&row).or_else(|| row.digest.clone()).unwrap_or_default();
        output::line(format!(
            "{}  {who}{rule}  {}  {:.1} ms  {}",
            minute(row.at),
            row.project,
            row.total_us as f64 / 1e3,
            one_line(&asked)
        ));
        if let (true, Some(choice)) = (answers, row.reply.as_ref().and_then(|reply| reply.choices.first())) {
            output::line(format!("    {}", one_line(&Choice::said(choice))));
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a journal comes to.
#[derive(Debug, Default, Serialize)]
struct Stats {
    requests: u64,
    unreadable: u64,
    /// Of the requests, those whose body came before.
    repeated: u64,
    sources: BTreeMap<String, u64>,
    misses: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
    projects: BTreeMap<String, u64>,
    models: BTreeMap<String, u64>,
    input_tokens: u64,
    output_tokens: u64,
    /// Milliseconds, by who answered: the middle, one in ten, one in a hundred.
    latency_ms: BTreeMap<String, [f64; 3]>,
}

fn stats(found: &Found, of: &Of) -> Made<Stats> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut stats = Stats::default();
    let mut seen = std::collections::HashSet::new();
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let count = |of: &mut BTreeMap<String, u64>, name: &str| *of.entry(name.to_owned()).or_default() += 1;
    let unreadable = each(found, |line| {
        let Line::Request(row) = line else { return Ok(()) };
        if !of.has(&row) {
            return Ok(());
        }
        stats.requests += 1;
        let mut hasher = DefaultHasher::new();
        (&row.project, row.body.as_ref().map(|body| body.get()), &row.digest).hash(&mut hasher);
        stats.repeated += u64::from(!seen.insert(hasher.finish()));
        let source = row.source.as_deref().unwrap_or("none");
        count(&mut stats.sources, source);
        row.miss.iter().for_each(|miss| count(&mut stats.misses, miss));
        count(&mut stats.ended, &row.ended);
        count(&mut stats.projects, &row.project);
        count(&mut stats.models, &row.model);
        if let Some(usage) = row.usage {
            stats.input_tokens += usage.input;
            stats.output_tokens += usage.output;
        }
        times.entry(source.to_owned()).or_default().push(row.total_us);
        Ok(())
    })?;
    stats.unreadable = unreadable;
    for (source, mut all) in times {
        all.sort_unstable();
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        stats.latency_ms.insert(source, [at(0.5), at(0.9), at(0.99)]);
    }
    Ok(stats)
}

impl Stats {
    fn page(&self) -> String {
        use std::fmt::Write as _;
        let mut page =
            format!("{} requests, {} of them repeated word for word\n", self.requests, self.repeated);
        if self.unreadable > 0 {
            let _ = writeln!(page, "{} lines cannot be read", self.unreadable);
        }
        let _ = writeln!(page, "{} tokens read, {} written", self.input_tokens, self.output_tokens);
        let _ = writeln!(
            page,
            "\n{:<12}{:>12}{:>12}{:>12}{:>12}",
            "answered by", "requests", "p50 ms", "p90 ms", "p99 ms"
        );
        for (source, count) in &self.sources {
            let [half, most, nearly] = self.latency_ms.get(source).copied().unwrap_or_default();
            let _ = writeln!(page, "{source:<12}{count:>12}{half:>12.1}{most:>12.1}{nearly:>12.1}");
        }
        for (title, counts) in [
            ("why memory had no answer", &self.misses),
            ("how they ended", &self.ended),
            ("projects", &self.projects),
            ("models", &self.models),
        ] {
            let _ = writeln!(page, "\n{title}");
            let mut counts: Vec<_> = counts.iter().collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (name, count) in counts.into_iter().take(20) {
                let _ = writeln!(page, "{count:>12}  {name}");
            }
        }
        page
    }
}

fn export(found: &Found, of: &Of, format: ExportFormat) -> Outcome {
    each(found, |line| {
        match (&line, format) {
            (Line::Request(row), _) if !of.has(row) => {}
            (Line::Request(row), ExportFormat::Text) => {
                if let Some(asked) = asked(row) {
                    output::line(one_line(&asked));
                }
            }
            (_, ExportFormat::Text) => {}
            (_, ExportFormat::Jsonl) => output::line(serde_json::to_string(&line)?),
        }
        Ok(())
    })?;
    Ok(())
}

fn redact(found: &Found, patterns: &[String], content: Content, output: &Path) -> Outcome {
    let scrubber = Scrubber::new(rand::random(), Vec::new(), patterns)?;
    let mut to = BufWriter::new(created(output)?);
    let unreadable = each(found, |line| {
        if let Some(text) = compose(line, content, &scrubber) {
            to.write_all(&text)?;
        }
        Ok(())
    })?;
    to.flush()?;
    if unreadable > 0 {
        output::note(format!("{unreadable} lines could not be read, and are left out"));
    }
    Ok(())
}

/// A new file: one that is there may be somebody's only journal.
fn created(path: &Path) -> Made<File> {
    File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()).into())
}

fn opened(path: &Path) -> Made<impl BufRead> {
    Ok(BufReader::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?))
}

fn import(file: &Path, format: Format, answers: Option<&Path>, place: &Place, output: &Path) -> Outcome {
    let answers = match answers {
        Some(path) => import::batch_answers(opened(path)?)?,
        None => std::collections::HashMap::new(),
    };
    let scrubber = Scrubber::new(rand::random(), Vec::new(), &[])?;
    let mut to = BufWriter::new(created(output)?);
    let mut put = |line: Line| -> io::Result<()> {
        let text = compose(line, Content::Redacted, &scrubber);
        text.map_or(Ok(()), |text| to.write_all(&text))
    };
    put(Line::Head(Head::new(0, None)))?;
    let counts =
        import::import(format, opened(file)?, &answers, place, |row| put(Line::Request(Box::new(row))))?;
    to.flush()?;
    let import::Counts { requests, answered, passed_over } = counts;
    output::note(format!(
        "{requests} requests, {answered} of them with an answer; {passed_over} lines held none"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(minute(0), "1970-01-01 00:00");
        assert_eq!(minute(1_795_654_923_000_000), "2026-11-26 01:02");
        assert_eq!(minute(1_709_164_800_000_000), "2024-02-29 00:00");
    }
}
