//! What an answer costs: [`Price`], and the [`Table`]s that hold one for each model.
//!
//! A table ships with the program (`list.toml`: public list prices); a user's own lies over it, and what the
//! configuration says about an upstream counts before both. A model that no table knows has no price: an
//! unknown cost is better than a wrong one.

mod table;

pub use table::{Error, Table};

use crate::chat::Usage;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Prices are for so many tokens.
const MILLION: f64 = 1e6;

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read.
    pub input: f64,
    /// Tokens written.
    pub output: f64,
    /// Tokens that the provider had in its cache; like any other where it is missing.
    pub cached_read: Option<f64>,
    /// Tokens that the provider put into its cache; like any other where it is missing.
    pub cached_write: Option<f64>,
    /// Tokens spent thinking; like any other that is written where it is missing.
    pub reasoning: Option<f64>,
}

/// What a model costs, and how much it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Model {
    /// What it costs.
    pub price: Price,
    /// What it costs instead when it reads more than so many tokens.
    pub long: Option<(u64, Price)>,
    /// How many tokens it reads.
    pub context: Option<u64>,
    /// How many it writes.
    pub max_output: Option<u64>,
}

impl Price {
    /// A price that knows no caches.
    pub fn flat(input: f64, output: f64) -> Self {
        Self { input, output, ..Self::default() }
    }

    /// US dollars for what was used.
    pub fn cost(&self, usage: &Usage) -> f64 {
        let Self { input, output, cached_read, cached_write, reasoning } = *self;
        // A part is never larger than the whole, whatever a provider counts.
        let cached = usage.cached_input.min(usage.input);
        let written_to_cache = usage.cache_write.min(usage.input - cached);
        let thought = usage.reasoning.min(usage.output);
        let each = [
            (usage.input - cached - written_to_cache, input),
            (cached, cached_read.unwrap_or(input)),
            (written_to_cache, cached_write.unwrap_or(input)),
            (usage.output - thought, output),
            (thought, reasoning.unwrap_or(output)),
        ];
        each.iter().map(|(tokens, price)| *tokens as f64 * price).sum::<f64>() / MILLION
    }
}

impl Model {
    /// A model of which only the price is known.
    pub fn costing(price: Price) -> Self {
        Self { price, ..Self::default() }
    }

    /// US dollars for what was used.
    pub fn cost(&self, usage: &Usage) -> f64 {
        match self.long {
            Some((from, long)) if usage.input > from => long.cost(usage),
            _ => self.price.cost(usage),
        }
    }
}

/// The prices of each upstream's models.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    upstreams: HashMap<Arc<str>, Source>,
}

/// Where an upstream's prices come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// One price for whatever it answers, as configured.
    pub fixed: Option<Price>,
    /// What clients call a model, and what the upstream calls it; a client's `*` is every other model.
    pub names: Vec<(String, String)>,
    /// Where it is listed: under its own name, or its maker's.
    pub listed_as: Vec<String>,
    /// The list.
    pub table: Arc<Table>,
}

impl Source {
    /// What is known of `model`.
    fn model(&self, model: &str) -> Option<Model> {
        let listed = || Some(*self.listed(model)?.1);
        match self.fixed {
            Some(price) => Some(Model { price, long: None, ..listed().unwrap_or_default() }),
            None => listed(),
        }
    }

    /// Under which name `model` is listed, and what there is to know of it.
    fn listed(&self, model: &str) -> Option<(&str, &Model)> {
        let named = |wanted: &str| self.names.iter().find(|(ours, _)| ours == wanted);
        let theirs = named(model).or_else(|| named("*")).map_or(model, |(_, theirs)| theirs);
        self.listed_as.iter().find_map(|maker| self.table.model(maker, theirs))
    }
}

impl Prices {
    /// The prices of these upstreams.
    pub fn new(sources: impl IntoIterator<Item = (Arc<str>, Source)>) -> Self {
        Self { upstreams: sources.into_iter().collect() }
    }

    /// What is known of a model of an upstream's, by the name that clients have for it.
    pub fn model(&self, upstream: &str, model: &str) -> Option<Model> {
        self.upstreams.get(upstream)?.model(model)
    }

    /// Under which name a model is listed: of those there are only so many, where clients may name any.
    pub fn listed_name(&self, upstream: &str, model: &str) -> Option<&str> {
        Some(self.upstreams.get(upstream)?.listed(model)?.0)
    }

    /// US dollars for what was used; `None` where nobody knows.
    pub fn cost(&self, upstream: &str, model: &str, usage: &Usage) -> Option<f64> {
        Some(self.model(upstream, model)?.cost(usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-12)
    }

    const USAGE: Usage =
        Usage { input: 1_000, output: 500, cached_input: 600, cache_write: 100, reasoning: 200 };

    #[test]
    fn tokens_from_the_providers_cache_are_billed_once_and_at_their_own_price() {
        let price = Price { cached_read: Some(0.3), cached_write: Some(3.75), ..Price::flat(3.0, 15.0) };
        let wanted = (300.0 * 3.0 + 600.0 * 0.3 + 100.0 * 3.75 + 500.0 * 15.0) / 1e6;
        assert!(near(Some(price.cost(&USAGE)), wanted));
        let plain = (1_000.0 * 3.0 + 500.0 * 15.0) / 1e6;
        assert!(
            near(Some(Price::flat(3.0, 15.0).cost(&USAGE)), plain),
            "without another price, like any token"
        );
    }

    #[test]
    fn thoughts_are_part_of_what_is_written() {
        let price = Price { reasoning: Some(3.0), ..Price::flat(0.0, 1.0) };
        assert!(near(Some(price.cost(&USAGE)), (300.0 + 200.0 * 3.0) / 1e6));
        assert!(near(Some(Price::flat(0.0, 1.0).cost(&USAGE)), 500.0 / 1e6));
    }

    #[test]
    fn parts_that_are_more_than_the_whole_do_not_make_it_negative() {
        let odd = Usage { input: 10, output: 5, cached_input: 20, cache_write: 20, reasoning: 9 };
        let price = Price { cached_read: Some(1.0), ..Price::flat(2.0, 1.0) };
        assert!(near(Some(price.cost(&odd)), (10.0 + 5.0) / 1e6));
    }

    #[test]
    fn a_long_request_costs_more_for_every_token_of_it() {
        let model =
            Model { long: Some((1_000, Price::flat(2.0, 4.0))), ..Model::costing(Price::flat(1.0, 2.0)) };
        let used = |input| Usage { input, output: 10, ..Usage::default() };
        assert!(near(Some(model.cost(&used(1_000))), 1_020.0 / 1e6));
        assert!(near(Some(model.cost(&used(1_001))), 2_042.0 / 1e6));
    }

    #[test]
    fn the_configured_price_counts_before_the_list_and_an_unknown_model_has_none() {
        let table = Arc::new(Table::builtin());
        let source = |fixed, maker: &str| Source {
            fixed,
            names: vec![("mini".into(), "gpt-4o-mini".into())],
            listed_as: vec![maker.to_owned()],
            table: table.clone(),
        };
        let prices = Prices::new([
            ("openai".into(), source(None, "openai")),
            ("mine".into(), source(Some(Price::flat(1.0, 1.0)), "openai")),
            ("box".into(), source(None, "vllm")),
        ]);
        let used = Usage { input: 1_000_000, ..Usage::default() };
        assert!(near(prices.cost("openai", "gpt-4o", &used), 2.5));
        assert!(near(prices.cost("mine", "gpt-4o", &used), 1.0));
        assert_eq!(prices.model("mine", "gpt-4o").and_then(|model| model.context), Some(128_000));
        assert_eq!(
            prices.listed_name("openai", "mini"),
            Some("gpt-4o-mini"),
            "by the upstream's name for it"
        );
        assert_eq!(prices.listed_name("openai", "gpt-4o-2024-08-06"), Some("gpt-4o"));
        for (upstream, model) in [("openai", "gpt-unheard-of"), ("box", "gpt-4o"), ("nobody", "gpt-4o")] {
            assert_eq!(prices.cost(upstream, model, &used), None, "{upstream} {model}");
        }
    }
}
