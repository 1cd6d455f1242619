//! `generationConfig`: how the answer is drawn, what form it has, how much the model thinks.

use super::HERE;
use super::fields::{take, take_object, take_whole};
use super::schema::json_schema;
use crate::chat::{Request, ResponseFormat, Sampling, Thinking};
use crate::wire::foreign::{at_home, inexpressible, thinks_freely};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// How many tokens of thinking the words for it mean, after what Google's own OpenAI endpoint makes of them.
const EFFORTS: [(&str, u32); 7] = [
    ("none", 0),
    ("minimal", 512),
    ("low", 1_024),
    ("medium", 8_192),
    ("high", 24_576),
    ("xhigh", 24_576),
    ("max", 24_576),
];

/// Takes what it knows out of a `generationConfig`.
pub(super) fn decode_config(config: &mut Fields, request: &mut Request) -> Result<(), Error> {
    request.sampling = decode_sampling(config)?;
    request.response_format = decode_format(config)?;
    request.thinking = take_object(config, "thinkingConfig")?.map(decode_thinking).transpose()?;
    Ok(())
}

fn decode_sampling(config: &mut Fields) -> Result<Sampling, Error> {
    Ok(Sampling {
        temperature: take(config, "temperature")?,
        top_p: take(config, "topP")?,
        top_k: take_whole(config, "topK")?,
        max_tokens: take_whole(config, "maxOutputTokens")?,
        max_completion_tokens: None,
        seed: take_whole(config, "seed")?,
        stop: take(config, "stopSequences")?.unwrap_or_default(),
        n: take_whole(config, "candidateCount")?,
        presence_penalty: take(config, "presencePenalty")?,
        frequency_penalty: take(config, "frequencyPenalty")?,
        logprobs: take(config, "responseLogprobs")?,
        top_logprobs: take_whole(config, "logprobs")?,
    })
}

fn decode_format(config: &mut Fields) -> Result<Option<ResponseFormat>, Error> {
    let kind: Option<String> = take(config, "responseMimeType")?;
    let subset: Option<Value> = take(config, "responseSchema")?;
    let schema: Option<Value> = take(config, "responseJsonSchema")?;
    let schema = schema.or(subset.map(json_schema));
    Ok(match (kind.as_deref(), schema) {
        (None, None) => None,
        (Some(TEXT), None) => Some(ResponseFormat::Text),
        (Some(JSON), None) => Some(ResponseFormat::Json),
        (None | Some(JSON), Some(schema)) => {
            Some(ResponseFormat::Schema { name: None, description: None, schema, strict: None })
        }
        (Some(kind), schema) => {
            let mut format = Body::default();
            format.set("responseMimeType", Some(kind));
            format.set("responseJsonSchema", schema);
            Some(ResponseFormat::Opaque(format.value()))
        }
    })
}

fn decode_thinking(mut fields: Fields) -> Result<Thinking, Error> {
    let level: Option<String> = take(&mut fields, "thinkingLevel")?;
    // A negative one leaves it to the model, which there is no word for elsewhere.
    let budget: Option<i64> = take_whole(&mut fields, "thinkingBudget")?;
    let known = budget.and_then(|budget| u32::try_from(budget).ok());
    let shown = take(&mut fields, "includeThoughts")?;
    if let (Some(budget), None) = (budget, known) {
        fields.map.insert("thinkingBudget".to_owned(), json!(budget));
    }
    let effort = level.map(|level| level.to_ascii_lowercase());
    Ok(Thinking { effort, budget: known, shown, extra: fields.map })
}

/// The fields of a `generationConfig`.
pub(super) fn encode_config(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let mut config = Body::default();
    encode_sampling(&request.sampling, &mut config, dropped);
    if let Some(format) = &request.response_format {
        encode_format(request, format, &mut config, dropped)?;
    }
    if let Some(thinking) = &request.thinking {
        let thinking = encode_thinking(request, thinking, dropped);
        let said = at_home(request, HERE) || !thinking.is_empty();
        config.set("thinkingConfig", said.then_some(thinking));
    }
    Ok(config.0)
}

fn encode_sampling(sampling: &Sampling, config: &mut Body, dropped: &mut Dropped) {
    let Sampling {
        temperature,
        top_p,
        top_k,
        max_tokens: _,
        max_completion_tokens: _,
        seed,
        stop,
        n,
        presence_penalty,
        frequency_penalty,
        logprobs,
        top_logprobs,
    } = sampling;
    config.set("temperature", *temperature);
    config.set("topP", *top_p);
    config.set("topK", *top_k);
    config.set("maxOutputTokens", sampling.answer_limit());
    config.set("stopSequences", (!stop.is_empty()).then_some(stop));
    config.set("candidateCount", *n);
    // A seed has 32 bits here, and a longer one fails the request.
    let short = seed.and_then(|seed| i32::try_from(seed).ok());
    config.set("seed", short);
    if seed.is_some() && short.is_none() {
        dropped.push("seed".to_owned());
    }
    config.set("presencePenalty", *presence_penalty);
    config.set("frequencyPenalty", *frequency_penalty);
    config.set("responseLogprobs", *logprobs);
    config.set("logprobs", *top_logprobs);
}

fn encode_format(
    request: &Request,
    format: &ResponseFormat,
    config: &mut Body,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    match format {
        ResponseFormat::Text => config.set("responseMimeType", Some(TEXT)),
        ResponseFormat::Json => config.set("responseMimeType", Some(JSON)),
        // A schema is always followed to the letter here.
        ResponseFormat::Schema { name, description, schema, strict: _ } => {
            let beside = [("name", name.is_some()), ("description", description.is_some())];
            let lost = beside.iter().filter(|(_, given)| *given);
            dropped.extend(lost.map(|(field, _)| format!("response_format.{field}")));
            config.set("responseMimeType", Some(JSON));
            // `responseSchema` takes a few keywords only, and fails at the others.
            config.set("responseJsonSchema", Some(schema));
        }
        ResponseFormat::Opaque(Value::Object(fields)) if at_home(request, HERE) => {
            config.0.extend(fields.clone());
        }
        ResponseFormat::Opaque(_) => return Err(inexpressible(HERE, "response_format", "this format")),
    }
    Ok(())
}

/// Words from elsewhere become a budget, which all models take; a budget that is given wins. Whoever wants
/// thoughts wants to see them, unless they say otherwise: here they are not shown by themselves.
fn encode_thinking(request: &Request, thinking: &Thinking, dropped: &mut Dropped) -> Map<String, Value> {
    let Thinking { effort, budget, shown, extra } = thinking;
    let mut config = Body::default();
    if at_home(request, HERE) {
        config.set("includeThoughts", *shown);
        config.set("thinkingBudget", *budget);
        config.set("thinkingLevel", effort.as_ref().map(|effort| effort.to_ascii_uppercase()));
        config.0.extend(extra.clone());
        return config.0;
    }
    dropped.extend(extra.keys().map(|field| format!("thinking.{field}")));
    let meant = |effort: &str| EFFORTS.iter().find(|(name, _)| *name == effort).map(|(_, tokens)| *tokens);
    let wanted = effort.as_deref().and_then(meant);
    if effort.is_some() && (budget.is_some() || wanted.is_none()) {
        dropped.push("thinking.effort".to_owned());
    }
    let amount = budget.or(wanted);
    let taken = amount.map(|amount| taken_budget(&request.model, amount));
    if taken != amount {
        dropped.push("thinking.budget".to_owned());
    }
    let free = thinks_freely(thinking);
    let thinks = free || amount.is_some_and(|amount| amount > 0);
    config.set("includeThoughts", thinks.then(|| shown.unwrap_or(true)));
    config.set("thinkingBudget", taken.map(i64::from).or(free.then_some(-1)));
    config.0
}

/// The budget that is nearest to `wanted` of those that the model takes. Some cannot do without thinking.
fn taken_budget(model: &str, wanted: u32) -> u32 {
    match wanted {
        wanted if model.contains("-pro") => wanted.clamp(128, 32_768),
        1.. if model.contains("flash-lite") => wanted.clamp(512, 24_576),
        wanted => wanted.min(24_576),
    }
}
