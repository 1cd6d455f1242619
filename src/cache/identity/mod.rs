//! What makes two questions the same: from a [`Request`](crate::chat::Request) to a [`Query`].
//!
//! A request is *read* first ([`Reading`]): which of its words are the question, and what has its client put
//! around them. Everything else becomes the scope, one digest that must match exactly: who asks, for which
//! project in which state, the model, the earlier turns, tools, sampling, the form of the answer, fields that
//! nobody knows. Volatile stretches of it may be masked. What is left out is in `docs/cache.md`, and in
//! `IGNORED_FIELDS` and `ASIDE`.

mod fingerprint;
mod mask;
mod openclaw;
mod parts;
mod query;
mod reading;
mod settings;
mod turns;

pub use mask::{MAX_MASKS, Mask, MaskError, Masks};
pub use parts::Parts;
pub use query::{Asker, Query, STATE_TAG};
pub use reading::Reading;
pub use settings::{Client, Context, Overrides, Project, Projects, Settings};

/// Fields that change nothing about the answer, so two requests that differ in them are the same question.
/// They name the end user, label the request, or steer the provider's own prompt cache.
const IGNORED_FIELDS: [&str; 7] = [
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_control",
];

/// The same, within messages, their parts, and tools.
const ASIDE: [&str; 1] = ["cache_control"];
