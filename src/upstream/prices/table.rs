//! A list of models: who makes them, what they cost, how much they take.

use super::{Model, Price};
use crate::chat::matches;
use serde::Deserialize;
use std::collections::HashMap;

/// The list that ships with the program.
const LIST: &str = include_str!("list.toml");

/// What models cost, by who offers them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// When the list was true.
    pub updated: Option<String>,
    makers: HashMap<String, HashMap<String, Model>>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not of the right form.
    #[error("{0}")]
    Form(String),
    /// A price is none.
    #[error("{maker}.\"{model}\": a price must be a number from 0 to 1000000")]
    Price {
        /// Who offers it.
        maker: String,
        /// The model.
        model: String,
    },
}

/// A list, as it is written.
#[derive(Deserialize)]
struct Written {
    updated: Option<String>,
    #[serde(flatten)]
    makers: HashMap<String, HashMap<String, Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    input: f64,
    output: f64,
    cached_read: Option<f64>,
    cached_write: Option<f64>,
    reasoning: Option<f64>,
    long: Option<Long>,
    context: Option<u64>,
    max_output: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    from: u64,
    input: f64,
    output: f64,
    cached_read: Option<f64>,
    cached_write: Option<f64>,
    reasoning: Option<f64>,
}

impl Entry {
    fn model(self) -> Model {
        let Self { input, output, cached_read, cached_write, reasoning, long, context, max_output } = self;
        let long = long.map(|Long { from, input, output, cached_read, cached_write, reasoning }| {
            (from, Price { input, output, cached_read, cached_write, reasoning })
        });
        Model {
            price: Price { input, output, cached_read, cached_write, reasoning },
            long,
            context,
            max_output,
        }
    }
}

/// A price that can be right.
fn is_sound(Price { input, output, cached_read, cached_write, reasoning }: &Price) -> bool {
    let optional = [cached_read, cached_write, reasoning].into_iter().flatten();
    [input, output].into_iter().chain(optional).all(|price| (0.0..=1e6).contains(price))
}

impl Table {
    /// The list that ships with the program.
    pub fn builtin() -> Self {
        // A test reads it; a list that cannot be read would only mean that nothing has a price.
        Self::parse(LIST).unwrap_or_default()
    }

    /// Reads a list.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Written { updated, makers } =
            toml::from_str(text).map_err(|error| Error::Form(error.to_string().trim_end().to_owned()))?;
        let mut table = Self { updated, makers: HashMap::new() };
        for (maker, entries) in makers {
            let models = table.makers.entry(maker.clone()).or_default();
            for (name, entry) in entries {
                let model = entry.model();
                if !is_sound(&model.price) || !model.long.is_none_or(|(_, price)| is_sound(&price)) {
                    return Err(Error::Price { maker, model: name });
                }
                models.insert(name, model);
            }
        }
        Ok(table)
    }

    /// This list, and over it what `newer` says.
    #[must_use]
    pub fn updated_by(mut self, newer: Self) -> Self {
        for (maker, models) in newer.makers {
            self.makers.entry(maker).or_default().extend(models);
        }
        self.updated = newer.updated.or(self.updated);
        self
    }

    /// How many models it knows.
    pub fn len(&self) -> usize {
        self.makers.values().map(HashMap::len).sum()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A model of a maker's: by its name, its name without a date or the way to it, or the longest pattern that
    /// its name matches.
    pub fn model(&self, maker: &str, model: &str) -> Option<(&str, &Model)> {
        let models = self.makers.get(maker)?;
        let plain = [model, undated(model), unrouted(model), undated(unrouted(model))];
        let named = plain.iter().find_map(|name| models.get_key_value(*name));
        named.or_else(|| longest(models, model)).map(|(name, model)| (name.as_str(), model))
    }
}

fn longest<'m>(models: &'m HashMap<String, Model>, name: &str) -> Option<(&'m String, &'m Model)> {
    let fitting = models.iter().filter(|(pattern, _)| pattern.contains('*') && matches(pattern, name));
    // The second key makes the choice the same every time.
    fitting.max_by_key(|(pattern, _)| (pattern.len(), pattern.as_str()))
}

/// `gpt-5-2025-08-07` and `claude-opus-5-20260205` are the models of that date.
fn undated(name: &str) -> &str {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((rest, last)) = name.rsplit_once('-') {
        if digits(last, 8) {
            return rest;
        }
        let mut parts = name.rsplitn(4, '-');
        if let (Some(day), Some(month), Some(year), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && digits(day, 2)
            && digits(month, 2)
            && digits(year, 4)
        {
            return rest;
        }
    }
    name
}

/// Some clients say `openai/gpt-5` and Gemini's say `models/gemini-2.5-pro`.
fn unrouted(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_that_ships_can_be_read() {
        let table = Table::parse(LIST).unwrap();
        assert!(table.len() > 300, "{}", table.len());
        assert_eq!(table.updated.as_deref(), Some("2026-11-25"));
        let haiku = table.model("anthropic", "claude-haiku-4-5").unwrap().1;
        assert_eq!(haiku.price.cached_write, Some(1.25));
        for (maker, models) in &table.makers {
            for (name, model) in models {
                let cheaper = model.price.cached_read.is_none_or(|cached| cached <= model.price.input);
                assert!(cheaper, "{maker} {name}: what is cached is never dearer");
            }
        }
    }

    #[test]
    fn a_model_is_found_by_every_name_that_means_it() {
        let table = Table::builtin();
        let gpt = table.model("openai", "gpt-5").unwrap();
        for name in ["gpt-5-2025-08-07", "openai/gpt-5", "openai/gpt-5-2025-08-07"] {
            assert_eq!(table.model("openai", name), Some(gpt), "{name}");
        }
        assert!(table.model("gemini", "models/gemini-2.5-pro").is_some());
        assert_eq!(table.model("anthropic", "gpt-5"), None, "another's");
        assert_eq!(table.model("openai", "gpt-5-secret"), None, "no guesses");
    }

    #[test]
    fn a_users_list_lies_over_it() {
        let own = "[openai]\n\"gpt-5\" = { input = 9, output = 9 }\n\n[box]\n\"*\" = { input = 0, output = 0 }\n\
                   \"big-*\" = { input = 1, output = 1, context = 7 }\n";
        let table = Table::builtin().updated_by(Table::parse(own).unwrap());
        assert_eq!(table.model("openai", "gpt-5").unwrap().1.price, Price::flat(9.0, 9.0));
        assert!(table.model("openai", "gpt-4o").is_some(), "the others stay");
        assert_eq!(table.model("box", "big-one").unwrap().1.context, Some(7), "the longest pattern");
        assert_eq!(table.model("box", "any").unwrap().1.price, Price::flat(0.0, 0.0));
        assert_eq!(table.updated.as_deref(), Some("2026-11-25"));
    }

    #[test]
    fn a_list_that_is_wrong_says_where() {
        let error = |text: &str| Table::parse(text).unwrap_err().to_string();
        assert!(error("[a]\nm = { input = 1 }").contains("output"));
        assert!(error("[a]\nm = { input = 1, output = 2, cache = 3 }").contains("cache"));
        let negative = error("[a]\nm = { input = -1, output = 2 }");
        assert_eq!(negative, "a.\"m\": a price must be a number from 0 to 1000000");
    }
}
