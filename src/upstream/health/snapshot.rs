//! What outlives a restart. Moments of this process mean nothing to the next one, so they are written by the clock on
//! the wall; and since that one may be set while nobody looks, no time comes back longer than it ever was. What lasts
//! until somebody repairs it may have been repaired meanwhile: that is looked at again, and only its count comes back.

use super::board::{Board, Key};
use super::cooldown::Cooling;
use super::unit::Unit;
use super::{Cooldown, Latency, Moment, Reason};
use crate::clock::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A board, written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    keys: Vec<SavedKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedKey {
    name: String,
    disabled: bool,
    cooldown: SavedCooldown,
    models: Vec<SavedUnit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedUnit {
    model: String,
    cooldown: SavedCooldown,
    streams: SavedLatency,
    replies: SavedLatency,
}

/// What is usual, in seconds, and how many times that was learned from.
type SavedLatency = (f64, u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedCooldown {
    counts: BTreeMap<Reason, u32>,
    last_failure: Option<Millis>,
    cooling: Option<SavedCooling>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct SavedCooling {
    reason: Reason,
    since: Millis,
    until: Millis,
    #[serde(default)]
    named: Option<Millis>,
}

/// The same moment by both clocks.
#[derive(Clone, Copy)]
struct Now {
    moment: Moment,
    wall: Millis,
}

impl Now {
    fn on_the_wall(self, moment: Moment) -> Millis {
        let ahead = moment.since(self.moment);
        let ago = self.moment.since(moment);
        Millis(self.wall.0.saturating_sub(super::millis(ago))).plus(ahead)
    }

    /// A moment that is past by now.
    fn past(self, wall: Millis) -> Moment {
        Moment(self.moment.0.saturating_sub(super::millis(self.wall.since(wall))))
    }
}

impl Board {
    /// Writes down what the next process must know.
    pub fn snapshot(&self, moment: Moment, wall: Millis) -> Snapshot {
        let now = Now { moment, wall };
        Snapshot { keys: self.keys.iter().map(|key| SavedKey::of(key, now)).collect() }
    }

    /// Goes on from a snapshot, as far as the keys are still there.
    pub fn restore(&mut self, snapshot: Snapshot, moment: Moment, wall: Millis) {
        let now = Now { moment, wall };
        for saved in snapshot.keys {
            if let Some(key) = self.keys.iter_mut().find(|key| *key.name == *saved.name) {
                saved.restore(key, now);
            }
        }
    }
}

impl SavedKey {
    fn of(key: &Key, now: Now) -> Self {
        let mut models: Vec<SavedUnit> =
            key.units.iter().map(|(model, unit)| SavedUnit::of(model, unit, now)).collect();
        models.sort_by(|one, other| one.model.cmp(&other.model));
        let Key { name, disabled, cooldown, units: _ } = key;
        Self {
            name: name.to_string(),
            disabled: *disabled,
            cooldown: SavedCooldown::of(cooldown, now),
            models,
        }
    }

    fn restore(self, key: &mut Key, now: Now) {
        let Self { name: _, disabled, cooldown, models } = self;
        (key.disabled, key.cooldown) = (disabled, cooldown.restored(now));
        key.units = models
            .into_iter()
            .map(|SavedUnit { model, cooldown, streams, replies }| {
                let (streams, replies) = (Latency::restored(streams), Latency::restored(replies));
                let cooldown = cooldown.restored(now);
                (model.into(), Unit { cooldown, streams, replies, used: now.moment, ..Unit::default() })
            })
            .collect();
    }
}

impl SavedUnit {
    fn of(model: &str, unit: &Unit, now: Now) -> Self {
        let cooldown = SavedCooldown::of(&unit.cooldown, now);
        let (streams, replies) = (unit.streams.baseline(), unit.replies.baseline());
        Self { model: model.to_owned(), cooldown, streams, replies }
    }
}

impl SavedCooldown {
    fn of(cooldown: &Cooldown, now: Now) -> Self {
        let (counts, last_failure, cooling) = cooldown.parts();
        Self {
            counts: counts.clone(),
            last_failure: last_failure.map(|moment| now.on_the_wall(moment)),
            cooling: cooling.map(|Cooling { reason, since, until, named }| SavedCooling {
                reason,
                since: now.on_the_wall(since),
                until: now.on_the_wall(until),
                named: named.map(|named| now.on_the_wall(named)),
            }),
        }
    }

    fn restored(self, now: Now) -> Cooldown {
        let Self { counts, last_failure, cooling } = self;
        let lasting = cooling.filter(|cooling| !cooling.reason.waits_for_hands());
        let cooling = lasting.map(|SavedCooling { reason, since, until, named }| {
            // A clock that was set meanwhile prolongs nothing.
            let left = |until: Millis| now.moment.plus(until.since(now.wall).min(until.since(since)));
            Cooling { reason, since: now.moment, until: left(until), named: named.map(left) }
        });
        Cooldown::restored(counts, last_failure.map(|wall| now.past(wall)), cooling)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyId, Outcome, Rules};
    use super::*;
    use std::time::Duration;

    const HOUR: u64 = 3_600_000;
    /// A process that has just begun.
    const START: Moment = Moment(100 * HOUR);

    fn limited(for_seconds: u64) -> Board {
        let mut board = Board::new(["p".into()]);
        let ticket = board.ask(KeyId(0), &"m".into(), Moment(7), &Rules::default(), false).unwrap();
        let wait = Some(Duration::from_secs(for_seconds));
        board.record(ticket, Moment(7), Outcome::Failed(Reason::RateLimit, wait), &Rules::default());
        board
    }

    fn left_after(board: &Board, wall_before: u64, wall_after: u64) -> Option<u64> {
        let text = serde_json::to_string(&board.snapshot(Moment(1007), Millis(wall_before))).unwrap();
        let mut next = Board::new(["other".into(), "p".into()]);
        next.restore(serde_json::from_str(&text).unwrap(), START, Millis(wall_after));
        next.reports(START)[1].models[0].retry_after_ms
    }

    #[test]
    fn a_restart_ends_no_cooldown_and_prolongs_none() {
        let board = limited(3600);
        let wall = 1_000 * HOUR;
        assert_eq!(left_after(&board, wall, wall), Some(3_599_000));
        assert_eq!(left_after(&board, wall, wall + 600_000), Some(2_999_000), "time goes on without us");
        assert_eq!(left_after(&board, wall, wall + 2 * HOUR), Some(0));
        assert_eq!(left_after(&board, wall, wall - 500 * HOUR), Some(3_600_000), "a clock set back");
    }

    #[test]
    fn how_often_it_failed_is_remembered_for_as_long_as_it_counts() {
        let wall = 1_000 * HOUR;
        for (hours, seconds) in [(1, 60), (25, 30)] {
            let snapshot = limited(1000).snapshot(Moment(7), Millis(wall));
            let mut next = Board::new(["p".into()]);
            next.restore(snapshot, START, Millis(wall + hours * HOUR));
            let probe = next.ask(KeyId(0), &"m".into(), START, &Rules::default(), false).unwrap();
            assert!(probe.is_probe());
            next.record(probe, START, Outcome::Failed(Reason::RateLimit, None), &Rules::default());
            assert_eq!(next.reports(START)[0].models[0].retry_after_ms, Some(seconds * 1000), "{hours} h");
        }
    }

    #[test]
    fn a_refused_key_may_have_been_repaired_and_is_asked_again() {
        let rules = Rules::default();
        let mut board = Board::new(["p".into()]);
        let fail_at = |board: &mut Board, now: Moment, reason, wait| {
            let ticket = board.ask(KeyId(0), &"m".into(), now, &rules, false).unwrap();
            board.record(ticket, now, Outcome::Failed(reason, wait), &rules);
        };
        fail_at(&mut board, Moment(7), Reason::Auth, None);
        let mut next = Board::new(["p".into()]);
        next.restore(board.snapshot(Moment(8), Millis(1_000 * HOUR)), START, Millis(1_000 * HOUR));
        fail_at(&mut next, START, Reason::Auth, None);
        assert_eq!(
            next.reports(START)[0].retry_after_ms,
            Some(60_000),
            "it was not, and that is the second time"
        );
    }

    #[test]
    fn nobody_looks_sooner_after_a_restart_than_the_provider_wants() {
        let rules = Rules::default();
        let mut board = Board::new(["p".into()]);
        let ticket = board.ask(KeyId(0), &"m".into(), Moment(7), &rules, false).unwrap();
        let failed = Outcome::Failed(Reason::Overloaded, Some(Duration::from_mins(1)));
        board.record(ticket, Moment(7), failed, &rules);
        let wall = Millis(1_000 * HOUR);
        let mut next = Board::new(["p".into()]);
        next.restore(board.snapshot(Moment(7), wall), START, wall.plus(Duration::from_secs(30)));
        let may_look = |after: u64| {
            let now = START.plus(Duration::from_secs(after));
            next.may_ask(KeyId(0), "m", now, &rules, true).is_ok()
        };
        assert_eq!([1, 29, 30].map(may_look), [false, false, true]);
    }

    #[test]
    fn what_was_switched_off_stays_so() {
        let mut board = Board::new(["p".into()]);
        board.set_disabled(KeyId(0), true);
        let snapshot = board.snapshot(START, Millis(1));
        let mut next = Board::new(["p".into()]);
        next.restore(snapshot, START, Millis(2));
        assert!(next.ask(KeyId(0), &"m".into(), START, &Rules::default(), false).is_err());
    }
}
