//! What stands beside a candidate's words: its sources, and how likely its tokens were.

use super::HERE;
use crate::chat::{Citation, Event};
use crate::wire::json::{Body, is_empty};
use serde_json::{Map, Value, json};

/// What the first source of an answer keeps of its `groundingMetadata`: which words rest on which source, and
/// the search behind them. It comes back with the sources, in whose order it counts.
const GROUNDING: &str = "groundingMetadata";

/// The most sources that are compared with later ones. No answer has nearly as many.
const MAX_SEEN: usize = 512;

/// The sources in a candidate's `groundingMetadata`. Some models repeat them in every frame: those in `seen`
/// are told already.
pub(super) fn decode_grounding(
    choice: u32,
    mut metadata: Map<String, Value>,
    seen: &mut Vec<Value>,
) -> Vec<Event> {
    let mut fresh = Vec::new();
    if let Some(Value::Array(chunks)) = metadata.remove("groundingChunks") {
        for chunk in chunks {
            if once(&chunk, seen) {
                fresh.push(chunk_source(chunk));
            }
        }
    }
    metadata.retain(|_, value| !is_empty(value));
    let rest = Value::Object(metadata);
    if !is_empty(&rest) && once(&rest, seen) {
        match fresh.first_mut().and_then(|source| source.raw.as_object_mut()) {
            Some(raw) => drop(raw.insert(GROUNDING.to_owned(), rest)),
            None => return vec![Event::Opaque { field: GROUNDING.to_owned() }],
        }
    }
    fresh.into_iter().map(|citation| Event::Citation { choice, citation }).collect()
}

/// The sources in a candidate's `citationMetadata`; Vertex has another name for them.
pub(super) fn decode_cited(
    choice: u32,
    mut metadata: Map<String, Value>,
    seen: &mut Vec<Value>,
) -> Vec<Event> {
    let sources = metadata.remove("citationSources").or_else(|| metadata.remove("citations"));
    let Some(Value::Array(sources)) = sources else { return Vec::new() };
    let fresh = sources.into_iter().filter(Value::is_object).filter(|source| once(source, seen));
    let cited = fresh.map(|raw| Citation {
        url: text(&raw, "uri"),
        title: text(&raw, "title"),
        quote: None,
        by: HERE,
        raw,
    });
    cited.collect::<Vec<_>>().into_iter().map(|citation| Event::Citation { choice, citation }).collect()
}

fn once(value: &Value, seen: &mut Vec<Value>) -> bool {
    let fresh = seen.len() >= MAX_SEEN || !seen.contains(value);
    if fresh && seen.len() < MAX_SEEN {
        seen.push(value.clone());
    }
    fresh
}

/// `{"web": {"uri": …, "title": …}}`, or the same under the name of another kind of source.
fn chunk_source(raw: Value) -> Citation {
    let none = Value::Null;
    let source =
        raw.as_object().and_then(|raw| raw.values().find(|value| value.is_object())).unwrap_or(&none);
    let (url, title, quote) = (text(source, "uri"), text(source, "title"), text(source, "text"));
    Citation { url, title, quote, by: HERE, raw }
}

fn text(of: &Value, field: &str) -> Option<String> {
    of.get(field)?.as_str().map(str::to_owned)
}

/// Sets the `groundingMetadata` and the `citationMetadata` of a candidate.
pub(super) fn encode_sources<'a>(sources: impl IntoIterator<Item = &'a Citation>, candidate: &mut Body) {
    let (mut chunks, mut cited, mut rest) = (Vec::new(), Vec::new(), Map::new());
    for source in sources {
        let mut raw = match source.by == HERE {
            true => source.raw.clone(),
            false => foreign_chunk(source),
        };
        let fields = raw.as_object_mut();
        if let Some(Value::Object(more)) = fields.and_then(|fields| fields.shift_remove(GROUNDING)) {
            rest.extend(more);
        }
        match raw.get("uri").or(raw.get("startIndex")).or(raw.get("endIndex")) {
            Some(_) => cited.push(raw),
            None => chunks.push(raw),
        }
    }
    if !chunks.is_empty() {
        let mut grounding = Body::default();
        grounding.set("groundingChunks", Some(chunks));
        grounding.0.extend(rest);
        candidate.set(GROUNDING, Some(grounding.value()));
    }
    candidate.set("citationMetadata", (!cited.is_empty()).then(|| json!({ "citationSources": cited })));
}

fn foreign_chunk(source: &Citation) -> Value {
    let Citation { url, title, quote, by: _, raw: _ } = source;
    let mut chunk = Body::default();
    chunk.set("uri", Some(url.as_deref().unwrap_or_default()));
    chunk.set("title", Some(title.as_deref().unwrap_or_default()));
    chunk.set("text", quote.as_ref());
    // A source on the web has no words here.
    let kind = if quote.is_some() { "retrievedContext" } else { "web" };
    json!({ kind: chunk.value() })
}

/// A `logprobsResult` in OpenAI's form.
pub(super) fn decode_logprobs(result: &Value) -> Vec<Value> {
    let list = |of: &Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let tops = list(result, "topCandidates");
    let chosen = list(result, "chosenCandidates").into_iter().enumerate();
    let tokens = chosen.map(|(at, chosen)| {
        let others = tops.get(at).map(|top| list(top, "candidates")).unwrap_or_default();
        let mut token = decode_token(&chosen);
        token.set(
            "top_logprobs",
            Some(others.iter().map(|token| decode_token(token).value()).collect::<Vec<_>>()),
        );
        token.value()
    });
    tokens.collect()
}

fn decode_token(token: &Value) -> Body {
    let mut body = Body::default();
    body.set("token", Some(text(token, "token").unwrap_or_default()));
    // An infinitely unlikely one has no number in JSON.
    body.set("logprob", Some(token.get("logProbability").and_then(Value::as_f64).unwrap_or_default()));
    body.set("bytes", Some(Value::Null));
    body.set("token_id", token.get("tokenId"));
    body
}

/// Undoes [`decode_logprobs`].
pub(super) fn encode_logprobs(tokens: &[Value]) -> Value {
    let none = Vec::new();
    let tops = |token: &Value| {
        let others = token.get("top_logprobs").and_then(Value::as_array).unwrap_or(&none);
        json!({ "candidates": others.iter().map(encode_token).collect::<Vec<_>>() })
    };
    json!({
        "topCandidates": tokens.iter().map(tops).collect::<Vec<_>>(),
        "chosenCandidates": tokens.iter().map(encode_token).collect::<Vec<_>>(),
    })
}

fn encode_token(token: &Value) -> Value {
    let mut body = Body::default();
    body.set("token", token.get("token"));
    body.set("tokenId", token.get("token_id"));
    body.set("logProbability", token.get("logprob"));
    body.value()
}
