//! Takes out of a text what nobody may read: keys, tokens, passwords, addresses, the numbers of cards.
//!
//! In the place of a secret stands what it was and a few digits of a digest, `[email#5f3a90c2]`: two addresses
//! stay two, so that two questions stay two, and nobody can tell which they were without the salt, which is not
//! in the journal.

use super::row::Row;
use crate::chat::{Block, Reply};
use crate::secret::Secret;
use regex::{Captures, Regex, RegexSet};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt::Write as _;

/// Anything shorter is no secret, and taking it out would only garble what is said.
const SHORTEST_SECRET: usize = 6;

/// The least score of a run of letters and digits that is no word.
const LONG_RUN: &str = r"\b[A-Za-z0-9_+/=-]{32,}";

/// What secrets look like: what each is called, its expression, and which of its groups is the secret.
const SHAPES: &[(&str, &str, usize)] = &[
    (
        "private_key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        0,
    ),
    ("url_password", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:([^\s/@]+)@", 1),
    (
        "webhook",
        r"https://(?:hooks\.slack\.com/services|discord(?:app)?\.com/api/webhooks)/([A-Za-z0-9/_-]+)",
        1,
    ),
    ("key", r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}", 0),
    (
        "key",
        r"\b(?:gsk_|xai-|pplx-|r8_|tvly-|dop_v1_|shpat_|shpss_|lin_api_|figd_|hf_|npm_|pypi-|fw_|jina_|nvapi-|csk-|glpat-|gldt-|AGE-SECRET-KEY-|ops_|dapi|whsec_|rnd_|sbp_|phc_|phx_)[A-Za-z0-9_-]{10,}",
        0,
    ),
    ("key", r"\b(?:AKIA|ASIA|AROA)[0-9A-Z]{16}\b", 0),
    ("key", r"\bAIza[0-9A-Za-z_-]{20,}", 0),
    ("token", r"\bya29\.[0-9A-Za-z_-]{16,}", 0),
    ("token", r"\b(?:gh[pousr]_[0-9A-Za-z]{20,}|github_pat_[0-9A-Za-z_]{20,})", 0),
    ("token", r"\bxox[a-z]-[0-9A-Za-z-]{10,}", 0),
    ("key", r"\bSG\.[\w-]{12,}\.[\w-]{12,}", 0),
    ("token", r"\b\d{8,10}:[A-Za-z0-9_-]{35}", 0),
    ("token", r"\b[MNO][A-Za-z\d_-]{23,27}\.[\w-]{6}\.[\w-]{27,}", 0),
    ("token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?", 0),
    ("key", r"(?i)\b(?:AccountKey|SharedAccessKey|sig)=([A-Za-z0-9+/=%]{20,})", 1),
    ("token", r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/=-]{12,})", 1),
    (
        "secret",
        r#"(?i)\b(?:[a-z0-9]+[_-])*(?:pass(?:word|wd|phrase)?|pwd|secret|api[_-]?key|apikey|access[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|client[_-]?secret|private[_-]?key|token|credential)s?\\?["']?\s*(?:=|:|=>)\s*\\?["']?([^\s"'`,;&\\<>(){}\[\]]{4,})"#,
        1,
    ),
    ("secret", r"(?i)\bpass(?:word|wd|phrase|code)\s+(?:is|was)\s+([^\s,;]*\d[^\s,;]*)", 1),
    (
        "email",
        r"[A-Za-z0-9._%+-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}",
        0,
    ),
    ("card", r"\b\d(?:[ -]?\d){12,18}\b", 0),
    ("iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", 0),
    ("ssn", r"\b\d{3}-\d{2}-\d{4}\b", 0),
    ("phone", r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}", 0),
    ("key", LONG_RUN, 0),
];

/// Names in JSON that hold secrets, whatever these look like.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "client_secret",
    "api_key",
    "apikey",
    "api-key",
    "x-api-key",
    "access_key",
    "secret_key",
    "private_key",
    "access_token",
    "refresh_token",
    "auth_token",
    "id_token",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "credential",
    "credentials",
];

/// Takes secrets out.
pub struct Scrubber {
    salt: [u8; 32],
    known: Vec<Secret>,
    set: RegexSet,
    shapes: Vec<(&'static str, Regex, usize)>,
}

impl Scrubber {
    /// One that knows these secrets by heart, and `own` expressions beside its own.
    pub fn new(salt: [u8; 32], known: Vec<Secret>, own: &[String]) -> Result<Self, regex::Error> {
        let own = own.iter().map(|expression| ("custom", expression.as_str(), 0));
        let all: Vec<(&'static str, &str, usize)> = own.chain(SHAPES.iter().copied()).collect();
        let set = RegexSet::new(all.iter().map(|(_, expression, _)| *expression))?;
        let compiled =
            all.into_iter().map(|(kind, expression, group)| Ok((kind, Regex::new(expression)?, group)));
        let known = known.into_iter().filter(|secret| secret.expose().len() >= SHORTEST_SECRET).collect();
        Ok(Self { salt, known, set, shapes: compiled.collect::<Result<_, regex::Error>>()? })
    }

    /// `text` without secrets.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.known {
            if text.contains(secret.expose()) {
                text = Cow::Owned(text.replace(secret.expose(), &self.mark("configured", secret.expose())));
            }
        }
        // Most texts hold none, and are looked at once.
        for at in &self.set.matches(&text) {
            let (kind, shape, group) = &self.shapes[at];
            let hide = |found: &Captures<'_>| self.hidden(kind, *group, found);
            if let Cow::Owned(changed) = shape.replace_all(&text, hide) {
                text = Cow::Owned(changed);
            }
        }
        text
    }

    fn hidden(&self, kind: &str, group: usize, found: &Captures<'_>) -> String {
        let whole = &found[0];
        let Some(secret) = found.get(group) else { return whole.to_owned() };
        if !is_one(kind, secret.as_str()) {
            return whole.to_owned();
        }
        let start = found.get(0).map_or(0, |whole| whole.start());
        let (from, to) = (secret.start() - start, secret.end() - start);
        format!("{}{}{}", &whole[..from], self.mark(kind, secret.as_str()), &whole[to..])
    }

    /// What stands for a secret.
    fn mark(&self, kind: &str, secret: &str) -> String {
        format!("[{kind}#{}]", &self.digest(secret)[..8])
    }

    /// By what a text is known again.
    pub fn digest(&self, text: &str) -> String {
        let hash = Sha256::new().chain_update(self.salt).chain_update(text).finalize();
        hash.iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// `value` without secrets, its shape as it was.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                self.keys(fields);
                for (name, field) in fields {
                    match field {
                        Value::String(text) if holds_secrets(name) && !text.is_empty() => {
                            *text = self.mark("secret", text);
                        }
                        field => self.value(field),
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
            // A number may be that of a card.
            Value::Number(number) => {
                let written = number.to_string();
                if let Cow::Owned(scrubbed) = self.text(&written) {
                    *value = Value::String(scrubbed);
                }
            }
        }
    }

    /// A secret may be a name, too.
    fn keys(&self, fields: &mut Map<String, Value>) {
        if fields.keys().any(|name| matches!(self.text(name), Cow::Owned(_))) {
            let renamed = std::mem::take(fields).into_iter();
            *fields = renamed.map(|(name, field)| (self.text(&name).into_owned(), field)).collect();
        }
    }

    fn string(&self, text: &mut String) {
        if let Cow::Owned(scrubbed) = self.text(text) {
            *text = scrubbed;
        }
    }

    /// `reply` without secrets.
    pub fn reply(&self, reply: &mut Reply) {
        for choice in &mut reply.choices {
            // Each token stands alone there, and a secret is in pieces that nobody would know again.
            choice.logprobs.clear();
            for block in &mut choice.blocks {
                match block {
                    Block::Text { text, citations, signature: _ } => {
                        self.string(text);
                        citations.clear();
                    }
                    Block::Reasoning { text, signature: _ } | Block::Refusal(text) => self.string(text),
                    Block::ToolCall(call) => {
                        match serde_json::from_str::<Value>(&call.arguments) {
                            Ok(mut arguments) => {
                                self.value(&mut arguments);
                                call.arguments = arguments.to_string();
                            }
                            Err(_) => self.string(&mut call.arguments),
                        }
                        call.extra.values_mut().for_each(|value| self.value(value));
                    }
                    Block::Redacted(_) => {}
                }
            }
        }
    }

    /// What stands beside the body and the reply of a row, without secrets.
    pub fn row(&self, row: &mut Row) {
        let Row { id, tenant: _, project, state, tags, wanted, model, headers, .. } = row;
        for text in [id, project, model].into_iter().chain(state).chain(tags) {
            // Ids are long runs of letters and digits, and names are nobody's secret; but a key may be put anywhere.
            if let Cow::Owned(scrubbed) = self.names(text) {
                *text = scrubbed;
            }
        }
        wanted.partitions.iter_mut().for_each(|(_, name)| self.string(name));
        for (name, value) in headers {
            if holds_secrets(name) { *value = self.mark("secret", value) } else { self.string(value) }
        }
        if let Some(reply) = &mut row.reply {
            self.reply(reply);
        }
    }

    /// A name without what is certainly a secret: names may be long.
    fn names<'t>(&self, name: &'t str) -> Cow<'t, str> {
        let last = self.shapes.len() - 1;
        let long_run_only = |at: usize| at == last;
        match self.set.matches(name).iter().any(|at| !long_run_only(at)) {
            true => self.text(name),
            false if self.known.iter().any(|secret| name.contains(secret.expose())) => self.text(name),
            false => Cow::Borrowed(name),
        }
    }
}

/// Whether an expression can be used, and why not.
pub fn check(expression: &str) -> Result<(), String> {
    match Regex::new(expression) {
        Ok(shape) if shape.is_match("") => Err("it fits everything".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => {
            Err(format!("no expression that can be used: {}", error.to_string().replace('\n', " ")))
        }
    }
}

fn holds_secrets(name: &str) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether it is what it looks like, where that can be told.
fn is_one(kind: &str, text: &str) -> bool {
    // It was taken out before, under another name.
    if text.starts_with('[') {
        return false;
    }
    match kind {
        "card" => is_card(text),
        "iban" => is_iban(text),
        "phone" => text.bytes().filter(u8::is_ascii_digit).count() >= 9,
        "secret" => !is_no_value(text),
        "key" => text.bytes().any(|b| b.is_ascii_digit()) || !is_plain(text),
        _ => true,
    }
}

/// A long word of letters alone: `sk-learn-pipelines`, `________________`.
fn is_plain(text: &str) -> bool {
    let lower = text.bytes().all(|b| b.is_ascii_lowercase() || !b.is_ascii_alphanumeric());
    let upper = text.bytes().all(|b| b.is_ascii_uppercase() || !b.is_ascii_alphanumeric());
    lower || upper
}

/// What stands behind `password:` and is none.
fn is_no_value(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "none",
        "null",
        "true",
        "false",
        "required",
        "optional",
        "string",
        "text",
        "empty",
        "missing",
        "invalid",
        "wrong",
        "expired",
        "undefined",
    ];
    let word = text.trim_matches(|c: char| !c.is_alphanumeric());
    WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Luhn's sum.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => *digit,
            _ => (digit * 2) / 10 + (digit * 2) % 10,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != digits[0])
}

/// The remainder of ISO 7064.
fn is_iban(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if text.len() < 15 || !text.is_ascii() {
        return false;
    }
    let turned = text[4..].chars().chain(text[..4].chars());
    let rest = turned.filter_map(|c| c.to_digit(36)).fold(0u32, |rest, digit| {
        let shift = if digit > 9 { 100 } else { 10 };
        (rest * shift + digit) % 97
    });
    rest == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Choice, ToolCall};

    fn scrubber() -> Scrubber {
        Scrubber::new([7; 32], vec![Secret::new("hunter-two")], &["PRJ-[0-9]+".to_owned()]).unwrap()
    }

    /// Secrets of more than twenty kinds, each in a sentence of its own. They are put together here so that nobody's
    /// scanner takes them for real ones.
    fn canaries() -> Vec<String> {
        let long = |byte: char, count: usize| byte.to_string().repeat(count);
        vec![
            format!("sk-proj-{}", long('a', 10) + "B1c2D3e4F5"),
            format!("sk-ant-api03-{}", "aB3".repeat(12)),
            format!("AKIA{}", "ABCD1234EFGH5678"),
            format!("AIza{}", "Sy1".repeat(12)),
            format!("ya29.{}", "a0B".repeat(10)),
            format!("ghp_{}", "a1B2".repeat(9)),
            format!("github_pat_{}", "a1B2".repeat(12)),
            format!("glpat-{}", "a1B2".repeat(5)),
            format!("xoxb-{}", "1234567890-abcdEF"),
            format!("sk_live_{}", "a1B2".repeat(6)),
            format!("hf_{}", "aBcD1".repeat(7)),
            format!("npm_{}", "aB1c".repeat(9)),
            format!("SG.{}.{}", "aB1c".repeat(5), "dE2f".repeat(10)),
            format!("123456789:{}", "AAa1b".repeat(7)),
            format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", "eyJzdWIiOiIxIn0", "c2ln".repeat(8)),
            "0123456789abcdef0123456789abcdef".to_owned(),
            "someone.else+tag@example.co.uk".to_owned(),
            "4111 1111 1111 1111".to_owned(),
            "GB82 WEST 1234 5698 7654 32".to_owned(),
            "078-05-1120".to_owned(),
            "+44 20 7946 0958".to_owned(),
            "hunter-two".to_owned(),
            "PRJ-4711".to_owned(),
        ]
    }

    #[test]
    fn secrets_of_all_kinds_are_taken_out_wherever_they_stand() {
        let scrubber = scrubber();
        for canary in canaries() {
            for text in [
                canary.clone(),
                format!("use {canary} please"),
                format!("({canary})"),
                format!("x={canary}\nnext"),
                format!("{{\"note\": \"{canary}\"}}"),
            ] {
                let told = scrubber.text(&text);
                assert!(!told.contains(&canary), "{told}");
                assert!(told.contains('['), "{told}");
            }
        }
    }

    #[test]
    fn what_is_assigned_is_a_secret_whatever_it_looks_like() {
        let scrubber = scrubber();
        for (text, secret) in [
            ("password: tiger", "tiger"),
            ("DB_PASSWORD=tiger", "tiger"),
            (r#"{\"api_key\": \"tiger\"}"#, "tiger"),
            ("my password is tiger2", "tiger2"),
            ("postgres://me:tiger@host/db", "tiger"),
            ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "abc"),
            ("https://hooks.slack.com/services/T0/B0/xyz", "B0/xyz"),
        ] {
            let told = scrubber.text(text);
            assert!(!told.contains(secret), "{told}");
        }
    }

    #[test]
    fn plain_words_stay() {
        let scrubber = scrubber();
        for text in [
            "What is the capital of France?",
            "turn up track 3 by 2 dB",
            "The password is required. A secret: none.",
            "risk-free sk-learn, 12345678, 2026-11-26T10:00:00, 192.168.0.1",
            "https://example.com/a/b?c=d#e",
            "1234 5678 9012 3456",
            "call 555-0100 or read page 1-800",
            "see @someone, a@b and version 1.2.3",
            "internationalization-of-everything-everywhere",
        ] {
            assert_eq!(scrubber.text(text), text);
        }
    }

    #[test]
    fn two_stay_two_and_one_stays_one() {
        let (one, other) = (scrubber(), Scrubber::new([8; 32], Vec::new(), &[]).unwrap());
        let told = |scrubber: &Scrubber, text: &str| scrubber.text(text).into_owned();
        assert_eq!(told(&one, "to a@example.com"), told(&one, "to a@example.com"));
        assert_ne!(told(&one, "to a@example.com"), told(&one, "to b@example.com"));
        assert_ne!(told(&one, "to a@example.com"), told(&other, "to a@example.com"), "the salt is another");
        let twice = told(&one, &told(&one, "to a@example.com, password=abcd1234"));
        assert_eq!(twice, told(&one, "to a@example.com, password=abcd1234"));
    }

    #[test]
    fn json_keeps_its_shape() {
        let mut value = serde_json::json!({
            "model": "m", "n": 3, "card": 4_111_111_111_111_111u64, "password": "x",
            "b@example.com": 1,
            "messages": [{"role": "user", "content": "mail a@example.com"}], "x-api-key": "",
        });
        scrubber().value(&mut value);
        assert_eq!(value["model"], "m");
        assert_eq!(value["n"], 3);
        assert_eq!(value["messages"][0]["role"], "user");
        for (pointer, kind) in
            [("/card", "[card#"), ("/password", "[secret#"), ("/messages/0/content", "mail [email#")]
        {
            let text = value.pointer(pointer).and_then(Value::as_str).unwrap();
            assert!(text.starts_with(kind) && text.ends_with(']'), "{text}");
        }
        assert_eq!(value["x-api-key"], "");
        assert!(!value.to_string().contains("example.com"));
    }

    #[test]
    fn a_reply_is_told_without_secrets() {
        let mut reply = Reply::text("m", "write to a@example.com");
        let call =
            ToolCall { arguments: r#"{"password":"x","to":"a@example.com"}"#.into(), ..ToolCall::default() };
        reply.choices.push(Choice { blocks: vec![Block::ToolCall(call)], ..Choice::default() });
        reply.choices[0].logprobs = vec![serde_json::json!({"token": "a@example.com"})];
        scrubber().reply(&mut reply);
        let told = serde_json::to_string(&reply).unwrap();
        assert!(!told.contains("example.com") && !told.contains(r#"\"x\""#), "{told}");
    }
}
