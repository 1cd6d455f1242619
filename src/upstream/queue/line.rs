//! Who waits, and who is next: first those for whom somebody waits, and of them each tenant in turn.
//!
//! Tenants take turns by what their requests cost (deficit round robin): one with long requests gets no more
//! than one with short ones, and one who sends a thousand at once waits behind themselves alone.

use crate::upstream::Priority;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a tenant may spend in a turn, in tokens. Whoever costs more saves up for it.
const QUANTUM: u64 = 4_000;
/// What a request counts at most: nobody saves up for ever.
const MAX_COST: u64 = 64 * QUANTUM;
/// After so many that somebody waits for, one goes that nobody does: they are to be late, not lost.
const USERS_IN_A_ROW: u32 = 16;

/// Names a place in the line.
pub(super) type Ticket = u64;

/// Someone who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) tenant: Arc<str>,
    pub(super) priority: Priority,
    /// About how many tokens it takes.
    pub(super) tokens: u64,
}

/// Everyone who waits for one upstream.
#[derive(Debug, Default)]
pub(super) struct Line {
    users: Class,
    background: Class,
    users_in_a_row: u32,
}

/// Those of one priority. The tenant at the front has its turn.
#[derive(Debug, Default)]
struct Class {
    tenants: VecDeque<Tenant>,
    len: usize,
}

#[derive(Debug)]
struct Tenant {
    name: Arc<str>,
    saved: u64,
    waiters: VecDeque<Waiter>,
}

impl Line {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.users.len + self.background.len
    }

    /// Takes a place.
    pub(super) fn push(&mut self, waiter: Waiter) {
        match waiter.priority {
            Priority::User => self.users.push(waiter),
            Priority::Background => self.background.push(waiter),
        }
    }

    /// Whose turn it is.
    pub(super) fn head(&mut self) -> Option<&Waiter> {
        if self.is_backgrounds_turn() { self.background.head() } else { self.users.head() }
    }

    /// The one whose turn it is goes.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        if self.is_backgrounds_turn() {
            self.users_in_a_row = 0;
            self.background.pop()
        } else {
            self.users_in_a_row += 1;
            self.users.pop()
        }
    }

    fn is_backgrounds_turn(&self) -> bool {
        self.background.len > 0 && (self.users.len == 0 || self.users_in_a_row >= USERS_IN_A_ROW)
    }

    /// Gives a place up. Whether there was one.
    pub(super) fn remove(&mut self, ticket: Ticket) -> bool {
        self.users.remove(ticket) || self.background.remove(ticket)
    }

    /// How many go before someone who would take a place now, and how many tokens they take: about, for who comes
    /// later may go first.
    pub(super) fn ahead_of(&self, tenant: &str, priority: Priority) -> (usize, u64) {
        let (waiters, tokens) = match priority {
            Priority::User => self.users.ahead_of(tenant),
            Priority::Background => {
                let (waiters, tokens) = self.background.ahead_of(tenant);
                (waiters + self.users.len, tokens + self.users.tokens())
            }
        };
        (waiters, tokens)
    }
}

impl Class {
    fn push(&mut self, waiter: Waiter) {
        self.len += 1;
        if let Some(tenant) = self.tenants.iter_mut().find(|tenant| tenant.name == waiter.tenant) {
            return tenant.waiters.push_back(waiter);
        }
        let name = Arc::clone(&waiter.tenant);
        self.tenants.push_back(Tenant { name, saved: 0, waiters: VecDeque::from([waiter]) });
    }

    /// Gives turns until the first tenant can afford its first request. It stays so until that has gone.
    fn head(&mut self) -> Option<&Waiter> {
        loop {
            let first = self.tenants.front_mut()?;
            let cost = first.waiters.front().map_or(0, cost);
            if first.saved >= cost {
                break;
            }
            first.saved += QUANTUM;
            if first.saved < cost {
                self.tenants.rotate_left(1);
            }
        }
        self.tenants.front()?.waiters.front()
    }

    fn pop(&mut self) -> Option<Waiter> {
        let wanted = cost(self.head()?);
        let first = self.tenants.front_mut()?;
        let waiter = first.waiters.pop_front()?;
        self.len -= 1;
        first.saved -= wanted;
        if first.waiters.is_empty() {
            // Whoever has nothing to ask saves nothing.
            self.tenants.pop_front();
        } else if first.waiters.front().is_some_and(|next| first.saved < cost(next)) {
            self.tenants.rotate_left(1);
        }
        Some(waiter)
    }

    fn remove(&mut self, ticket: Ticket) -> bool {
        for at in 0..self.tenants.len() {
            let waiters = &mut self.tenants[at].waiters;
            if let Some(place) = waiters.iter().position(|waiter| waiter.ticket == ticket) {
                waiters.remove(place);
                self.len -= 1;
                if waiters.is_empty() {
                    self.tenants.remove(at);
                }
                return true;
            }
        }
        false
    }

    /// Of every other tenant as many as this one has already, and one more.
    fn ahead_of(&self, tenant: &str) -> (usize, u64) {
        let own = self.tenants.iter().find(|known| *known.name == *tenant);
        let already = own.map_or(0, |own| own.waiters.len());
        let before = |known: &Tenant| match *known.name == *tenant {
            true => already,
            false => already + 1,
        };
        let all = self.tenants.iter().flat_map(|known| known.waiters.iter().take(before(known)));
        all.fold((0, 0), |(waiters, tokens), waiter| (waiters + 1, tokens + waiter.tokens))
    }

    fn tokens(&self) -> u64 {
        self.tenants.iter().flat_map(|tenant| &tenant.waiters).map(|waiter| waiter.tokens).sum()
    }
}

fn cost(waiter: &Waiter) -> u64 {
    waiter.tokens.clamp(1, MAX_COST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn waiter(ticket: Ticket, tenant: &str, priority: Priority, tokens: u64) -> Waiter {
        Waiter { ticket, tenant: tenant.into(), priority, tokens }
    }

    fn order(mut line: Line) -> Vec<Ticket> {
        std::iter::from_fn(|| line.pop().map(|waiter| waiter.ticket)).collect()
    }

    fn line(waiters: impl IntoIterator<Item = Waiter>) -> Line {
        let mut line = Line::default();
        waiters.into_iter().for_each(|waiter| line.push(waiter));
        line
    }

    #[test]
    fn whoever_somebody_waits_for_goes_first() {
        let waiters =
            [(1, Priority::Background), (2, Priority::User), (3, Priority::Background), (4, Priority::User)];
        let waiters = waiters.map(|(ticket, priority)| waiter(ticket, "t", priority, 10));
        assert_eq!(order(line(waiters)), [2, 4, 1, 3]);
    }

    #[test]
    fn the_others_are_late_and_not_lost() {
        let users = (1..=40).map(|ticket| waiter(ticket, "t", Priority::User, 10));
        let order = order(line(users.chain([waiter(99, "t", Priority::Background, 10)])));
        assert_eq!(order.iter().position(|ticket| *ticket == 99), Some(16));
    }

    #[test]
    fn one_who_sends_many_waits_behind_themselves() {
        let many = (1..=100).map(|ticket| waiter(ticket, "many", Priority::User, QUANTUM));
        let few = [waiter(200, "few", Priority::User, QUANTUM), waiter(201, "few", Priority::User, QUANTUM)];
        let order = order(line(many.chain(few)));
        let place = |ticket| order.iter().position(|known| *known == ticket).unwrap();
        assert!(place(200) <= 1 && place(201) <= 3, "{:?}", &order[..6]);
    }

    #[test]
    fn turns_are_measured_by_what_they_cost() {
        let long = (0..20).map(|at| waiter(at, "long", Priority::User, 4 * QUANTUM));
        let short = (100..200).map(|at| waiter(at, "short", Priority::User, QUANTUM));
        let first: Vec<Ticket> = order(line(long.chain(short))).into_iter().take(50).collect();
        let longs = first.iter().filter(|ticket| **ticket < 100).count();
        assert!((9..=11).contains(&longs), "a fifth of the requests, half of the tokens: {longs}");
    }

    #[test]
    fn a_place_is_told_with_everyone_elses_turns_in_it() {
        let many = (1..=10).map(|ticket| waiter(ticket, "many", Priority::User, 5));
        let line = line(many);
        assert_eq!(line.ahead_of("many", Priority::User), (10, 50));
        assert_eq!(line.ahead_of("other", Priority::User), (1, 5));
        assert_eq!(line.ahead_of("other", Priority::Background), (10, 50));
    }

    proptest! {
        #[test]
        fn everyone_goes_once_whoever_leaves_and_those_of_one_tenant_in_their_order(
            waiters in proptest::collection::vec((0_u8..4, any::<bool>(), 0_u64..300_000), 0..60),
            leavers in proptest::collection::vec(0_u64..60, 0..20),
        ) {
            let mut line = Line::default();
            for (ticket, (tenant, user, tokens)) in waiters.iter().enumerate() {
                let priority = if *user { Priority::User } else { Priority::Background };
                line.push(waiter(ticket as u64, &tenant.to_string(), priority, *tokens));
            }
            let mut left = std::collections::BTreeSet::new();
            for ticket in leavers {
                let there = (ticket as usize) < waiters.len() && left.insert(ticket);
                prop_assert_eq!(line.remove(ticket), there);
            }
            prop_assert_eq!(line.len(), waiters.len() - left.len());
            let mut last = std::collections::BTreeMap::new();
            let mut gone = 0;
            while let Some(head) = line.head().cloned() {
                let popped = line.pop();
                prop_assert_eq!(popped.as_ref(), Some(&head), "whose turn it is goes");
                gone += 1;
                let before = last.insert((head.tenant.clone(), head.priority), head.ticket);
                prop_assert!(before.is_none_or(|before| before < head.ticket));
            }
            prop_assert_eq!((gone, line.len()), (waiters.len() - left.len(), 0));
        }
    }
}
