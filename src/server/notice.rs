//! In the answer's own words: that another one answers than who was to.
//!
//! Only where it was switched on, and only where words may stand before the answer without harm. They are put in front
//! of what this client is given, behind everything that remembers: whoever asks next never sees them.

use super::Notice;
use crate::chat::{Chunk, Event, Request, ResponseFormat, Role, ToolChoice};
use crate::upstream::Chunks;
use futures_util::StreamExt as _;

/// Whether an answer to `request` may begin with words that its model has not said: where a program reads the answer,
/// a text is gone on with, or tokens are told one by one, it may not.
pub(super) fn may_be_told(notice: Notice, request: &Request) -> bool {
    let is_prose = matches!(request.response_format, None | Some(ResponseFormat::Text));
    let is_prefilled = request.messages.last().is_some_and(|message| message.role == Role::Assistant);
    let may_speak = matches!(request.tool_choice, None | Some(ToolChoice::Auto | ToolChoice::None));
    let counts_tokens = request.sampling.logprobs == Some(true);
    let goes_on = is_prefilled || request.is_continuation();
    notice == Notice::Inline && is_prose && may_speak && !goes_on && !counts_tokens
}

/// `chunks`, with `notice` before their first words. An answer without words, that only calls tools, stays as it is.
pub(super) fn told_first(notice: &str, chunks: Chunks) -> Chunks {
    let mut line = Some(format!("⚡ {notice}\n\n"));
    let told = chunks.map(move |chunk| {
        // The bytes as they came know nothing of it, so the answer is written anew.
        let Chunk { raw: _, mut events } = chunk?;
        let first = events.iter_mut().find_map(|event| match event {
            Event::Text { text, .. } if !text.is_empty() => Some(text),
            _ => None,
        });
        if let Some(text) = first
            && let Some(line) = line.take()
        {
            text.insert_str(0, &line);
        }
        Ok(Chunk { raw: None, events })
    });
    told.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Protocol, Reply, Sampling, unfold};
    use futures_util::stream;

    fn asking() -> Request {
        Request { messages: vec![Message::text(Role::User, "q")], ..Request::default() }
    }

    #[test]
    fn words_are_put_before_prose_alone() {
        let may = |request: &Request| may_be_told(Notice::Inline, request);
        assert!(may(&asking()) && !may_be_told(Notice::Header, &asking()));
        let json = Request { response_format: Some(ResponseFormat::Json), ..asking() };
        let called = Request { tool_choice: Some(ToolChoice::Required), ..asking() };
        let counted = Sampling { logprobs: Some(true), ..Sampling::default() };
        let counted = Request { sampling: counted, ..asking() };
        let mut prefilled = asking();
        prefilled.messages.push(Message::text(Role::Assistant, "{"));
        let mut completion = asking();
        completion.received.protocol = Protocol::OpenAiCompletions;
        for request in [json, called, counted, prefilled, completion] {
            assert!(!may(&request), "{request:?}");
        }
        assert!(may(&Request { response_format: Some(ResponseFormat::Text), ..asking() }));
    }

    async fn said(events: Vec<Vec<Event>>) -> String {
        let chunks = stream::iter(events.into_iter().map(|events| Ok(Chunk::from(events)))).boxed();
        let told: Vec<Chunk> = told_first("Switched to b", chunks).map(Result::unwrap).collect().await;
        let texts = told.iter().flat_map(|chunk| &chunk.events).filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    #[tokio::test]
    async fn they_are_said_once_before_the_first_words() {
        let text = |text: &str| vec![Event::Text { choice: 0, text: text.to_owned() }];
        assert_eq!(said(vec![text(""), text("a"), text("b")]).await, "⚡ Switched to b\n\nab");
        assert_eq!(said(vec![unfold(&Reply::text("m", "whole"))]).await, "⚡ Switched to b\n\nwhole");
        let call = Event::ToolCall {
            choice: 0,
            index: 0,
            id: Some("1".into()),
            name: Some("f".into()),
            arguments: String::new(),
        };
        assert_eq!(said(vec![text(""), vec![call, Event::End]]).await, "");
    }
}
