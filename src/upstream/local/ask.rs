//! What a request asks of the local model, checked.

use super::prompt::Turn;
use crate::chat::{Message, Part, Request, Sampling};
use crate::wire::decisive_field;
use candle_transformers::generation::{LogitsProcessor, Sampling as Draw};

/// What the model's authors recommend; small models lose the thread at higher temperatures.
const TEMPERATURE: f64 = 0.2;
/// Likewise.
const TOP_P: f64 = 0.9;
/// Only this many of the likeliest tokens are ever drawn from: sorting the whole vocabulary would take a
/// quarter of the time of a token, and the others are noise.
const TOP_K: usize = 256;
/// More stop strings than any client has use for.
const MAX_STOPS: usize = 16;

/// A request to the local model.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) turns: Vec<Turn>,
    pub(super) sampling: Sampling,
}

impl Ask {
    /// What `request` asks, or what in it the local model cannot do.
    pub(super) fn new(request: &Request) -> Result<Self, String> {
        let Request { messages, sampling, .. } = request;
        if messages.is_empty() {
            return Err("`messages` is empty: there is nothing to answer".to_owned());
        }
        if let Some(field) = decisive_field(request) {
            return Err(format!("`{field}`: the answer depends on it, and the local model does not know it"));
        }
        if let Some(n) = sampling.n.filter(|&n| n != 1) {
            return Err(format!("`n` is {n}: the local model gives one answer"));
        }
        if sampling.stop.len() > MAX_STOPS {
            return Err(format!(
                "`stop` has {} strings: at most {MAX_STOPS} are watched for",
                sampling.stop.len()
            ));
        }
        messages.iter().enumerate().try_for_each(|(at, message)| text_only(at, message))?;
        Ok(Self { turns: messages.iter().map(Turn::new).collect(), sampling: sampling.clone() })
    }

    /// How each next token is drawn. The same seed draws the same answer.
    pub(super) fn draw(&self) -> LogitsProcessor {
        let temperature = self.sampling.temperature.unwrap_or(TEMPERATURE);
        let p = self.sampling.top_p.unwrap_or(TOP_P);
        let seed = self.sampling.seed.map_or_else(rand::random, i64::cast_unsigned);
        // Below a ten-thousandth nothing but the likeliest token is ever drawn, and dividing by it overflows.
        let greedy = temperature < 1e-4 || p <= 0.0;
        let draw = if greedy { Draw::ArgMax } else { Draw::TopKThenTopP { k: TOP_K, p, temperature } };
        LogitsProcessor::from_sampling(seed, draw)
    }
}

fn text_only(at: usize, message: &Message) -> Result<(), String> {
    // What an assistant thought or called is left out; what a user shows is not.
    let silent = |part: &&Part| {
        !matches!(part, Part::Text { .. } | Part::Reasoning { .. } | Part::Refusal(_) | Part::ToolCall(_))
    };
    let unreadable = message.parts.iter().find(silent);
    unreadable.map_or(Ok(()), |part| {
        let kind = part.kind();
        Err(format!("`messages[{at}]` holds a part of type `{kind}`: the local model reads text only"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;
    use candle_core::{Device, Tensor};
    use serde_json::json;

    fn asking(sampling: Sampling) -> Request {
        Request { messages: vec![Message::text(Role::User, "hi")], sampling, ..Request::default() }
    }

    fn refusal(request: &Request) -> String {
        Ask::new(request).unwrap_err()
    }

    #[test]
    fn what_the_model_cannot_do_is_named() {
        let nothing = Request::default();
        assert_eq!(refusal(&nothing), "`messages` is empty: there is nothing to answer");

        let two = asking(Sampling { n: Some(2), ..Sampling::default() });
        assert_eq!(refusal(&two), "`n` is 2: the local model gives one answer");

        let mut kept = asking(Sampling::default());
        kept.received.protocol = crate::chat::Protocol::OpenAiResponses;
        kept.extra.insert("previous_response_id".to_owned(), json!("resp_1"));
        assert!(refusal(&kept).starts_with("`previous_response_id`"));

        let stops = asking(Sampling { stop: vec!["x".to_owned(); 17], ..Sampling::default() });
        assert_eq!(refusal(&stops), "`stop` has 17 strings: at most 16 are watched for");

        let mut image = asking(Sampling::default());
        image.messages[0].parts.push(Part::Opaque(json!({"type": "image_url"})));
        assert_eq!(
            refusal(&image),
            "`messages[0]` holds a part of type `image_url`: the local model reads text only"
        );
    }

    fn drawn(sampling: Sampling, count: usize) -> Vec<u32> {
        let logits = Tensor::new(&[1.0f32, 3.0, 2.0, 2.9], &Device::Cpu).unwrap();
        let mut draw = Ask::new(&asking(sampling)).unwrap().draw();
        (0..count).map(|_| draw.sample(&logits).unwrap()).collect()
    }

    #[test]
    fn zero_temperature_draws_the_likeliest() {
        assert_eq!(drawn(Sampling { temperature: Some(0.0), ..Sampling::default() }, 9), [1; 9]);
        assert_eq!(drawn(Sampling { top_p: Some(0.0), ..Sampling::default() }, 9), [1; 9]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let seeded = |seed| Sampling { temperature: Some(1.5), seed: Some(seed), ..Sampling::default() };
        assert_eq!(drawn(seeded(-7), 40), drawn(seeded(-7), 40));
        assert_ne!(drawn(seeded(-7), 40), drawn(seeded(8), 40));
    }
}
