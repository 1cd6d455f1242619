//! Which answers are meant, as flags.

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Which answers are meant: those for which everything holds that is given.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Filter")]
pub(super) struct Filter {
    /// Its id begins so
    #[arg(long, value_name = "DIGITS")]
    id: Option<String>,
    /// It is this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// It is of this project
    #[arg(long)]
    project: Option<String>,
    /// This model was asked
    #[arg(long)]
    model: Option<String>,
    /// It has this label
    #[arg(long)]
    tag: Option<String>,
    /// It was given longer ago than this: 90s, 30m, 12h, 7d, 4w
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,
    /// It was given since then
    #[arg(long, value_name = "TIME")]
    younger_than: Option<String>,
    /// The question contains this
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// The question is like this one
    #[arg(long, value_name = "TEXT")]
    similar_to: Option<String>,
    /// How like it: the least cosine [default: 0.9]
    #[arg(long, value_name = "COSINE", requires = "similar_to")]
    min_similarity: Option<f32>,
    /// It is pinned
    #[arg(long)]
    pinned: bool,
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self {
            id,
            tenant,
            project,
            model,
            tag,
            older_than,
            younger_than,
            contains,
            similar_to,
            min_similarity,
            pinned,
        } = self;
        let texts = [
            ("id", id),
            ("tenant", tenant),
            ("project", project),
            ("model", model),
            ("tag", tag),
            ("older_than", older_than),
            ("younger_than", younger_than),
            ("contains", contains),
            ("similar_to", similar_to),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        let least = min_similarity.map(|least| ("min_similarity", least.to_string()));
        let pinned = pinned.then(|| ("pinned", "true".to_owned()));
        texts.chain(least).chain(pinned).collect()
    }

    /// As the beginning of a query, each pair with a `&` behind it.
    pub(super) fn query(&self) -> String {
        self.pairs().into_iter().fold(String::new(), |mut query, (name, value)| {
            let _ = write!(query, "{name}={}&", encoded(&value));
            query
        })
    }

    /// As an object.
    pub(super) fn object(&self) -> Map<String, Value> {
        self.pairs().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect()
    }
}

/// A text as a URL has it.
pub(in crate::cli) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_query_or_an_object() {
        let filter = Filter {
            project: Some("a b&c".into()),
            similar_to: Some("grün?".into()),
            min_similarity: Some(0.8),
            pinned: true,
            ..Filter::default()
        };
        let query = "project=a%20b%26c&similar_to=gr%C3%BCn%3F&min_similarity=0.8&pinned=true&";
        assert_eq!(filter.query(), query);
        assert_eq!(filter.object()["project"], "a b&c");
        assert!(Filter::default().query().is_empty());
    }
}
