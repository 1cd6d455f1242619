//! A sidecar under load that comes when it likes and waits for nobody.
//!
//! Requests are sent by a [`schedule`] that is made beforehand, and each one's time counts from the moment at which it
//! was due: a server that stands still for a second is charged for all who would have come in it, as users are, and
//! not only for the one that waits ([`tally`]). Behind a sidecar of the bench's own stands an upstream that always
//! takes the same time ([`steady`]), so that what is beyond it is the sidecar's.

pub mod steady;
pub mod tally;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The most requests of one run.
pub const MOST: usize = 5_000_000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question that is known, in the same words.
    Exact,
    /// One that is known, in other words.
    Semantic,
    /// One that nobody has asked.
    Miss,
}

/// How much there is of each kind, as shares of their sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    exact: f64,
    semantic: f64,
    miss: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self { exact: 5.0, semantic: 2.0, miss: 3.0 }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exact, semantic, miss } = self;
        write!(f, "exact={exact},semantic={semantic},miss={miss}")
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `exact=5,semantic=2,miss=3`; what is not named is not asked.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { exact: 0.0, semantic: 0.0, miss: 0.0 };
        for part in text.split(',') {
            let (name, share) =
                part.split_once('=').ok_or_else(|| format!("\"{part}\" is not KIND=SHARE"))?;
            let share: f64 = share.trim().parse().map_err(|_| format!("\"{share}\" is no number"))?;
            if !(0.0..=1e9).contains(&share) {
                return Err(format!("\"{share}\" is no share"));
            }
            match name.trim() {
                "exact" => mix.exact = share,
                "semantic" => mix.semantic = share,
                "miss" => mix.miss = share,
                other => return Err(format!("\"{other}\" is none of exact, semantic, miss")),
            }
        }
        if mix.sum() > 0.0 { Ok(mix) } else { Err("nothing would be asked".to_owned()) }
    }
}

impl Mix {
    fn sum(self) -> f64 {
        self.exact + self.semantic + self.miss
    }

    /// The kind at a place from zero to one.
    fn at(self, place: f64) -> Kind {
        match place * self.sum() {
            place if place < self.exact => Kind::Exact,
            place if place < self.exact + self.semantic => Kind::Semantic,
            _ => Kind::Miss,
        }
    }
}

/// How much is asked, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests a second, in the mean.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
    /// Of what.
    pub mix: Mix,
    /// The share that is asked for as a stream.
    pub streams: f64,
    /// How many questions are known before.
    pub known: u32,
    /// Begins the numbers by which it is drawn.
    pub seed: u64,
}

/// A request that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When, from the beginning on.
    pub at: Duration,
    /// What for.
    pub kind: Kind,
    /// What it asks.
    pub text: String,
    /// Whether as a stream.
    pub stream: bool,
}

/// The questions that are known before.
pub fn known(load: &Load) -> Vec<String> {
    (0..load.known).map(question).collect()
}

/// When what is asked. Users come by themselves, so the times between them are spread as those of a Poisson process.
/// The same load gives the same schedule.
pub fn schedule(load: &Load) -> Vec<Arrival> {
    let mut random = StdRng::seed_from_u64(load.seed);
    let (mut arrivals, mut at, mut new) = (Vec::new(), 0.0, load.known);
    while arrivals.len() < MOST {
        at -= (1.0 - random.random::<f64>()).ln() / load.rate;
        if at >= load.time.as_secs_f64() {
            break;
        }
        let kind = load.mix.at(random.random());
        let known = random.random_range(0..load.known.max(1));
        let stream = random.random::<f64>() < load.streams;
        let text = match kind {
            Kind::Exact => question(known),
            Kind::Semantic => format!("Please, w{}", &question(known)[1..]),
            Kind::Miss => {
                new = new.wrapping_add(1);
                question(new)
            }
        };
        arrivals.push(Arrival { at: Duration::from_secs_f64(at), kind, text, stream });
    }
    arrivals
}

fn question(number: u32) -> String {
    format!("What is the capital of {}?", name(number))
}

/// A name for each number, no two alike.
fn name(number: u32) -> String {
    const CONSONANTS: [char; 12] = ['b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't'];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    const SYLLABLES: u64 = 60;
    /// Has no divisor in common with the number of names of five syllables, so that neighbours are far apart and none
    /// comes twice.
    const STEP: u64 = 2_654_435_761;
    let mut rest = u64::from(number) * STEP % SYLLABLES.pow(5);
    let mut name = String::with_capacity(10);
    for _ in 0..5 {
        let syllable = (rest % SYLLABLES) as usize;
        name.push(CONSONANTS[syllable / VOWELS.len()]);
        name.push(VOWELS[syllable % VOWELS.len()]);
        rest /= SYLLABLES;
    }
    name[..1].make_ascii_uppercase();
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn load(mix: &str) -> Load {
        Load {
            rate: 1_000.0,
            time: Duration::from_secs(10),
            mix: mix.parse().unwrap(),
            streams: 0.25,
            known: 20,
            seed: 1,
        }
    }

    #[test]
    fn requests_come_as_often_and_of_the_kinds_that_were_wanted() {
        let load = load("exact=5,semantic=2,miss=3");
        let arrivals = schedule(&load);
        assert!((9_600..10_400).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
        let share = |is: &dyn Fn(&&Arrival) -> bool| {
            arrivals.iter().filter(is).count() as f64 / arrivals.len() as f64
        };
        assert!((share(&|arrival| arrival.kind == Kind::Exact) - 0.5).abs() < 0.02);
        assert!((share(&|arrival| arrival.kind == Kind::Semantic) - 0.2).abs() < 0.02);
        assert!((share(&|arrival| arrival.stream) - 0.25).abs() < 0.02);
        assert_eq!(arrivals, schedule(&load), "the same again");
        // As many gaps as should are longer than the mean: they do not come in step.
        let gaps = arrivals.windows(2).filter(|pair| pair[0].at + Duration::from_millis(1) < pair[1].at);
        assert!((gaps.count() as f64 / arrivals.len() as f64 - 0.368).abs() < 0.02);
    }

    #[test]
    fn what_is_to_be_known_is_and_what_is_to_be_new_is() {
        let load = load("exact=1,semantic=1,miss=2");
        let known: HashSet<String> = known(&load).into_iter().collect();
        let mut asked = known.clone();
        for Arrival { kind, text, .. } in schedule(&load) {
            match kind {
                Kind::Exact => assert!(known.contains(&text), "{text}"),
                Kind::Semantic => assert!(text.starts_with("Please, what is the capital of "), "{text}"),
                Kind::Miss => assert!(asked.insert(text.clone()), "{text} was asked before"),
            }
        }
        assert_eq!(known.len(), 20);
    }

    #[test]
    fn a_mix_that_says_nothing_is_refused() {
        assert_eq!(Mix::default().to_string().parse(), Ok(Mix::default()));
        for text in ["", "exact", "exact=x", "exact=-1", "exact=0", "other=1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
