//! Masks: what is volatile in prompts, and no part of what is asked.
//!
//! A mask names stretches of a text. They become holes in the fingerprint: two texts are the same when they
//! have the same words and the same holes. The question itself is never masked.

use regex::{Regex, RegexBuilder};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// The most masks.
pub const MAX_MASKS: usize = 16;
/// The longest pattern.
const MAX_PATTERN: usize = 512;
/// The most memory of a compiled pattern: it bounds the time that a search takes, too.
const MAX_COMPILED: usize = 1 << 18;

const MONTH: &str = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*";
const DAY: &str = "(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?";
const TIME: &str = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?";
const ZONE: &str = r"(?: ?[AaPp][Mm])?(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?";
/// The edge of a word. That of Unicode is slow to look for.
const EDGE: &str = r"(?-u:\b)";

/// Dates with or without a time, and times to the second.
static TIMESTAMPS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let date = format!(
        r"{EDGE}[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|{EDGE}[0-9]{{1,2}} {MONTH},? [0-9]{{4}}|{EDGE}{MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}"
    );
    compile(&format!(
        r"{DAY}(?:{date})(?:(?:T|,? (?:at )?){TIME}{ZONE})?{EDGE}|{EDGE}[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}{EDGE}"
    ))
    .ok()
});

static UUIDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let four = "[0-9a-fA-F]{4}";
    compile(&format!("{EDGE}{four}{four}-{four}-{four}-{four}-{four}{four}{four}{EDGE}")).ok()
});

/// From a root, a home or a drive, with two names at least. What goes before keeps out URLs and fractions.
static PATHS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r"[A-Za-z0-9._@+~-]+";
    compile(&format!(
        r#"(?:^|[\s"'`(<>=:,\[])((?:~/{name}|/{name}/{name})(?:/{name})*/?|[A-Za-z]:\\[^\s"'`<>|]+)"#
    ))
    .ok()
});

static HEX: LazyLock<Option<Regex>> =
    LazyLock::new(|| compile(&format!("{EDGE}[0-9a-fA-F]{{16,}}{EDGE}")).ok());

/// The value of something called a session, with a digit in it: "session: jazz" is no id.
static SESSIONS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = "(?i:session|conversation|thread|request|trace|run)(?:[ _-]?(?i:id|key))?";
    let value = "[A-Za-z_:./-]{0,128}[0-9][A-Za-z0-9_:./-]{0,128}";
    compile(&format!(r#"{EDGE}{name}["']?(?:=|: ?)["']?({value})"#)).ok()
});

/// What a mask covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Timestamps,
    Uuids,
    Paths,
    Hex,
    Sessions,
    /// A pattern of the user's own.
    Pattern,
}

impl Kind {
    const NAMED: [(&str, Self); 5] = [
        ("timestamps", Self::Timestamps),
        ("uuids", Self::Uuids),
        ("paths", Self::Paths),
        ("hex", Self::Hex),
        ("sessions", Self::Sessions),
    ];

    /// Its pattern, where it is one of ours.
    fn regex(self) -> Option<&'static Regex> {
        match self {
            Self::Timestamps => TIMESTAMPS.as_ref(),
            Self::Uuids => UUIDS.as_ref(),
            Self::Paths => PATHS.as_ref(),
            Self::Hex => HEX.as_ref(),
            Self::Sessions => SESSIONS.as_ref(),
            Self::Pattern => None,
        }
    }
}

/// Why a mask cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// It is neither a name nor a pattern.
    #[error(
        "\"{0}\" is none of timestamps, uuids, paths, hex, sessions, nor a pattern like \"/job-[0-9]+/\"; each may have \"system:\" before it"
    )]
    Unknown(String),
    /// The pattern is too long.
    #[error("the pattern is longer than {MAX_PATTERN} characters")]
    TooLong,
    /// The pattern means nothing.
    #[error("the pattern cannot be used: {0}")]
    Invalid(String),
    /// The pattern finds nothing everywhere.
    #[error("the pattern matches the empty text, so it would be everywhere")]
    Empty,
}

/// A kind of text that is volatile.
#[derive(Clone, Debug)]
pub struct Mask {
    kind: Kind,
    /// Only in instructions to the model, and not in earlier turns.
    system_only: bool,
    /// As it was typed.
    typed: String,
    /// Of a pattern.
    own: Option<Regex>,
}

impl PartialEq for Mask {
    fn eq(&self, other: &Self) -> bool {
        self.typed == other.typed
    }
}

impl Eq for Mask {}

impl Mask {
    /// The mask of this name, or of this `/pattern/`; with `system:` before it, in instructions alone.
    pub fn parse(typed: &str) -> Result<Self, MaskError> {
        let (system_only, what) = match typed.strip_prefix("system:") {
            Some(what) => (true, what),
            None => (false, typed),
        };
        let mask = |kind, own| Self { kind, system_only, typed: typed.to_owned(), own };
        if let Some((_, kind)) = Kind::NAMED.iter().find(|(name, _)| *name == what) {
            return Ok(mask(*kind, None));
        }
        let pattern = what.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let pattern = pattern.filter(|pattern| !pattern.is_empty());
        let pattern = pattern.ok_or_else(|| MaskError::Unknown(what.to_owned()))?;
        if pattern.len() > MAX_PATTERN {
            return Err(MaskError::TooLong);
        }
        let regex = compile(pattern).map_err(|error| MaskError::Invalid(reason(&error)))?;
        if regex.is_match("") {
            return Err(MaskError::Empty);
        }
        Ok(mask(Kind::Pattern, Some(regex)))
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Adds the stretches of `text` that it covers: a group, where its pattern has one.
    fn find(&self, text: &str, holes: &mut Vec<Range<usize>>) {
        let Some(regex) = self.own.as_ref().or_else(|| self.kind.regex()) else { return };
        if regex.captures_len() == 1 {
            holes.extend(regex.find_iter(text).map(|found| found.range()));
        } else {
            let first = |found: regex::Captures<'_>| Some(found.get(1).or_else(|| found.get(0))?.range());
            holes.extend(regex.captures_iter(text).filter_map(first));
        }
    }
}

/// Patterns without look-around are searched for in a time that grows with the text and the pattern alone.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build()
}

/// The last line of an error of the regex crate says what is wrong; the others draw it.
fn reason(error: &regex::Error) -> String {
    let told = error.to_string();
    let last = told.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Masks. Their order says nothing: what any of them covers is covered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks(Arc<[Mask]>);

impl Masks {
    /// These masks.
    pub fn new(masks: Vec<Mask>) -> Self {
        Self(masks.into())
    }

    /// Each as it was typed.
    pub fn typed(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Mask::typed)
    }

    /// Adds what is volatile in `text`.
    pub(super) fn find(&self, text: &str, in_system: bool, holes: &mut Vec<Range<usize>>) {
        self.0.iter().filter(|mask| in_system || !mask.system_only).for_each(|mask| mask.find(text, holes));
    }
}

/// Adds the timestamps and UUIDs in `text`.
pub(super) fn find_ids_and_times(text: &str, holes: &mut Vec<Range<usize>>) {
    for regex in [Kind::Timestamps, Kind::Uuids].into_iter().filter_map(Kind::regex) {
        holes.extend(regex.find_iter(text).map(|found| found.range()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` with what the masks cover left out.
    fn masked(masks: &[&str], text: &str) -> String {
        let masks = Masks::new(masks.iter().map(|typed| Mask::parse(typed).unwrap()).collect());
        let mut holes = Vec::new();
        masks.find(text, true, &mut holes);
        super::super::fingerprint::pieces(text, holes).join("_")
    }

    #[test]
    fn each_name_covers_what_it_says_and_no_more() {
        let cases = [
            ("timestamps", "at 2026-11-21T03:49:12.5Z, then", "at _, then"),
            ("timestamps", "Current date: 2026-11-21", "Current date: _"),
            ("timestamps", "[Sat 2026-11-21 03:49 UTC] hi", "[_] hi"),
            ("timestamps", "Saturday, 21 November 2026 03:49:12 GMT.", "_."),
            ("timestamps", "on November 21st, 2026 at 3:49 PM we", "on _ we"),
            ("timestamps", "2026-11-21 03:49:12+01:00|", "_|"),
            ("timestamps", "took 00:03:12", "took _"),
            (
                "timestamps",
                "version 2026.9.6, ratio 16:90, 12345-67-89",
                "version 2026.9.6, ratio 16:90, 12345-67-89",
            ),
            ("uuids", "id 1993649e-a573-4ca7-b831-7e857c244291!", "id _!"),
            ("uuids", "1993649e-a573-4ca7-b831", "1993649e-a573-4ca7-b831"),
            ("paths", "in /home/ada/x.md: read", "in _: read"),
            ("paths", "`~/notes` and C:\\Users\\ada or (/tmp/a/)", "`_` and _ or (_)"),
            ("paths", "https://host/a/b and 3/4 and /root", "https://host/a/b and 3/4 and /root"),
            ("hex", "sha 0123456789abcdef0123 and beef", "sha _ and beef"),
            ("sessions", "session=agent:main:1 | sessionId=ab12", "session=_ | sessionId=_"),
            ("sessions", "\"session_id\": \"x-9z\"", "\"session_id\": \"_\""),
            ("sessions", "session: jazz, run: fast", "session: jazz, run: fast"),
            ("/job-([0-9]+)/", "job-17 of job-x", "job-_ of job-x"),
            ("/v[0-9]+/", "v1 v2", "_ _"),
        ];
        for (mask, text, left) in cases {
            assert_eq!(masked(&[mask], text), left, "{mask}: {text}");
        }
        assert_eq!(masked(&["paths", "uuids"], "/tmp/1993649e-a573-4ca7-b831-7e857c244291/x y"), "_ y");
    }

    #[test]
    fn what_cannot_be_a_mask_says_why() {
        let long = format!("/{}/", "a".repeat(MAX_PATTERN + 1));
        let cases = [
            ("timestamp", "\"timestamp\" is none of timestamps, uuids, paths, hex, sessions"),
            ("system:", "\"\" is none of"),
            ("//", "is none of"),
            ("/(/", "the pattern cannot be used: unclosed group"),
            ("/a*/", "matches the empty text"),
            ("/(?:[a-z]{1000}){1000}/", "the pattern cannot be used"),
            (&long, "longer than 512"),
        ];
        for (typed, why) in cases {
            let told = Mask::parse(typed).unwrap_err().to_string();
            assert!(told.contains(why), "{typed}: {told}");
        }
    }

    #[test]
    fn a_mask_of_instructions_leaves_turns_alone() {
        let masks = Masks::new(vec![Mask::parse("system:uuids").unwrap()]);
        let mut holes = Vec::new();
        masks.find("1993649e-a573-4ca7-b831-7e857c244291", false, &mut holes);
        assert!(holes.is_empty());
    }
}
