//! Webhooks: other programs are told what becomes of the chain, so that somebody learns of it who reads no log.
//!
//! An [`Event`] is made where the thing happens, and left in a queue: who asks is never held up, and a receiver that
//! hangs holds up nobody but those who wait for it. What is told are names and numbers; no word of a request, and no
//! secret. The signature is that of Standard Webhooks, so receivers need no code of ours.

mod damper;
mod deliver;
mod event;
mod sign;

pub use deliver::{Webhooks, try_out};
pub use event::{Event, Topic};
pub use sign::{BadKey, Key};

use crate::secret::Secret;
use serde::Serialize;
use std::time::Duration;

/// Whom to tell, and of what.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is called in logs and metrics.
    pub name: String,
    /// Where it is. Some receivers know who calls by the address alone, so nobody is shown it.
    pub url: Secret,
    /// What its events are signed with.
    pub key: Key,
    /// What it is told of.
    pub topics: Vec<Topic>,
    /// How long it may take to say that it has understood.
    pub timeout: Duration,
    /// How often it is told again what it did not take.
    pub retries: u32,
    /// The longest first pause before that; it doubles.
    pub backoff: Duration,
    /// The same again within this time is not told, but counted.
    pub quiet: Duration,
}

impl Config {
    /// One that is told of everything.
    pub fn new(name: &str, url: &str, key: Key) -> Self {
        Self {
            name: name.to_owned(),
            url: Secret::new(url),
            key,
            topics: Topic::ALL.iter().map(|(_, topic)| *topic).collect(),
            timeout: Duration::from_secs(5),
            retries: 4,
            backoff: Duration::from_secs(1),
            quiet: Duration::from_mins(1),
        }
    }
}

/// What has become of one receiver's events, since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it is called.
    pub name: String,
    /// Taken.
    pub sent: u64,
    /// Not taken, however often it was told.
    pub failed: u64,
    /// Not told, since too many waited.
    pub dropped: u64,
    /// Not told, since it had been told the same just before.
    pub damped: u64,
}
