//! A stored answer, given again: under a new id and time, at the pace that is configured.

use super::error::Error;
use super::read::set;
use super::{Replay, Server};
use crate::chat::{Chunk, Event, Protocol, Request, Usage};
use crate::upstream::Chunks;
use crate::wire::splice::splice;
use axum::http::{HeaderMap, HeaderName};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many characters a token has, about, where an answer is paced.
const CHARS_PER_TOKEN: usize = 4;

/// What the id of a response begins with that is given again.
const AGAIN: &str = "resp_weir_";

/// The field by which a request for OpenAI's responses goes on with an earlier one.
const PREVIOUS: &str = "previous_response_id";

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
                (*id, *created) = (id_again(protocol, id), server.clock.now().as_secs());
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

/// An id for the answer that was first given as `first`. Clients of OpenAI's responses go on from an answer by
/// its id, and the provider knows the first one only; so the new one holds it.
fn id_again(protocol: Protocol, first: &str) -> String {
    match protocol {
        Protocol::OpenAiResponses => {
            let first = first.strip_prefix("resp_").unwrap_or_default();
            format!("{AGAIN}{:016x}_{first}", rand::random::<u64>())
        }
        _ => fresh_id(protocol),
    }
}

/// Undoes [`id_again`]: the id that the provider knows. `None`: it is none of ours.
fn first_id(id: &str) -> Option<Result<String, Error>> {
    let (_, first) = id.strip_prefix(AGAIN)?.split_once('_')?;
    // A rule's answer, for one, or one that was given in another protocol: nobody keeps it.
    Some(if first.is_empty() { Err(Error::NoSuchResponse) } else { Ok(format!("resp_{first}")) })
}

/// Has a request that goes on from an answer that was given again go on from the first one.
pub(super) fn go_on_from_first(request: &mut Request) -> Result<(), Error> {
    let previous = request.extra.get(PREVIOUS).and_then(Value::as_str).and_then(first_id);
    let Some(first) = previous.filter(|_| request.received.protocol == Protocol::OpenAiResponses) else {
        return Ok(());
    };
    let first = Value::from(first?);
    request.received.body =
        splice(&request.received.body, &[(PREVIOUS, Some(first.clone()))]).map_err(Error::Wire)?;
    request.extra.insert(PREVIOUS.to_owned(), first);
    Ok(())
}

/// The same for the path of a response: `/responses/{id}` and what is below.
pub(super) fn path_of_first(path: String) -> Result<String, Error> {
    let Some(rest) = path.strip_prefix("/responses/") else { return Ok(path) };
    let (id, below) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match first_id(id) {
        Some(first) => Ok(format!("/responses/{}{below}", first?)),
        None => Ok(path),
    }
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
    fn a_response_that_is_given_again_leads_to_the_first_one() {
        let again = id_again(Protocol::OpenAiResponses, "resp_0ab");
        assert_ne!(again, id_again(Protocol::OpenAiResponses, "resp_0ab"));
        let path = |path: String| path_of_first(path).ok();
        assert_eq!(path(format!("/responses/{again}")).as_deref(), Some("/responses/resp_0ab"));
        let below = format!("/responses/{again}/input_items?limit=2");
        assert_eq!(path(below).as_deref(), Some("/responses/resp_0ab/input_items?limit=2"));
        for other in ["/responses/resp_0ab", "/files/resp_weir_1_2", "/responses"] {
            assert_eq!(path(other.to_owned()).as_deref(), Some(other));
        }
        let unknown = id_again(Protocol::OpenAiResponses, "chatcmpl-1");
        assert!(unknown.starts_with("resp_") && path(format!("/responses/{unknown}")).is_none());
    }

    #[test]
    fn every_protocol_has_ids_of_its_own() {
        assert!(fresh_id(Protocol::Anthropic).starts_with("msg_"));
        assert_ne!(fresh_id(Protocol::OpenAiChat), fresh_id(Protocol::OpenAiChat));
    }
}
