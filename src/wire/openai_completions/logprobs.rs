//! Likelihoods: four lists side by side here, a list of objects in a chat.

use serde_json::{Map, Value, json};

/// `{tokens, token_logprobs, top_logprobs, text_offset}` as a chat has it. The offsets follow from the tokens.
pub(super) fn decode(logprobs: &Value) -> Vec<Value> {
    let list = |field: &str| logprobs[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let (likelihoods, others) = (list("token_logprobs"), list("top_logprobs"));
    let tokens = list("tokens").iter().enumerate().map(|(at, token)| {
        let others = others.get(at).and_then(Value::as_object).into_iter().flatten();
        let others = others.map(|(token, likelihood)| entry(token, likelihood));
        let likelihood = likelihoods.get(at).unwrap_or(&Value::Null);
        let mut entry = entry(token.as_str().unwrap_or_default(), likelihood);
        entry["top_logprobs"] = others.collect();
        entry
    });
    tokens.collect()
}

fn entry(token: &str, likelihood: &Value) -> Value {
    // Half a character is written as `bytes:\xe2`; what its bytes are is left to whoever reads that.
    let bytes = (!token.starts_with("bytes:")).then_some(token.as_bytes());
    json!({ "token": token, "logprob": likelihood, "bytes": bytes })
}

/// Undoes [`decode`]. `offset` is how many characters stand before the tokens.
pub(super) fn encode(tokens: &[Value], offset: &mut usize) -> Value {
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        offsets.push(*offset);
        *offset += token["token"].as_str().unwrap_or_default().chars().count();
    }
    let of = |field: &str| tokens.iter().map(|token| token[field].clone()).collect::<Vec<_>>();
    let others: Vec<Value> = tokens.iter().map(|token| Value::Object(others(token))).collect();
    let told = others.iter().any(|others| others.as_object().is_some_and(|others| !others.is_empty()));
    json!({
        "tokens": of("token"), "token_logprobs": of("logprob"),
        "top_logprobs": told.then_some(others), "text_offset": offsets,
    })
}

fn others(token: &Value) -> Map<String, Value> {
    let others = token["top_logprobs"].as_array().into_iter().flatten();
    others.filter_map(|other| Some((other["token"].as_str()?.to_owned(), other["logprob"].clone()))).collect()
}
