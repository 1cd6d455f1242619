//! Server.

use crate::secret::Secret;
use std::net::SocketAddr;
use std::time::Duration;

/// How the sidecar listens, and how much it takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may call. Empty: anyone, with any key or none, and only on a loopback address.
    pub clients: Vec<Client>,
    /// The longest request body.
    pub max_body_bytes: usize,
    /// The longest request head.
    pub max_header_bytes: usize,
    /// The most open connections.
    pub max_connections: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// How long a request may take in all, its stream included.
    pub request_timeout: Duration,
    /// How long running requests get to finish after a signal to stop.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4100)),
            clients: Vec::new(),
            max_body_bytes: 32 << 20,
            max_header_bytes: 64 << 10,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(10),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Someone who may call.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it is called in logs.
    pub name: String,
    /// What it shows.
    pub key: Secret,
    /// Whose answers it sees. Clients of one tenant share a cache; tenants never do.
    pub tenant: String,
}
