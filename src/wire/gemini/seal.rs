//! Seals in `thoughtSignature`, which holds bytes in base64: typed SDKs refuse anything else there.

use super::HERE;
use crate::chat::Signature;
use serde_json::{Map, Value};

/// The field that a seal stands in.
pub(super) const FIELD: &str = "thoughtSignature";

/// What Google has put in place of a seal that there is none of.
pub(super) const NONE: &str = "skip_thought_signature_validator";

/// Before a foreign seal whose thought was withheld.
const WITHHELD: &str = "withheld;";

/// The seal as a client of Gemini is shown it: Gemini's own as it is, a foreign one with its maker's name, and
/// all of that in base64.
pub(super) fn write(signature: &Signature, redacted: bool) -> String {
    let tagged = signature.tagged(HERE);
    match (signature.by == HERE, redacted) {
        (true, _) => tagged,
        (false, false) => base64(tagged.as_bytes()),
        (false, true) => base64(format!("{WITHHELD}{tagged}").as_bytes()),
    }
}

/// Undoes [`write()`]; says also whether the thought was withheld.
pub(super) fn read(written: &str) -> (Signature, bool) {
    let text = from_base64(written).and_then(|bytes| String::from_utf8(bytes).ok());
    let foreign = text.as_deref().and_then(|text| {
        let (tagged, redacted) = text.strip_prefix(WITHHELD).map_or((text, false), |tagged| (tagged, true));
        let signature = Signature::from_tagged(HERE, tagged);
        (signature.by != HERE).then_some((signature, redacted))
    });
    foreign.unwrap_or_else(|| (Signature { by: HERE, data: written.to_owned() }, false))
}

/// Whether the fields beside a text hold another provider's seal.
pub(in crate::wire) fn has_foreign_seal(beside: &Map<String, Value>) -> bool {
    beside.get(FIELD).and_then(Value::as_str).is_some_and(|written| read(written).0.by != HERE)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = ALPHABET[bits >> (18 - 6 * at) & 63];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for four in letters.chunks(4) {
        let mut bits = 0usize;
        for letter in four {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == letter)?;
        }
        bits <<= 6 * (4 - four.len());
        let three = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        bytes.extend_from_slice(&three[..four.len() - 1]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Protocol;

    #[test]
    fn a_foreign_seal_is_base64_and_comes_back() {
        for (data, redacted) in [("", false), ("x", true), ("ab==", false), ("ErUBCkYIé", true)] {
            let foreign = Signature { by: Protocol::Anthropic, data: data.into() };
            let written = write(&foreign, redacted);
            assert_eq!(written.len() % 4, 0);
            assert!(written.bytes().all(|byte| ALPHABET.contains(&byte) || byte == b'='), "{written}");
            assert_eq!(read(&written), (foreign, redacted));
        }
    }

    #[test]
    fn an_own_seal_stays_as_it_is() {
        for data in ["", "EjQKMgEM", "a", "not base64 !", "weir:nobody:x"] {
            let own = Signature { by: HERE, data: data.into() };
            assert_eq!(write(&own, true), data);
            assert_eq!(read(data), (own, false));
        }
        assert_eq!(base64(b"weir:"), "d2Vpcjo=");
    }
}
