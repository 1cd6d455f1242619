//! A stored answer, given again: under a new id and time, at the pace that is configured.

use super::read::set;
use super::{Replay, Server};
use crate::chat::{Chunk, Event, Protocol, Usage};
use crate::upstream::Chunks;
use axum::http::{HeaderMap, HeaderName};
use futures_util::{StreamExt as _, stream};
use std::num::NonZeroU32;
use std::time::Duration;

/// How many characters a token has, about, where an answer is paced.
const CHARS_PER_TOKEN: usize = 4;

/// The same answer, as if it were given now. Its model and what is said stay; the id it once had goes into a
/// header. Only a stream is paced.
pub(super) async fn anew(
    mut chunks: Chunks,
    protocol: Protocol,
    stream: bool,
    server: &Server,
) -> (Chunks, HeaderMap) {
    let mut headers = HeaderMap::new();
    let Some(Ok(first)) = chunks.next().await else { return (chunks, headers) };
    let Replay { zero_usage, paced: is_paced, tokens_per_second } = server.config.replay;
    let mut events = first.events;
    for event in &mut events {
        match event {
            Event::Start { id, created, .. } => {
                if !id.is_empty() {
                    set(&mut headers, HeaderName::from_static("x-weir-replay-of"), id);
                }
                (*id, *created) = (fresh_id(protocol), server.clock.now().as_secs());
            }
            Event::Usage(usage) if zero_usage => *usage = Usage::default(),
            _ => {}
        }
    }
    let again: Chunks = match is_paced && stream {
        true => paced(events, tokens_per_second),
        false => stream::iter([Ok(Chunk::from(events))]).boxed(),
    };
    (again.chain(chunks).boxed(), headers)
}

/// An id as providers of `protocol` write them.
pub(super) fn fresh_id(protocol: Protocol) -> String {
    let prefix = match protocol {
        Protocol::OpenAiChat => "chatcmpl-",
        Protocol::OpenAiCompletions => "cmpl-",
        Protocol::OpenAiResponses => "resp_",
        Protocol::Anthropic => "msg_",
        Protocol::Gemini | Protocol::OllamaChat | Protocol::OllamaGenerate => "",
    };
    format!("{prefix}{:032x}", rand::random::<u128>())
}

/// The events one by one, the words in pieces of about a token.
fn paced(events: Vec<Event>, tokens_per_second: NonZeroU32) -> Chunks {
    let pause = Duration::from_secs(1) / tokens_per_second.get();
    let pieces: Vec<Event> = events.into_iter().flat_map(in_pieces).collect();
    stream::iter(pieces)
        .then(move |event| async move {
            if event.is_substance() {
                tokio::time::sleep(pause).await;
            }
            Ok(Chunk::from(vec![event]))
        })
        .boxed()
}

fn in_pieces(event: Event) -> Vec<Event> {
    match event {
        Event::Text { choice, text } if !text.is_empty() => {
            cut(&text).into_iter().map(|text| Event::Text { choice, text }).collect()
        }
        Event::Reasoning { choice, text } if !text.is_empty() => {
            cut(&text).into_iter().map(|text| Event::Reasoning { choice, text }).collect()
        }
        other => vec![other],
    }
}

fn cut(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(CHARS_PER_TOKEN).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Reply, fold, unfold};

    #[tokio::test(start_paused = true)]
    async fn a_paced_answer_says_the_same_and_takes_its_time() {
        let reply = Reply::text("m", "Grüße aus 世界, twelve ✓");
        let began = tokio::time::Instant::now();
        let chunks: Vec<Chunk> =
            paced(unfold(&reply), NonZeroU32::new(10).unwrap()).map(|chunk| chunk.unwrap()).collect().await;
        let events: Vec<&Event> = chunks.iter().flat_map(|chunk| &chunk.events).collect();
        assert_eq!(fold(events), Ok(reply));
        assert!(chunks.len() > 6);
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    }

    #[test]
    fn every_protocol_has_ids_of_its_own() {
        assert!(fresh_id(Protocol::Anthropic).starts_with("msg_"));
        assert_ne!(fresh_id(Protocol::OpenAiChat), fresh_id(Protocol::OpenAiChat));
    }
}
