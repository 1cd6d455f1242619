//! What is kept, for how long, and how late it may still be given: as it is configured, made stricter by
//! rules, by the question's own words, and by whoever asks. [`Terms`] is what of all that holds for one request.

mod keep;
mod rule;
mod wishes;
mod words;

pub use keep::NotKept;
pub use rule::{Rule, Then, When};
pub use wishes::{Partition, Partitions, Wishes};
pub use words::WordLists;

pub(super) use keep::worth_keeping;

use super::Miss;
use crate::chat::Request;
use rule::{Asked, Rules};
use std::time::Duration;
use words::Finder;

/// What is kept, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long an answer may be given, where nothing says otherwise.
    pub ttl: Duration,
    /// The same, for answers to what changes soon. Zero: they are not kept.
    pub volatile_ttl: Duration,
    /// How long after its time an answer may still be given where nobody else answers.
    pub stale_if_error: Duration,
    /// How long after its time an answer may still be given at once, while it is asked afresh.
    pub stale_while_revalidate: Duration,
    /// How long after its time an answer may still be given to whoever says that it will do.
    pub max_stale: Duration,
    /// Above, an answer is drawn too freely to be the answer.
    pub max_temperature: f64,
    /// The longest answer, and the longest question.
    pub max_answer_bytes: usize,
    /// Whether refusals are kept.
    pub store_refusals: bool,
    /// Whether answers that call tools are kept.
    pub store_tool_calls: bool,
    /// The words that tell how lasting an answer is.
    pub words: WordLists,
    /// Rules of one's own, in order.
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(30 * 24),
            volatile_ttl: Duration::from_mins(5),
            stale_if_error: Duration::from_hours(24),
            stale_while_revalidate: Duration::ZERO,
            max_stale: Duration::ZERO,
            max_temperature: 1.0,
            max_answer_bytes: 256 << 10,
            store_refusals: false,
            store_tool_calls: false,
            words: WordLists::default(),
            rules: Vec::new(),
        }
    }
}

/// What holds for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Whether memory may answer it.
    pub read: Result<(), Miss>,
    /// Whether its answer may be kept.
    pub write: Result<(), NotKept>,
    /// Whether other words may answer it.
    pub semantic: bool,
    /// The least cosine that the caller takes.
    pub min_similarity: Option<f32>,
    /// No older answer is given; and the caller takes none that is older than this, or not good for so long.
    life: Duration,
    max_age: Option<Duration>,
    min_fresh: Duration,
    /// How long the answer is kept as one that is good.
    ttl: Duration,
    /// How long it is kept beyond that.
    stale: Duration,
    /// How late an answer may be.
    late: Lateness,
}

/// How long after its time an answer may still be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lateness {
    anyway: Duration,
    while_revalidate: Duration,
    if_error: Duration,
}

/// When an answer is given whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// At once: the caller takes it, or it is being asked afresh.
    AtOnce,
    /// Nobody else answers.
    OnError,
}

impl Terms {
    /// How late an answer may be.
    pub(super) fn lateness(&self, late: Late) -> Duration {
        match late {
            Late::AtOnce => self.late.anyway.max(self.late.while_revalidate),
            Late::OnError => self.late.if_error.max(self.late.anyway).max(self.late.while_revalidate),
        }
    }

    /// Whether an answer that is given so late is to be asked afresh meanwhile.
    pub fn revalidates(&self, by: Duration) -> bool {
        by < self.late.while_revalidate
    }

    /// For how long an answer may be given after it was made, whatever was said when it was kept.
    pub(super) fn life(&self) -> Duration {
        self.life
    }

    /// Whether the caller takes an answer of this age that is good for so long still.
    pub(super) fn takes(&self, age: Duration, left: Option<Duration>) -> bool {
        self.max_age.is_none_or(|most| age <= most) && left.is_none_or(|left| left >= self.min_fresh)
    }

    /// How long the answer is kept as one that is good, and how long beyond that.
    pub(super) fn kept_for(&self) -> (Duration, Duration) {
        (self.ttl, self.stale)
    }
}

/// The configuration, ready to be asked.
#[derive(Debug)]
pub(super) struct Policy {
    config: Config,
    rules: Rules,
    volatile: Finder,
    chance: Finder,
}

impl Policy {
    pub(super) fn new(mut config: Config) -> Self {
        let rules = Rules::new(std::mem::take(&mut config.rules));
        let (volatile, chance) = (Finder::new(&config.words.volatile), Finder::new(&config.words.chance));
        Self { config, rules, volatile, chance }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// What holds for `request`, whose question is `text`.
    pub(super) fn terms(&self, wishes: &Wishes, project: &str, request: &Request, text: &str) -> Terms {
        let rule = self.rules.first(&Asked::new(project, request, text)).cloned().unwrap_or_default();
        let volatile = rule.volatile.unwrap_or_else(|| self.volatile.finds(text));
        let ttl = rule.ttl.unwrap_or(self.config.ttl);
        let life = if volatile { ttl.min(self.config.volatile_ttl) } else { ttl };
        let kept_out = self.kept_out(&rule, request, text, life);
        Terms {
            read: match kept_out {
                _ if !wishes.read => Err(Miss::Bypassed),
                Some((miss, _)) => Err(miss),
                None => Ok(()),
            },
            write: match kept_out {
                Some((_, why)) => Err(why),
                None if !wishes.write || wishes.ttl.is_some_and(|ttl| ttl.is_zero()) => {
                    Err(NotKept::Declined)
                }
                None => Ok(()),
            },
            semantic: wishes.semantic && rule.semantic.unwrap_or(true),
            min_similarity: wishes.min_similarity,
            life,
            max_age: wishes.max_age,
            min_fresh: wishes.min_fresh.unwrap_or_default(),
            ttl: wishes.ttl.map_or(life, |ttl| ttl.min(life)),
            // What changes soon is not given late, and what a caller wants forgotten is.
            stale: if volatile || wishes.ttl.is_some() { Duration::ZERO } else { self.stale(&rule) },
            late: match volatile || kept_out.is_some() {
                true => Lateness::default(),
                false => self.lateness(wishes, &rule),
            },
        }
    }

    /// Why nothing about `request` is kept, and why memory does not answer it.
    fn kept_out(
        &self,
        rule: &Then,
        request: &Request,
        text: &str,
        life: Duration,
    ) -> Option<(Miss, NotKept)> {
        // NaN is no temperature that anyone would draw at.
        let hot = |temperature: f64| temperature.is_nan() || temperature > self.config.max_temperature;
        match rule.store {
            Some(false) => Some((Miss::Rule, NotKept::Rule)),
            None if request.sampling.temperature.is_some_and(hot) => {
                Some((Miss::Temperature, NotKept::Temperature))
            }
            None if self.chance.finds(text) => Some((Miss::Chance, NotKept::Chance)),
            Some(true) | None => life.is_zero().then_some((Miss::Volatile, NotKept::Volatile)),
        }
    }

    /// How long an answer is kept beyond its time.
    fn stale(&self, rule: &Then) -> Duration {
        let Config { stale_if_error, stale_while_revalidate, max_stale, .. } = self.config;
        rule.stale_if_error.unwrap_or(stale_if_error).max(stale_while_revalidate).max(max_stale)
    }

    fn lateness(&self, wishes: &Wishes, rule: &Then) -> Lateness {
        let Config { stale_if_error, stale_while_revalidate, max_stale, .. } = self.config;
        // Who wants nothing kept wants nothing that was kept.
        if !wishes.write && !wishes.read {
            return Lateness::default();
        }
        // Who says how old an answer may be wants no late one, unless they say so, too.
        let picky = !wishes.read || wishes.max_age.is_some() || wishes.min_fresh.is_some();
        let unsaid = if picky { Duration::ZERO } else { Duration::MAX };
        let at_once = wishes.max_stale.unwrap_or(unsaid);
        Lateness {
            anyway: if wishes.read {
                max_stale.min(wishes.max_stale.unwrap_or_default())
            } else {
                Duration::ZERO
            },
            while_revalidate: if wishes.read { stale_while_revalidate.min(at_once) } else { Duration::ZERO },
            if_error: rule
                .stale_if_error
                .unwrap_or(stale_if_error)
                .min(wishes.stale_if_error.unwrap_or(unsaid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(0), 0..100u64, Just(u64::MAX)].prop_map(Duration::from_secs)
    }

    fn wishes() -> impl Strategy<Value = Wishes> {
        let times = prop::array::uniform5(prop::option::of(seconds()));
        (any::<[bool; 4]>(), times, prop::option::of(0.0f32..1.0)).prop_map(
            |(switches, times, min_similarity)| {
                let [read, write, semantic, only_if_cached] = switches;
                let [max_age, min_fresh, max_stale, stale_if_error, ttl] = times;
                Wishes {
                    read,
                    write,
                    semantic,
                    only_if_cached,
                    max_age,
                    min_fresh,
                    max_stale,
                    stale_if_error,
                    ttl,
                    min_similarity,
                    ..Wishes::default()
                }
            },
        )
    }

    fn config() -> impl Strategy<Value = Config> {
        prop::array::uniform5(seconds()).prop_map(|times| {
            let [ttl, volatile_ttl, stale_if_error, stale_while_revalidate, max_stale] = times;
            Config {
                ttl,
                volatile_ttl,
                stale_if_error,
                stale_while_revalidate,
                max_stale,
                ..Config::default()
            }
        })
    }

    proptest! {
        #[test]
        fn no_wish_makes_anything_looser(
            config in config(), wishes in wishes(), age in seconds(), left in seconds(),
            text in prop_oneof![Just("q"), Just("the weather"), Just("roll a die")],
        ) {
            let most = config.max_stale.max(config.stale_while_revalidate);
            let (if_error, max_stale) = (config.stale_if_error, config.max_stale);
            let policy = Policy::new(config);
            let request = Request::default();
            let given = policy.terms(&Wishes::default(), "p", &request, text);
            let wished = policy.terms(&wishes, "p", &request, text);
            prop_assert!(given.read.is_ok() || wished.read.is_err());
            prop_assert!(given.write.is_ok() || wished.write.is_err());
            prop_assert!(wished.life() == given.life() && wished.kept_for().0 <= given.kept_for().0);
            prop_assert!(wished.kept_for().1 <= given.kept_for().1);
            prop_assert!(given.takes(age, Some(left)));
            prop_assert!(given.semantic || !wished.semantic);
            prop_assert!(wished.lateness(Late::AtOnce) <= most);
            prop_assert!(wished.lateness(Late::OnError) <= if_error.max(most));
            // Without being asked for, nothing but what is configured is given late.
            prop_assert!(given.lateness(Late::AtOnce) <= most && given.late.anyway.is_zero());
            prop_assert!(wished.late.anyway <= max_stale);
            if text != "q" {
                prop_assert!(wished.lateness(Late::OnError).is_zero());
            }
        }
    }
}
