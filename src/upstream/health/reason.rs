//! Why somebody is left alone for a while.

use serde::{Deserialize, Serialize};

/// Why a call failed, as far as it says something about the one who was asked. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Too many requests.
    RateLimit,
    /// The provider has no capacity.
    Overloaded,
    /// The account has no credit.
    Billing,
    /// The key was refused, and may be taken again.
    Auth,
    /// The key was refused for good.
    AuthPermanent,
    /// Nothing came in time.
    Timeout,
    /// It failed.
    ServerError,
    /// It could not be reached.
    Connection,
    /// What came could not be understood, or broke off.
    BadResponse,
    /// The conversation is longer than the model reads. Says nothing about its health.
    ContextOverflow,
    /// It does not know the model.
    ModelNotFound,
}

/// What a reason speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All models that are asked with this key.
    Key,
    /// This model with this key.
    Unit,
    /// This request alone.
    Request,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RateLimit,
        Self::Overloaded,
        Self::Billing,
        Self::Auth,
        Self::AuthPermanent,
        Self::Timeout,
        Self::ServerError,
        Self::Connection,
        Self::BadResponse,
        Self::ContextOverflow,
        Self::ModelNotFound,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Billing => "billing",
            Self::Auth => "auth",
            Self::AuthPermanent => "auth_permanent",
            Self::Timeout => "timeout",
            Self::ServerError => "server_error",
            Self::Connection => "connection",
            Self::BadResponse => "bad_response",
            Self::ContextOverflow => "context_overflow",
            Self::ModelNotFound => "model_not_found",
        }
    }

    /// What it speaks about.
    pub fn scope(self) -> Scope {
        match self {
            Self::Billing | Self::Auth | Self::AuthPermanent => Scope::Key,
            Self::ContextOverflow => Scope::Request,
            Self::RateLimit
            | Self::Overloaded
            | Self::Timeout
            | Self::ServerError
            | Self::Connection
            | Self::BadResponse
            | Self::ModelNotFound => Scope::Unit,
        }
    }

    /// Whether asking costs next to nothing, since the answer comes at once: then one question now and then finds out
    /// while there is nobody else to ask. A limit is over when it is over, asking does not pay what is owed, and a
    /// silence costs the one who waits.
    pub fn may_be_tried_early(self) -> bool {
        let passes =
            matches!(self, Self::Overloaded | Self::ServerError | Self::Connection | Self::BadResponse);
        passes || self.waits_for_hands()
    }

    /// Whether it lasts until somebody has repaired it: the key, or what is offered.
    pub fn waits_for_hands(self) -> bool {
        matches!(self, Self::Auth | Self::AuthPermanent | Self::ModelNotFound)
    }

    /// Whether the provider's own word on when to come back is heeded.
    pub fn heeds_waits(self) -> bool {
        matches!(self, Self::RateLimit | Self::Overloaded | Self::ServerError | Self::Billing | Self::Timeout)
    }
}
