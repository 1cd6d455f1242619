//! [`Cooldown`]: who is left alone, until when, and who finds out whether it is over.

use super::{Moment, Reason, Rules};
use std::collections::BTreeMap;
use std::time::Duration;

/// However long a provider asks to be left alone, after a week somebody looks.
const LONGEST_WAIT: Duration = Duration::from_hours(7 * 24);

/// Who is told to come back at once waits for so long all the same.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask.
    Ready,
    /// Ask, and whoever does finds out for all others.
    Probe,
    /// Do not ask before this moment.
    Wait {
        /// When it is worth to look again.
        until: Moment,
        /// Why.
        reason: Reason,
    },
}

/// Whether one thing (a key, or a model with a key) is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cooldown {
    /// How often in a row, by the kind of reason.
    counts: BTreeMap<Reason, u32>,
    last_failure: Option<Moment>,
    cooling: Option<Cooling>,
    /// Who finds out whether it is over.
    probe: Option<Probe>,
    /// How many looked early in vain since the trouble began.
    looks: u32,
    /// When it was last found to be over.
    recovered: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cooling {
    pub(super) reason: Reason,
    pub(super) since: Moment,
    pub(super) until: Moment,
    /// Before this the provider itself wants nobody to come, not even to look.
    pub(super) named: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Probe {
    sent: Moment,
    /// Sent before the time was over, since there was nobody else.
    early: bool,
    /// When it came back with bad news; nothing is known of it before.
    back: Option<Moment>,
}

impl Cooldown {
    /// What may be done now; `alone` where there is nobody else to ask. Who is told to probe must say how it went.
    pub fn ask(&mut self, now: Moment, rules: &Rules, alone: bool) -> Verdict {
        let verdict = self.verdict(now, rules, alone);
        if let (Verdict::Probe, Some(cooling)) = (verdict, self.cooling) {
            self.probe = Some(Probe { sent: now, early: now < cooling.until, back: None });
        }
        verdict
    }

    /// The same, without asking.
    pub fn verdict(&self, now: Moment, rules: &Rules, alone: bool) -> Verdict {
        let Some(cooling) = self.cooling else { return Verdict::Ready };
        let Cooling { reason, until, .. } = cooling;
        let over = now >= until;
        let due = if over { self.next_at_last(rules) } else { self.next_look(&cooling, rules) };
        let early = alone && reason.may_be_tried_early();
        if (over || early) && now >= due {
            return Verdict::Probe;
        }
        let until = match (over, early) {
            (true, _) => due,
            (false, true) => due.min(until),
            (false, false) => until,
        };
        Verdict::Wait { until, reason }
    }

    /// When the next one may find out whether it is over: one at a time, and one that is not heard of is taken for
    /// lost after a while.
    fn next_at_last(&self, rules: &Rules) -> Moment {
        let out = self.probe.filter(|probe| probe.back.is_none());
        out.map_or(Moment(0), |probe| probe.sent.plus(rules.probe_every))
    }

    /// When the next one may look though the time is not over: each that has found the trouble still there makes the
    /// next one come later, and none comes before the moment that the provider itself has named.
    fn next_look(&self, cooling: &Cooling, rules: &Rules) -> Moment {
        let pause = rules.look_after(cooling.reason, self.looks.saturating_add(1));
        let next = match self.probe {
            Some(Probe { back: Some(back), .. }) => back.plus(pause),
            Some(_) => self.next_at_last(rules),
            None => cooling.since.plus(pause),
        };
        cooling.named.map_or(next, |named| next.max(named))
    }

    /// A call that began at `began` was answered. Only who was sent to find out brings good news: an answer that had
    /// begun before the trouble says nothing about it.
    pub fn succeeded(&mut self, (began, now): (Moment, Moment), probe: bool, rules: &Rules) {
        if self.cooling.is_some_and(|cooling| !probe || began < cooling.since) {
            return;
        }
        if rules.forgives {
            self.counts.retain(|reason, _| *reason == Reason::RateLimit);
        }
        if self.cooling.is_some() {
            self.recovered = Some(now);
        }
        (self.cooling, self.probe, self.looks) = (None, None, 0);
    }

    /// A call that began at `began` failed. `wait` is for how long the provider itself wants to be left alone.
    pub fn failed(
        &mut self,
        (began, now): (Moment, Moment),
        probe: bool,
        (reason, wait): (Reason, Option<Duration>),
        rules: &Rules,
    ) {
        // Old news: it has been found well since.
        if !probe && self.cooling.is_none() && self.recovered.is_some_and(|recovered| began < recovered) {
            return;
        }
        let wait = wait.filter(|_| reason.heeds_waits()).map(|wait| wait.clamp(SHORTEST_WAIT, LONGEST_WAIT));
        let sent = self.probe.filter(|sent| probe && sent.sent == began);
        let same_trouble = match (self.cooling, sent) {
            (None, _) => false,
            // It was on its way when the trouble began.
            (Some(_), None) => true,
            // It looked too early. Where it met what nobody looks at early, that is another trouble; unless it was told
            // when to come back, and that is when the next one looks.
            (Some(_), Some(probe)) => probe.early && (wait.is_some() || reason.may_be_tried_early()),
        };
        if sent.is_some_and(|probe| probe.early) {
            self.looks = self.looks.saturating_add(1);
        }
        if same_trouble {
            self.prolong(wait.map(|wait| now.plus(wait)));
        } else {
            self.begin(now, reason, wait, rules);
        }
        if let Some(probe) = self.probe.as_mut().filter(|_| sent.is_some()) {
            probe.back = Some(now);
        }
        self.last_failure = Some(now);
    }

    /// Who was sent at `began` to find out never will.
    pub fn abandoned(&mut self, began: Moment) {
        if self.probe.is_some_and(|probe| probe.sent == began) {
            self.probe = None;
        }
    }

    /// A deadline only ever moves away.
    fn prolong(&mut self, until: Option<Moment>) {
        if let (Some(cooling), Some(until)) = (&mut self.cooling, until) {
            cooling.until = cooling.until.max(until);
            cooling.named = cooling.named.max(Some(until));
        }
    }

    fn begin(&mut self, now: Moment, reason: Reason, wait: Option<Duration>, rules: &Rules) {
        if self.last_failure.is_none_or(|last| now.since(last) >= rules.failure_window) {
            self.counts.clear();
        }
        let brief = wait.filter(|wait| *wait <= rules.short_wait);
        let length = brief.unwrap_or_else(|| {
            let count = self.counts.entry(rules.class(reason)).or_default();
            *count = count.saturating_add(1);
            // The provider knows better than we do.
            wait.unwrap_or_else(|| rules.ladder(reason).nth(*count))
        });
        let before = self.cooling;
        let until = now.plus(length).max(before.map_or(Moment(0), |cooling| cooling.until));
        let named = wait.map(|wait| now.plus(wait)).max(before.and_then(|cooling| cooling.named));
        self.cooling = Some(Cooling { reason, since: now, until, named });
        self.probe = None;
    }

    /// Whether it is left alone, why and until when; a look at it may be due.
    pub fn cooling(&self) -> Option<(Reason, Moment)> {
        self.cooling.map(|cooling| (cooling.reason, cooling.until))
    }

    /// How often it failed in a row for the reason that it failed for most often.
    pub fn failures(&self) -> u32 {
        self.counts.values().copied().max().unwrap_or(0)
    }

    pub(super) fn parts(&self) -> (&BTreeMap<Reason, u32>, Option<Moment>, Option<Cooling>) {
        (&self.counts, self.last_failure, self.cooling)
    }

    pub(super) fn restored(
        counts: BTreeMap<Reason, u32>,
        last_failure: Option<Moment>,
        cooling: Option<Cooling>,
    ) -> Self {
        Self { counts, last_failure, cooling, probe: None, looks: 0, recovered: None }
    }
}

#[cfg(test)]
mod tests;
