//! `[journal]`: what is written down of requests.

use super::check::{Checker, QUEUE};
use super::origin::Origin;
use super::raw;
use super::read::{Found, Text, Texts};
use crate::journal::{Config, Content, Keys, scrub};
use std::path::Path;

/// What is typed.
pub(super) fn check(checker: &mut Checker<'_>, raw: raw::Journal, data_dir: &Path) -> Config {
    let default = Config::default();
    let contents = [Content::Redacted, Content::Hashes].map(|content| (content.name(), content));
    if let Some(redact) = &raw.redact {
        for expression in &redact.value {
            if let Err(reason) = scrub::check(&expression.value.value) {
                checker.findings.problem(&expression.place, reason);
            }
        }
    }
    let texts = |typed: Option<Found<Texts>>| {
        let texts = typed.map(|typed| typed.value).unwrap_or_default();
        texts.into_iter().map(|text| text.value.value).collect()
    };
    Config {
        enabled: raw.enabled.as_ref().map_or(default.enabled, |typed| typed.value),
        folder: data_dir.join("journal"),
        salt: data_dir.join("digest.salt"),
        content: checker.choice(raw.content.as_ref(), &contents).unwrap_or(default.content),
        keys: raw.key.and_then(|key| keys(checker, &key)).unwrap_or_default(),
        max_file_bytes: checker.whole(raw.max_file_mb.as_ref(), 1..=4096, default.max_file_bytes >> 20) << 20,
        max_bytes: checker.whole(raw.max_mb.as_ref(), 1..=1_048_576, default.max_bytes >> 20) << 20,
        queue: checker.whole(raw.queue.as_ref(), QUEUE, default.queue),
        redact: texts(raw.redact),
        projects: texts(raw.projects),
    }
}

/// What the files are sealed with. A key that stands beside the journal, in a file that is copied and shown, would
/// protect nothing.
fn keys(checker: &mut Checker<'_>, key: &Found<Text>) -> Option<Keys> {
    let Text { value, typed } = &key.value;
    let in_the_file = matches!(key.place.origin, Origin::File { .. });
    if in_the_file && typed.is_empty() {
        return None;
    }
    if in_the_file && !typed.starts_with("file:") && !typed.contains("${") {
        let advice = "no key may stand here; write \"file:PATH\" or \"${NAME}\" for where it is kept";
        checker.findings.problem(&key.place, advice);
        return None;
    }
    match Keys::parse(value) {
        Ok(keys) => Some(keys),
        Err(error) => {
            checker.findings.problem(&key.place, error.to_string());
            None
        }
    }
}
