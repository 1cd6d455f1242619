//! How sure a model was of a name, from what it says of the likelihood of its tokens (OpenAI's `logprobs`).

use serde_json::Value;

/// How likely `chosen` was, of all `names` that might have stood in its place: of the tokens that go on with any of
/// them, those that go on with it. `None` where that cannot be told.
///
/// A model tells of few other tokens. What it does not tell of may be as likely as the least of those, so it counts as
/// that: a model that expected something else altogether is sure of nothing.
pub(super) fn odds(tokens: &[Value], names: &[&str], chosen: usize) -> Option<f64> {
    let name = quoted(names.get(chosen)?);
    let written: Vec<u8> = tokens.iter().flat_map(bytes).collect();
    let from = find_last(&written, name.as_bytes())?;
    let to = from + name.len();
    let before = written.get(..from)?;
    let whole: Vec<Vec<u8>> = names.iter().map(|name| [before, quoted(name).as_bytes()].concat()).collect();
    let (mut odds, mut at, mut is_told) = (1.0, 0, false);
    for token in tokens {
        let begin = &written[..at];
        at += bytes(token).len();
        let open: Vec<&Vec<u8>> = whole.iter().filter(|whole| whole.starts_with(begin)).collect();
        if at <= from || begin.len() >= to || open.len() < 2 {
            continue;
        }
        odds *= share(token, begin, &open, &whole[chosen])?;
        is_told = true;
    }
    // Of one name alone nobody can tell.
    is_told.then_some(odds)
}

/// The share of `wanted` in what goes on with any of `open` behind `begin`.
fn share(token: &Value, begin: &[u8], open: &[&Vec<u8>], wanted: &[u8]) -> Option<f64> {
    let (mut all, mut right) = (0.0, 0.0);
    let mut told = vec![false; open.len()];
    let others = token["top_logprobs"].as_array()?;
    let own = others.iter().all(|other| bytes(other) != bytes(token)).then_some(token);
    let mut least = f64::INFINITY;
    for other in others.iter().chain(own) {
        let likelihood = other["logprob"].as_f64().filter(|logprob| *logprob <= 0.0)?.exp();
        least = least.min(likelihood);
        let next = [begin, &bytes(other)].concat();
        let fits =
            |whole: &[u8]| next.len() > begin.len() && (whole.starts_with(&next) || next.starts_with(whole));
        let fitting: Vec<bool> = open.iter().map(|whole| fits(whole)).collect();
        if fitting.iter().any(|fits| *fits) {
            all += likelihood;
            right += if fits(wanted) { likelihood } else { 0.0 };
        }
        told.iter_mut().zip(fitting).for_each(|(told, fits)| *told |= fits);
    }
    let untold = told.iter().filter(|told| !**told).count();
    let all = all + untold as f64 * least;
    (all > 0.0).then(|| right / all)
}

/// The name as it stands in JSON, with its end, which tells it from a longer one. What stands in front of it is the
/// same for all, and often one token with what is in front of that.
fn quoted(name: &str) -> String {
    let text = Value::from(name).to_string();
    text.strip_prefix('"').unwrap_or(&text).to_owned()
}

fn bytes(token: &Value) -> Vec<u8> {
    let told = token["bytes"].as_array().map(|bytes| {
        let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
        bytes.iter().filter_map(byte).collect::<Vec<u8>>()
    });
    told.unwrap_or_else(|| token["token"].as_str().unwrap_or_default().as_bytes().to_vec())
}

fn find_last(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len().max(1)).rposition(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A token, how likely it was, and what else was likely.
    fn token(text: &str, share: f64, others: &[(&str, f64)]) -> Value {
        let one = |text: &str, share: f64| json!({ "token": text, "bytes": text.as_bytes(), "logprob": share.ln() });
        let mut token = one(text, share);
        let others = others.iter().map(|(text, share)| one(text, *share));
        token["top_logprobs"] = std::iter::once(one(text, share)).chain(others).collect();
        token
    }

    fn is(told: Option<f64>, expected: f64) -> bool {
        told.is_some_and(|told| (told - expected).abs() < 1e-6)
    }

    const NAMES: [&str; 3] = ["card", "card_lost", "none"];

    #[test]
    fn the_name_is_weighed_against_the_other_names_alone() {
        let tokens = [
            token("{\"intent\": \"", 0.9, &[]),
            // "Sure" was likely, and is no name.
            token("card", 0.3, &[("Sure", 0.5), ("none", 0.1)]),
            token("_lost", 0.6, &[("\"", 0.2), ("_x", 0.1)]),
            token("\"}", 1.0, &[]),
        ];
        assert!(is(odds(&tokens, &NAMES, 1), 0.75 * 0.75));
        let short = [
            token("{\"intent\":", 0.9, &[]),
            token(" \"card", 0.8, &[(" \"no", 0.2)]),
            token("\"}", 0.5, &[("_lost", 0.5)]),
        ];
        assert!(is(odds(&short, &NAMES, 0), 0.8 * 0.5));
    }

    #[test]
    fn what_is_not_told_may_be_as_likely_as_the_least_that_is() {
        // All that was expected is no name: the one that had to be written is no likelier than others.
        let tokens = [token("{\"intent\":\"", 1.0, &[]), token("none\"", 1e-6, &[("Sure", 0.5), ("I", 0.4)])];
        let untold = odds(&tokens, &NAMES, 2).unwrap();
        assert!((untold - 1.0 / 3.0).abs() < 1e-6, "{untold}");
    }

    #[test]
    fn where_nothing_is_told_it_is_sure_of_nothing() {
        let plain = |text: &str| json!({ "token": text, "logprob": -0.1 });
        assert_eq!(odds(&[], &NAMES, 0), None);
        assert_eq!(odds(&[plain("{\"intent\":\""), plain("none\"}")], &NAMES, 2), None);
        assert_eq!(odds(&[token("other", 1.0, &[])], &NAMES, 0), None);
        assert_eq!(odds(&[token("none", 1.0, &[])], &NAMES, 7), None);
        let hostile = [
            token("{\"intent\":\"", 1.0, &[]),
            json!({ "token": "none\"", "logprob": "x", "top_logprobs": [{}] }),
        ];
        assert_eq!(odds(&hostile, &NAMES, 2), None);
        let above = [json!({ "token": "none\"", "logprob": 5.0, "top_logprobs": [] })];
        assert_eq!(odds(&above, &NAMES, 2), None);
    }

    #[test]
    fn a_name_that_needs_escapes_is_found() {
        let names = ["say \"hi\"", "none"];
        let tokens = [token("{\"intent\":\"", 1.0, &[]), token("say \\\"hi\\\"\"", 0.8, &[("none", 0.2)])];
        assert!(is(odds(&tokens, &names, 0), 0.8));
    }
}
