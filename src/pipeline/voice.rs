//! Whose answer is wanted: what is remembered, and as what.

use super::flight::Begun;
use crate::chat::Request;
use crate::upstream::{Call, Opened, Origin, Upstream};
use std::sync::Arc;

/// Who is to answer a request. Anyone else's answer is given, and forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Voice {
    /// A provider, or the local model.
    pub(super) origin: Origin,
    /// The model.
    pub(super) model: Arc<str>,
    /// The upstream, where its answers are kept apart from those of others with the same model.
    pub(super) arm: Option<Arc<str>>,
}

impl Voice {
    /// Who is to answer `request`, as `call` was chosen.
    pub(super) fn of(upstream: &dyn Upstream, request: &Request, call: &Call) -> Self {
        let Some(plan) = &call.plan else {
            let origin = upstream.origin(request);
            return Self { origin, model: request.model.as_str().into(), arm: None };
        };
        Self { origin: plan.origin, model: plan.model(&request.model).into(), arm: plan.arm.clone() }
    }

    /// Whether it is a provider's.
    pub(super) fn is_provider(&self) -> bool {
        self.origin == Origin::Provider
    }

    /// Whether an answer is its own.
    pub(super) fn gives(&self, opened: &Opened) -> bool {
        self.is(opened.origin, &opened.model, &opened.by)
    }

    /// Whether an answer that has begun is its own.
    pub(super) fn gave(&self, begun: &Begun) -> bool {
        self.is(begun.origin, &begun.model, &begun.by)
    }

    fn is(&self, origin: Origin, model: &str, by: &str) -> bool {
        self.origin == origin && *self.model == *model && self.arm.as_deref().is_none_or(|arm| arm == by)
    }
}
