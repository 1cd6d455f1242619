//! The queue itself: who comes in, who waits, who goes. Pure: time is given, and nobody is woken here.

use super::line::{Line, Ticket, Waiter};
use super::pace::{Pace, Start};
use super::{Limits, Why};
use crate::upstream::Priority;
use std::sync::Arc;
use std::time::Duration;

/// Who wants in.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) tenant: Arc<str>,
    pub(super) priority: Priority,
    /// About how many tokens it takes.
    pub(super) tokens: u64,
    /// When there is no use in it any more.
    pub(super) deadline: Duration,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It goes, and has started.
    Go,
    /// It waits.
    Wait(Ticket, Place),
    /// It is turned away, and may come again after so long.
    Refused(Why, Duration),
}

/// A place in the line, when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How many went before, and one.
    pub(super) position: usize,
    /// About how long it takes.
    pub(super) wait: Duration,
}

/// Who goes now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// They have started.
    pub(super) go: Vec<Ticket>,
    /// When to look again, if nothing happens before.
    pub(super) again: Option<Duration>,
}

/// Everyone who waits for one upstream, and what it has in work.
#[derive(Debug)]
pub(super) struct State {
    limits: Limits,
    pace: Pace,
    line: Line,
    next: Ticket,
}

impl State {
    pub(super) fn new(limits: Limits, now: Duration) -> Self {
        Self { pace: Pace::new(limits.clone(), now), limits, line: Line::default(), next: 1 }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn pace_mut(&mut self) -> &mut Pace {
        &mut self.pace
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Someone comes. Nobody goes past those who wait.
    pub(super) fn enter(&mut self, now: Duration, asking: Asking) -> Entered {
        let Asking { tenant, priority, tokens, deadline } = asking;
        if self.line.len() == 0 && self.pace.may_start(now, tokens) == Start::Now {
            self.pace.start(now, tokens);
            return Entered::Go;
        }
        let (ahead, their_tokens) = self.line.ahead_of(&tenant, priority);
        let start = self.pace.expected(now, ahead, their_tokens + tokens);
        let wait = start.saturating_sub(now);
        if start > deadline || wait > self.limits.patience {
            return Entered::Refused(Why::TooLate, wait);
        }
        if self.line.len() >= self.limits.waiting {
            return Entered::Refused(Why::Full, wait);
        }
        let ticket = self.next;
        self.next += 1;
        self.line.push(Waiter { ticket, tenant, priority, tokens });
        Entered::Wait(ticket, Place { position: ahead + 1, wait })
    }

    /// Whoever's turn it is and may, goes.
    pub(super) fn turn(&mut self, now: Duration) -> Turn {
        let mut turn = Turn::default();
        while let Some(head) = self.line.head() {
            let tokens = head.tokens;
            match self.pace.may_start(now, tokens) {
                Start::Now => {
                    self.pace.start(now, tokens);
                    turn.go.extend(self.line.pop().map(|waiter| waiter.ticket));
                }
                Start::At(then) => {
                    turn.again = Some(then);
                    break;
                }
                Start::AfterSomeone => break,
            }
        }
        turn
    }

    /// Someone does not wait any more. Whether they still did; otherwise they had started.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> bool {
        self.line.remove(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn state(change: impl FnOnce(&mut Limits)) -> State {
        let mut limits = Limits { concurrent: Some(1), ..Limits::default() };
        change(&mut limits);
        State::new(limits, at(0))
    }

    fn asking(tenant: &str, deadline: Duration) -> Asking {
        Asking { tenant: tenant.into(), priority: Priority::User, tokens: 10, deadline }
    }

    #[test]
    fn those_who_wait_go_in_their_order_as_others_leave() {
        let mut state = state(|_| ());
        assert_eq!(state.enter(at(0), asking("t", at(99))), Entered::Go);
        let place = |position| Place { position, wait: Duration::ZERO };
        assert_eq!(state.enter(at(0), asking("t", at(99))), Entered::Wait(1, place(1)));
        assert_eq!(state.enter(at(0), asking("t", at(99))), Entered::Wait(2, place(2)));
        assert_eq!(state.turn(at(0)), Turn::default());
        state.pace_mut().end(Some(at(3)));
        assert_eq!(state.turn(at(3)).go, [1]);
        assert!(state.abandon(2) && !state.abandon(2));
        state.pace_mut().end(Some(at(3)));
        assert_eq!(state.turn(at(6)), Turn::default());
        assert_eq!(state.pace().in_work(), 0);
    }

    #[test]
    fn nobody_goes_past_those_who_wait_however_little_they_take() {
        let mut state = state(|limits| (limits.concurrent, limits.tokens_per_minute) = (None, Some(600)));
        let taking = |tokens| Asking { tokens, ..asking("t", at(99)) };
        assert_eq!(state.enter(at(0), taking(120)), Entered::Go);
        assert!(matches!(state.enter(at(0), taking(100)), Entered::Wait(1, _)));
        assert!(matches!(state.enter(at(1), taking(5)), Entered::Wait(2, _)), "though five would be there");
        assert_eq!(state.turn(at(11)).go, [1, 2]);
    }

    #[test]
    fn what_cannot_make_it_is_refused_at_once_and_told_how_long_it_would_take() {
        let mut state = state(|limits| limits.patience = at(1_000));
        assert_eq!(state.enter(at(0), asking("t", at(99))), Entered::Go);
        state.pace_mut().end(Some(at(10)));
        assert_eq!(state.enter(at(10), asking("t", at(99))), Entered::Go);
        assert!(
            matches!(state.enter(at(10), asking("t", at(20))), Entered::Wait(1, Place { position: 1, wait }) if wait == at(10))
        );
        assert_eq!(state.enter(at(10), asking("t", at(29))), Entered::Refused(Why::TooLate, at(20)));
        assert!(matches!(state.enter(at(10), asking("t", at(30))), Entered::Wait(2, _)));
    }

    #[test]
    fn nobody_waits_longer_than_is_worth_it_and_no_more_than_there_is_room_for() {
        let mut state = state(|limits| (limits.patience, limits.waiting) = (at(15), 1));
        state.enter(at(0), asking("t", at(999)));
        assert!(matches!(state.enter(at(0), asking("t", at(999))), Entered::Wait(..)));
        assert_eq!(state.enter(at(0), asking("t", at(999))), Entered::Refused(Why::Full, Duration::ZERO));
        state.pace_mut().pause(at(0), at(16));
        assert_eq!(state.enter(at(0), asking("t", at(999))), Entered::Refused(Why::TooLate, at(16)));
    }

    proptest! {
        #[test]
        fn limits_hold_nobody_is_lost_and_no_place_is_left_empty(
            concurrent in 1_usize..4,
            rate in proptest::option::of(1_u32..120),
            events in proptest::collection::vec((0_u8..4, 0_u64..4_000, any::<bool>()), 1..120),
        ) {
            let mut state = state(|limits| {
                *limits = Limits {
                    concurrent: Some(concurrent),
                    requests_per_minute: rate,
                    waiting: 8,
                    patience: Duration::from_hours(1),
                    ..Limits::default()
                };
            });
            let (mut now, mut in_work, mut waiting) = (Duration::ZERO, 0_usize, Vec::new());
            for (event, millis, user) in events {
                now += Duration::from_millis(millis);
                match event {
                    0 | 1 => {
                        let priority = if user { Priority::User } else { Priority::Background };
                        let asking = Asking { priority, ..asking(if event == 0 { "a" } else { "b" }, at(100_000)) };
                        match state.enter(now, asking) {
                            Entered::Go => in_work += 1,
                            Entered::Wait(ticket, _) => waiting.push(ticket),
                            Entered::Refused(why, _) => {
                                prop_assert_eq!((why, waiting.len()), (Why::Full, 8));
                            }
                        }
                    }
                    2 if in_work > 0 => {
                        in_work -= 1;
                        state.pace_mut().end(Some(Duration::from_millis(millis)));
                    }
                    3 if !waiting.is_empty() => {
                        let ticket = waiting.remove(0);
                        prop_assert!(state.abandon(ticket));
                    }
                    _ => {}
                }
                let turn = state.turn(now);
                for ticket in &turn.go {
                    let place = waiting.iter().position(|known| known == ticket);
                    prop_assert!(place.is_some(), "only who waits goes, and once");
                    waiting.remove(place.unwrap());
                    in_work += 1;
                }
                prop_assert!(in_work <= concurrent);
                prop_assert_eq!((state.pace().in_work(), state.waiting()), (in_work, waiting.len()));
                // Whoever waits does so for a reason that ends.
                let full = in_work == concurrent;
                prop_assert!(waiting.is_empty() || full || turn.again.is_some_and(|then| then > now));
            }
        }
    }
}
