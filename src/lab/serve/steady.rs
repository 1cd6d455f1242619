//! [`Steady`]: an upstream that takes the same time for every answer.

use crate::chat::{Event, Reply, Request, unfold};
use crate::upstream::{Call, Error, Load, Opened, Origin, Upstream};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use std::time::Duration;

/// Answers each question with the same words: the first after `wait`, the rest at once behind it.
#[derive(Clone, Debug)]
pub struct Steady {
    wait: Duration,
    answer: String,
}

impl Steady {
    /// Takes `wait` for each answer.
    pub fn new(wait: Duration) -> Self {
        let answer = "It is a fine city by the sea, with a long history and many bridges. ".repeat(6);
        Self { wait, answer }
    }
}

#[async_trait]
impl Upstream for Steady {
    fn name(&self) -> &'static str {
        "steady"
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, request: &Request, _: &Call) -> Result<Opened, Error> {
        tokio::time::sleep(self.wait).await;
        let mut events: Vec<Event> = unfold(&Reply::text("steady", &self.answer));
        let rest = events.split_off(2.min(events.len()));
        Ok(Opened {
            by: "steady".into(),
            model: request.model.as_str().into(),
            origin: Origin::Provider,
            failed: Vec::new(),
            dropped: Vec::new(),
            headers: Vec::new(),
            load: Load::default(),
            chunks: stream::iter([Ok(events.into()), Ok(rest.into())]).boxed(),
        })
    }
}
