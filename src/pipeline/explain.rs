//! What was found out on the way to an answer, kept for a while: so that whoever wonders can be told.

use super::lately::Lately;
use super::recall::Recall;
use super::{Caller, Pipeline, Source};
use crate::cache::{Explanation, Lookup, Miss};
use serde::Serialize;
use std::sync::Arc;
use tokio::time::Instant;

/// The most requests that can be explained: some megabytes, if all of their questions are long.
const MOST: usize = 1024;

/// The requests of late, as far as they can be explained.
pub struct Trails(Lately<Trail>);

impl Default for Trails {
    fn default() -> Self {
        Self(Lately::new(MOST))
    }
}

/// What was found out about one request.
#[derive(Clone, Default)]
pub(super) struct Trail {
    /// What was looked up, where anything was.
    pub(super) lookup: Option<Lookup>,
    /// When it was decided what is like the question, where anything was looked at.
    pub(super) decided: Option<Instant>,
    lane: Option<Lane>,
}

/// Who answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "lane")]
pub enum Lane {
    /// A rule.
    Rule {
        /// Its name.
        rule: String,
    },
    /// Memory: the very same question.
    Exact,
    /// Memory: a question that means the same.
    Semantic {
        /// What its answer is kept under.
        served: String,
        /// The cosine of the two questions.
        similarity: f32,
    },
    /// Whoever is asked when neither knows.
    Upstream {
        /// Why memory had no answer.
        miss: Miss,
    },
}

impl Lane {
    fn of(recall: &Recall) -> Self {
        match recall {
            Recall::Forward(plan) => Self::Upstream { miss: plan.miss },
            Recall::Ready(source, ..) => match source.clone() {
                Source::Rule { rule } => Self::Rule { rule },
                Source::Exact { .. } => Self::Exact,
                Source::Semantic { id, similarity, .. } => Self::Semantic { served: id, similarity },
                Source::Upstream { miss, .. } | Source::Local { miss, .. } => Self::Upstream { miss },
            },
        }
    }
}

/// Why a request was answered as it was.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Names the request; nothing where an answer that is kept is explained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Who answered.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// What memory knew; nothing where it was not asked.
    pub lookup: Option<Explanation>,
}

impl Pipeline {
    /// Notes what was found out about a request.
    pub(super) fn leave(&self, caller: &Caller, trail: Trail, recall: &Recall) {
        let trail = Trail { lane: Some(Lane::of(recall)), ..trail };
        self.trails.0.keep(&caller.tenant, &caller.request_id, trail);
    }

    /// How like the nearest question was that was looked at for a request of `tenant`.
    pub fn nearest(&self, tenant: &Arc<str>, request_id: &str) -> Option<f32> {
        self.trails.0.with(tenant, request_id, |trail| trail.lookup.as_ref()?.nearest())?
    }

    /// Why a request of `tenant` was answered as it was; `None` where that is not known, or not any more.
    pub async fn explain(&self, tenant: &Arc<str>, request_id: &str) -> Option<Explained> {
        let Trail { lookup, decided: _, lane } =
            self.trails.0.with(tenant, request_id, |trail| trail.clone())?;
        let lookup = match lookup {
            Some(lookup) => Some(self.cache.explain(&lookup).await),
            None => None,
        };
        Some(Explained { request_id: Some(request_id.to_owned()), lane, lookup })
    }
}
