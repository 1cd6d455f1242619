//! The same again and again is told once in a while, with how often it was. Pure: time is given.

use std::collections::HashMap;
use std::time::Duration;

/// The most things that are told apart. Of more, the one that was told longest ago is forgotten.
const MAX_SUBJECTS: usize = 1024;

/// What was told, when, and how often it happened since.
#[derive(Debug, Default)]
pub(super) struct Damper {
    told: HashMap<Box<str>, (Duration, u64)>,
}

impl Damper {
    /// `subject` has happened. If it is told, then with how often it happened since it last was; `None`: it is not.
    pub(super) fn hear(&mut self, now: Duration, subject: &str, quiet: Duration) -> Option<u64> {
        if let Some((told, since)) = self.told.get_mut(subject) {
            if now < *told + quiet {
                *since += 1;
                return None;
            }
            *told = now;
            return Some(std::mem::take(since));
        }
        if self.told.len() >= MAX_SUBJECTS {
            let oldest = self.told.iter().min_by_key(|(_, (told, _))| *told);
            if let Some(oldest) = oldest.map(|(subject, _)| subject.clone()) {
                self.told.remove(&oldest);
            }
        }
        self.told.insert(subject.into(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_mins(1);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_are_counted() {
        let mut damper = Damper::default();
        assert_eq!(damper.hear(at(0), "a", QUIET), Some(0));
        for second in 1..60 {
            assert_eq!(damper.hear(at(second), "a", QUIET), None);
        }
        assert_eq!(damper.hear(at(30), "b", QUIET), Some(0), "another thing is told");
        assert_eq!(damper.hear(at(60), "a", QUIET), Some(59));
        assert_eq!(damper.hear(at(61), "a", QUIET), None);
        assert_eq!(damper.hear(at(200), "a", QUIET), Some(1));
        assert_eq!(damper.hear(at(200), "a", Duration::ZERO), Some(0), "who wants all gets all");
    }

    #[test]
    fn there_is_an_end_to_what_is_told_apart() {
        let mut damper = Damper::default();
        for nth in 0..2 * MAX_SUBJECTS as u64 {
            damper.hear(at(nth), &nth.to_string(), QUIET);
            assert!(damper.told.len() <= MAX_SUBJECTS);
        }
        assert!(damper.told.contains_key("2047") && !damper.told.contains_key("0"));
    }
}
