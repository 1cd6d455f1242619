//! What a line of the journal says. One JSON object a line, with one key that tells what it is.

use crate::chat::{Protocol, Reply, Usage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format. A newer one is refused.
pub const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// How a file begins.
    Head(Head),
    /// A request, and what became of it. Written when it has ended.
    Request(Box<Row>),
    /// What somebody answered in the background to a request that was answered from memory.
    Fresh(Box<Fresh>),
    /// Something was learned from the answer to a request.
    Learned(Learned),
    /// What somebody said about an answer.
    Feedback(Word),
}

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Of the format.
    pub version: u32,
    /// The program that wrote it.
    pub weir: String,
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// Where the numbers begin by which hits are picked to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A request, and what became of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// When it came, in microseconds since the Unix epoch.
    pub at: u64,
    /// Its name.
    pub id: String,
    /// Whose it was.
    pub tenant: String,
    /// In which project.
    pub project: String,
    /// The state that the project was in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What was wanted of the cache.
    #[serde(skip_serializing_if = "Wanted::is_nothing")]
    pub wanted: Wanted,
    /// The protocol it came in.
    pub protocol: Protocol,
    /// The model that was asked for.
    pub model: String,
    /// Whether as a stream.
    #[serde(skip_serializing_if = "is_false")]
    pub stream: bool,
    /// Headers that say something to the provider.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// What it said: the body, without secrets. Nothing where only digests are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
    /// By what the body is known again where it is not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Where the answer came from: `rule`, `exact`, `semantic`, `upstream`, `local`; nothing where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The entry of the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// How like its question is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
    /// Why memory had no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss: Option<String>,
    /// Whether the answer was that to another request, too.
    #[serde(skip_serializing_if = "is_false")]
    pub shared: bool,
    /// Who gave it, now or once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Whose answer was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<Voice>,
    /// The model that was asked in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_as: Option<String>,
    /// Who was asked before, and how it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(String, String)>,
    /// Whether the answer was remembered: `kept`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// How it ended.
    pub ended: String,
    /// What was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Until memory had spoken, in microseconds.
    pub recall_us: u64,
    /// Until the first words came from upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
    /// Until the end.
    pub total_us: u64,
    /// What was answered, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

impl Row {
    /// When memory had spoken.
    pub fn decided(&self) -> u64 {
        self.at.saturating_add(self.recall_us)
    }

    /// When it ended.
    pub fn ended_at(&self) -> u64 {
        self.at.saturating_add(self.total_us.max(self.recall_us))
    }
}

/// Whose answer was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
    /// `provider` or `local`.
    pub origin: String,
    /// The model.
    pub model: String,
    /// The upstream, where its answers are kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
}

/// What was wanted of the cache, where it was not whatever is configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own, and all go together")]
pub struct Wanted {
    /// No answer from memory.
    #[serde(skip_serializing_if = "is_false")]
    pub no_read: bool,
    /// Not to be remembered.
    #[serde(skip_serializing_if = "is_false")]
    pub no_write: bool,
    /// No answer to other words.
    #[serde(skip_serializing_if = "is_false")]
    pub no_semantic: bool,
    /// An answer from memory, or none.
    #[serde(skip_serializing_if = "is_false")]
    pub only_if_cached: bool,
    /// In milliseconds, as all times here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// An answer that may be given for so long still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_fresh: Option<u64>,
    /// An answer whose time has been over for so long will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_stale: Option<u64>,
    /// The same, where nobody else answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<u64>,
    /// To be remembered for no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// The least cosine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_similarity: Option<f32>,
    /// Apart from answers to callers that name others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<(String, String)>,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What somebody answered in the background.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fresh {
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// The request.
    pub id: String,
    /// Whose it was.
    pub tenant: String,
    /// What for.
    pub why: Why,
    /// Who.
    pub upstream: String,
    /// The model that was asked.
    pub model: String,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The answer; nothing where only digests are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
}

/// Why somebody was asked in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// To see whether what was served is right.
    Check,
    /// Since what was served was late.
    Refresh,
}

/// The answer to a request was held against one that was known: from now on it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// The request.
    pub id: String,
    /// Whose it was.
    pub tenant: String,
    /// What came of it. It was found out on the words themselves, and what is written down of those is not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What came of a comparison of answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether they say the same.
    pub said: Said,
    /// The entry that the question is, or would be.
    pub asked: String,
    /// The entry whose answer was known.
    pub known: String,
    /// How sure the cache was of it, as the number of a bin; nothing where both are the very same question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin: Option<usize>,
    /// Whether it was served.
    #[serde(default, skip_serializing_if = "is_false")]
    pub served: bool,
}

/// Whether two answers say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// They do.
    Same,
    /// They do not.
    Different,
    /// It cannot be told.
    Unclear,
}

/// What somebody said about an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// The request.
    pub id: String,
    /// Whose it was.
    pub tenant: String,
    /// Whether it was right.
    pub correct: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks it so")]
fn is_false(value: &bool) -> bool {
    !value
}
