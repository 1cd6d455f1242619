//! [`Rule`]: what it catches, on which conditions, and what it says to do.

use super::kinds::Language;
use super::raw::{RawExample, RawHttp, RawRule, RawSlot, RawWhen, Split};
use super::template::{Derived, JsonTemplate, Named, Slots, Template, value};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The most memory a compiled regular expression may take. The `regex` crate never backtracks, so time is bounded too.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// How long a local service may take, where the rule does not say.
const SERVICE_DEADLINE: Duration = Duration::from_secs(2);
/// And at most.
const LONGEST_SERVICE_DEADLINE: Duration = Duration::from_mins(1);

/// The slot that holds the whole question.
pub(super) const WHOLE: &str = "_text";
/// Begins the names of slots that templates may use and nobody else is told.
pub(super) const HIDDEN: char = '_';

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called in headers, logs and metrics.
    pub name: String,
    /// What whoever says this wants; the rule's name where the file says nothing else.
    pub intent: String,
    /// Of several rules that match, the one with the highest is taken.
    pub priority: i32,
    /// The projects it holds in; empty: in all.
    pub projects: Vec<String>,
    /// Where it is from: a file, the name that a program has added it under, or `weir/…` for those that come with weir.
    pub origin: String,
    /// Tells what it says and does from what it said and did before.
    pub(super) digest: u64,
    /// Whether it is learned from its examples.
    pub(super) learns: bool,
    pub(super) find: Option<String>,
    pub(super) split: Split,
    pub(super) fuzzy: bool,
    pub(super) patterns: Vec<String>,
    pub(super) frames: Vec<String>,
    pub(super) glue: String,
    pub(super) regexes: Vec<Regex>,
    pub(super) bounds: BTreeMap<String, Bounds>,
    pub(super) derived: Vec<(String, Derived)>,
    pub(super) when: When,
    pub(super) examples: Vec<Example>,
    pub(super) not: Vec<String>,
    pub(super) action: Act,
}

/// Something that the rule must catch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Example {
    pub(super) text: String,
    /// What its slots must then hold; `None`: anything.
    pub(super) slots: Option<BTreeMap<String, String>>,
}

/// What a slot may hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    one_of: Vec<String>,
    pub(super) default: Option<String>,
    pub(super) required: bool,
}

impl Bounds {
    pub(super) fn allow(&self, value: &str) -> bool {
        let number = || value.parse::<f64>().ok();
        let above = self.min.is_none_or(|min| number().is_some_and(|number| number >= min));
        let below = self.max.is_none_or(|max| number().is_some_and(|number| number <= max));
        let listed =
            self.one_of.is_empty() || self.one_of.iter().any(|known| known.eq_ignore_ascii_case(value));
        above && below && listed
    }
}

/// What else must hold of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct When {
    raw: RawWhen,
    hours: Option<(u16, u16)>,
}

/// What is known of a request beside its words.
#[derive(Clone, Debug, Default)]
pub struct Circumstances<'r> {
    /// The model that is asked for.
    pub model: &'r str,
    /// The names of the tools that may be called; `None` where nobody says whether there are any.
    pub tools: Option<Vec<&'r str>>,
    /// Its headers, as far as a rule may see them.
    pub headers: &'r [(String, String)],
    /// Whose request it is.
    pub tenant: &'r str,
    /// The minute of the day, in UTC; `None` where it does not matter.
    pub minute: Option<u16>,
    /// Nobody knows the request any more, only its words: conditions on the rest hold.
    pub words_only: bool,
}

/// What a rule says to do.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Text(Template),
    Json(JsonTemplate),
    Calls(Vec<(String, Vec<(String, JsonTemplate)>)>),
    Route(String),
    Bypass,
    Block(Template),
    Http(Box<Service>),
}

/// A local service that knows the answer.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) url: Template,
    pub(super) method: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<JsonTemplate>,
    pub(super) answer: Option<String>,
    pub(super) deadline: Duration,
}

/// What a rule says to do, with its slots filled in.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer with this text.
    Answer(String),
    /// Answer with this JSON.
    Json(Value),
    /// Have these tools called.
    Calls(Vec<Call>),
    /// Ask this model.
    Route(String),
    /// Ask whoever would be asked, and never the cache.
    Bypass,
    /// Do not answer, and say why.
    Block(String),
    /// Ask a local service.
    Http(Box<HttpCall>),
    /// Do all of these.
    Several(Vec<Action>),
}

impl Action {
    /// Its stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Json(_) => "json",
            Self::Calls(_) => "call",
            Self::Route(_) => "route",
            Self::Bypass => "bypass_cache",
            Self::Block(_) => "block",
            Self::Http(_) => "http",
            Self::Several(_) => "several",
        }
    }
}

/// A tool to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
}

/// A request to a local service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    /// Where it is.
    pub url: String,
    /// How it is asked.
    pub method: String,
    /// Headers; `${NAME}` in a value stands for a secret of the configuration, so that none is in a rule file.
    pub headers: Vec<(String, String)>,
    /// What it is sent.
    pub body: Option<String>,
    /// What is answered; `{body}` is what the service said, and `{body.field}` a field of it.
    pub answer: Option<String>,
    /// How long it may take.
    pub deadline: Duration,
}

impl Rule {
    pub(super) fn new(raw: RawRule, projects: &[String], split: Split) -> Result<Self, String> {
        // The name travels in a response header.
        if raw.name.is_empty() || !raw.name.chars().all(|c| c.is_ascii_graphic()) {
            return Err("a name must be of visible ASCII characters, without spaces".to_owned());
        }
        let action = act(&raw)?;
        let regexes = raw.regex.as_slice().iter().map(|text| regex(text)).collect::<Result<Vec<_>, _>>()?;
        let derived = raw.set.iter().map(|(name, text)| Ok((name.clone(), Derived::new(text)?)));
        let derived = derived.collect::<Result<Vec<_>, String>>()?;
        let matches_nothing = raw.patterns.as_slice().is_empty()
            && raw.frames.as_slice().is_empty()
            && raw.regex.as_slice().is_empty();
        let learns = raw.learn.unwrap_or(matches_nothing && !raw.examples.is_empty());
        if learns && raw.examples.is_empty() {
            return Err("it learns from examples, and has none".to_owned());
        }
        if raw.find.is_some() && !learns {
            return Err(
                "\"find\" is for rules that learn from examples; patterns have slots of their own".to_owned()
            );
        }
        let examples = raw.examples.iter().map(|example| match example {
            RawExample::Text(text) => Example { text: text.clone(), slots: None },
            RawExample::Full(full) => Example { text: full.text.clone(), slots: Some(full.slots.clone()) },
        });
        let rule = Self {
            intent: raw.intent.clone().unwrap_or_else(|| raw.name.clone()),
            priority: raw.priority,
            projects: if raw.projects.is_empty() { projects.to_vec() } else { raw.projects.clone() },
            origin: String::new(),
            digest: 0,
            learns,
            find: raw.find.clone(),
            split,
            fuzzy: raw.fuzzy,
            patterns: raw.patterns.as_slice().to_vec(),
            frames: raw.frames.as_slice().to_vec(),
            glue: raw.glue,
            regexes,
            bounds: raw.slots.iter().map(|(name, slot)| (name.clone(), bounds(slot))).collect(),
            derived,
            when: When::new(raw.when)?,
            examples: examples.collect(),
            not: raw.not,
            action,
            name: raw.name,
        };
        if rule.patterns.is_empty()
            && rule.frames.is_empty()
            && rule.regexes.is_empty()
            && !rule.learns
            && !rule.has_condition()
        {
            return Err("it says neither what it matches nor when it holds".to_owned());
        }
        Ok(rule)
    }

    /// The stable name of what it says to do.
    pub fn action_name(&self) -> &'static str {
        match &self.action {
            Act::Text(_) => "answer",
            Act::Json(_) => "json",
            Act::Calls(_) => "call",
            Act::Route(_) => "route",
            Act::Bypass => "bypass_cache",
            Act::Block(_) => "block",
            Act::Http(_) => "http",
        }
    }

    /// How many patterns, frames and regular expressions it has.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len() + self.frames.len() + self.regexes.len()
    }

    /// Whether it holds in this project.
    pub fn holds_in(&self, project: &str) -> bool {
        self.projects.is_empty() || self.projects.iter().any(|name| crate::chat::matches(name, project))
    }

    /// Whether it matches any words, on its conditions.
    pub(super) fn is_of_conditions_only(&self) -> bool {
        self.patterns.is_empty() && self.frames.is_empty() && self.regexes.is_empty() && !self.learns
    }

    /// Whether it is learned from its examples.
    pub fn learns(&self) -> bool {
        self.learns
    }

    /// What it is found again by after its file was read anew.
    pub(super) fn key(&self) -> String {
        format!("{}\u{1f}{}", self.origin, self.name)
    }

    fn has_condition(&self) -> bool {
        self.when.raw != RawWhen::default()
    }

    /// All slots of a match, derived and default ones among them; `None` where one is missing or does not fit.
    pub(super) fn complete(&self, mut slots: Slots, text: &str) -> Option<Slots> {
        for (name, bounds) in &self.bounds {
            match (value(&slots, name), &bounds.default) {
                (None, Some(default)) => slots.push((name.clone(), default.clone())),
                (None, None) if bounds.required => return None,
                _ => {}
            }
        }
        slots.push((WHOLE.to_owned(), text.to_owned()));
        // Those that others are made from come first, wherever they stand.
        let (hidden, shown): (Vec<_>, Vec<_>) =
            self.derived.iter().partition(|(name, _)| name.starts_with(HIDDEN));
        for (name, derived) in shown.into_iter().chain(hidden) {
            let worked_out = derived.work_out(&slots)?;
            slots.retain(|(known, _)| known != name);
            slots.push((name.clone(), worked_out));
        }
        Some(slots)
    }

    /// What it says to do with these slots.
    pub(super) fn act(&self, slots: &[(String, String)]) -> Action {
        match &self.action {
            Act::Text(text) => Action::Answer(text.fill(slots)),
            Act::Json(json) => Action::Json(json.fill(slots).unwrap_or_default()),
            Act::Calls(calls) => Action::Calls(calls.iter().map(|call| fill_call(call, slots)).collect()),
            Act::Route(model) => Action::Route(model.clone()),
            Act::Bypass => Action::Bypass,
            Act::Block(text) => Action::Block(text.fill(slots)),
            Act::Http(service) => Action::Http(Box::new(fill_service(service, slots))),
        }
    }

    /// What stands in its templates.
    pub(super) fn template_slots(&self) -> Vec<Named<'_>> {
        let acted = match &self.action {
            Act::Text(text) | Act::Block(text) => text.slots().collect(),
            Act::Json(json) => json.slots(),
            Act::Calls(calls) => {
                calls.iter().flat_map(|(_, fields)| fields).flat_map(|(_, json)| json.slots()).collect()
            }
            Act::Route(_) | Act::Bypass => Vec::new(),
            Act::Http(service) => {
                service.url.slots().chain(service.body.iter().flat_map(JsonTemplate::slots)).collect()
            }
        };
        acted.into_iter().chain(self.derived.iter().flat_map(|(_, derived)| derived.slots())).collect()
    }
}

fn fill_call((tool, fields): &(String, Vec<(String, JsonTemplate)>), slots: &[(String, String)]) -> Call {
    let filled = fields.iter().filter_map(|(name, json)| Some((name.clone(), json.fill(slots)?)));
    Call { tool: tool.clone(), arguments: Value::Object(filled.collect()) }
}

fn fill_service(service: &Service, slots: &[(String, String)]) -> HttpCall {
    // A value must not become a part of the address that it is put into.
    let escaped: Slots = slots.iter().map(|(name, value)| (name.clone(), escape(value))).collect();
    HttpCall {
        url: service.url.fill(&escaped),
        method: service.method.clone(),
        headers: service.headers.clone(),
        body: service.body.as_ref().and_then(|body| body.fill(slots)).map(|body| body.to_string()),
        answer: service.answer.as_deref().map(|answer| without_body(answer, slots)),
        deadline: service.deadline,
    }
}

/// The answer with its slots filled; what stands for the service's words stays.
fn without_body(answer: &str, slots: &[(String, String)]) -> String {
    Template::new(answer).fill(&slots.iter().filter(|(name, _)| name != "body").cloned().collect::<Vec<_>>())
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

fn bounds(raw: &RawSlot) -> Bounds {
    let RawSlot { min, max, one_of, default, required } = raw.clone();
    Bounds { min, max, one_of, default, required }
}

pub(super) fn regex(text: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(text)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| format!("the pattern does not compile: {error}"))?;
    match regex.is_match("") {
        true => Err("the pattern matches the empty text, so it would catch every question".to_owned()),
        false => Ok(regex),
    }
}

fn act(raw: &RawRule) -> Result<Act, String> {
    let mut acts = Vec::new();
    if let Some(answer) = &raw.answer {
        if answer.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        acts.push(Act::Text(Template::new(answer)));
    }
    acts.extend(raw.json.as_ref().map(|json| Act::Json(JsonTemplate::new(json))));
    let calls = raw.call.as_slice();
    if !calls.is_empty() {
        acts.push(Act::Calls(
            calls.iter().map(|call| (call.tool.clone(), fields(&call.arguments))).collect(),
        ));
    }
    acts.extend(raw.route.clone().map(Act::Route));
    acts.extend(raw.bypass_cache.then_some(Act::Bypass));
    acts.extend(raw.block.as_ref().map(|text| Act::Block(Template::new(text))));
    if let Some(http) = &raw.http {
        acts.push(Act::Http(Box::new(service(http)?)));
    }
    match (acts.pop(), acts.is_empty()) {
        (Some(act), true) => Ok(act),
        (None, _) => {
            Err("it says nothing to do: give it one of answer, json, call, route, bypass_cache, block, http"
                .to_owned())
        }
        (Some(_), false) => Err("it says several things to do; give it one of them".to_owned()),
    }
}

fn fields(arguments: &serde_json::Map<String, Value>) -> Vec<(String, JsonTemplate)> {
    arguments.iter().map(|(name, value)| (name.clone(), JsonTemplate::new(value))).collect()
}

fn service(raw: &RawHttp) -> Result<Service, String> {
    let RawHttp { url, method, headers, body, answer, timeout_ms } = raw.clone();
    let host = url.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    if !host.is_some_and(|host| !host.is_empty() && !host.contains('{')) {
        return Err("http.url must name its host, and no slot may be in it".to_owned());
    }
    let method = method.unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
    let deadline = timeout_ms.map_or(SERVICE_DEADLINE, Duration::from_millis);
    if deadline.is_zero() || deadline > LONGEST_SERVICE_DEADLINE {
        return Err(format!("http.timeout_ms must be from 1 to {}", LONGEST_SERVICE_DEADLINE.as_millis()));
    }
    Ok(Service {
        url: Template::new(&url),
        method: method.to_ascii_uppercase(),
        headers: headers.into_iter().collect(),
        body: body.as_ref().map(JsonTemplate::new),
        answer,
        deadline,
    })
}

impl When {
    fn new(raw: RawWhen) -> Result<Self, String> {
        let hours = raw.hours.as_deref().map(hours).transpose()?;
        Ok(Self { raw, hours })
    }

    /// The first condition that does not hold.
    pub(super) fn fails(&self, text: &str, around: &Circumstances<'_>) -> Option<&'static str> {
        let RawWhen { models, tools, headers, tenants, hours: _, language, keywords, min_words, max_words } =
            &self.raw;
        if self.raw == RawWhen::default() {
            return None;
        }
        let any = |patterns: &[String], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| crate::chat::matches(pattern, name))
        };
        let offered =
            |tool: &String| around.tools.as_ref().is_none_or(|tools| tools.contains(&tool.as_str()));
        let has = |(name, value): (&String, &String)| {
            let mut lines = around.headers.iter();
            lines.any(|(known, said)| known.eq_ignore_ascii_case(name) && crate::chat::matches(value, said))
        };
        let lower = text.to_lowercase();
        let words = text.split_whitespace().count();
        match () {
            () if language.is_some_and(|language| !speaks(&lower, language)) => Some("when.language"),
            () if !keywords.is_empty() && !keywords.iter().any(|word| says(&lower, word)) => {
                Some("when.keywords")
            }
            () if min_words.is_some_and(|least| words < least) => Some("when.min_words"),
            () if max_words.is_some_and(|most| words > most) => Some("when.max_words"),
            () if around.words_only => None,
            () if !any(models, around.model) => Some("when.models"),
            () if !any(tenants, around.tenant) => Some("when.tenants"),
            () if !tools.iter().all(offered) => Some("when.tools"),
            () if !headers.iter().all(has) => Some("when.headers"),
            () if !self.is_open(around.minute) => Some("when.hours"),
            () => None,
        }
    }

    fn is_open(&self, minute: Option<u16>) -> bool {
        match (self.hours, minute) {
            (Some((from, to)), Some(minute)) if from <= to => (from..to).contains(&minute),
            // Over midnight.
            (Some((from, to)), Some(minute)) => minute >= from || minute < to,
            _ => true,
        }
    }
}

fn hours(text: &str) -> Result<(u16, u16), String> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 1440).then_some(hour * 60 + minute)
    };
    let span = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    span.ok_or_else(|| "when.hours must be like \"22:00-06:00\"".to_owned())
}

/// Whether `phrase` stands in `text`, at the borders of words.
fn says(text: &str, phrase: &str) -> bool {
    let phrase = phrase.to_lowercase();
    let is_border = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(&phrase).any(|(at, found)| {
        is_border(text[..at].chars().next_back()) && is_border(text[at + found.len()..].chars().next())
    })
}

const TELLTALES: [(Language, &str); 4] = [
    (Language::En, "the is are a an and of to in for what how please with my it do you i on can"),
    (
        Language::De,
        "der die das ist und nicht ein eine wie was bitte mit mein ich auf kann den dem zu für von",
    ),
    (Language::Es, "el la los las es y de que un una como por favor con mi en puede para qué cómo"),
    (Language::Fr, "le la les est et de que un une comment avec mon ma je sur peut pour quel quelle des du"),
];

/// Whether `text` reads most like this language, by its small words.
fn speaks(text: &str, language: Language) -> bool {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let count = |telltales: &str| {
        words.iter().filter(|word| telltales.split(' ').any(|known| known == **word)).count()
    };
    let counts: Vec<(Language, usize)> =
        TELLTALES.iter().map(|(language, words)| (*language, count(words))).collect();
    let best = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    best > 0 && counts.iter().any(|(known, count)| *known == language && *count == best)
}
