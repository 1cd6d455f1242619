//! Which entries a caller means, as a query or an object says it.

use super::super::Server;
use super::super::error::Error;
use crate::cache::judge::Question;
use crate::cache::keeper::{Filter, Near};
use crate::vector::UnitVector;
use crate::wire;
use serde_json::{Map, Value};
use std::time::Duration;

/// How alike questions are to be where nobody says.
const LEAST_SIMILARITY: f32 = 0.9;
/// The names of what a filter knows.
const KNOWN: [&str; 11] = [
    "id",
    "tenant",
    "project",
    "model",
    "tag",
    "older_than",
    "younger_than",
    "contains",
    "similar_to",
    "min_similarity",
    "pinned",
];

/// What was said, by name.
pub(super) struct Wanted(Vec<(String, String)>);

impl Wanted {
    /// What a query says. Beside the names of a filter it may have those of `others`.
    pub(super) fn of_query(query: Option<&str>, others: &[&str]) -> Result<Self, Error> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| fault(name, "is not written as in a URL"))?;
            Ok((name.to_owned(), value))
        });
        Self::of(pairs.collect::<Result<_, Error>>()?, others)
    }

    /// What an object says.
    pub(super) fn of_object(object: &Map<String, Value>) -> Result<Self, Error> {
        let pairs = object.iter().filter(|(_, value)| !value.is_null());
        let pairs = pairs.map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            Value::Bool(_) | Value::Number(_) => Ok((name.clone(), value.to_string())),
            _ => Err(fault(name, "is neither a text nor a number nor true or false")),
        });
        Self::of(pairs.collect::<Result<_, Error>>()?, &[])
    }

    fn of(pairs: Vec<(String, String)>, others: &[&str]) -> Result<Self, Error> {
        match pairs
            .iter()
            .find(|(name, _)| !KNOWN.contains(&name.as_str()) && !others.contains(&name.as_str()))
        {
            Some((name, _)) => {
                Err(fault(name, &format!("is none of {}", [&KNOWN[..], others].concat().join(", "))))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// The text under a name.
    pub(super) fn rest(&self, name: &str) -> Option<String> {
        self.said(name).map(str::to_owned)
    }

    /// The number under a name.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Error> {
        let number = self.said(name).map(|text| text.parse().map_err(|_| fault(name, "is not a number")));
        number.transpose()
    }

    /// Whether it is so, under a name.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let flag = self.said(name).map(|text| text.parse().map_err(|_| fault(name, "is not true or false")));
        flag.transpose()
    }

    /// The filter that was meant.
    pub(super) async fn filter(&self, server: &Server) -> Result<Filter, Error> {
        let filter = Filter {
            tenant: self.rest("tenant"),
            project: self.rest("project"),
            model: self.rest("model"),
            tag: self.rest("tag"),
            older_than: self.duration("older_than")?,
            younger_than: self.duration("younger_than")?,
            contains: self.rest("contains"),
            near: self.near(server).await?,
            pinned: self.flag("pinned")?,
            ..Filter::default()
        };
        match self.said("id") {
            Some(id) => Ok(filter.with_id(id)?),
            None => Ok(filter),
        }
    }

    async fn near(&self, server: &Server) -> Result<Option<Near>, Error> {
        const LEAST: &str = "min_similarity";
        let least = match self.said(LEAST).map(str::parse::<f32>) {
            None => None,
            Some(Ok(least)) if (-1.0..=1.0).contains(&least) => Some(least),
            Some(_) => return Err(fault(LEAST, "is not a number from -1 to 1")),
        };
        let Some(text) = self.rest("similar_to") else {
            return match least {
                None => Ok(None),
                Some(_) => Err(fault(LEAST, "needs `similar_to`")),
            };
        };
        let question = Question::new(&text);
        let text = question.to_embed().ok_or_else(|| fault("similar_to", "is too long to be compared"))?;
        let vectors = server.pipeline.embed(&[text.to_owned()]).await.map_err(Error::Embed)?;
        let vector = vectors.into_iter().next().and_then(|vector| UnitVector::new(vector).ok());
        let vector = vector.ok_or_else(|| fault("similar_to", "says nothing"))?;
        Ok(Some(Near { vector, least: least.unwrap_or(LEAST_SIMILARITY) }))
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        let parsed =
            |text| duration(text).ok_or_else(|| fault(name, "is not a time like 90s, 30m, 12h, 7d or 4w"));
        self.said(name).map(parsed).transpose()
    }

    fn said(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn fault(name: &str, what: &str) -> Error {
    let name: String = name.chars().take(100).collect();
    Error::Wire(wire::Error::at(&name, format!("`{name}` {what}")))
}

/// `90s`, `30m`, `12h`, `7d`, `4w`; seconds where there is no letter.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// What a value in a query stands for.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        let cases = [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("30m", Some(1800)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("4w", Some(2_419_200)),
            ("", None),
            ("d", None),
            ("7 d", None),
            ("-1d", None),
            ("7y", None),
            ("99999999999999999999w", None),
            ("18446744073709551615w", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_its_names_are_known() {
        assert_eq!(decoded("a+b%20%C3%BC%2B").as_deref(), Some("a b ü+"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
        assert!(Wanted::of_query(Some("project=x&limit=3"), &["limit"]).is_ok());
        assert!(Wanted::of_query(Some("projekt=x"), &[]).is_err());
        assert!(Wanted::of_object(&Map::from_iter([("tag".to_owned(), Value::Array(vec![]))])).is_err());
    }
}
