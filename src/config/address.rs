//! The base URL of an upstream: what must be true of it, and whether it is our own.

use std::net::{IpAddr, SocketAddr};

/// A base URL.
#[derive(Debug)]
pub(super) struct Address {
    /// Without a slash at its end.
    pub(super) url: String,
    host: String,
    port: u16,
}

impl Address {
    /// Checks `url`. An error never quotes it: what is wrong with it may be that it holds a key.
    pub(super) fn new(url: &str) -> Result<Self, &'static str> {
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("holds a space or a control character");
        }
        let (scheme, rest) = url.split_once("://").ok_or("must begin with http:// or https://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err("must begin with http:// or https://"),
        };
        if rest.contains(['?', '#']) {
            return Err("must end with its path, without a query (?) or a fragment");
        }
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must not hold a user name or a key; use api_key or headers");
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            return Err("names no host");
        }
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, host: host.to_ascii_lowercase(), port: port.unwrap_or(default_port) })
    }

    /// Whether whoever calls it reaches `listen`: weir would ask itself, and so on for ever.
    pub(super) fn is_served_by(&self, listen: SocketAddr) -> bool {
        let ip = match self.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
        };
        let own = listen.ip().to_canonical();
        let reaches = ip.is_some_and(|ip| {
            let this_machine = ip.is_loopback() || ip.is_unspecified();
            ip == own || (this_machine && (own.is_loopback() || own.is_unspecified()))
        });
        self.port == listen.port() && reaches
    }
}

/// Host (without brackets) and port of `host`, `host:port`, `[::1]` or `[::1]:port`.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("has an unclosed \"[\"")?;
        (host, rest.strip_prefix(':'))
    } else {
        authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    let number = |port: &str| port.parse::<u16>().ok().filter(|port| *port != 0);
    match port {
        None => Ok((host, None)),
        Some(port) => {
            number(port).map(|port| (host, Some(port))).ok_or("has a port that is not from 1 to 65535")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_http_and_https_only() {
        assert_eq!(Address::new("https://api.openai.com/v1/").unwrap().url, "https://api.openai.com/v1");
        assert_eq!(Address::new("HTTP://[::1]:8080").unwrap().port, 8080);
        for wrong in [
            "api.openai.com/v1",
            "ftp://host",
            "http://",
            "http://:80",
            "http://host:0",
            "http://host:99999",
            "http://user:key@host",
            "http://host/v1?key=1",
            "http://ho st",
            "http://[::1",
        ] {
            assert!(Address::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn knows_its_own_address() {
        let own = |url: &str, listen: &str| Address::new(url).unwrap().is_served_by(listen.parse().unwrap());
        assert!(own("http://localhost:4100/v1", "127.0.0.1:4100"));
        assert!(own("http://127.0.0.1:4100/v1", "0.0.0.0:4100"));
        assert!(own("http://[::1]:4100/v1", "[::1]:4100"));
        assert!(own("http://10.0.0.7:4100/v1", "10.0.0.7:4100"));
        assert!(own("http://localhost/v1", "127.0.0.1:80"));
        assert!(!own("http://localhost:4101/v1", "127.0.0.1:4100"));
        assert!(!own("http://10.0.0.8:4100/v1", "127.0.0.1:4100"));
        assert!(!own("http://gateway:4100/v1", "127.0.0.1:4100"));
    }
}
