//! Who asks, and what came beside the request.

use crate::cache::Wishes;
use crate::chat::Request;
use crate::limits::Who;
use crate::upstream::{Call, Envelope, Priority, Session};
use std::sync::Arc;
use tokio::time::Instant;

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Names this request in logs and headers.
    pub request_id: String,
    /// Whose answers may be seen.
    pub tenant: Arc<str>,
    /// The project context.
    pub project: String,
    /// The state that the project is in. An answer given in one state is not seen in another.
    pub state: Option<String>,
    /// Labels for what is remembered of this request.
    pub tags: Vec<String>,
    /// What the caller wants of the cache. Callers can only make it stricter.
    pub memory: Wishes,
    /// When the answer must be over. Whoever holds it drops the answer then; here it only tells the reason.
    pub deadline: Instant,
    /// What was sent beside the body.
    pub envelope: Arc<Envelope>,
}

impl Caller {
    /// Who asks for `model`, for those who limit.
    pub(super) fn who<'w>(&'w self, model: &'w str) -> Who<'w> {
        let Envelope { client, address, headers, .. } = &*self.envelope;
        let (tenant, project) = (&*self.tenant, self.project.as_str());
        let client = client.as_deref().unwrap_or_default();
        Who { tenant, project, model, client, address: *address, headers, route: None }
    }

    /// The call upstream that answers `request`, for those who choose among upstreams.
    pub(super) fn call(&self, request: &Request, priority: Priority) -> Call {
        let Self { request_id: _, tenant, project, state: _, tags: _, memory: _, deadline, envelope } = self;
        Call {
            deadline: *deadline,
            priority,
            tenant: Arc::clone(tenant),
            project: project.as_str().into(),
            session: Session::of(tenant, project, envelope, request),
            envelope: Arc::clone(envelope),
            plan: None,
            without: None,
        }
    }
}
