//! Asks upstream to see who answers, past rules and memory, and remembers nothing.

use super::Pipeline;
use crate::chat::{Folder, Request};
use crate::upstream::{Call, Error, Kind};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Who answered, and after whom.
#[derive(Debug)]
pub struct Drilled {
    /// The one who answered.
    pub by: Arc<str>,
    /// Those who failed before, or were passed over.
    pub failed: Vec<Error>,
    /// What it said.
    pub said: String,
    /// How long it took to the end.
    pub took: Duration,
}

impl Pipeline {
    /// Asks `request` of whoever answers it now.
    pub async fn drill(&self, request: &Request, call: &Call) -> Result<Drilled, Error> {
        let began = Instant::now();
        let name: Arc<str> = self.upstream.name().into();
        let late = || Error::new(Kind::Timeout, &name, "the drill took too long");
        let asked = async {
            let mut opened = self.upstream.open(request, call).await?;
            let mut folder = Folder::default();
            while let Some(chunk) = opened.chunks.next().await {
                chunk?.events.iter().for_each(|event| folder.push(event));
                if folder.ended() {
                    break;
                }
            }
            let said = folder.finish().ok().and_then(|reply| Some(reply.choices.first()?.said()));
            let (by, failed) = (opened.by, opened.failed);
            Ok(Drilled { by, failed, said: said.unwrap_or_default(), took: began.elapsed() })
        };
        timeout_at(call.deadline, asked).await.unwrap_or_else(|_| Err(late()))
    }
}
