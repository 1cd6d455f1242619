//! What someone else wrote, without anything that may be a key.

use super::Secret;

/// What stands for a key.
const HIDDEN: &str = "***";

/// Anything shorter is no secret, and replacing it would only garble the message.
const SHORTEST_SECRET: usize = 4;

/// How the keys of known providers begin.
const PREFIXES: [&str; 4] = ["sk-", "AIza", "gsk_", "xai-"];

/// What stands before a key in a URL or a form: `?key=`, `api_key=`, `access_token=`.
const NAMES: [&str; 3] = ["key", "token", "secret"];

/// A run of letters and digits of this length is no word.
const LONG_RUN: usize = 32;

/// `text` with `***` for every one of `secrets`, and for whatever looks like a key. The text may be JSON: it
/// stays so.
pub fn redact(text: &str, secrets: &[Secret]) -> String {
    let known = secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_SECRET);
    let text = known.fold(text.to_owned(), |text, secret| {
        // In JSON, some characters of it are written in another way.
        let quoted = serde_json::Value::from(secret).to_string();
        text.replace(secret, HIDDEN).replace(quoted.trim_matches('"'), HIDDEN)
    });
    let mut told = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\\' => escape_len(rest),
            c if is_run(c) => run_len(rest),
            c => c.len_utf8(),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        if looks_like_key(piece) {
            told.push_str(HIDDEN);
            continue;
        }
        told.push_str(piece);
        let value = value_len(piece, rest);
        if value.1 > 0 {
            told.push_str(&rest[..value.0]);
            told.push_str(HIDDEN);
            rest = &rest[value.0 + value.1..];
        }
    }
    told
}

fn is_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn run_len(text: &str) -> usize {
    text.find(|c| !is_run(c)).unwrap_or(text.len())
}

/// The length of an escape in JSON, so that the `n` of a `\n` is not taken for the beginning of a word.
fn escape_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.get(1) {
        Some(b'u') if bytes.len() >= 6 && bytes[2..6].iter().all(u8::is_ascii_hexdigit) => 6,
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
        _ => 1,
    }
}

fn looks_like_key(run: &str) -> bool {
    let known = PREFIXES.iter().any(|prefix| run.len() > prefix.len() && run.starts_with(prefix));
    let mixed = || run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic());
    known || (run.len() >= LONG_RUN && mixed())
}

/// Whether `rest` goes on with the key that `run` announces: how much stands in front of it, and its length.
fn value_len(run: &str, rest: &str) -> (usize, usize) {
    let run = run.to_ascii_lowercase();
    let gap = rest.len() - rest.trim_start_matches(' ').len();
    if run == "bearer" && gap > 0 {
        let token = rest[gap..].find(|c| !(is_run(c) || ".~+/=".contains(c))).unwrap_or(rest.len() - gap);
        // "a bearer token is missing" tells nothing.
        let word = token <= 14 && rest[gap..gap + token].bytes().all(|byte| byte.is_ascii_lowercase());
        return (gap, if word { 0 } else { token });
    }
    if NAMES.iter().any(|name| run.ends_with(name)) && rest.starts_with('=') {
        let ends = |c: char| c.is_whitespace() || c.is_control() || "&\"'`<>()[]{},;\\#".contains(c);
        return (1, rest[1..].find(ends).unwrap_or(rest.len() - 1));
    }
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_looks_like_a_key_is_hidden() {
        let google = format!("AIza{}", "x".repeat(35));
        let long = format!("{}1", "a".repeat(31));
        for (text, told) in [
            ("the key sk-proj-1234 is wrong", "the key *** is wrong"),
            ("(gsk_abc) [xai-9] 'AIzaSy'", "(***) [***] '***'"),
            (&google, "***"),
            (&long, "***"),
            ("Authorization: Bearer abc.DEF/ghi=, then", "Authorization: Bearer ***, then"),
            ("a bearer token is missing", "a bearer token is missing"),
            (
                "see https://x/y?key=abc&alt=sse and api_key=1",
                "see https://x/y?key=***&alt=sse and api_key=***",
            ),
            (r#"{"a":"line\nsk-12","b":"\u0026key=x\"y"}"#, r#"{"a":"line\n***","b":"\u0026key=***\"y"}"#),
            ("ends with key=", "ends with key="),
            ("ends with Bearer ", "ends with Bearer "),
        ] {
            assert_eq!(redact(text, &[]), told);
        }
    }

    #[test]
    fn plain_words_stay() {
        for text in [
            "risk-free task-force, ask-me",
            "sk-",
            "context_length_exceeded: 128000 tokens at most, Grüße \u{1f600} \\ \\x",
            &"a".repeat(40),
            &"1".repeat(40),
            "x == y",
        ] {
            assert_eq!(redact(text, &[]), text);
        }
    }

    #[test]
    fn what_is_configured_is_hidden_however_it_looks() {
        let secrets = [Secret::new("x"), Secret::new("pass word"), Secret::new("quo\"te")];
        assert_eq!(redact("x pass word quo\"te quo\\\"te", &secrets), "x *** *** ***");
    }

    proptest::proptest! {
        #[test]
        fn json_stays_json(text in "\\PC{0,60}(sk-[a-z0-9]{4})?\\PC{0,20}(Bearer |key=)?\\PC{0,20}") {
            let body = serde_json::json!({ "error": { "message": text } }).to_string();
            let redacted = redact(&body, &[]);
            proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&redacted).is_ok(), "{redacted}");
        }
    }
}
