//! Which text of a request is the question, and what is around it.

use super::openclaw;
use super::settings::Client;
use crate::chat::{Message, Part, Request};
use std::borrow::Cow;

/// A request, read as its client meant it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<'r> {
    /// The question: only its words.
    pub(super) text: Cow<'r, str>,
    /// The turns before it.
    pub(super) earlier: &'r [Message],
    /// The message that holds it.
    pub(super) message: &'r Message,
    /// What of that message is the question's own: its words, and its images.
    pub(super) parts: &'r [Part],
    /// What its client has put around it.
    pub(super) wrapping: Option<openclaw::Wrapping<'r>>,
    /// Whether other words may ask the same.
    pub(super) rewordable: bool,
    /// Whether earlier turns count, whatever is set: what may be the question is in one of them.
    pub(super) needs_context: bool,
}

impl<'r> Reading<'r> {
    /// Reads a request of `client`. `None` where nobody asks anything in words.
    pub fn of(client: Client, request: &'r Request) -> Option<Self> {
        let reading = match client {
            Client::Plain => None,
            Client::Auto => openclaw::read(&request.messages).filter(Self::is_unmistakable),
            Client::OpenClaw => openclaw::read(&request.messages),
        };
        let mut reading = reading.or_else(|| Self::plain(request))?;
        // A text that is to be gone on with goes on as it stands.
        reading.rewordable &= !request.is_continuation();
        (!reading.text.trim().is_empty()).then_some(reading)
    }

    /// The words of the last message, where a user speaks in it.
    fn plain(request: &'r Request) -> Option<Self> {
        let message = request.question()?;
        let earlier = request.messages.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let text = match message.parts.as_slice() {
            [Part::Text { text, .. }] => Cow::Borrowed(text.as_str()),
            _ => Cow::Owned(message.plain_text()),
        };
        let needs_context = openclaw::is_internal(&text);
        let parts = message.parts.as_slice();
        Some(Self { text, earlier, message, parts, wrapping: None, rewordable: true, needs_context })
    }

    /// The question's words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nobody but its client writes so.
    fn is_unmistakable(&self) -> bool {
        self.wrapping.as_ref().is_some_and(openclaw::Wrapping::is_whole)
    }
}
