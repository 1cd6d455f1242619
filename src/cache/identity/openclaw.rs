//! How OpenClaw wraps a question, and what is volatile in its prompts.
//!
//! ```text
//! system     … Working directory: /home/ada/notes … Current date: 2026-11-21 …
//! user       [Sat 2026-11-21 03:49 UTC] the question⏎⏎Runtime: agent=main | session=… | sessionId=… | …
//! user       <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> … <<<END_OPENCLAW_INTERNAL_CONTEXT>>>
//! ```
//!
//! The line `Runtime:` stands in the system prompt for providers that cache whole messages, and then what
//! looks like it in a message was typed by the user. Whatever is not exactly so is not taken apart: that is a
//! miss, never another question's answer.

use super::fingerprint::Fingerprint;
use super::mask::find_ids_and_times;
use super::reading::Reading;
use crate::chat::{Message, Part, Role};
use regex::Regex;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

const BEGIN: &str = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>";
const END: &str = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
const RUNTIME: &str = "\n\nRuntime: agent=";

/// What else OpenClaw and its users may put into a question. It stays there, and is not put in other words:
/// the encoder would take it for the question.
const UNREAD: [&str; 4] = ["<<<BEGIN_", "<<<END_", "(untrusted metadata)", "\nRuntime: agent="];

/// When the question was asked.
static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let zone = "[A-Za-z][A-Za-z0-9+:/_-]{0,31}";
    let day = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [0-9]{4}-[0-9]{2}-[0-9]{2}";
    Regex::new(&format!(r"^\[({day} [0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}})?) {zone}\] ")).ok()
});

/// The line about the agent's surroundings, with its session and the session's id.
static RUNTIME_LINE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let value = r"[^|\n]*[^|\s]";
    Regex::new(&format!(
        r"^Runtime: agent={value} \| session=({value}) \| sessionId=([0-9a-fA-F-]{{36}})(?: \| [A-Za-z_]+={value})*$"
    ))
    .ok()
});

/// What OpenClaw writes into its system prompt and what differs from turn to turn: the first group.
static VOLATILE: LazyLock<[Option<Regex>; 4]> = LazyLock::new(|| {
    [
        r"(?m)^Current date: ([0-9]{4}-[0-9]{2}-[0-9]{2})$",
        r"(?m)^Runtime: agent=[^\n]* \| session=([^|\n]*) \| sessionId=",
        r"(?m)^Runtime: agent=[^\n]* \| sessionId=([0-9a-fA-F-]{36})(?: \||$)",
        r"<location>([^<\n]*)</location>",
    ]
    .map(|pattern| Regex::new(pattern).ok())
});

/// Where OpenClaw works, and where it is installed: what it says first counts, since files of the user's
/// follow. Each is the beginning of many paths.
static ROOTS: LazyLock<[Option<Regex>; 2]> = LazyLock::new(|| {
    [r"(?m)^(?:Your w|W)orking directory(?: is)?: (\S[^\n]*)$", r"(?m)^Docs: (/[^\n]*)/docs$"]
        .map(|pattern| Regex::new(pattern).ok())
});

/// What is around a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrapping<'r> {
    /// The time before it, with its zone; where the time is in it.
    time: Option<(&'r str, (usize, usize))>,
    /// The line after it.
    runtime: Option<&'r str>,
    /// The block that comes last.
    internal: Option<&'r str>,
}

impl Wrapping<'_> {
    /// Whether nobody but OpenClaw writes so.
    pub(super) fn is_whole(&self) -> bool {
        self.time.is_some() && self.internal.is_some()
    }

    /// All of it but when, and in which session.
    pub(super) fn feed(&self, fingerprint: &mut Fingerprint) {
        let Self { time, runtime, internal } = self;
        fingerprint.option(*time, |f, (time, (start, end))| f.masked(time, std::iter::once(start..end)));
        fingerprint.option(*runtime, |f, runtime| f.masked(runtime, sessions(runtime)));
        fingerprint.option(*internal, |f, internal| {
            let mut holes = Vec::new();
            find_ids_and_times(internal, &mut holes);
            f.masked(internal, holes);
        });
    }
}

/// Reads the last turn as OpenClaw writes it.
pub(super) fn read(messages: &[Message]) -> Option<Reading<'_>> {
    let (last, before) = messages.split_last()?;
    let (internal, parts) = match last.parts.split_last() {
        Some((part, parts)) if last.role == Role::User => {
            match part.as_text().filter(|text| is_block(text)) {
                Some(block) => (Some(block), parts),
                None => (None, last.parts.as_slice()),
            }
        }
        _ => return None,
    };
    // The block comes in a message of its own, or as the last part of the question's.
    let (message, earlier, parts) = match before.split_last() {
        Some((message, earlier)) if parts.is_empty() => (message, earlier, message.parts.as_slice()),
        _ => (last, before, parts),
    };
    let mut texts = parts.iter().filter_map(Part::as_text);
    let whole = texts.next()?;
    if message.role != Role::User || texts.next().is_some() || is_internal(whole) {
        return None;
    }
    let (time, rest) = split_time(whole);
    let (text, runtime) = match earlier.iter().any(tells_runtime) {
        true => (rest, None),
        false => split_runtime(rest),
    };
    Some(Reading {
        text: Cow::Borrowed(text),
        earlier,
        message,
        parts,
        wrapping: Some(Wrapping { time, runtime, internal }),
        rewordable: !UNREAD.iter().any(|mark| text.contains(mark)),
        needs_context: false,
    })
}

/// Whether `text` is a block of OpenClaw's own, or holds a part of one.
pub(super) fn is_internal(text: &str) -> bool {
    text.contains(BEGIN) || text.contains(END)
}

/// One block, and nothing beside it.
fn is_block(text: &str) -> bool {
    let inner = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    inner.is_some_and(|inner| inner.starts_with('\n') && inner.ends_with('\n') && !is_internal(inner))
}

type Time<'r> = (&'r str, (usize, usize));

fn split_time(text: &str) -> (Option<Time<'_>>, &str) {
    let found = TIME.as_ref().and_then(|time| time.captures(text));
    let Some((whole, time)) = found.as_ref().and_then(|found| Some((found.get(0)?, found.get(1)?))) else {
        return (None, text);
    };
    let (stamp, rest) = text.split_at(whole.end());
    (Some((stamp, (time.start(), time.end()))), rest)
}

/// The line `Runtime:` is the last, after a blank one.
fn split_runtime(text: &str) -> (&str, Option<&str>) {
    let Some(at) = text.rfind(RUNTIME) else { return (text, None) };
    let (question, line) = text.split_at(at);
    let line = line.trim_start_matches('\n');
    match RUNTIME_LINE.as_ref().is_some_and(|known| known.is_match(line)) {
        true => (question, Some(line)),
        false => (text, None),
    }
}

/// Where the session and its id are in a line `Runtime:`.
fn sessions(line: &str) -> Vec<Range<usize>> {
    let found = RUNTIME_LINE.as_ref().and_then(|known| known.captures(line));
    found
        .map_or_else(Vec::new, |found| [1, 2].iter().filter_map(|at| Some(found.get(*at)?.range())).collect())
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// Whether the line `Runtime:` stands in these instructions.
fn tells_runtime(message: &Message) -> bool {
    let tells = |text: &str| text.starts_with("Runtime: agent=") || text.contains("\nRuntime: agent=");
    is_instruction(message) && message.parts.iter().filter_map(Part::as_text).any(tells)
}

/// Adds what is volatile in a text of an earlier turn: what OpenClaw wrote, not what was asked then.
pub(super) fn find_volatile(role: Role, text: &str, roots: &[&str], holes: &mut Vec<Range<usize>>) {
    match role {
        Role::System | Role::Developer => {
            for pattern in VOLATILE.iter().flatten() {
                holes.extend(pattern.captures_iter(text).filter_map(|found| Some(found.get(1)?.range())));
            }
            roots.iter().for_each(|root| find_root(text, root, holes));
        }
        Role::User => {
            let (time, rest) = split_time(text);
            holes.extend(time.map(|(_, (start, end))| start..end));
            let (_, runtime) = split_runtime(rest);
            let line = runtime.map_or(0, str::len);
            let at = text.len() - line;
            holes.extend(runtime.into_iter().flat_map(sessions).map(|hole| hole.start + at..hole.end + at));
        }
        Role::Assistant | Role::Tool => {}
    }
}

/// Where OpenClaw works and is installed, by what its instructions say.
pub(super) fn roots(messages: &[Message]) -> Vec<&str> {
    let texts =
        || messages.iter().filter(|message| is_instruction(message)).flat_map(|message| &message.parts);
    let first = |pattern: &Regex| {
        let mut found = texts().filter_map(Part::as_text).filter_map(|text| pattern.captures(text));
        found.next().and_then(|found| found.get(1)).map(|root| root.as_str().trim_end_matches(['/', '\\']))
    };
    let found = ROOTS.iter().flatten().filter_map(first);
    found.filter(|root| root.len() > 1).collect()
}

/// Where `root` stands in `text` as a path, or as the beginning of one.
fn find_root(text: &str, root: &str, holes: &mut Vec<Range<usize>>) {
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '~');
    for (start, found) in text.match_indices(root) {
        let (before, after) = (&text[..start], &text[start + found.len()..]);
        // A full stop ends a sentence, or goes on in a name.
        let goes_on = after.strip_prefix('.').unwrap_or(after).starts_with(in_name);
        if !goes_on && !before.ends_with(in_name) && !before.ends_with(['/', '\\', '.']) {
            holes.push(start..start + found.len());
        }
    }
}
