//! The answers given lately, so that whoever got one can say later whether it was right.

use crate::cache::Key;
use crate::cache::bound::Trial;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// The most answers that are known. Feedback on older ones comes too late.
const MOST: usize = 8192;

/// An answer that was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    /// What it is kept under.
    pub(super) key: Key,
    /// What can be learned from it, where it came from memory.
    pub(super) trial: Option<Trial>,
}

/// What is known under a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Taken {
    /// This was given, and nobody has spoken of it yet.
    Fresh(Given),
    /// Something was given, and someone has spoken of it.
    Spoken,
    /// Nothing is known of it.
    Unknown,
}

/// By whom it was given to whom: a tenant never hears of another's.
type Name = (Arc<str>, String);

#[derive(Default)]
pub(super) struct Recent(Mutex<Answers>);

#[derive(Default)]
struct Answers {
    /// `None` once someone has said what to think of it.
    known: HashMap<Name, Option<Given>>,
    order: VecDeque<Name>,
}

impl Recent {
    /// `tenant` was given this under the name of its request. Of two of one name the later counts.
    pub(super) fn remember(&self, tenant: &Arc<str>, request_id: &str, given: Given) {
        let name = (Arc::clone(tenant), request_id.to_owned());
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.known.insert(name.clone(), Some(given)).is_none() {
            answers.order.push_back(name);
        }
        while answers.order.len() > MOST {
            if let Some(oldest) = answers.order.pop_front() {
                answers.known.remove(&oldest);
            }
        }
    }

    /// What was given under that name. What is said of it counts once.
    pub(super) fn take(&self, tenant: &Arc<str>, request_id: &str) -> Taken {
        let name = (Arc::clone(tenant), request_id.to_owned());
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.known.get_mut(&name).map(Option::take) {
            Some(Some(given)) => Taken::Fresh(given),
            Some(None) => Taken::Spoken,
            None => Taken::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given { key: Key::for_tests(), trial: None }
    }

    #[test]
    fn what_is_said_counts_once_and_only_for_ones_own_answers() {
        let (recent, mine, yours): (_, Arc<str>, Arc<str>) =
            (Recent::default(), "mine".into(), "yours".into());
        recent.remember(&mine, "req_1", given());
        assert_eq!(recent.take(&yours, "req_1"), Taken::Unknown);
        assert_eq!(recent.take(&mine, "req_2"), Taken::Unknown);
        assert_eq!(recent.take(&mine, "req_1"), Taken::Fresh(given()));
        assert_eq!(recent.take(&mine, "req_1"), Taken::Spoken);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (recent, tenant): (_, Arc<str>) = (Recent::default(), "t".into());
        for at in 0..=MOST {
            recent.remember(&tenant, &at.to_string(), given());
            recent.remember(&tenant, "again", given());
        }
        assert_eq!(recent.take(&tenant, "0"), Taken::Unknown);
        assert_ne!(recent.take(&tenant, &MOST.to_string()), Taken::Unknown);
        let answers = recent.0.lock().unwrap();
        assert!(answers.known.len() <= MOST && answers.order.len() <= MOST);
    }
}
