//! Limits on those who ask: so many requests and tokens in a minute, so many at once, and budgets of tokens.
//!
//! Pure: time is given, and nothing is waited for. Whoever is over a limit is told when to come back.

use super::bucket::Bucket;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The most that one limit counts apart; whatever comes beyond is counted together.
const MAX_COUNTED: usize = 10_000;

/// A limit, and whom it is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limit {
    /// What it is called.
    pub name: Arc<str>,
    /// The tenants it is for, where `*` stands for anything. Empty: all.
    pub tenants: Vec<String>,
    /// The projects, likewise.
    pub projects: Vec<String>,
    /// The models, as clients name them, likewise.
    pub models: Vec<String>,
    /// The clients, by the names that their keys have, likewise.
    pub clients: Vec<String>,
    /// The routes, likewise. A request is counted when it has taken one.
    pub routes: Vec<String>,
    /// Who is counted together.
    pub per: Per,
    /// The most requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// How many of them at once; a fifth where nobody says.
    pub burst: Option<u32>,
    /// The most tokens in a minute, read and written together, as upstreams count them.
    pub tokens_per_minute: Option<u64>,
    /// The most requests in work at once.
    pub concurrent_requests: Option<usize>,
    /// The most tokens in so long.
    pub budget: Option<Budget>,
}

/// Who is counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// Everyone the limit is for.
    #[default]
    All,
    /// Each tenant.
    Tenant,
    /// Each project of a tenant.
    Project,
    /// Each client, by the name of its key.
    Client,
    /// Each address that requests come from.
    Address,
    /// Each value of this header, of a tenant; those without it together.
    Header(String),
}

impl Per {
    /// Each by its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("all", Self::All),
        ("tenant", Self::Tenant),
        ("project", Self::Project),
        ("client", Self::Client),
        ("address", Self::Address),
    ];

    /// What the name of a header stands behind.
    pub const HEADER: &'static str = "header:";

    /// Its name.
    pub fn name(&self) -> String {
        let known = Self::ALL.iter().find(|(_, known)| known == self);
        match (known, self) {
            (Some((name, _)), _) => (*name).to_owned(),
            (None, Self::Header(header)) => format!("{}{header}", Self::HEADER),
            (None, _) => String::new(),
        }
    }
}

/// So many tokens in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many.
    pub tokens: u64,
    /// In which time. It begins with the first request, and then anew.
    pub every: Duration,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'w> {
    /// The tenant.
    pub tenant: &'w str,
    /// The project.
    pub project: &'w str,
    /// The model.
    pub model: &'w str,
    /// The client, by the name of its key; empty where there are no keys.
    pub client: &'w str,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
    /// Its headers, by names in small letters.
    pub headers: &'w [(String, String)],
    /// The route that it takes, once that is known.
    pub route: Option<&'w str>,
}

/// What is too much. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests in work at once.
    Concurrency,
    /// Requests in a minute.
    Requests,
    /// Tokens in a minute.
    Tokens,
    /// Tokens in all.
    Budget,
}

impl What {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Budget => "budget",
        }
    }
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) limit: Arc<str>,
    pub(super) what: What,
    /// When to come back.
    pub(super) wait: Duration,
}

/// What has been used of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) limit: Arc<str>,
    pub(super) whose: Arc<str>,
    /// How long ago its time began.
    pub(super) age: Duration,
    pub(super) tokens: u64,
}

/// Where a request was counted: which limit, and as whose.
pub(super) type Counted = (usize, Arc<str>);

/// All limits, and what was counted.
#[derive(Debug)]
pub(super) struct Limits {
    limits: Vec<Limit>,
    counters: Vec<HashMap<Arc<str>, Counter>>,
}

#[derive(Debug)]
struct Counter {
    in_work: usize,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Since when, and how many tokens.
    spent: (Duration, u64),
}

impl Limit {
    fn is_for(&self, who: &Who<'_>, matches: fn(&str, &str) -> bool) -> bool {
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        // What is for a route is asked when there is one, and all others before.
        let on_its_way = match who.route {
            None => self.routes.is_empty(),
            Some(route) => !self.routes.is_empty() && any(&self.routes, route),
        };
        on_its_way
            && any(&self.tenants, who.tenant)
            && any(&self.projects, who.project)
            && any(&self.models, who.model)
            && any(&self.clients, who.client)
    }

    fn key(&self, who: &Who<'_>) -> Arc<str> {
        match &self.per {
            Per::All => "".into(),
            Per::Tenant => who.tenant.into(),
            Per::Client => format!("{}\n{}", who.tenant, who.client).into(),
            Per::Address => who.address.map(network).unwrap_or_default().into(),
            Per::Header(name) => {
                let value = who.headers.iter().find(|(known, _)| known == name);
                let value = value.map_or("", |(_, value)| value.as_str());
                format!("{}\n{value}", who.tenant).into()
            }
            // Neither name has a line break in it.
            Per::Project => format!("{}\n{}", who.tenant, who.project).into(),
        }
    }
}

/// Who has an address of version 6 has at least as many as a /64 holds.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

impl Counter {
    fn new(limit: &Limit, now: Duration) -> Self {
        let requests = limit.requests_per_minute.map(f64::from).map(|rate| match limit.burst {
            Some(burst) => Bucket::with_burst(rate, f64::from(burst), now),
            None => Bucket::per_minute(rate, now),
        });
        let tokens = limit.tokens_per_minute.map(|rate| Bucket::per_minute(rate as f64, now));
        Self { in_work: 0, requests, tokens, spent: (now, 0) }
    }

    /// What is reached, if anything is, and how long that lasts.
    fn reached(&self, limit: &Limit, now: Duration) -> Option<(What, Duration)> {
        /// How long one is in work is not known here.
        const A_MOMENT: Duration = Duration::from_secs(1);
        if limit.concurrent_requests.is_some_and(|most| self.in_work >= most) {
            return Some((What::Concurrency, A_MOMENT));
        }
        if let Some(Budget { tokens, every }) = limit.budget {
            let (since, spent) = self.spent;
            if spent >= tokens && now < since + every {
                return Some((What::Budget, (since + every).saturating_sub(now)));
            }
        }
        let late = |bucket: &Option<Bucket>| {
            let ready = bucket.as_ref().map_or(now, |bucket| bucket.ready_at(now, 1.0));
            (ready > now).then(|| ready.saturating_sub(now))
        };
        let requests = late(&self.requests).map(|wait| (What::Requests, wait));
        requests.or_else(|| late(&self.tokens).map(|wait| (What::Tokens, wait)))
    }

    fn begin(&mut self, limit: &Limit, now: Duration) {
        self.in_work += 1;
        if let Some(bucket) = &mut self.requests {
            bucket.take(now, 1.0);
        }
        if limit.budget.is_some_and(|budget| now >= self.spent.0 + budget.every) {
            self.spent = (now, 0);
        }
    }

    fn is_idle(&self, limit: &Limit, now: Duration) -> bool {
        let full = |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(|bucket| bucket.is_full(now));
        let owes = limit.budget.is_some_and(|budget| self.spent.1 > 0 && now < self.spent.0 + budget.every);
        self.in_work == 0 && !owes && full(&self.requests) && full(&self.tokens)
    }
}

impl Limits {
    pub(super) fn new(limits: Vec<Limit>) -> Self {
        let counters = limits.iter().map(|_| HashMap::new()).collect();
        Self { limits, counters }
    }

    /// Counts a request, in every limit that is for it or in none.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        who: &Who<'_>,
        matches: fn(&str, &str) -> bool,
    ) -> Result<Vec<Counted>, Reached> {
        let for_it = (0..self.limits.len()).filter(|at| self.limits[*at].is_for(who, matches));
        let counted: Vec<Counted> =
            for_it.collect::<Vec<_>>().into_iter().map(|at| self.place(at, who, now)).collect();
        for (at, key) in &counted {
            let limit = &self.limits[*at];
            let reached = self.counters[*at].get(key).and_then(|counter| counter.reached(limit, now));
            if let Some((what, wait)) = reached {
                return Err(Reached { limit: Arc::clone(&limit.name), what, wait });
            }
        }
        for (at, key) in &counted {
            if let Some(counter) = self.counters[*at].get_mut(key) {
                counter.begin(&self.limits[*at], now);
            }
        }
        Ok(counted)
    }

    /// Where it is counted; a counter is there from now on.
    fn place(&mut self, at: usize, who: &Who<'_>, now: Duration) -> Counted {
        let (limit, counters) = (&self.limits[at], &mut self.counters[at]);
        let mut key = limit.key(who);
        if !counters.contains_key(&key) && counters.len() >= MAX_COUNTED {
            counters.retain(|_, counter| !counter.is_idle(limit, now));
            if counters.len() >= MAX_COUNTED {
                key = "\n".into();
            }
        }
        counters.entry(Arc::clone(&key)).or_insert_with(|| Counter::new(limit, now));
        (at, key)
    }

    /// It has cost so many tokens.
    pub(super) fn charge(&mut self, now: Duration, counted: &[Counted], tokens: u64) {
        for (at, key) in counted {
            let Some(counter) = self.counters[*at].get_mut(key) else { continue };
            counter.spent.1 = counter.spent.1.saturating_add(tokens);
            if let Some(bucket) = &mut counter.tokens {
                bucket.take(now, tokens as f64);
            }
        }
    }

    /// What has been used of all budgets.
    pub(super) fn used(&self, now: Duration) -> Vec<Used> {
        let mut used = Vec::new();
        for (limit, counters) in self.limits.iter().zip(&self.counters) {
            let Some(Budget { every, .. }) = limit.budget else { continue };
            for (whose, Counter { spent: (since, tokens), .. }) in counters {
                let age = now.saturating_sub(*since);
                if *tokens > 0 && age < every {
                    let (limit, whose) = (Arc::clone(&limit.name), Arc::clone(whose));
                    used.push(Used { limit, whose, age, tokens: *tokens });
                }
            }
        }
        used
    }

    /// Goes on from what was used before. A budget whose time is over, or that there is none of any more, is forgotten.
    pub(super) fn restore(&mut self, now: Duration, used: Used) {
        let Used { limit: name, whose, age, tokens } = used;
        let Some(at) = self.limits.iter().position(|limit| limit.name == name) else { return };
        let (limit, counters) = (&self.limits[at], &mut self.counters[at]);
        if limit.budget.is_none_or(|budget| age >= budget.every) || counters.len() >= MAX_COUNTED {
            return;
        }
        let counter = counters.entry(whose).or_insert_with(|| Counter::new(limit, now));
        counter.spent = (now.saturating_sub(age), tokens);
    }

    /// Whether there is any budget.
    pub(super) fn has_budgets(&self) -> bool {
        self.limits.iter().any(|limit| limit.budget.is_some())
    }

    /// It is over.
    pub(super) fn end(&mut self, counted: &[Counted]) {
        for (at, key) in counted {
            if let Some(counter) = self.counters[*at].get_mut(key) {
                counter.in_work = counter.in_work.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limit(name: &str) -> Limit {
        Limit { name: name.into(), per: Per::Tenant, ..Limit::default() }
    }

    fn is(pattern: &str, text: &str) -> bool {
        pattern == "*" || pattern == text
    }

    fn who(tenant: &str) -> Who<'_> {
        Who { tenant, project: "p", model: "m", ..Who::default() }
    }

    /// What is reached, and for how long.
    fn reached(limits: &mut Limits, now: Duration, tenant: &str) -> Option<(What, Duration)> {
        limits.begin(now, &who(tenant), is).err().map(|reached| (reached.what, reached.wait))
    }

    #[test]
    fn each_tenant_has_its_own_and_is_told_when_to_come_back() {
        let per_minute = Limit { requests_per_minute: Some(60), burst: Some(2), ..limit("l") };
        let mut limits = Limits::new(vec![per_minute]);
        assert_eq!(reached(&mut limits, at(0), "a"), None);
        assert_eq!(reached(&mut limits, at(0), "a"), None);
        let (what, wait) = reached(&mut limits, at(0), "a").unwrap();
        assert!(what == What::Requests && wait >= at(1) && wait < at(2), "{wait:?}");
        assert_eq!(reached(&mut limits, at(0), "b"), None);
        assert_eq!(reached(&mut limits, wait, "a"), None, "whoever comes back then is let in");
    }

    #[test]
    fn a_limit_for_all_is_shared_and_one_for_others_is_none_of_theirs() {
        let shared = Limit { concurrent_requests: Some(1), per: Per::All, ..limit("all") };
        let others = Limit { concurrent_requests: Some(0), tenants: vec!["x".into()], ..limit("x") };
        let mut limits = Limits::new(vec![shared, others]);
        let first = limits.begin(at(0), &who("a"), is).unwrap();
        assert_eq!(reached(&mut limits, at(0), "b").unwrap().0, What::Concurrency);
        limits.end(&first);
        assert_eq!(reached(&mut limits, at(0), "b"), None);
        let error = limits.begin(at(0), &who("x"), is).unwrap_err();
        assert_eq!(&*error.limit, "all", "the first that is reached is told");
    }

    #[test]
    fn whoever_is_refused_by_one_limit_is_counted_by_none() {
        let narrow = Limit { concurrent_requests: Some(1), ..limit("narrow") };
        let wide = Limit { requests_per_minute: Some(60), burst: Some(2), ..limit("wide") };
        let mut limits = Limits::new(vec![wide, narrow]);
        let first = limits.begin(at(0), &who("a"), is).unwrap();
        for _ in 0..9 {
            assert_eq!(reached(&mut limits, at(0), "a").unwrap().0, What::Concurrency);
        }
        limits.end(&first);
        assert_eq!(reached(&mut limits, at(0), "a"), None, "nine refusals have used nothing up");
    }

    #[test]
    fn tokens_count_when_they_have_been_used() {
        let mut limits = Limits::new(vec![Limit { tokens_per_minute: Some(600), ..limit("l") }]);
        let first = limits.begin(at(0), &who("a"), is).unwrap();
        assert_eq!(reached(&mut limits, at(0), "a"), None, "nothing is known of it yet");
        limits.charge(at(0), &first, 150);
        let (what, wait) = reached(&mut limits, at(0), "a").unwrap();
        assert!(
            what == What::Tokens && wait > at(3) && wait < at(4),
            "30 too many, at 10 a second: {wait:?}"
        );
        assert_eq!(reached(&mut limits, at(4), "a"), None);
    }

    #[test]
    fn a_budget_is_spent_until_its_time_begins_anew() {
        let budget = Some(Budget { tokens: 1_000, every: at(3_600) });
        let mut limits = Limits::new(vec![Limit { budget, ..limit("l") }]);
        let first = limits.begin(at(100), &who("a"), is).unwrap();
        limits.charge(at(100), &first, 1_000);
        assert_eq!(reached(&mut limits, at(700), "a"), Some((What::Budget, at(3_000))));
        assert_eq!(reached(&mut limits, at(700), "b"), None, "another's is another");
        assert_eq!(reached(&mut limits, at(3_700), "a"), None);
        assert_eq!(reached(&mut limits, at(3_701), "a"), None, "and there is a whole one again");
    }

    #[test]
    fn who_is_counted_apart_is_told_by_key_address_and_header() {
        let per = |per: Per| Limits::new(vec![Limit { concurrent_requests: Some(1), per, ..limit("l") }]);
        let (one, other) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
        let header = |value: &str| vec![("x-team".to_owned(), value.to_owned())];
        let (ads, search) = (header("ads"), header("search"));
        let from = |address| Who { address, ..who("a") };
        let same_network = ("2001:db8::1".parse().ok(), "2001:db8::2".parse().ok());
        let of_client = |client| Who { client, ..who("a") };
        let of_team = |headers| Who { headers, ..who("a") };
        for (per_what, first, apart, together) in [
            (Per::Client, of_client("x"), of_client("y"), of_client("x")),
            (Per::Address, from(one), from(other), Who { tenant: "b", ..from(one) }),
            (Per::Address, from(same_network.0), from(one), from(same_network.1)),
            (Per::Header("x-team".into()), of_team(&ads), of_team(&search), of_team(&ads)),
            (Per::Header("x-team".into()), of_team(&[]), Who { tenant: "b", ..of_team(&[]) }, of_team(&[])),
        ] {
            let mut limits = per(per_what.clone());
            assert!(limits.begin(at(0), &first, is).is_ok());
            assert!(limits.begin(at(0), &apart, is).is_ok(), "{per_what:?}");
            assert!(limits.begin(at(0), &together, is).is_err(), "{per_what:?}");
        }
    }

    #[test]
    fn a_limit_for_a_route_counts_those_who_take_it() {
        let of = |routes: &[&str]| Limit {
            concurrent_requests: Some(1),
            routes: routes.iter().map(ToString::to_string).collect(),
            ..limit("l")
        };
        let taking = |route| Who { route: Some(route), ..who("a") };
        let mut limits = Limits::new(vec![of(&["code"])]);
        for _ in 0..3 {
            assert_eq!(limits.begin(at(0), &who("a"), is).unwrap(), [], "it has taken none yet");
        }
        assert!(limits.begin(at(0), &taking("code"), is).is_ok());
        assert!(limits.begin(at(0), &taking("other"), is).is_ok());
        assert!(limits.begin(at(0), &taking("code"), is).is_err());
        let mut others = Limits::new(vec![of(&[])]);
        assert_eq!(others.begin(at(0), &taking("code"), is).unwrap(), [], "it was counted at the door");
    }

    #[test]
    fn there_is_an_end_to_who_is_counted_apart() {
        let per_project = Limit { concurrent_requests: Some(1), per: Per::Project, ..limit("l") };
        let mut limits = Limits::new(vec![per_project]);
        let begin = |limits: &mut Limits, nth: usize| {
            let project = nth.to_string();
            limits.begin(at(0), &Who { project: &project, ..who("a") }, is)
        };
        let kept: Vec<_> = (0..MAX_COUNTED).map(|nth| begin(&mut limits, nth).unwrap()).collect();
        assert!(begin(&mut limits, MAX_COUNTED).is_ok());
        assert!(begin(&mut limits, MAX_COUNTED + 1).is_err(), "those beyond are counted together");
        kept[..2].iter().for_each(|kept| limits.end(kept));
        assert!(begin(&mut limits, MAX_COUNTED + 2).is_ok(), "there is room again");
        assert!(limits.counters[0].len() <= MAX_COUNTED + 1);
    }
}
