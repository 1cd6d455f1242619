//! The parts that a scope is made of. Two requests that should meet and do not differ in one of them; which one,
//! is what someone wants to know who wonders.

use super::fingerprint::Fingerprint;
use crate::store::Scope;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// What must be the same beside the question's words. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Tenant,
    Project,
    State,
    Origin,
    Partitions,
    Model,
    EarlierTurns,
    Question,
    Tools,
    ToolChoice,
    Format,
    Thinking,
    Sampling,
    OtherFields,
    Headers,
    Protocol,
}

/// All of them, in order.
const NAMES: [&str; 16] = [
    "tenant",
    "project",
    "state",
    "origin",
    "partitions",
    "model",
    "earlier_turns",
    "question_shape",
    "tools",
    "tool_choice",
    "response_format",
    "thinking",
    "sampling",
    "other_fields",
    "headers",
    "protocol",
];

/// How much of a part's digest is kept: enough to see whether two are the same.
const SHOWN: usize = 4;

/// A few bytes of the digest of every part of a scope. Nothing can be read from them; they can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts([[u8; SHOWN]; NAMES.len()]);

impl Parts {
    /// Each part's name, and the beginning of its digest in hexadecimal.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, String)> {
        let hex = |digest: &[u8; SHOWN]| format!("{:08x}", u32::from_be_bytes(*digest));
        NAMES.iter().copied().zip(self.0.iter().map(hex))
    }
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(NAMES.len()))?;
        for (name, digest) in self.iter() {
            map.serialize_entry(name, &digest)?;
        }
        map.end()
    }
}

/// A scope in the making.
#[derive(Default)]
pub(super) struct Making {
    whole: Fingerprint,
    parts: Parts,
    dialectal: bool,
}

impl Making {
    /// Adds what `feed` says about a part. Every part is added once, and always in the same order.
    pub(super) fn add(&mut self, part: Part, feed: impl FnOnce(&mut Fingerprint)) {
        let mut fingerprint = Fingerprint::default();
        feed(&mut fingerprint);
        self.dialectal |= fingerprint.is_dialectal();
        let digest = fingerprint.finish();
        self.whole.bytes(&digest);
        self.parts.0[part as usize].copy_from_slice(&digest[..SHOWN]);
    }

    /// Whether something was fed that means something to one protocol alone.
    pub(super) fn is_dialectal(&self) -> bool {
        self.dialectal
    }

    pub(super) fn finish(self) -> (Scope, Parts) {
        (Scope(self.whole.finish()), self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_name() {
        assert_eq!(NAMES[Part::Tenant as usize], "tenant");
        assert_eq!(NAMES[Part::EarlierTurns as usize], "earlier_turns");
        assert_eq!(NAMES[Part::Sampling as usize], "sampling");
        assert_eq!(NAMES[Part::Protocol as usize], "protocol");
    }

    #[test]
    fn a_part_that_differs_shows_and_makes_another_scope() {
        let made = |model: &str| {
            let mut making = Making::default();
            making.add(Part::Project, |f| f.text("p"));
            making.add(Part::Model, |f| f.text(model));
            making.finish()
        };
        let ((one, parts), (other, others)) = (made("m"), made("m2"));
        assert_ne!(one, other);
        let differ = parts.iter().zip(others.iter()).filter(|(a, b)| a != b).map(|((name, _), _)| name);
        assert_eq!(differ.collect::<Vec<_>>(), ["model"]);
    }

    #[test]
    fn what_only_one_protocol_understands_is_noticed_in_any_part() {
        let mut making = Making::default();
        making.add(Part::Tools, |f| f.opaque(&serde_json::json!(1)));
        making.add(Part::Format, |f| f.text("text"));
        assert!(making.is_dialectal());
    }
}
