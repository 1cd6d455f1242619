//! How much one upstream takes: what is configured, and what it has taught.

use super::Limits;
use crate::limits::bucket::Bucket;
use std::time::Duration;

/// How much a new measurement counts beside all those before it.
const NEW: f64 = 0.2;
/// What a refusal leaves of how much was in work.
const AFTER_REFUSAL: f64 = 0.5;
/// So long after the last refusal it is forgotten.
const FORGET_AFTER: Duration = Duration::from_mins(5);
/// An upstream that wants to be left alone for longer is not waited for here.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Whether one more may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At once.
    Now,
    /// Then, if nothing else happens.
    At(Duration),
    /// When someone else has left.
    AfterSomeone,
}

/// How one that had started has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// With an answer, or its beginning.
    Answered,
    /// Turned away for too many requests, perhaps for so long.
    Refused(Option<Duration>),
    /// In some way that says nothing about how much is too much.
    Neither,
}

/// What an upstream has in work, and when it takes more.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    limits: Limits,
    in_work: usize,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    last_start: Option<Duration>,
    closed_until: Duration,
    /// How many at once it was found to take, and when it last refused one.
    learned: Option<(f64, Duration)>,
    /// How long one is in work, in seconds.
    held: Option<f64>,
}

impl Pace {
    pub(super) fn new(limits: Limits, now: Duration) -> Self {
        let bucket = |rate: f64| Bucket::per_minute(rate, now);
        Self {
            in_work: 0,
            requests: limits.requests_per_minute.map(|rate| bucket(f64::from(rate))),
            tokens: limits.tokens_per_minute.map(|rate| bucket(rate as f64)),
            last_start: None,
            closed_until: now,
            learned: None,
            held: None,
            limits,
        }
    }

    pub(super) fn in_work(&self) -> usize {
        self.in_work
    }

    /// How many at once, as configured and as learned.
    pub(super) fn at_once(&self, now: Duration) -> Option<usize> {
        let learned = self.learned.filter(|(_, refused)| now < *refused + FORGET_AFTER);
        let learned = learned.map(|(most, _)| most as usize);
        [self.limits.concurrent, learned].into_iter().flatten().min()
    }

    /// Whether one more may start that takes about so many tokens.
    pub(super) fn may_start(&self, now: Duration, tokens: u64) -> Start {
        if self.at_once(now).is_some_and(|most| self.in_work >= most) {
            return Start::AfterSomeone;
        }
        let spaced = self.last_start.map_or(now, |last| last + self.limits.spacing);
        let counted = self.requests.as_ref().map_or(now, |bucket| bucket.ready_at(now, 1.0));
        let weighed = self.tokens.as_ref().map_or(now, |bucket| bucket.ready_at(now, tokens as f64));
        let at = self.closed_until.max(spaced).max(counted).max(weighed);
        if at <= now { Start::Now } else { Start::At(at) }
    }

    /// One starts.
    pub(super) fn start(&mut self, now: Duration, tokens: u64) {
        self.in_work += 1;
        self.last_start = Some(now);
        if let Some(bucket) = &mut self.requests {
            bucket.take(now, 1.0);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(now, tokens as f64);
        }
    }

    /// It has taken more tokens than expected, or fewer.
    pub(super) fn correct(&mut self, now: Duration, expected: u64, taken: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.take(now, taken as f64 - expected as f64);
        }
    }

    /// What it says before its answer is over.
    pub(super) fn learn(&mut self, now: Duration, seen: Seen) {
        match seen {
            Seen::Answered => {
                if let Some((most, _)) = &mut self.learned {
                    *most += 1.0 / *most;
                }
            }
            Seen::Refused(pause) => {
                let most =
                    self.learned.map_or(self.in_work as f64, |(most, _)| most.min(self.in_work as f64));
                self.learned = Some(((most * AFTER_REFUSAL).max(1.0), now));
                self.pause(now, pause.unwrap_or_default());
            }
            Seen::Neither => {}
        }
        self.learned.take_if(|(_, refused)| now >= *refused + FORGET_AFTER);
    }

    /// It wants to be left alone for so long. A pause is never cut short.
    pub(super) fn pause(&mut self, now: Duration, pause: Duration) {
        self.closed_until = self.closed_until.max(now + pause.min(LONGEST_PAUSE));
    }

    /// One has ended that was in work for so long.
    pub(super) fn end(&mut self, held: Option<Duration>) {
        self.in_work = self.in_work.saturating_sub(1);
        if let Some(held) = held.map(|held| held.as_secs_f64()) {
            self.held = Some(self.held.map_or(held, |known| known + NEW * (held - known)));
        }
    }

    /// About when one may start that comes after so many others, and how many tokens they take together with it.
    pub(super) fn expected(&self, now: Duration, ahead: usize, tokens: u64) -> Duration {
        let counted = self.requests.as_ref().map_or(now, |bucket| bucket.gone_at(now, ahead as f64 + 1.0));
        let weighed = self.tokens.as_ref().map_or(now, |bucket| bucket.gone_at(now, tokens as f64));
        let spacing = self.limits.spacing.saturating_mul(u32::try_from(ahead + 1).unwrap_or(u32::MAX));
        let spaced = self.last_start.map_or(now, |last| last + spacing);
        self.closed_until.max(counted).max(weighed).max(spaced).max(self.freed(now, ahead))
    }

    /// When so many have left that the next one after those `ahead` has a place.
    fn freed(&self, now: Duration, ahead: usize) -> Duration {
        let (Some(most), Some(held)) = (self.at_once(now), self.held) else { return now };
        let leaving = (self.in_work + ahead + 1).saturating_sub(most);
        now + Duration::from_secs_f64((held * leaving as f64 / most.max(1) as f64).min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(change: impl FnOnce(&mut Limits)) -> Pace {
        let mut limits = Limits::default();
        change(&mut limits);
        Pace::new(limits, at(0))
    }

    #[test]
    fn nothing_is_held_back_without_a_limit() {
        let mut pace = pace(|_| ());
        for _ in 0..1_000 {
            assert_eq!(pace.may_start(at(0), 1_000_000), Start::Now);
            pace.start(at(0), 1_000_000);
        }
        assert_eq!(pace.expected(at(0), 10, 10), at(0));
    }

    #[test]
    fn each_limit_holds_back_on_its_own() {
        let mut concurrent = pace(|limits| limits.concurrent = Some(1));
        concurrent.start(at(0), 1);
        assert_eq!(concurrent.may_start(at(9), 1), Start::AfterSomeone);
        concurrent.end(None);
        assert_eq!(concurrent.may_start(at(9), 1), Start::Now);

        let mut spaced = pace(|limits| limits.spacing = Duration::from_millis(500));
        spaced.start(at(1), 1);
        assert_eq!(spaced.may_start(at(1), 1), Start::At(Duration::from_millis(1_500)));

        let mut weighed = pace(|limits| limits.tokens_per_minute = Some(60_000));
        weighed.start(at(0), 12_000);
        assert!(matches!(weighed.may_start(at(0), 1_000), Start::At(then) if then >= at(1) && then < at(2)));
        weighed.correct(at(0), 12_000, 100);
        assert_eq!(weighed.may_start(at(0), 1_000), Start::Now, "it took fewer than expected");
    }

    #[test]
    fn a_refusal_halves_what_goes_at_once_and_answers_win_it_back() {
        let mut pace = pace(|_| ());
        (0..8).for_each(|_| pace.start(at(0), 1));
        pace.learn(at(0), Seen::Refused(None));
        assert_eq!(pace.at_once(at(0)), Some(4));
        pace.learn(at(0), Seen::Refused(None));
        assert_eq!(pace.at_once(at(0)), Some(2));
        (0..3).for_each(|_| pace.learn(at(1), Seen::Answered));
        assert_eq!(pace.at_once(at(1)), Some(3));
        assert_eq!(pace.at_once(at(400)), None, "it is long ago");
        (0..8).for_each(|_| pace.end(None));
        pace.learn(at(2), Seen::Refused(None));
        assert_eq!(pace.at_once(at(2)), Some(1), "one may always try");
    }

    #[test]
    fn a_pause_is_kept_and_never_cut_short_but_none_is_endless() {
        let mut pace = pace(|_| ());
        pace.learn(at(0), Seen::Refused(Some(at(20))));
        pace.learn(at(1), Seen::Refused(Some(at(2))));
        assert_eq!(pace.may_start(at(1), 1), Start::At(at(20)));
        pace.learn(at(1), Seen::Refused(Some(at(500_000))));
        assert_eq!(pace.may_start(at(1), 1), Start::At(at(61)));
    }

    #[test]
    fn the_wait_is_what_those_in_work_usually_take() {
        let mut pace = pace(|limits| limits.concurrent = Some(2));
        (0..2).for_each(|_| pace.start(at(0), 1));
        assert_eq!(pace.expected(at(0), 3, 4), at(0), "nothing is known yet");
        pace.end(Some(at(4)));
        pace.start(at(4), 1);
        assert_eq!(pace.expected(at(4), 0, 1), at(6), "of two, one leaves every two seconds");
        assert_eq!(pace.expected(at(4), 3, 4), at(12));
    }
}
