//! Rules of one's own about what is kept, and for how long.

use super::words::Finder;
use crate::chat::{Protocol, Request, matches};
use serde_json::Value;
use std::cell::OnceCell;
use std::time::Duration;

/// A rule. The first one that matches a request holds for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// What it matches.
    pub when: When,
    /// What then holds.
    pub then: Then,
}

/// What a rule matches: all of these. A list that is empty says nothing; of the others, one entry must match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// The protocol a request comes in.
    pub protocols: Vec<Protocol>,
    /// The model it names, where `*` stands for anything.
    pub models: Vec<String>,
    /// The project it comes from, where `*` stands for anything.
    pub projects: Vec<String>,
    /// Phrases in the question.
    pub words: Vec<String>,
    /// Fields of the body as it came, by their path (`metadata.team`), and what they hold. All of them must.
    pub body: Vec<(String, Value)>,
}

/// What holds where a rule matches. `None` is what holds without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Then {
    /// Whether the answer is kept, and memory may answer; if so, then however freely the answer is drawn, and
    /// whatever the words ask for.
    pub store: Option<bool>,
    /// Whether it may be an answer to other words.
    pub semantic: Option<bool>,
    /// How long it lives.
    pub ttl: Option<Duration>,
    /// How long after that it may still be given where nobody else answers.
    pub stale_if_error: Option<Duration>,
    /// Whether what is asked changes soon, whatever its words are.
    pub volatile: Option<bool>,
}

/// What rules look at.
pub(super) struct Asked<'a> {
    pub(super) project: &'a str,
    pub(super) request: &'a Request,
    /// The question's words.
    pub(super) text: &'a str,
    /// Read where a rule asks for it, and once.
    body: OnceCell<Value>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(project: &'a str, request: &'a Request, text: &'a str) -> Self {
        Self { project, request, text, body: OnceCell::new() }
    }

    fn field(&self, path: &str) -> Option<&Value> {
        let body = self.body.get_or_init(|| {
            // What came over no wire has no fields.
            serde_json::from_slice(&self.request.received.body).unwrap_or_default()
        });
        path.split('.').try_fold(body, |value, field| value.get(field))
    }
}

/// Rules, ready to be matched.
#[derive(Debug)]
pub(super) struct Rules(Vec<(Rule, Finder)>);

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let with_finder = |rule: Rule| {
            let finder = Finder::new(&rule.when.words);
            (rule, finder)
        };
        Self(rules.into_iter().map(with_finder).collect())
    }

    /// What the first one that matches says.
    pub(super) fn first(&self, asked: &Asked<'_>) -> Option<&Then> {
        let matching = self.0.iter().find(|(rule, words)| rule.when.holds(asked, words));
        matching.map(|(rule, _)| &rule.then)
    }
}

impl When {
    fn holds(&self, asked: &Asked<'_>, finder: &Finder) -> bool {
        let Self { protocols, models, projects, words, body } = self;
        let Asked { project, request, text, body: _ } = asked;
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        // The cheap ones first.
        (protocols.is_empty() || protocols.contains(&request.received.protocol))
            && any(models, &request.model)
            && any(projects, project)
            && (words.is_empty() || finder.finds(text))
            && body.iter().all(|(path, wanted)| asked.field(path).is_some_and(|held| same(held, wanted)))
    }
}

/// Whether two values count the same: 0 is 0.0.
fn same(held: &Value, wanted: &Value) -> bool {
    match (held.as_f64(), wanted.as_f64()) {
        (Some(held), Some(wanted)) => held.total_cmp(&wanted).is_eq() || (held == 0.0 && wanted == 0.0),
        _ => held == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(body: &Value) -> Request {
        let mut request = Request { model: "gpt-4o-mini".into(), ..Request::default() };
        request.received.body = body.to_string().into();
        request
    }

    fn holds(when: When) -> bool {
        let request = asked(&json!({
            "temperature": 0, "top_p": -0.0, "metadata": {"team": "docs"}, "seed": 7, "stream": true, "x": null,
        }));
        let rules = Rules::new(vec![Rule { name: "r".into(), when, then: Then::default() }]);
        rules.first(&Asked::new("music", &request, "Deploy status, please")).is_some()
    }

    #[test]
    fn all_that_a_rule_says_must_hold() {
        let field = |path: &str, value: Value| When { body: vec![(path.into(), value)], ..When::default() };
        let list = |item: &str| vec!["no".to_owned(), item.to_owned()];
        let cases = [
            (When::default(), true),
            (When { protocols: vec![Protocol::OpenAiChat], ..When::default() }, true),
            (When { protocols: vec![Protocol::Gemini], ..When::default() }, false),
            (When { models: list("gpt-4o*"), ..When::default() }, true),
            (When { models: list("claude*"), ..When::default() }, false),
            (When { projects: list("mus*"), ..When::default() }, true),
            (When { projects: list("other"), ..When::default() }, false),
            (When { words: list("deploy status"), ..When::default() }, true),
            (When { words: list("weather"), ..When::default() }, false),
            (field("temperature", json!(0.0)), true),
            (field("temperature", json!(0.5)), false),
            (field("top_p", json!(0)), true),
            (field("metadata.team", json!("docs")), true),
            (field("metadata.team", json!("sales")), false),
            (field("stream", json!(true)), true),
            (field("seed", json!("7")), false),
            (field("missing", json!(0)), false),
            (field("temperature.deeper", json!(0)), false),
            (When { models: list("claude*"), ..field("temperature", json!(0)) }, false),
        ];
        for (when, expected) in cases {
            assert_eq!(holds(when.clone()), expected, "{when:?}");
        }
    }

    #[test]
    fn the_first_that_matches_holds() {
        let rule = |model: &str, seconds| Rule {
            name: model.into(),
            when: When { models: vec![model.into()], ..When::default() },
            then: Then { ttl: Some(Duration::from_secs(seconds)), ..Then::default() },
        };
        let rules = Rules::new(vec![rule("claude*", 1), rule("gpt-*", 2), rule("*", 3)]);
        let request = asked(&json!("no object"));
        let ttl = rules.first(&Asked::new("p", &request, "q")).and_then(|then| then.ttl);
        assert_eq!(ttl, Some(Duration::from_secs(2)));
    }
}
