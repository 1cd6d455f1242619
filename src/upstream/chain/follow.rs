//! An answer on its way, for as long as it comes: whoever gives it has to do, may still break it off, and is paid.

use super::ward::{Busy, Unit, Ward};
use crate::chat::{Chunk, Event, Usage};
use crate::upstream::{Chunks, Error};
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The same chunks; a cut among them is remembered, and what the answer took.
pub(super) fn to_the_end(chunks: Chunks, ward: &Arc<Ward>, unit: Unit, busy: Option<Busy>) -> Chunks {
    Followed { chunks, ward: Arc::clone(ward), unit, usage: None, _busy: busy }.boxed()
}

struct Followed {
    chunks: Chunks,
    ward: Arc<Ward>,
    unit: Unit,
    /// As the provider last counted it.
    usage: Option<Usage>,
    _busy: Option<Busy>,
}

impl Stream for Followed {
    type Item = Result<Chunk, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.chunks.poll_next_unpin(context);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                for event in &chunk.events {
                    if let Event::Usage(usage) = event {
                        self.usage = Some(*usage);
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => self.ward.cut(self.unit.key, &self.unit.model),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.ward.spent(&self.unit, self.usage);
    }
}
