//! A rule file as it is written.

use super::kinds::Language;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    /// The languages whose number words are understood, beside English.
    #[serde(default)]
    pub(super) languages: Vec<Language>,
    /// The projects of the rules that name none.
    #[serde(default)]
    pub(super) projects: Vec<String>,
    /// What becomes of an utterance of several parts.
    #[serde(default)]
    pub(super) split: Split,
    /// What people say before and after what they want.
    #[serde(default)]
    pub(super) fillers: Vec<String>,
    /// Of what is taken for a rule that is learned from examples, the share that must be it.
    pub(super) precision: Option<f64>,
    #[serde(default)]
    pub(super) phrases: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) vocabulary: Vec<RawVocabulary>,
    #[serde(default)]
    pub(super) rule: Vec<RawRule>,
}

/// What becomes of an utterance of several parts, as "mute track 3 and solo track 5".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// It is answered where a rule answers each part; else it goes on whole.
    #[default]
    All,
    /// The parts that rules answer are answered, and the others are named.
    Parts,
    /// It is never split.
    Off,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVocabulary {
    pub(super) name: String,
    /// The longest name, in words, that is taken without being listed.
    #[serde(default)]
    pub(super) open: usize,
    #[serde(default)]
    pub(super) values: Vec<String>,
    /// More of them, one a line.
    #[serde(default)]
    pub(super) file: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) name: String,
    #[serde(default)]
    pub(super) intent: Option<String>,
    #[serde(default)]
    pub(super) priority: i32,
    #[serde(default)]
    pub(super) projects: Vec<String>,
    #[serde(default, rename = "match")]
    pub(super) patterns: OneOrMany<String>,
    #[serde(default)]
    pub(super) frames: OneOrMany<String>,
    /// Words that the frames may leave over, beside the usual ones.
    #[serde(default)]
    pub(super) glue: String,
    #[serde(default, alias = "pattern")]
    pub(super) regex: OneOrMany<String>,
    /// Whether misspelt words are taken for what they look like.
    #[serde(default = "yes")]
    pub(super) fuzzy: bool,
    /// Whether it is learned from its examples; where nothing else says what it matches, it is.
    pub(super) learn: Option<bool>,
    /// The slots of what is learned, wherever in the text they are said.
    #[serde(default)]
    pub(super) find: Option<String>,
    #[serde(default)]
    pub(super) slots: BTreeMap<String, RawSlot>,
    #[serde(default)]
    pub(super) set: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) when: RawWhen,
    #[serde(default)]
    pub(super) examples: Vec<RawExample>,
    #[serde(default)]
    pub(super) not: Vec<String>,

    #[serde(default)]
    pub(super) answer: Option<String>,
    #[serde(default)]
    pub(super) json: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) call: OneOrMany<RawCall>,
    #[serde(default)]
    pub(super) route: Option<String>,
    #[serde(default)]
    pub(super) bypass_cache: bool,
    #[serde(default)]
    pub(super) block: Option<String>,
    #[serde(default)]
    pub(super) http: Option<RawHttp>,
}

fn yes() -> bool {
    true
}

/// What a slot may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSlot {
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    #[serde(default, rename = "in")]
    pub(super) one_of: Vec<String>,
    pub(super) default: Option<String>,
    #[serde(default)]
    pub(super) required: bool,
}

/// What else must hold of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWhen {
    #[serde(default)]
    pub(super) models: Vec<String>,
    #[serde(default)]
    pub(super) tools: Vec<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tenants: Vec<String>,
    /// "22:00-06:00", in UTC.
    pub(super) hours: Option<String>,
    pub(super) language: Option<Language>,
    /// One of these words or phrases is said.
    #[serde(default)]
    pub(super) keywords: Vec<String>,
    pub(super) min_words: Option<usize>,
    pub(super) max_words: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawExample {
    Text(String),
    Full(FullExample),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullExample {
    pub(super) text: String,
    pub(super) slots: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCall {
    pub(super) tool: String,
    #[serde(default)]
    pub(super) arguments: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    pub(super) url: String,
    #[serde(default)]
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: Option<serde_json::Value>,
    /// What is answered; `{body}` is what the service said, and `{body.field}` a field of it.
    #[serde(default)]
    pub(super) answer: Option<String>,
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
}
