//! What an answer has said up to now, for those who join late and for those who read slowly.

use crate::chat::{Chunk, Event};
use std::collections::VecDeque;
use std::sync::Arc;

/// The most bytes that are kept of one answer. Longer than nearly any answer; beyond it nobody can join any
/// more, and whoever is further behind than this is let go, so that a reader who stands still costs no more.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// What a chunk and an event take beside their words, about.
const OVERHEAD: usize = 64;

/// The chunks of one answer, in order. The oldest go when there are too many bytes.
#[derive(Default)]
pub(super) struct Log {
    chunks: VecDeque<Arc<Chunk>>,
    /// How many have gone.
    gone: usize,
    bytes: usize,
}

/// What is known of the chunk at some place.
pub(super) enum At {
    /// It is here.
    Here(Arc<Chunk>),
    /// It has not come yet.
    Ahead,
    /// It has gone.
    Gone,
}

impl Log {
    pub(super) fn push(&mut self, chunk: Chunk) {
        self.bytes += weight(&chunk);
        self.chunks.push_back(Arc::new(chunk));
        while self.bytes > MAX_BYTES && self.chunks.len() > 1 {
            self.drop_oldest();
        }
    }

    pub(super) fn at(&self, place: usize) -> At {
        match place.checked_sub(self.gone) {
            Some(offset) => self.chunks.get(offset).map_or(At::Ahead, |chunk| At::Here(Arc::clone(chunk))),
            None => At::Gone,
        }
    }

    /// Whether it still holds the answer from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.gone == 0
    }

    /// Lets go what nobody will read.
    pub(super) fn drop_before(&mut self, place: usize) {
        while self.gone < place && !self.chunks.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= weight(&chunk);
            self.gone += 1;
        }
    }
}

fn weight(chunk: &Chunk) -> usize {
    let raw = chunk.raw.as_ref().map_or(0, |raw| raw.bytes.len());
    chunk.events.iter().map(said).sum::<usize>() + raw + OVERHEAD
}

fn said(event: &Event) -> usize {
    let words = match event {
        Event::Text { text, .. } | Event::Reasoning { text, .. } | Event::Refusal { text, .. } => text.len(),
        Event::ToolCall { arguments, .. } => arguments.len(),
        Event::Redacted { signature, .. } | Event::Signature { signature, .. } => signature.data.len(),
        // Others are small, or their bytes are in `raw` too.
        _ => 0,
    };
    words + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(bytes: usize) -> Chunk {
        vec![Event::Text { choice: 0, text: "x".repeat(bytes) }].into()
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let mut log = Log::default();
        for _ in 0..8 {
            log.push(chunk(MAX_BYTES / 4));
            assert!(log.bytes <= MAX_BYTES);
        }
        assert!(!log.is_whole() && matches!(log.at(0), At::Gone));
        assert!(matches!(log.at(7), At::Here(_)) && matches!(log.at(8), At::Ahead));
    }

    #[test]
    fn one_chunk_is_kept_however_large() {
        let mut log = Log::default();
        log.push(chunk(2 * MAX_BYTES));
        assert!(log.is_whole() && matches!(log.at(0), At::Here(_)));
        log.drop_before(1);
        assert_eq!((log.bytes, log.gone), (0, 1));
    }
}
