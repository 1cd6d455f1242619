//! How long somebody is left alone, and what counts as the same trouble.

use super::{BreakerRules, LatencyRules, Reason};
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Ever longer times: given ones first, then each `factor` times the last, up to `most`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The first ones. Never empty.
    steps: Vec<Duration>,
    factor: u32,
    most: Duration,
}

impl Ladder {
    /// These, and then the last one again and again. Without any, a minute.
    pub fn of(steps: impl Into<Vec<Duration>>) -> Self {
        let mut steps = steps.into();
        if steps.is_empty() {
            steps.push(MINUTE);
        }
        let most = steps.iter().copied().max().unwrap_or(MINUTE);
        Self { steps, factor: 1, most }
    }

    /// Twice as long each time, up to `most`.
    pub fn doubling(first: Duration, most: Duration) -> Self {
        Self { steps: vec![first], factor: 2, most }
    }

    /// The `nth` time, counted from 1.
    pub fn nth(&self, nth: u32) -> Duration {
        let at = usize::try_from(nth.max(1) - 1).unwrap_or(usize::MAX);
        if let Some(step) = self.steps.get(at) {
            return (*step).min(self.most);
        }
        let last = self.steps.last().copied().unwrap_or(MINUTE);
        let beyond = u32::try_from(at - (self.steps.len() - 1)).unwrap_or(u32::MAX);
        last.saturating_mul(self.factor.saturating_pow(beyond)).min(self.most)
    }

    /// The times as written, and the most.
    pub fn shown(&self) -> (&[Duration], u32, Duration) {
        (&self.steps, self.factor, self.most)
    }
}

/// A set of rules that somebody knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// As OpenClaw documents them: 1 m, 5 m, 25 m, 1 h; without credit 5 h, doubling to 24 h.
    Classic,
    /// As OpenClaw 2026.9 does it: 30 s at first.
    V2026_9,
}

impl Preset {
    /// Every preset by its name.
    pub const ALL: [(&'static str, Self); 2] = [("classic", Self::Classic), ("2026.9", Self::V2026_9)];

    /// Its rules.
    pub fn rules(self) -> Rules {
        match self {
            Self::Classic => Rules::classic(),
            Self::V2026_9 => Rules::v2026_9(),
        }
    }
}

/// The rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// For each rate limit in a row.
    pub rate_limit: Ladder,
    /// For each other trouble that passes: a failure, a silence, a refused key.
    pub transient: Ladder,
    /// For each time that there is no credit.
    pub billing: Ladder,
    /// For each time that a key is refused for good.
    pub auth_permanent: Ladder,
    /// After so long without a failure, the next one is the first one again.
    pub failure_window: Duration,
    /// Whether limits, refused keys and whatever else passes are counted together.
    pub one_count: bool,
    /// Whether an answer makes the next trouble that passes the first one again.
    pub forgives: bool,
    /// The provider's wish to be left alone so briefly is no trouble: it is waited for.
    pub short_wait: Duration,
    /// How long after one question that finds out whether somebody is well, another one may.
    pub probe_every: Duration,
    /// With nobody else to ask: how long after trouble began somebody looks, and after each who did so in vain the
    /// next.
    pub look: Ladder,
    /// When too many of the last calls failed.
    pub breaker: BreakerRules,
    /// What is slow.
    pub latency: LatencyRules,
}

impl Default for Rules {
    fn default() -> Self {
        Self::v2026_9()
    }
}

impl Rules {
    fn classic() -> Self {
        let ladder = Ladder::of([MINUTE, 5 * MINUTE, 25 * MINUTE, HOUR]);
        Self {
            rate_limit: ladder.clone(),
            transient: ladder.clone(),
            billing: Ladder::doubling(5 * HOUR, DAY),
            auth_permanent: ladder,
            one_count: true,
            forgives: false,
            ..Self::v2026_9()
        }
    }

    fn v2026_9() -> Self {
        let seconds = Duration::from_secs;
        Self {
            rate_limit: Ladder::doubling(seconds(30), DAY),
            transient: Ladder::of([seconds(30), seconds(60), seconds(300)]),
            billing: Ladder::doubling(10 * MINUTE, DAY),
            auth_permanent: Ladder::doubling(10 * MINUTE, HOUR),
            failure_window: DAY,
            one_count: false,
            forgives: true,
            short_wait: seconds(2),
            probe_every: seconds(5),
            look: Ladder::doubling(seconds(1), seconds(30)),
            breaker: BreakerRules::default(),
            latency: LatencyRules::default(),
        }
    }

    /// How long after trouble, or after the look before, the `nth` one may look at who is left alone for `reason`. What
    /// passes by itself may be over any moment, and is not looked at less and less.
    pub(super) fn look_after(&self, reason: Reason, nth: u32) -> Duration {
        let pause = self.look.nth(nth);
        if reason.waits_for_hands() { pause } else { pause.min(self.probe_every) }
    }

    /// What is counted together with `reason`, by the name of one of it.
    pub(super) fn class(&self, reason: Reason) -> Reason {
        match reason {
            Reason::Billing => Reason::Billing,
            Reason::RateLimit | Reason::AuthPermanent if !self.one_count => reason,
            _ => Reason::ServerError,
        }
    }

    /// The times for `reason`.
    pub fn ladder(&self, reason: Reason) -> &Ladder {
        match reason {
            Reason::RateLimit => &self.rate_limit,
            Reason::Billing => &self.billing,
            Reason::AuthPermanent => &self.auth_permanent,
            Reason::Overloaded
            | Reason::Auth
            | Reason::Timeout
            | Reason::ServerError
            | Reason::Connection
            | Reason::BadResponse
            | Reason::ContextOverflow
            | Reason::ModelNotFound => &self.transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_what_their_names_promise() {
        let minutes = |preset: Preset, reason: Reason| -> Vec<f64> {
            let rules = preset.rules();
            (1..=6).map(|nth| rules.ladder(reason).nth(nth).as_secs_f64() / 60.0).collect()
        };
        let classic = [1.0, 5.0, 25.0, 60.0, 60.0, 60.0];
        for reason in [Reason::RateLimit, Reason::Auth, Reason::Timeout, Reason::BadResponse] {
            assert_eq!(minutes(Preset::Classic, reason), classic, "{reason:?}");
        }
        assert_eq!(minutes(Preset::Classic, Reason::Billing), [300.0, 600.0, 1200.0, 1440.0, 1440.0, 1440.0]);
        assert_eq!(minutes(Preset::V2026_9, Reason::RateLimit), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(minutes(Preset::V2026_9, Reason::Overloaded), [0.5, 1.0, 5.0, 5.0, 5.0, 5.0]);
        assert_eq!(minutes(Preset::V2026_9, Reason::Billing), [10.0, 20.0, 40.0, 80.0, 160.0, 320.0]);
        assert_eq!(minutes(Preset::V2026_9, Reason::AuthPermanent), [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]);
        for (name, preset) in Preset::ALL {
            assert_eq!(preset.rules().failure_window, DAY, "{name}");
            assert!(preset.rules().rate_limit.nth(u32::MAX) <= DAY, "{name}");
        }
    }
}
