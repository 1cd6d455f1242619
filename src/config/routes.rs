//! `[[route]]`: which requests go where.

use super::check::Checker;
use super::origin::Place;
use super::read::{Found, JsonFields, Text};
use super::schema::nearest;
use super::show::{Keys, millis, number, text, texts};
use super::{Local, raw};
use crate::upstream::provider;
use crate::upstream::route::{Error, Member, Mirror, Route, Step, Sticky, Target, When, Words, verify};
use crate::upstream::strategy::Strategy;
use serde_json::Value;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// No request is as long.
const TOKENS: RangeInclusive<i64> = 0..=1_000_000_000;
/// The largest share; what counts is how they compare.
const MAX_WEIGHT: u64 = 1_000_000;
const PERCENTAGE: RangeInclusive<f64> = 0.0..=100.0;
/// A sample, where nobody says how large.
const MIRROR_PERCENTAGE: f64 = 10.0;
const LATENCY_MS: RangeInclusive<i64> = 1..=600_000;

/// What a route is put in order by; those with a percentage get it later.
const STRATEGIES: [(&str, Strategy); 11] = [
    ("failover", Strategy::Failover),
    ("first_available", Strategy::FirstAvailable),
    ("round_robin", Strategy::RoundRobin),
    ("weighted", Strategy::Weighted),
    ("weighted_random", Strategy::Weighted),
    ("weighted_round_robin", Strategy::Weighted),
    ("lowest_latency", Strategy::LowestLatency),
    ("lowest_cost", Strategy::LowestCost),
    ("least_busy", Strategy::LeastBusy),
    ("canary", Strategy::Canary { percentage: 0.0 }),
    ("ab", Strategy::Ab { percentage: 0.0 }),
];

const STICKY: [(&str, Sticky); 3] =
    [("always", Sticky::Always), ("named", Sticky::Named), ("never", Sticky::Never)];

/// Whom routes may name.
pub(super) struct Known<'k> {
    pub(super) providers: &'k [provider::Config],
    pub(super) local: Option<&'k Local>,
    pub(super) chain: &'k [String],
}

/// The upstreams that some route names, right or wrong.
pub(super) fn mentioned(raw: &[Found<raw::Route>]) -> Vec<String> {
    let lists = raw.iter().filter_map(|route| route.value.upstreams.as_ref());
    let members = lists.flat_map(|list| &list.value);
    let mirrors = raw.iter().filter_map(|route| route.value.mirror.as_ref());
    members.chain(mirrors).map(|text| split(&text.value.value).0.to_owned()).collect()
}

/// The routes.
pub(super) fn check(checker: &mut Checker<'_>, raw: &[Found<raw::Route>], known: &Known<'_>) -> Vec<Route> {
    let mut names: Vec<Option<String>> = Vec::with_capacity(raw.len());
    for Found { value: route, place } in raw {
        let taken = names.iter().flatten().map(String::as_str);
        let name = checker.name(route.name.as_ref(), place, taken);
        let taken = name.as_ref().is_some_and(|name| known.upstream(name).is_some());
        if let (true, Some(typed)) = (taken, &route.name) {
            let reason = format!("there is an upstream named \"{}\" already", typed.value.typed);
            checker.findings.problem(&typed.place, reason);
        }
        names.push(name.filter(|_| !taken));
    }
    let mut reader = Routes { checker, known, names: &names };
    let routes: Vec<Option<Route>> = raw.iter().map(|found| reader.route(found)).collect();
    // Places in the list are what members go by, so nothing is looked at further where one is missing.
    let Some(routes) = routes.into_iter().collect::<Option<Vec<Route>>>() else { return Vec::new() };
    reader.refuse_endless(&routes, raw);
    reader.refuse_nameless(&routes, raw);
    routes
}

impl Known<'_> {
    /// The upstream called so. `local` is the local model even where it has another name.
    fn upstream(&self, name: &str) -> Option<&str> {
        let local = self.local.map(|local| local.name.as_str());
        if name == Local::DEFAULT_NAME {
            return local;
        }
        let providers = self.providers.iter().map(|provider| provider.name.as_str());
        providers.chain(local).find(|known| *known == name)
    }

    fn provider(&self, name: &str) -> Option<&provider::Config> {
        self.providers.iter().find(|provider| provider.name == name)
    }
}

/// `upstream=model`; the model may be missing.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, model)) => (name.trim(), Some(model.trim())),
        None => (text.trim(), None),
    }
}

struct Routes<'c, 'e, 'k> {
    checker: &'c mut Checker<'e>,
    known: &'k Known<'k>,
    names: &'k [Option<String>],
}

impl Routes<'_, '_, '_> {
    fn problem(&mut self, place: &Place, reason: impl Into<String>) {
        self.checker.findings.problem(place, reason);
    }

    fn route(&mut self, Found { value: raw, place }: &Found<raw::Route>) -> Option<Route> {
        let at = raw.name.as_ref().map_or("", |name| name.value.value.as_str());
        let when = self.when(raw);
        let strategy = self.strategy(raw, place);
        let members = self.members(raw, place);
        let sticky = self.checker.choice(raw.sticky.as_ref(), &STICKY);
        let resorts = [("local", true), ("none", false)];
        let last = self.checker.choice(raw.last_resort.as_ref(), &resorts);
        let mirror = self.mirror(raw);
        let hedge = self.checker.hedge(raw.hedge_after.as_ref());
        let millis = self.checker.whole(raw.max_latency_ms.as_ref(), LATENCY_MS, 0);
        Some(Route {
            name: at.into(),
            when,
            strategy,
            members: members?,
            // Who compares must know who is compared with whom.
            sticky: sticky.unwrap_or(match strategy {
                Strategy::Ab { .. } | Strategy::Canary { .. } => Sticky::Always,
                _ => Sticky::default(),
            }),
            max_latency: (millis > 0).then(|| Duration::from_millis(millis)),
            hedge,
            mirror,
            last: self.last_resort(last),
        })
    }

    /// Where nobody says, it is what it is for everyone else.
    fn last_resort(&self, typed: Option<bool>) -> Option<Arc<str>> {
        let local = self.known.local?;
        typed.unwrap_or_else(|| self.known.chain.contains(&local.name)).then(|| local.name.as_str().into())
    }

    fn when(&mut self, raw: &raw::Route) -> When {
        let checker = &mut *self.checker;
        When {
            models: checker.phrases(raw.models.as_ref()).unwrap_or_default(),
            paths: checker.phrases(raw.paths.as_ref()).unwrap_or_default(),
            methods: checker.phrases(raw.methods.as_ref()).unwrap_or_default(),
            projects: checker.phrases(raw.projects.as_ref()).unwrap_or_default(),
            tenants: checker.phrases(raw.tenants.as_ref()).unwrap_or_default(),
            headers: self.texts(raw.headers.as_ref()),
            query: self.texts(raw.query.as_ref()),
            body: raw.json_body.as_ref().map(|fields| fields.value.clone()).unwrap_or_default(),
            tokens: self.tokens(raw),
            words: self.words(raw),
        }
    }

    /// Patterns by name.
    fn texts(&mut self, typed: Option<&Found<JsonFields>>) -> Vec<(String, String)> {
        let Some(Found { value: fields, place }) = typed else { return Vec::new() };
        let mut texts = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            match value {
                Value::String(text) => texts.push((name.clone(), text.clone())),
                _ => self
                    .problem(place, format!("\"{name}\" must be a string, in which * stands for anything")),
            }
        }
        texts
    }

    fn tokens(&mut self, raw: &raw::Route) -> Option<RangeInclusive<u64>> {
        let (from, to) = (raw.min_tokens.as_ref(), raw.max_tokens.as_ref());
        let typed = to.or(from)?;
        let least: u64 = self.checker.whole(from, TOKENS, 0);
        let most: u64 = self.checker.whole(to, TOKENS, u64::MAX);
        if least > most {
            self.problem(&typed.place, "no request has that many: min_tokens is above max_tokens");
        }
        Some(least..=most)
    }

    /// The patterns are tried one by one, so that each is reported where it stands.
    fn words(&mut self, raw: &raw::Route) -> Words {
        let keywords = self.checker.phrases(raw.keywords.as_ref()).unwrap_or_default();
        let mut patterns = Vec::new();
        for text in raw.regex.iter().flat_map(|list| &list.value) {
            let Some(pattern) = self.checker.filled(Some(text)) else { continue };
            match Words::new(Vec::new(), vec![pattern.clone()]) {
                Ok(_) => patterns.push(pattern),
                Err(error) => self.problem(&text.place, error.to_string()),
            }
        }
        match Words::new(keywords, patterns) {
            Ok(words) => words,
            Err(error) => {
                if let Some(typed) = &raw.keywords {
                    self.problem(&typed.place, error.to_string());
                }
                Words::default()
            }
        }
    }

    fn strategy(&mut self, raw: &raw::Route, place: &Place) -> Strategy {
        let chosen = self.checker.choice(raw.strategy.as_ref(), &STRATEGIES);
        let (strategy, misspelt) = (chosen.unwrap_or_default(), raw.strategy.is_some() && chosen.is_none());
        let percentage = self.checker.real(raw.percentage.as_ref(), PERCENTAGE);
        match (strategy, percentage) {
            (Strategy::Canary { .. }, Some(percentage)) => Strategy::Canary { percentage },
            (Strategy::Ab { .. }, Some(percentage)) => Strategy::Ab { percentage },
            (Strategy::Canary { .. } | Strategy::Ab { .. }, None) => {
                let advice = "how many requests in a hundred go to the upstreams after the first";
                self.checker.findings.missing(place, "percentage", advice);
                strategy
            }
            _ => {
                if let Some(typed) = raw.percentage.as_ref().filter(|_| !misspelt) {
                    self.problem(&typed.place, "means something for canary and ab only");
                }
                strategy
            }
        }
    }

    fn members(&mut self, raw: &raw::Route, place: &Place) -> Option<Vec<Member>> {
        let Some(typed) = &raw.upstreams else {
            self.checker.findings.missing(place, "upstreams", "who is asked: upstreams, and other routes");
            return None;
        };
        if typed.value.is_empty() {
            self.problem(&typed.place, "must not be empty: nobody would answer");
        }
        let targets: Vec<Option<Target>> = typed.value.iter().map(|text| self.target(text)).collect();
        let weights = self.weights(raw, &typed.value);
        let members = targets.into_iter().zip(weights);
        members.map(|(to, weight)| Some(Member { to: to?, weight })).collect()
    }

    fn target(&mut self, text: &Found<Text>) -> Option<Target> {
        let (name, model) = split(&text.value.value);
        let route = self.names.iter().position(|known| known.as_deref() == Some(name));
        match (route, model) {
            (Some(at), None) => Some(Target::Route(at)),
            (Some(_), Some(_)) => {
                self.problem(&text.place, "a route is not asked for a model; its own upstreams are");
                None
            }
            (None, _) => self.step(text).map(Target::Upstream),
        }
    }

    fn step(&mut self, Found { value: text, place }: &Found<Text>) -> Option<Step> {
        let (name, model) = split(&text.value);
        if model == Some("") {
            self.problem(place, format!("\"{}\" is not of the form \"upstream=model\"", text.typed));
            return None;
        }
        let Some(upstream) = self.known.upstream(name) else {
            let reason = self.unknown(name);
            self.problem(place, reason);
            return None;
        };
        Some(Step { upstream: upstream.into(), model: model.map(Arc::from) })
    }

    fn unknown(&self, name: &str) -> String {
        if name == Local::DEFAULT_NAME {
            return "there is no local model: local.enabled is false".to_owned();
        }
        let upstreams = self.known.providers.iter().map(|provider| provider.name.as_str());
        let near = nearest(name, upstreams.chain(self.names.iter().flatten().map(String::as_str)));
        let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        format!("there is no [[upstream]] and no [[route]] named \"{name}\"{near}")
    }

    /// One for each member; who is not named has 1.
    fn weights(&mut self, raw: &raw::Route, members: &[Found<Text>]) -> Vec<u32> {
        let mut weights = vec![1; members.len()];
        let Some(Found { value: fields, place }) = &raw.weights else { return weights };
        for (name, value) in fields {
            let means = |text: &Found<Text>| {
                let text = text.value.value.trim();
                text == name || split(text).0 == name
            };
            let named: Vec<usize> = (0..members.len()).filter(|at| means(&members[*at])).collect();
            let weight = value.as_u64().filter(|weight| *weight <= MAX_WEIGHT);
            match weight {
                _ if named.is_empty() => {
                    self.problem(place, format!("\"{name}\" is none of this route's upstreams"));
                }
                Some(weight) => named.iter().for_each(|at| weights[*at] = weight as u32),
                None => {
                    self.problem(place, format!("\"{name}\" must be a whole number from 0 to {MAX_WEIGHT}"));
                }
            }
        }
        if !members.is_empty() && weights.iter().all(|weight| *weight == 0) {
            self.problem(place, "at least one weight must be above 0");
        }
        weights
    }

    fn mirror(&mut self, raw: &raw::Route) -> Option<Mirror> {
        let percentage = self.checker.real(raw.mirror_percentage.as_ref(), PERCENTAGE);
        if let (Some(typed), None) = (&raw.mirror_percentage, &raw.mirror) {
            self.problem(&typed.place, "means nothing without mirror, the upstream that is asked beside");
        }
        let to = self.step(raw.mirror.as_ref()?)?;
        Some(Mirror { to, percentage: percentage.unwrap_or(MIRROR_PERCENTAGE) })
    }

    fn refuse_endless(&mut self, routes: &[Route], raw: &[Found<raw::Route>]) {
        if let Err(error) = verify(routes) {
            self.problem(&place_of(&error, raw), error.to_string());
        }
    }

    /// A route that only its name leads to asks for a model that no provider knows, unless it says for which.
    fn refuse_nameless(&mut self, routes: &[Route], raw: &[Found<raw::Route>]) {
        let within = |at: usize| {
            let members = routes.iter().flat_map(|route| &route.members);
            members.into_iter().any(|member| matches!(member.to, Target::Route(nested) if nested == at))
        };
        for (at, (route, raw)) in routes.iter().zip(raw).enumerate() {
            if !route.when.is_empty() || within(at) {
                continue;
            }
            let typed = raw.value.upstreams.iter().flat_map(|list| &list.value);
            for (member, text) in route.members.iter().zip(typed) {
                let Target::Upstream(Step { upstream, model: None }) = &member.to else { continue };
                let Some(provider) = self.known.provider(upstream) else { continue };
                let named = |(ours, _): &(String, String)| ours == "*" || **ours == *route.name;
                if !provider.model_names.iter().any(named) {
                    let reason = format!(
                        "for which model? nobody has one called \"{}\"; write \"{upstream}=MODEL\"",
                        route.name
                    );
                    self.problem(&text.place, reason);
                }
            }
        }
    }
}

/// A route as it is typed; what is not set is left out.
pub(super) fn shown(route: &Route, all: &[Route]) -> Keys {
    let Route { name, when, strategy, members, sticky, max_latency, hedge, mirror, last } = route;
    let mut keys = vec![("name", text(name))];
    keys.extend(shown_when(when));
    keys.push(("strategy", text(strategy.name())));
    let named: Vec<String> = members.iter().map(|member| shown_target(&member.to, all)).collect();
    keys.push(("upstreams", texts(&named)));
    if members.iter().any(|member| member.weight != 1) {
        let weights = named.iter().zip(members).map(|(name, member)| (name.clone(), number(member.weight)));
        keys.push(("weights", toml::Value::Table(weights.collect())));
    }
    if let Strategy::Canary { percentage } | Strategy::Ab { percentage } = strategy {
        keys.push(("percentage", toml::Value::Float(*percentage)));
    }
    keys.extend(max_latency.map(|latency| ("max_latency_ms", millis(latency))));
    keys.extend(hedge.map(|hedge| ("hedge_after", text(&hedge.to_string()))));
    let sticky = STICKY.iter().find(|(_, known)| known == sticky).map(|(name, _)| ("sticky", text(name)));
    keys.extend(sticky);
    keys.push(("last_resort", text(if last.is_some() { "local" } else { "none" })));
    if let Some(Mirror { to, percentage }) = mirror {
        keys.push(("mirror", text(&shown_step(to))));
        keys.push(("mirror_percentage", toml::Value::Float(*percentage)));
    }
    keys
}

fn shown_when(when: &When) -> Keys {
    let When { models, paths, methods, projects, tenants, headers, query, body, tokens, words } = when;
    let lists = [
        ("models", models),
        ("paths", paths),
        ("methods", methods),
        ("projects", projects),
        ("tenants", tenants),
    ];
    let mut keys: Keys = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(key, list)| (key, texts(list)))
        .collect();
    for (key, pairs) in [("headers", headers), ("query", query)] {
        let pairs: toml::Table = pairs.iter().map(|(name, pattern)| (name.clone(), text(pattern))).collect();
        keys.extend((!pairs.is_empty()).then_some((key, toml::Value::Table(pairs))));
    }
    if !body.is_empty() {
        let fields =
            body.iter().filter_map(|(path, value)| Some((path.clone(), toml::Value::try_from(value).ok()?)));
        keys.push(("json_body", toml::Value::Table(fields.collect())));
    }
    for (key, list) in [("keywords", words.keywords()), ("regex", words.patterns())] {
        // A dollar begins a variable, so it is written twice.
        let list: Vec<String> = list.iter().map(|text| text.replace('$', "$$")).collect();
        keys.extend((!list.is_empty()).then(|| (key, texts(&list))));
    }
    if let Some(range) = tokens {
        keys.push(("min_tokens", number(*range.start())));
        keys.extend((*range.end() < u64::MAX).then(|| ("max_tokens", number(*range.end()))));
    }
    keys
}

fn shown_target(target: &Target, all: &[Route]) -> String {
    match target {
        Target::Route(at) => all.get(*at).map(|route| route.name.to_string()).unwrap_or_default(),
        Target::Upstream(step) => shown_step(step),
    }
}

fn shown_step(Step { upstream, model }: &Step) -> String {
    model.as_ref().map_or_else(|| upstream.to_string(), |model| format!("{upstream}={model}"))
}

fn place_of(error: &Error, raw: &[Found<raw::Route>]) -> Place {
    let named = |route: &&Found<raw::Route>| {
        route.value.name.as_ref().is_some_and(|name| name.value.value == error.route())
    };
    let route = raw.iter().find(named);
    let list = route.and_then(|route| route.value.upstreams.as_ref()).map(|list| list.place.clone());
    list.or_else(|| route.map(|route| route.place.clone()))
        .unwrap_or_else(|| Place { key: "route".to_owned(), origin: super::Origin::Default })
}
