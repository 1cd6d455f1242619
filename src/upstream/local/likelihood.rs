//! How likely the tokens of an answer were, as OpenAI's `logprobs` tell it.

use super::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// More than any client shows.
pub(super) const MAX_OTHERS: u32 = 20;

/// What is told of `token`, where `expected` says how much each was to be expected: its likelihood, and those of the
/// `others` likeliest. It is what the model expected, before anything was done to it to draw a token.
pub(super) fn told(token: u32, expected: &[f32], others: usize, tokenizer: &Tokenizer) -> Value {
    let most = expected.iter().copied().fold(f32::MIN, f32::max);
    let total: f32 = expected.iter().map(|expected| (expected - most).exp()).sum();
    let all = most + total.ln();
    let one = |token: u32| {
        let bytes = tokenizer.bytes(token);
        let of = expected.get(token as usize).map_or(f32::MIN, |expected| expected - all);
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": of, "bytes": bytes })
    };
    let mut told = one(token);
    told["top_logprobs"] = likeliest(expected, others).into_iter().map(one).collect();
    told
}

fn likeliest(expected: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return Vec::new();
    }
    for (token, expected) in (0..).zip(expected) {
        if best.len() < count || best.last().is_some_and(|(least, _)| expected > least) {
            let place = best.partition_point(|(other, _)| other >= expected);
            best.insert(place, (*expected, token));
            best.truncate(count);
        }
    }
    best.into_iter().map(|(_, token)| token).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::toy;
    use super::*;

    #[test]
    fn likelihoods_are_logarithms_of_shares() {
        let told =
            told(2 + u32::from(b'a'), &[&[0.0; 99][..], &[2.0], &[0.0; 20], &[1.0]].concat(), 2, &toy());
        let all = (119.0 + 2f32.exp() + 1f32.exp()).ln();
        assert_eq!(told["token"], "a");
        assert_eq!(told["bytes"], json!([b'a']));
        assert!((told["logprob"].as_f64().unwrap() - f64::from(2.0 - all)).abs() < 1e-5);
        assert_eq!(told["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(told["top_logprobs"][0]["token"], "a");
        assert_eq!(told["top_logprobs"][1]["bytes"], json!([b'v']));
    }

    #[test]
    fn none_but_the_token_itself_is_told_of_where_no_others_are_wanted() {
        assert_eq!(told(2, &[0.0; 9], 0, &toy())["top_logprobs"], json!([]));
    }
}
