//! The signature of Standard Webhooks: HMAC-SHA256 over the id, the time and the body.

use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;

/// By which a key says that it is written in base64.
const BASE64_PREFIX: &str = "whsec_";

/// Shorter keys can be guessed.
const LEAST_BYTES: usize = 16;

/// What events are signed with.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It says that it is base64, and is not.
    #[error("begins with whsec_, and what follows is no base64")]
    NoBase64,
    /// It can be guessed.
    #[error("must be at least 16 bytes long, to be hard to guess")]
    TooShort,
}

impl Key {
    /// `whsec_` and base64, as Standard Webhooks has it; anything else is the key itself.
    pub fn new(secret: &Secret) -> Result<Self, BadKey> {
        let bytes = match secret.expose().strip_prefix(BASE64_PREFIX) {
            Some(text) => STANDARD.decode(text.trim()).map_err(|_| BadKey::NoBase64)?,
            None => secret.expose().as_bytes().to_vec(),
        };
        if bytes.len() < LEAST_BYTES { Err(BadKey::TooShort) } else { Ok(Self(bytes)) }
    }

    /// What `webhook-signature` says of this message, sent at this moment in Unix seconds.
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        // A key of any length will do, so there is always a signature.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification of Standard Webhooks.
    #[test]
    fn signs_as_the_specification_shows() {
        let key = Key::new(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{key:?}"), "***");
    }

    #[test]
    fn a_key_is_text_or_base64_and_long_enough() {
        assert!(Key::new(&Secret::new("sixteen letters!")).is_ok());
        assert_eq!(Key::new(&Secret::new("fifteen letters")).unwrap_err(), BadKey::TooShort);
        assert_eq!(Key::new(&Secret::new("whsec_!")).unwrap_err(), BadKey::NoBase64);
        assert_eq!(Key::new(&Secret::new("whsec_AAAA")).unwrap_err(), BadKey::TooShort);
    }
}
