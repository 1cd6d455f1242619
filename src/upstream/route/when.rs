//! Which requests a route is for: [`When`].

use crate::chat::{Request, Role, matches};
use crate::upstream::Call;
use crate::wire::tokens::estimate_tokens;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::cell::OnceCell;
use std::ops::RangeInclusive;

/// How much of a question is searched: what is beyond says little about what kind of question it is.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// How everything that is answered is asked.
const METHOD: &str = "POST";

/// How large a compiled pattern may be.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// What a route is for: all of these. A list that is empty says nothing; of the others one entry must match,
/// and of `headers`, `query` and `body` every one.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The model that is asked for, where `*` stands for anything.
    pub models: Vec<String>,
    /// The path, likewise.
    pub paths: Vec<String>,
    /// The method, whatever its case, likewise.
    pub methods: Vec<String>,
    /// The project, likewise.
    pub projects: Vec<String>,
    /// The tenant, likewise.
    pub tenants: Vec<String>,
    /// Headers by their names in small letters, and what they hold, likewise.
    pub headers: Vec<(String, String)>,
    /// Parameters of the query, likewise.
    pub query: Vec<(String, String)>,
    /// Fields of the body as it came, by their path (`metadata.team`), and what they hold.
    pub body: Vec<(String, Value)>,
    /// About how many tokens are read.
    pub tokens: Option<RangeInclusive<u64>>,
    /// What the question's words say.
    pub words: Words,
}

/// Words and patterns, one of which a question holds.
#[derive(Clone, Debug, Default)]
pub struct Words {
    keywords: Vec<String>,
    patterns: Vec<String>,
    compiled: Vec<Regex>,
}

/// A pattern that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

impl Words {
    /// Finds any of `keywords`, as whole words, whatever their case; or what any of `patterns` describes. They are
    /// searched in linear time: there are no look-arounds and no references.
    pub fn new(keywords: Vec<String>, patterns: Vec<String>) -> Result<Self, BadPattern> {
        let alternatives: Vec<String> = keywords.iter().map(|word| regex::escape(word.trim())).collect();
        let any_keyword = match alternatives.is_empty() {
            true => None,
            // `\b` would not do: it is nowhere beside the last plus of C++.
            false => Some(format!(r"(?i)(?:^|\W)(?:{})(?:\W|$)", alternatives.join("|"))),
        };
        let mut compiled = Vec::new();
        for pattern in any_keyword.iter().chain(&patterns) {
            let built = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
            compiled.push(built.map_err(|error| BadPattern(explained(&error)))?);
        }
        Ok(Self { keywords, patterns, compiled })
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.compiled.is_empty()
    }

    fn found_in(&self, text: &str) -> bool {
        self.compiled.iter().any(|pattern| pattern.is_match(text))
    }

    /// The keywords.
    pub fn keywords(&self) -> &[String] {
        &self.keywords
    }

    /// The patterns, as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

/// The last line of it: the others draw the pattern.
fn explained(error: &regex::Error) -> String {
    match error {
        regex::Error::Syntax(text) => {
            let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            line.trim().trim_start_matches("error: ").to_owned()
        }
        regex::Error::CompiledTooBig(_) => "is too large a pattern".to_owned(),
        _ => "cannot be used as a pattern".to_owned(),
    }
}

/// A request, and what routes ask about it; what is dear to find out is found out once, if at all.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request,
    call: &'a Call,
    body: OnceCell<Value>,
    text: OnceCell<String>,
    tokens: OnceCell<u64>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(request: &'a Request, call: &'a Call) -> Self {
        Self { request, call, body: OnceCell::new(), text: OnceCell::new(), tokens: OnceCell::new() }
    }

    fn field(&self, path: &str) -> Option<&Value> {
        // What came over no wire has no fields.
        let read = || serde_json::from_slice(&self.request.received.body).unwrap_or_default();
        path.split('.').try_fold(self.body.get_or_init(read), |value, field| value.get(field))
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| last_words(self.request))
    }

    pub(super) fn tokens(&self) -> u64 {
        *self.tokens.get_or_init(|| estimate_tokens(self.request))
    }
}

/// What the user has said last: agents put a message of their own behind the question.
fn last_words(request: &Request) -> String {
    let said = request.messages.iter().rev().take_while(|message| message.role == Role::User);
    let mut texts: Vec<String> = said.map(crate::chat::Message::plain_text).collect();
    texts.reverse();
    let mut text = texts.join("\n");
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

impl When {
    /// Whether it says anything at all.
    pub fn is_empty(&self) -> bool {
        let Self { models, paths, methods, projects, tenants, headers, query, body, tokens, words } = self;
        [models, paths, methods, projects, tenants].into_iter().all(Vec::is_empty)
            && [headers, query].into_iter().all(Vec::is_empty)
            && body.is_empty()
            && tokens.is_none()
            && words.is_empty()
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, asked: &Asked<'_>) -> bool {
        let Self { models, paths, methods, projects, tenants, headers, query, body, tokens, words } = self;
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        let Call { tenant, project, envelope, .. } = asked.call;
        // The cheap ones first.
        any(models, &asked.request.model)
            && any(paths, &envelope.path)
            && (methods.is_empty() || any(methods, METHOD) || any(methods, &METHOD.to_lowercase()))
            && any(projects, project)
            && any(tenants, tenant)
            && headers.iter().all(|wanted| has_header(&envelope.headers, wanted))
            && query.iter().all(|wanted| has_parameter(&envelope.query, wanted))
            && body.iter().all(|(path, wanted)| asked.field(path).is_some_and(|held| same(held, wanted)))
            && tokens.as_ref().is_none_or(|range| range.contains(&asked.tokens()))
            && (words.is_empty() || words.found_in(asked.text()))
    }
}

fn has_header(headers: &[(String, String)], (name, pattern): &(String, String)) -> bool {
    headers.iter().any(|(known, value)| known.eq_ignore_ascii_case(name) && matches(pattern, value))
}

/// Parameters are compared as they are sent: what is escaped stays so.
fn has_parameter(query: &str, (name, pattern): &(String, String)) -> bool {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().any(|(known, value)| known == name && matches(pattern, value))
}

/// Whether two values count the same: 0 is 0.0, and a text may be a pattern.
fn same(held: &Value, wanted: &Value) -> bool {
    match (held, wanted) {
        (Value::String(held), Value::String(pattern)) => matches(pattern, held),
        _ => match (held.as_f64(), wanted.as_f64()) {
            (Some(held), Some(wanted)) => held.total_cmp(&wanted).is_eq() || (held == 0.0 && wanted == 0.0),
            _ => held == wanted,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::upstream::Envelope;
    use serde_json::json;
    use std::sync::Arc;
    use std::time::Duration;

    fn call() -> Call {
        let envelope = Envelope {
            path: "/v1/chat/completions".to_owned(),
            query: "tier=gold&beta".to_owned(),
            headers: vec![("x-team".to_owned(), "search-eu".to_owned())],
            ..Envelope::default()
        };
        Call {
            tenant: "acme".into(),
            project: "docs".into(),
            envelope: Arc::new(envelope),
            ..Call::within(Duration::from_mins(1))
        }
    }

    fn asking(texts: &[&str]) -> Request {
        let messages = texts.iter().map(|text| Message::text(Role::User, *text)).collect();
        let mut request = Request { model: "gpt-5".to_owned(), messages, ..Request::default() };
        request.received.body =
            json!({"temperature": 0, "metadata": {"team": "search-eu"}}).to_string().into();
        request
    }

    fn holds(when: &When, texts: &[&str]) -> bool {
        when.holds(&Asked::new(&asking(texts), &call()))
    }

    fn list(pattern: &str) -> Vec<String> {
        vec!["nothing".to_owned(), pattern.to_owned()]
    }

    fn pair(name: &str, pattern: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), pattern.to_owned())]
    }

    #[test]
    fn each_condition_holds_where_it_should_and_not_elsewhere() {
        let body = |path: &str, value: Value| vec![(path.to_owned(), value)];
        let table = [
            (When { models: list("gpt-*"), ..When::default() }, true),
            (When { models: list("claude-*"), ..When::default() }, false),
            (When { paths: list("/v1/chat/*"), ..When::default() }, true),
            (When { paths: list("/v1/messages"), ..When::default() }, false),
            (When { methods: list("POST"), ..When::default() }, true),
            (When { methods: list("post"), ..When::default() }, true),
            (When { methods: list("GET"), ..When::default() }, false),
            (When { projects: list("docs"), ..When::default() }, true),
            (When { projects: list("code"), ..When::default() }, false),
            (When { tenants: list("acme"), ..When::default() }, true),
            (When { tenants: list("other"), ..When::default() }, false),
            (When { headers: pair("X-Team", "search-*"), ..When::default() }, true),
            (When { headers: pair("x-team", "ads"), ..When::default() }, false),
            (When { query: pair("tier", "gold"), ..When::default() }, true),
            (When { query: pair("beta", ""), ..When::default() }, true),
            (When { query: pair("tier", "tin"), ..When::default() }, false),
            (When { body: body("temperature", json!(0.0)), ..When::default() }, true),
            (When { body: body("metadata.team", json!("search-*")), ..When::default() }, true),
            (When { body: body("temperature", json!(1)), ..When::default() }, false),
            (When { tokens: Some(0..=99), ..When::default() }, true),
            (When { tokens: Some(100..=u64::MAX), ..When::default() }, false),
            (When::default(), true),
        ];
        for (when, expected) in table {
            assert_eq!(holds(&when, &["hello"]), expected, "{when:?}");
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let when = |team: &str| When {
            models: list("gpt-5"),
            headers: [pair("x-team", "search-eu"), pair("x-team", team)].concat(),
            ..When::default()
        };
        assert!(holds(&when("*-eu"), &["hello"]));
        assert!(!holds(&when("*-us"), &["hello"]));
    }

    #[test]
    fn keywords_are_whole_words_in_what_the_user_said_last() {
        let when = When {
            words: Words::new(vec!["C++".into(), "stack trace".into()], vec![]).unwrap(),
            ..When::default()
        };
        for (texts, expected) in [
            (&["why does my c++ not compile"] as &[&str], true),
            (&["a Stack Trace:"], true),
            (&["stack traces"], false),
            (&["in Objective-C"], false),
            (&["is this C++?", "<internal context>"], true),
        ] {
            assert_eq!(holds(&when, texts), expected, "{texts:?}");
        }
        let mut earlier = asking(&["c++?"]);
        earlier.messages.push(Message::text(Role::Assistant, "yes"));
        earlier.messages.push(Message::text(Role::User, "thanks"));
        assert!(!when.holds(&Asked::new(&earlier, &call())), "that was before");
    }

    #[test]
    fn patterns_are_found_in_linear_time_or_refused() {
        let pattern = |text: &str| Words::new(vec![], vec![text.into()]);
        let when = When { words: pattern(r"(?i)\bSELECT\b.+\bFROM\b").unwrap(), ..When::default() };
        assert!(holds(&when, &["select a from b"]));
        assert!(!holds(&when, &["selected from"]));
        let refused = |text: &str| pattern(text).unwrap_err().to_string();
        assert!(refused("(?=x)").contains("look-around"), "{}", refused("(?=x)"));
        assert!(refused("(").contains("unclosed group"), "{}", refused("("));
        assert_eq!(refused(r"\w{1000}{100}"), "is too large a pattern");
        let evil = When { words: pattern("(a+)+$").unwrap(), ..When::default() };
        let long = "a".repeat(MAX_TEXT_BYTES - 1) + "!";
        let began = std::time::Instant::now();
        assert!(!holds(&evil, &[&long]));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
