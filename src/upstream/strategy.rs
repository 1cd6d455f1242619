//! In what order a route's upstreams are asked: [`arrange`], a pure function of what is known about them.
//!
//! Whatever the strategy, everyone stays in the list: who is not the first choice is a fallback. Nothing is
//! drawn by chance. A request's `turn` (a counter) or its session decides where there is a choice, so the
//! same input gives the same order, shares come out as configured within a few requests, and a session
//! stays with whom it began as long as that one is available.

use serde::Serialize;
use std::cmp::Ordering;
use std::time::Duration;

/// How much slower than the fastest still counts as fast: below, the difference is mostly noise.
const AS_FAST: f64 = 1.2;
/// One request in so many goes to whoever's turn it is, so that nobody is judged by what is long ago.
const LOOK_EVERY: u64 = 32;
/// A percentage, in the whole numbers that shares are counted in.
const WHOLE: u64 = 10_000;

/// How a route chooses among its upstreams. The names are stable: they appear in the configuration, in
/// `/status` and in metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Strategy {
    /// In the order in which they are listed, whoever is available.
    #[default]
    Failover,
    /// In the order in which they are listed, those that are unavailable last.
    FirstAvailable,
    /// One after the other.
    RoundRobin,
    /// In proportion to their weights.
    Weighted,
    /// Whoever answers fastest; who is about as fast shares.
    LowestLatency,
    /// Whoever is cheapest.
    LowestCost,
    /// Whoever has the least to do, measured by weight.
    LeastBusy,
    /// The first, and a share of the requests to the others, as long as they hold.
    Canary {
        /// How many in a hundred go to the others.
        percentage: f64,
    },
    /// Two groups that are compared: the first upstream's, and that of the others.
    Ab {
        /// How many in a hundred are in the other group.
        percentage: f64,
    },
}

/// What is known about an upstream when it is a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Its share, next to the others'. Zero: it is a fallback only.
    pub weight: u32,
    /// US dollars for a request like this one, where that is known.
    pub cost: Option<f64>,
    /// How long its first words take, where that is known.
    pub latency: Option<Duration>,
    /// How many requests it has in work.
    pub in_flight: usize,
    /// Whether it would be asked now: it neither cools down nor is switched off.
    pub available: bool,
    /// Whether it is slower than the route allows: it comes after those who are not.
    pub slow: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { weight: 1, cost: None, latency: None, in_flight: 0, available: true, slow: false }
    }
}

impl Strategy {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::FirstAvailable => "first_available",
            Self::RoundRobin => "round_robin",
            Self::Weighted => "weighted",
            Self::LowestLatency => "lowest_latency",
            Self::LowestCost => "lowest_cost",
            Self::LeastBusy => "least_busy",
            Self::Canary { .. } => "canary",
            Self::Ab { .. } => "ab",
        }
    }

    /// Whether it may choose another upstream for one request than for the next, though all are well.
    pub fn alternates(self) -> bool {
        !matches!(self, Self::Failover | Self::FirstAvailable)
    }
}

/// The places of `candidates` in the order in which they are asked. `turn` counts the requests of this route;
/// `session` stands for the conversation that the request belongs to, where there is one.
pub fn arrange(strategy: &Strategy, candidates: &[Facts], turn: u64, session: Option<u64>) -> Vec<usize> {
    let everyone: Vec<usize> = (0..candidates.len()).collect();
    let chance = Chance::of(turn, session);
    match *strategy {
        Strategy::Failover => fast_first(everyone, candidates),
        Strategy::FirstAvailable => available_first(everyone, candidates),
        Strategy::RoundRobin => match session {
            None => in_turn(candidates, turn),
            Some(_) => available_first(drawn(everyone, |_| 1, chance), candidates),
        },
        Strategy::Weighted => available_first(by_weight(everyone, candidates, chance), candidates),
        Strategy::LowestLatency => {
            looking_around(lowest_latency(candidates, chance), candidates, turn, session)
        }
        Strategy::LowestCost => lowest_cost(candidates, chance),
        Strategy::LeastBusy => least_busy(candidates, chance),
        Strategy::Canary { percentage } => available_first(split(candidates, percentage, chance), candidates),
        // Whoever is in a group stays in it: a group that takes in the other's requests is no measure.
        Strategy::Ab { percentage } => split(candidates, percentage, chance),
    }
}

/// Whether a request is among so many in a hundred, whoever is chosen for it.
pub fn is_drawn(turn: u64, percentage: f64) -> bool {
    // Not by the turns' own sequence: whatever is chosen by that as well would always be chosen together.
    Chance(scrambled(turn)).is_within(percentage)
}

/// A number from everywhere in `u64` with equal frequency, in place of chance.
#[derive(Clone, Copy)]
struct Chance(u64);

impl Chance {
    /// A session always has the same. Turns have each another one, spread so evenly that shares come out right
    /// at once (a Weyl sequence by the golden ratio).
    fn of(turn: u64, session: Option<u64>) -> Self {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        Self(session.map_or_else(|| turn.wrapping_mul(GOLDEN), scrambled))
    }

    /// Which part of `total` it falls into.
    fn within(self, total: u64) -> u64 {
        ((u128::from(self.0) * u128::from(total)) >> 64) as u64
    }

    /// Whether it is among so many in a hundred.
    fn is_within(self, percentage: f64) -> bool {
        self.within(WHOLE) < share_of(percentage)
    }

    /// What it is within the part of `total` that begins at `start` and is `size` wide: equally frequent again.
    fn rest(self, total: u64, start: u64, size: u64) -> Self {
        let inside = u128::from(self.0) * u128::from(total) - (u128::from(start) << 64);
        Self((inside / u128::from(size.max(1))) as u64)
    }
}

fn share_of(percentage: f64) -> u64 {
    (percentage.clamp(0.0, 100.0) / 100.0 * WHOLE as f64).round() as u64
}

/// Neighbours become strangers (the finaliser of SplitMix64).
fn scrambled(session: u64) -> u64 {
    let mixed = (session ^ (session >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn fast_first(mut order: Vec<usize>, candidates: &[Facts]) -> Vec<usize> {
    order.sort_by_key(|at| candidates[*at].slow);
    order
}

fn available_first(order: Vec<usize>, candidates: &[Facts]) -> Vec<usize> {
    let mut order = fast_first(order, candidates);
    order.sort_by_key(|at| !candidates[*at].available);
    order
}

/// One after the other among those that are available, so that none of them takes over another's turns.
fn in_turn(candidates: &[Facts], turn: u64) -> Vec<usize> {
    let (mut able, mut unable): (Vec<usize>, Vec<usize>) =
        (0..candidates.len()).partition(|at| candidates[*at].available);
    for group in [&mut able, &mut unable] {
        if let Some(start) = turn.checked_rem(group.len() as u64) {
            group.rotate_left(start as usize);
        }
    }
    able.append(&mut unable);
    available_first(able, candidates)
}

/// `order`, each drawn from those that are left in proportion to their shares. Whoever is left out, by whatever
/// reason, leaves the others' order as it is: a session does not move because another's upstream fails.
fn drawn(mut left: Vec<usize>, share: impl Fn(usize) -> u32, mut chance: Chance) -> Vec<usize> {
    let mut order = Vec::with_capacity(left.len());
    loop {
        let total: u64 = left.iter().map(|at| u64::from(share(*at))).sum();
        let Some((place, start)) = pick(&left, &share, chance.within(total)) else { break };
        chance = chance.rest(total, start, u64::from(share(left[place])));
        order.push(left.remove(place));
    }
    // Whoever has no share is a fallback, as listed.
    order.append(&mut left);
    order
}

/// Whose share `point` falls into, and where that begins.
fn pick(left: &[usize], share: impl Fn(usize) -> u32, point: u64) -> Option<(usize, u64)> {
    let mut start = 0;
    for (place, at) in left.iter().enumerate() {
        let size = u64::from(share(*at));
        if point < start + size {
            return Some((place, start));
        }
        start += size;
    }
    None
}

fn by_weight(order: Vec<usize>, candidates: &[Facts], chance: Chance) -> Vec<usize> {
    drawn(order, |at| candidates[at].weight, chance)
}

/// The first listed, or in so many of a hundred cases one of the others.
fn split(candidates: &[Facts], percentage: f64, chance: Chance) -> Vec<usize> {
    let mut others: Vec<usize> = (1..candidates.len()).collect();
    let goes_to_others = chance.is_within(percentage);
    others = by_weight(others, candidates, chance.rest(WHOLE, 0, share_of(percentage)));
    let first = (0..candidates.len()).take(1);
    match goes_to_others {
        true => others.into_iter().chain(first).collect(),
        false => first.chain(others).collect(),
    }
}

/// Who has not been measured yet comes first: it is asked once, and then it is known.
fn lowest_latency(candidates: &[Facts], chance: Chance) -> Vec<usize> {
    let known = candidates.iter().filter(|facts| facts.available).filter_map(|facts| facts.latency).min();
    let class = |facts: &Facts| match (facts.latency, known) {
        (None, _) => 0,
        (Some(latency), Some(best)) if latency <= best.mul_f64(AS_FAST) => 1,
        (Some(_), _) => 2,
    };
    sorted(candidates, chance, |one, other| {
        let order = class(one).cmp(&class(other));
        order.then_with(|| if class(one) == 2 { one.latency.cmp(&other.latency) } else { Ordering::Equal })
    })
}

/// Who has no price may cost anything, and comes after those who have one.
fn lowest_cost(candidates: &[Facts], chance: Chance) -> Vec<usize> {
    let cost = |facts: &Facts| facts.cost.unwrap_or(f64::INFINITY);
    sorted(candidates, chance, |one, other| cost(one).total_cmp(&cost(other)))
}

/// Twice the weight may have twice as much to do.
fn least_busy(candidates: &[Facts], chance: Chance) -> Vec<usize> {
    let load = |one: &Facts, other: &Facts| one.in_flight as u128 * u128::from(other.weight.max(1));
    let fallback = |facts: &Facts| facts.weight == 0;
    sorted(candidates, chance, |one, other| {
        fallback(one).cmp(&fallback(other)).then_with(|| load(one, other).cmp(&load(other, one)))
    })
}

/// By availability, then as `compare` says; among equals in proportion to their weights.
fn sorted(candidates: &[Facts], chance: Chance, compare: impl Fn(&Facts, &Facts) -> Ordering) -> Vec<usize> {
    let mut order = by_weight((0..candidates.len()).collect(), candidates, chance);
    order.sort_by(|one, other| compare(&candidates[*one], &candidates[*other]));
    available_first(order, candidates)
}

/// From time to time another one first: a latency that nobody measures any more is no reason for anything.
fn looking_around(
    mut order: Vec<usize>,
    candidates: &[Facts],
    turn: u64,
    session: Option<u64>,
) -> Vec<usize> {
    if session.is_none() && turn % LOOK_EVERY == LOOK_EVERY - 1 {
        let other = in_turn(candidates, turn / LOOK_EVERY).into_iter().next();
        if let Some(other) = other.filter(|at| candidates[*at].weight > 0) {
            order.retain(|at| *at != other);
            order.insert(0, other);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use proptest::strategy::Strategy as _;

    const ALL: [Strategy; 9] = [
        Strategy::Failover,
        Strategy::FirstAvailable,
        Strategy::RoundRobin,
        Strategy::Weighted,
        Strategy::LowestLatency,
        Strategy::LowestCost,
        Strategy::LeastBusy,
        Strategy::Canary { percentage: 5.0 },
        Strategy::Ab { percentage: 50.0 },
    ];

    fn weighing(weights: &[u32]) -> Vec<Facts> {
        weights.iter().map(|weight| Facts { weight: *weight, ..Facts::default() }).collect()
    }

    fn slow(millis: u64) -> Facts {
        Facts { latency: Some(Duration::from_millis(millis)), ..Facts::default() }
    }

    fn costing(cost: f64) -> Facts {
        Facts { cost: Some(cost), ..Facts::default() }
    }

    fn busy(in_flight: usize) -> Facts {
        Facts { in_flight, ..Facts::default() }
    }

    fn away(facts: Facts) -> Facts {
        Facts { available: false, ..facts }
    }

    /// How often each was the first choice in `turns` turns.
    fn firsts(strategy: Strategy, candidates: &[Facts], turns: u64) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        (0..turns).for_each(|turn| counts[arrange(&strategy, candidates, turn, None)[0]] += 1);
        counts
    }

    #[test]
    fn each_strategy_has_its_order() {
        let plain = Facts::default();
        let slow_at = |facts: Facts| Facts { slow: true, ..facts };
        let table: &[(&str, Strategy, Vec<Facts>, &[usize])] = &[
            ("as listed", Strategy::Failover, vec![away(plain), plain, plain], &[0, 1, 2]),
            ("the unavailable last", Strategy::FirstAvailable, vec![away(plain), plain, plain], &[1, 2, 0]),
            ("the fastest", Strategy::LowestLatency, vec![slow(900), slow(300), slow(600)], &[1, 2, 0]),
            ("the unknown once", Strategy::LowestLatency, vec![slow(300), plain], &[1, 0]),
            ("an outage is not fast", Strategy::LowestLatency, vec![away(slow(1)), slow(600)], &[1, 0]),
            ("the cheapest", Strategy::LowestCost, vec![costing(3.0), costing(1.0), plain], &[1, 0, 2]),
            ("cheap is not fast", Strategy::LowestCost, vec![slow_at(costing(1.0)), costing(2.0)], &[1, 0]),
            ("as listed, if fast enough", Strategy::Failover, vec![slow_at(plain), away(plain)], &[1, 0]),
            (
                "slow is better than away",
                Strategy::FirstAvailable,
                vec![away(plain), slow_at(plain)],
                &[1, 0],
            ),
            (
                "a group stays, however slow",
                Strategy::Ab { percentage: 0.0 },
                vec![slow_at(plain), plain],
                &[0, 1],
            ),
            ("the idle", Strategy::LeastBusy, vec![busy(3), busy(1), busy(2)], &[1, 2, 0]),
            (
                "twice the weight carries twice the load",
                Strategy::LeastBusy,
                vec![busy(2), Facts { weight: 4, in_flight: 6, ..plain }],
                &[1, 0],
            ),
        ];
        for (promise, strategy, candidates, order) in table {
            assert_eq!(arrange(strategy, candidates, 0, None), *order, "{promise}");
        }
    }

    #[test]
    fn turns_go_round_among_those_that_are_available() {
        let candidates = [Facts::default(), away(Facts::default()), Facts::default()];
        assert_eq!(firsts(Strategy::RoundRobin, &candidates, 100), [50, 0, 50]);
        assert_eq!(firsts(Strategy::RoundRobin, &weighing(&[1, 1, 1]), 99), [33, 33, 33]);
    }

    #[test]
    fn shares_come_out_as_weighed_and_soon() {
        for (turns, tolerance) in [(20, 1), (1_000, 2), (100_000, 10)] {
            let counts = firsts(Strategy::Weighted, &weighing(&[70, 30, 0]), turns);
            let wanted = turns * 7 / 10;
            assert!((counts[0] as u64).abs_diff(wanted) <= tolerance, "{turns}: {counts:?}");
            assert_eq!(counts[2], 0, "no weight, no request");
        }
    }

    #[test]
    fn who_falls_out_is_replaced_by_weight_too() {
        let mut candidates = weighing(&[60, 30, 10]);
        candidates[0].available = false;
        let counts = firsts(Strategy::Weighted, &candidates, 10_000);
        assert_eq!(counts[0], 0);
        assert!(counts[1].abs_diff(7_500) < 200, "three to one, as before: {counts:?}");
    }

    #[test]
    fn a_canary_gets_its_share_and_only_as_long_as_it_sings() {
        let canary = Strategy::Canary { percentage: 5.0 };
        let mut candidates = weighing(&[1, 1]);
        let counts = firsts(canary, &candidates, 10_000);
        assert!(counts[1].abs_diff(500) <= 5, "{counts:?}");
        candidates[1].available = false;
        assert_eq!(firsts(canary, &candidates, 10_000), [10_000, 0]);
        for (percentage, all) in [(0.0, [100, 0]), (100.0, [0, 100])] {
            assert_eq!(firsts(Strategy::Canary { percentage }, &weighing(&[1, 1]), 100), all);
        }
    }

    #[test]
    fn a_sample_is_of_every_choice() {
        let (mut drawn, mut heavy) = (0_u32, 0_u32);
        for turn in 0..100_000 {
            if is_drawn(turn, 10.0) {
                drawn += 1;
                heavy += u32::from(arrange(&Strategy::Weighted, &weighing(&[70, 30]), turn, None)[0] == 0);
            }
        }
        assert!(drawn.abs_diff(10_000) < 400, "{drawn}");
        assert!((f64::from(heavy) / f64::from(drawn) - 0.7).abs() < 0.03, "{heavy} of {drawn}");
    }

    #[test]
    fn a_group_keeps_its_members_when_its_upstream_is_away() {
        let candidates = [Facts::default(), away(Facts::default())];
        let counts = firsts(Strategy::Ab { percentage: 50.0 }, &candidates, 1_000);
        assert!(counts[1].abs_diff(500) <= 5, "{counts:?}");
    }

    #[test]
    fn who_is_about_as_fast_shares_and_who_is_slow_is_measured_now_and_then() {
        let counts = firsts(Strategy::LowestLatency, &[slow(100), slow(110), slow(900)], 3_200);
        assert!(counts[0].abs_diff(counts[1]) < 200, "{counts:?}");
        assert!((20..=60).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn sessions_are_spread_like_turns() {
        let candidates = weighing(&[70, 30]);
        let first = |session| arrange(&Strategy::Weighted, &candidates, 0, Some(session))[0];
        let heavy = (0..10_000).filter(|session| first(*session) == 0).count();
        assert!(heavy.abs_diff(7_000) < 200, "{heavy}");
    }

    fn facts() -> impl proptest::strategy::Strategy<Value = Facts> {
        let millis = proptest::option::of(0_u64..2_000);
        (0_u32..5, proptest::option::of(0.0..10.0_f64), millis, 0_usize..9, any::<(bool, bool)>()).prop_map(
            |(weight, cost, millis, in_flight, (available, slow))| Facts {
                weight,
                cost,
                latency: millis.map(Duration::from_millis),
                in_flight,
                available,
                slow,
            },
        )
    }

    proptest! {
        #[test]
        fn everyone_is_in_the_list_once_and_the_same_input_gives_the_same(
            candidates in proptest::collection::vec(facts(), 0..7),
            turn in any::<u64>(),
            session in proptest::option::of(any::<u64>()),
        ) {
            for strategy in ALL {
                let order = arrange(&strategy, &candidates, turn, session);
                let mut places = order.clone();
                places.sort_unstable();
                prop_assert_eq!(places, (0..candidates.len()).collect::<Vec<_>>(), "{}", strategy.name());
                prop_assert_eq!(arrange(&strategy, &candidates, turn, session), order);
            }
        }

        #[test]
        fn nobody_unavailable_comes_before_anyone_available(
            candidates in proptest::collection::vec(facts(), 0..7),
            turn in any::<u64>(),
            session in proptest::option::of(any::<u64>()),
        ) {
            for strategy in ALL {
                if matches!(strategy, Strategy::Failover | Strategy::Ab { .. }) {
                    continue;
                }
                let order = arrange(&strategy, &candidates, turn, session);
                let able = order.iter().map(|at| candidates[*at].available);
                prop_assert!(able.is_sorted_by(|one, other| one >= other), "{}", strategy.name());
            }
        }

        #[test]
        fn a_session_stays_whatever_the_turn(
            candidates in proptest::collection::vec(facts(), 0..7),
            session in any::<u64>(),
            turns in (any::<u64>(), any::<u64>()),
        ) {
            for strategy in ALL {
                let one = arrange(&strategy, &candidates, turns.0, Some(session));
                prop_assert_eq!(one, arrange(&strategy, &candidates, turns.1, Some(session)));
            }
        }

        #[test]
        fn a_session_does_not_move_because_another_ones_upstream_fails(
            candidates in proptest::collection::vec(facts(), 2..7),
            session in any::<u64>(),
            failing in any::<proptest::sample::Index>(),
        ) {
            let failing = failing.index(candidates.len());
            let mut after = candidates.clone();
            after[failing].available = false;
            for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::Canary { percentage: 30.0 }] {
                let first = arrange(&strategy, &candidates, 0, Some(session))[0];
                if first != failing {
                    prop_assert_eq!(arrange(&strategy, &after, 0, Some(session))[0], first);
                }
            }
        }
    }
}
