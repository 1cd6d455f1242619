//! What is known of the latest requests, by whose each was and what it is called. Bounded: the oldest go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose request it was, and its name: a tenant never hears of another's.
type Name = (Arc<str>, String);

/// What is known of the latest requests; at most so many as it was made for.
pub(super) struct Lately<T> {
    most: usize,
    known: Mutex<Known<T>>,
}

struct Known<T> {
    by_name: HashMap<Name, T>,
    order: VecDeque<Name>,
}

impl<T> Lately<T> {
    pub(super) fn new(most: usize) -> Self {
        let known = Known { by_name: HashMap::new(), order: VecDeque::new() };
        Self { most, known: Mutex::new(known) }
    }

    /// Keeps what is known of a request. Of two of one name the later counts.
    pub(super) fn keep(&self, tenant: &Arc<str>, request_id: &str, what: T) {
        let name = (Arc::clone(tenant), request_id.to_owned());
        let mut known = self.lock();
        if known.by_name.insert(name.clone(), what).is_none() {
            known.order.push_back(name);
        }
        while known.order.len() > self.most {
            if let Some(oldest) = known.order.pop_front() {
                known.by_name.remove(&oldest);
            }
        }
    }

    /// Does something with what is known of a request; `None` where nothing is.
    pub(super) fn with<R>(
        &self,
        tenant: &Arc<str>,
        request_id: &str,
        what: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let name = (Arc::clone(tenant), request_id.to_owned());
        self.lock().by_name.get_mut(&name).map(what)
    }

    /// Nothing in it is left half-done by a panic.
    fn lock(&self) -> MutexGuard<'_, Known<T>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_to_nobody_else() {
        let (lately, mine, yours): (_, Arc<str>, Arc<str>) = (Lately::new(2), "mine".into(), "yours".into());
        lately.keep(&mine, "req_1", 1);
        assert_eq!(lately.with(&yours, "req_1", |known| *known), None);
        assert_eq!(lately.with(&mine, "req_2", |known| *known), None);
        assert_eq!(lately.with(&mine, "req_1", |known| *known), Some(1));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (lately, tenant): (_, Arc<str>) = (Lately::new(3), "t".into());
        for at in 0..4 {
            lately.keep(&tenant, &at.to_string(), at);
            lately.keep(&tenant, "again", at);
        }
        assert_eq!(lately.with(&tenant, "0", |known| *known), None);
        assert_eq!(lately.with(&tenant, "3", |known| *known), Some(3));
        let known = lately.lock();
        assert!(known.by_name.len() <= 3 && known.order.len() <= 3);
    }
}
