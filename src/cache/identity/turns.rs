//! Messages in a fingerprint: the turns before the question, masked, and the shape of the question.

use super::fingerprint::Fingerprint;
use super::reading::Reading;
use super::settings::Settings;
use super::{ASIDE, openclaw};
use crate::chat::{Media, MediaSource, Message, Part, Role, Signature, ToolCall};
use serde_json::Value;
use std::collections::HashMap;

/// More digits in a row than a float holds: JSON with such a number is compared as it is written.
const EXACT_DIGITS: usize = 15;

/// Feeds messages.
pub(super) struct Turns<'t> {
    settings: &'t Settings,
    /// Where OpenClaw works and is installed; `None` where another client asks.
    roots: Option<Vec<&'t str>>,
    /// The ids of tool calls, in the order in which they come: what they are called says nothing.
    ids: HashMap<&'t str, usize>,
}

impl<'t> Turns<'t> {
    pub(super) fn new(settings: &'t Settings, reading: &Reading<'t>) -> Self {
        let roots = reading.wrapping.is_some().then(|| openclaw::roots(reading.earlier));
        Self { settings, roots, ids: HashMap::new() }
    }

    /// The turns before the question.
    pub(super) fn earlier(&mut self, f: &mut Fingerprint, messages: impl Iterator<Item = &'t Message>) {
        let messages: Vec<&Message> = messages.collect();
        f.list(messages.len());
        for message in messages {
            self.head(f, message);
            f.list(message.parts.len());
            message.parts.iter().for_each(|part| self.part(f, message.role, part));
        }
    }

    /// The shape of the question: its images, and where words stand among them. Where words stand in several
    /// places, which of them stand where is part of the shape too, and nothing may be put in other words.
    pub(super) fn question(&mut self, f: &mut Fingerprint, message: &'t Message, parts: &'t [Part]) {
        self.head(f, message);
        let several = parts.iter().filter(|part| part.as_text().is_some()).count() > 1;
        f.list(parts.len());
        for part in parts {
            match part {
                Part::Text { text, extra } => {
                    if several {
                        f.text(text);
                    } else {
                        f.absent();
                    }
                    f.extra(extra, &ASIDE);
                }
                part => self.part(f, message.role, part),
            }
        }
    }

    /// Everything of a message but its parts.
    fn head(&mut self, f: &mut Fingerprint, message: &'t Message) {
        let Message { role, parts: _, tool_call_id, tool_name, failed, extra } = message;
        f.text(match role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        });
        f.option(tool_call_id.as_deref(), |f, id| self.id(f, id));
        f.option(tool_name.as_deref(), Fingerprint::text);
        f.flag(*failed);
        f.extra(extra, &ASIDE);
    }

    fn part(&mut self, f: &mut Fingerprint, role: Role, part: &'t Part) {
        match part {
            Part::Text { text, extra } => {
                f.text("text");
                // What a tool says is often JSON, and in some protocols it always is.
                match role {
                    Role::Tool => self.json_or_words(f, role, text),
                    _ => self.words(f, role, text),
                }
                f.extra(extra, &ASIDE);
            }
            Part::Image(media) => feed_media(f, "image", media),
            Part::Audio(media) => feed_media(f, "audio", media),
            Part::File(media) => feed_media(f, "file", media),
            Part::Reasoning { text, signature, redacted } => {
                f.text("reasoning");
                self.words(f, role, text);
                f.option(signature.as_ref(), feed_signature);
                f.flag(*redacted);
            }
            Part::Refusal(text) => {
                f.text("refusal");
                self.words(f, role, text);
            }
            Part::ToolCall(call) => self.call(f, role, call),
            Part::Opaque(value) => {
                f.text("opaque");
                f.opaque(value);
            }
        }
    }

    fn call(&mut self, f: &mut Fingerprint, role: Role, call: &'t ToolCall) {
        let ToolCall { id, name, arguments, signature, extra } = call;
        f.text("tool_call");
        self.id(f, id);
        f.text(name);
        self.json_or_words(f, role, arguments);
        f.option(signature.as_ref(), feed_signature);
        f.extra(extra, &ASIDE);
    }

    /// JSON by its meaning, and anything else as it is written.
    fn json_or_words(&self, f: &mut Fingerprint, role: Role, text: &str) {
        match exact_json(text) {
            Some(value) => f.value_with(&value, &mut |f, text| self.words(f, role, text)),
            None => self.words(f, role, text),
        }
    }

    fn id(&mut self, f: &mut Fingerprint, id: &'t str) {
        let next = self.ids.len();
        f.whole(*self.ids.entry(id).or_insert(next) as i128);
    }

    /// Words of a turn, without what is volatile in them.
    fn words(&self, f: &mut Fingerprint, role: Role, text: &str) {
        let mut holes = Vec::new();
        self.settings.mask.find(text, matches!(role, Role::System | Role::Developer), &mut holes);
        if let Some(roots) = &self.roots {
            openclaw::find_volatile(role, text, roots, &mut holes);
        }
        f.masked(text, holes);
    }
}

/// `text` as a JSON object or array, where nothing of it is lost: a model reads it as it stands.
fn exact_json(text: &str) -> Option<Value> {
    text.trim_start().starts_with(['{', '[']).then_some(())?;
    let longest = text.split(|c: char| !c.is_ascii_digit() && c != '.').map(str::len).max();
    let exact = longest.is_none_or(|digits| digits <= EXACT_DIGITS);
    exact.then(|| serde_json::from_str(text).ok()).flatten()
}

fn feed_media(f: &mut Fingerprint, kind: &str, media: &Media) {
    let Media { source, media_type, name, extra } = media;
    f.text(kind);
    let (place, text) = match source {
        MediaSource::Url(url) => ("url", url),
        MediaSource::Data(data) => ("data", data),
        MediaSource::Text(text) => ("text", text),
        MediaSource::Id(id) => ("id", id),
    };
    f.text(place);
    f.text(text);
    f.option(media_type.as_deref(), Fingerprint::text);
    f.option(name.as_deref(), Fingerprint::text);
    f.extra(extra, &ASIDE);
}

fn feed_signature(f: &mut Fingerprint, signature: &Signature) {
    let Signature { by, data } = signature;
    f.text(by.name());
    f.text(data);
}
