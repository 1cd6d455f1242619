//! `weir rules`

use super::journal::ImportFormat;
use super::journal::keys;
use super::{Outcome, output, runtime};
use crate::app::{load_encoder, load_namer, load_rules, read_all};
use crate::config::Config;
use crate::intent::{
    Action, Circumstances, Confusion, Mark, Mind, Proposal, Read, Report, RuleSet, Tried, mine,
};
use crate::journal::files;
use crate::lab::questions::questions;
use crate::pipeline::Named;
use clap::Subcommand;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most questions that rules are looked for in.
const MOST_MINED: usize = 1_000_000;

/// `weir rules …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check rule files: their examples, their counter-examples, and whether they get in each other's way
    Check {
        /// Rule files [default: those of the configuration]
        files: Vec<PathBuf>,
        /// A question to try
        #[arg(long, value_name = "QUESTION")]
        text: Option<String>,
        /// The project that the question is asked in
        #[arg(long, default_value = "default")]
        project: String,
        /// With the rules that come with weir
        #[arg(long)]
        shipped: bool,
    },
    /// Tell which rule answers a question, with which slots, and why not the others
    Try {
        /// The question
        question: String,
        #[command(flatten)]
        with: With,
        /// The model that is asked for
        #[arg(long, default_value = "")]
        model: String,
        /// Ask the model of `rules.model` as well, where no rule is sure
        #[arg(long)]
        ask_model: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Find the rules that traffic asks for, and print them ready to be put into a rule file
    Mine {
        /// What was asked: a journal (its folder, or a file), another program's record, lines of JSON with a "text", or
        /// plain lines
        #[arg(long, value_name = "PATH")]
        journal: PathBuf,
        /// What the record looks like [default: seen from its beginning]
        #[arg(long, value_enum)]
        format: Option<ImportFormat>,
        /// How often something must have been asked
        #[arg(long, default_value_t = 4)]
        least: usize,
    },
    /// Measure how long the rules take
    Bench {
        #[command(flatten)]
        with: With,
        /// How many pattern rules to measure beside those of the files
        #[arg(long, default_value_t = 1000)]
        rules: usize,
    },
}

/// Which rules, and where.
#[derive(Debug, clap::Args)]
struct With {
    /// The project that is asked in
    #[arg(long, default_value = "default")]
    project: String,
    /// Rule files, beside those that come with weir [default: those of the configuration]
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl With {
    /// The rules, and the configuration where it was needed to find them.
    fn rules(&self, load: Load<'_>) -> Result<RuleSet, Box<dyn Error>> {
        if !self.files.is_empty() {
            return Ok(load_rules(&self.files, true)?);
        }
        let rules = load()?.rules;
        Ok(load_rules(&rules.files, rules.shipped)?)
    }
}

/// Why rules that can be read are not as they should be.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the rules' promises do not hold")]
struct Broken(usize);

/// Reads the configuration.
type Load<'l> = &'l dyn Fn() -> Result<Config, Box<dyn Error>>;

/// What was learned, and what was made of a question.
type Learned = (Mind, Option<Read>);

/// What is learned from the examples of `rules`, and what the encoder makes of `question`; `None` where no rule is
/// learned from examples.
fn learned(rules: &RuleSet, question: &str, load: Load<'_>) -> Result<Option<Learned>, Box<dyn Error>> {
    let Some(lessons) = rules.lessons() else { return Ok(None) };
    let config = load()?;
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let read = read_all(&mut encoder, lessons.texts())?;
    let mind = lessons.trained(&read).ok_or("nothing can be learned from the examples")?;
    let question = read_all(&mut encoder, std::iter::once(question))?.into_iter().next().flatten();
    Ok(Some((mind, question)))
}

pub(super) fn run(args: Args, load: impl Fn() -> Result<Config, Box<dyn Error>>) -> Outcome {
    let load: Load<'_> = &load;
    match args.command {
        Command::Check { files, text, project, shipped } => {
            check(files, shipped, text.as_deref(), &project, load)
        }
        Command::Try { question, with, model, ask_model, json } => {
            let around = Circumstances { model: &model, ..Circumstances::default() };
            let rules = with.rules(load)?;
            let learned = learned(&rules, &question, load)?;
            let learned = learned.as_ref().and_then(|(mind, read)| Some((mind, read.as_ref()?)));
            let Named { verdict, told } = match ask_model {
                true => named(&rules, &with.project, &question, &around, learned, &load()?)?,
                false => Named::default(),
            };
            let tried =
                Tried { model: told, ..rules.explain(&with.project, &question, &around, learned, verdict) };
            output::line(if json { shown(&tried).to_string() } else { page(&tried) });
            Ok(())
        }
        Command::Mine { journal, format, least } => mined(&journal, format, least, load),
        Command::Bench { with, rules } => {
            bench(&with.rules(load)?, &with.project, rules)?;
            Ok(())
        }
    }
}

/// What the configured model says to `question`, where no rule is sure.
fn named<'r>(
    rules: &'r RuleSet,
    project: &str,
    question: &str,
    around: &Circumstances<'_>,
    learned: Option<(&Mind, &Read)>,
    config: &Config,
) -> Result<Named<'r>, Box<dyn Error>> {
    let naming = config.rules.naming.clone();
    if naming.model.is_empty() {
        return Err("there is no rules.model in the configuration".into());
    }
    let by_examples =
        || learned.and_then(|(mind, read)| rules.by_examples(mind, project, question, around, read));
    if rules.by_words(project, question, around).or_else(by_examples).is_some() {
        return Ok(Named::default());
    }
    let nobody = "".into();
    runtime()?.block_on(async {
        let namer = load_namer(config, naming).await?;
        Ok(namer.choose(rules, (&nobody, project), question, around, learned).await)
    })
}

fn mined(
    journal: &Path,
    format: Option<ImportFormat>,
    least: usize,
    load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
) -> Outcome {
    let keys = keys(&files(journal)?, load)?;
    let texts = questions(journal, format.map(Into::into), MOST_MINED, &keys)
        .map_err(|error| format!("{}: {error}", journal.display()))?;
    let found = mine(texts.iter().map(String::as_str), least)?;
    for Proposal { name, texts, caught, precision, toml } in &found.proposals {
        output::line(format!(
            "# {name}: made from {texts} texts; catches {caught} of those held back, {:.0} % of them alone\n{toml}",
            precision * 100.0
        ));
    }
    output::note(format!(
        "{} rules from {} texts; together they catch {} of {} that were held back ({:.1} %)",
        found.proposals.len(),
        found.texts,
        found.caught,
        found.held_back,
        100.0 * found.caught as f64 / found.held_back.max(1) as f64
    ));
    Ok(())
}

fn check(files: Vec<PathBuf>, shipped: bool, text: Option<&str>, project: &str, load: Load<'_>) -> Outcome {
    let files = if files.is_empty() { load()?.rules.files } else { files };
    let rules = load_rules(&files, shipped)?;
    let learned = learned(&rules, text.unwrap_or_default(), load)?;
    let report = rules.check(learned.as_ref().map(|(mind, _)| mind));
    for fault in &report.faults {
        output::line(format!("{}: {fault}", if fault.is_warning() { "warning" } else { "fault" }));
    }
    let faults = report.faults.iter().filter(|fault| !fault.is_warning()).count();
    let mut names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    names.extend(shipped.then(|| "the rules that come with weir".to_owned()));
    let verdict = if faults == 0 { "ok" } else { "not ok" };
    match names.len() {
        0 => output::line(
            "ok: no rule files are configured (rules.files, or a rules.toml beside the configuration)",
        ),
        _ => output::line(format!("{verdict}: {} rules in {}", rules.rules().len(), names.join(", "))),
    }
    if report.examples > 0 {
        output::line(format!(
            "{} patterns, {} examples; no example reaches {} of the patterns",
            report.patterns, report.examples, report.uncovered
        ));
    }
    tell_learned(&report);
    if let Some(text) = text {
        let learned = learned.as_ref().and_then(|(mind, read)| Some((mind, read.as_ref()?)));
        let tried = rules.explain(project, text, &Circumstances::default(), learned, None);
        output::line(match (tried.rule, tried.action) {
            (Some(rule), Some(action)) => format!("{rule} answers: {}", words(&action)),
            _ => "no rule answers this".to_owned(),
        });
    }
    if faults == 0 { Ok(()) } else { Err(Broken(faults).into()) }
}

/// How well each rule that is learned is told from the others, and which examples are mistaken for another's.
fn tell_learned(report: &Report) {
    /// Mistaken examples that are told.
    const MOST: usize = 20;
    for (rule, mark) in &report.learned {
        let Mark { rule: _, examples, told, left, taken } = mark;
        let precision = mark.precision().map_or("nothing taken for it".to_owned(), |precision| {
            format!("{:.0} % of {taken} taken for it are it", precision * 100.0)
        });
        output::line(format!(
            "learned: {rule}: of {examples} examples, each held back once, {told} recognised, {left} left alone, {} mistaken; {precision}",
            examples - told - left
        ));
    }
    for Confusion { text, of, taken_for } in report.confusions.iter().take(MOST) {
        let of = of.as_deref().unwrap_or("no rule");
        output::line(format!("mistaken: \"{text}\" ({of}) is taken for {taken_for}"));
    }
}

fn page(tried: &Tried) -> String {
    let mut lines = Vec::new();
    match (&tried.rule, &tried.intent, &tried.action) {
        (Some(rule), Some(intent), Some(action)) => {
            lines.push(format!("{rule} ({intent}), score {:.2}", tried.score));
            lines.extend(tried.slots.iter().map(|(name, value)| format!("  {name} = {value}")));
            lines.push(format!("  {}: {}", action.name(), words(action)));
        }
        _ => lines.push("no rule answers this".to_owned()),
    }
    for (piece, rule) in &tried.parts {
        lines.push(format!("  part \"{piece}\": {}", rule.as_deref().unwrap_or("no rule")));
    }
    lines.extend(tried.model.iter().map(|said| format!("model {said}")));
    lines.extend(tried.why_not.iter().map(|why| format!("not {}: {}", why.rule, why.reason)));
    lines.join("\n")
}

/// What an action comes to, in a line.
fn words(action: &Action) -> String {
    match action {
        Action::Answer(text) | Action::Block(text) => text.clone(),
        Action::Json(json) => json.to_string(),
        Action::Calls(calls) => calls
            .iter()
            .map(|call| format!("{}({})", call.tool, call.arguments))
            .collect::<Vec<_>>()
            .join(", "),
        Action::Route(model) => format!("to {model}"),
        Action::Bypass => "past the cache".to_owned(),
        Action::Http(call) => format!("{} {}", call.method, call.url),
        Action::Several(actions) => actions.iter().map(words).collect::<Vec<_>>().join("; "),
    }
}

fn shown(tried: &Tried) -> Value {
    let slots: serde_json::Map<String, Value> =
        tried.slots.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let why_not: Vec<Value> =
        tried.why_not.iter().map(|why| json!({ "rule": why.rule, "reason": why.reason })).collect();
    let mut told = json!({
        "rule": tried.rule, "intent": tried.intent, "slots": slots, "score": tried.score,
        "action": tried.action.as_ref().map(|action| json!({ "kind": action.name(), "text": words(action) })),
        "why_not": why_not,
    });
    if let Some(model) = &tried.model {
        told["model"] = model.as_str().into();
    }
    told
}

/// How often each text is tried.
const ROUNDS: usize = 20;

fn bench(rules: &RuleSet, project: &str, more: usize) -> Result<(), crate::intent::Error> {
    let texts: Vec<String> = rules.sentences();
    report("the rules in force", rules, project, &texts);
    let many = crate::intent::parse(&many_rules(more))?;
    let texts: Vec<String> = (0..more).step_by(more.max(1).div_ceil(200)).flat_map(some_texts).collect();
    report(&format!("{more} rules made up for this"), &many, project, &texts);
    Ok(())
}

fn report(what: &str, rules: &RuleSet, project: &str, texts: &[String]) {
    let mut took: Vec<Duration> = Vec::with_capacity(texts.len() * ROUNDS);
    let mut answered = 0;
    for round in 0..ROUNDS {
        for text in texts {
            let began = Instant::now();
            let verdict = black_box(rules.classify(project, black_box(text)));
            took.push(began.elapsed());
            answered += usize::from(verdict.is_some() && round == 0);
        }
    }
    took.sort_unstable();
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
    output::line(format!(
        "{what}: {} rules, {} texts, {answered} answered; p50 {:?}, p99 {:?}",
        rules.rules().len(),
        texts.len(),
        at(0.50),
        at(0.99)
    ));
}

const VERBS: [&str; 10] =
    ["open", "close", "start", "stop", "show", "hide", "move", "copy", "check", "reset"];

/// Rules that share their verbs and differ in their objects, as real ones do.
fn many_rules(count: usize) -> String {
    let mut text = String::new();
    for nth in 0..count {
        let (verb, thing) = (VERBS[nth % VERBS.len()], thing(nth));
        let _ = write!(
            text,
            "[[rule]]\nname = \"r{nth}\"\nmatch = \"({verb}|please {verb}) {thing} [number] {{n:integer}} [to {{level:number}} [percent]]\"\nanswer = \"{{n}}\"\n"
        );
    }
    text
}

fn thing(nth: usize) -> String {
    const SOUNDS: [&str; 12] = ["ka", "lo", "mi", "ru", "ta", "ve", "no", "si", "pa", "de", "fu", "go"];
    let sound = |at: usize| SOUNDS[at % SOUNDS.len()];
    format!("{}{}{}", sound(nth / VERBS.len()), sound(nth / VERBS.len() / 12), sound(nth / 7))
}

/// One that a rule answers, one that is misspelt, one that nothing answers, and a long one.
fn some_texts(nth: usize) -> [String; 4] {
    let (verb, thing) = (VERBS[nth % VERBS.len()], thing(nth));
    [
        format!("hey, {verb} {thing} {} to fifty percent please", nth % 30),
        format!("{verb} the {thing}x number seven thanks"),
        format!("how do I {verb} a file in the {thing} folder of my project"),
        format!(
            "I was wondering whether you could {verb} all of the things that we talked about yesterday, since the {thing} is not what I expected, and tell me why"
        ),
    ]
}
