//! What a caller wants of the cache.

use std::borrow::Cow;
use std::time::Duration;

/// A name by which a caller sets its own answers apart, and which of its ways of saying so it used.
pub type Partition = (Cow<'static, str>, String);

/// What a caller keeps apart from: each once and in order, so that the same are always the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(Vec<Partition>);

impl Partitions {
    fn add(&mut self, partition: Partition) {
        if let Err(place) = self.0.binary_search(&partition) {
            self.0.insert(place, partition);
        }
    }

    /// Each of them.
    pub fn as_slice(&self) -> &[Partition] {
        &self.0
    }
}

/// What a caller wants of the cache. Whoever asks can only make it stricter than it is configured: where two
/// wishes meet, the stricter one holds, and none of them reaches what the configuration does not give.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own, and all go together")]
pub struct Wishes {
    /// Answer from memory.
    pub read: bool,
    /// Remember the answer.
    pub write: bool,
    /// Answer from memory in other words, too.
    pub semantic: bool,
    /// Ask nobody: an answer from memory, or none.
    pub only_if_cached: bool,
    /// No older answer.
    pub max_age: Option<Duration>,
    /// Only an answer that may be given for so long still.
    pub min_fresh: Option<Duration>,
    /// An answer whose time has been over for so long will do, as far as that is configured.
    pub max_stale: Option<Duration>,
    /// The same, where nobody else answers.
    pub stale_if_error: Option<Duration>,
    /// Remember the answer for no longer.
    pub ttl: Option<Duration>,
    /// The least cosine for an answer to other words.
    pub min_similarity: Option<f32>,
    /// Keep apart from answers to callers that name others. They only ever split what the tenant and the project
    /// share.
    pub partitions: Partitions,
}

impl Default for Wishes {
    /// Whatever is configured.
    fn default() -> Self {
        Self {
            read: true,
            write: true,
            semantic: true,
            only_if_cached: false,
            max_age: None,
            min_fresh: None,
            max_stale: None,
            stale_if_error: None,
            ttl: None,
            min_similarity: None,
            partitions: Partitions::default(),
        }
    }
}

impl Wishes {
    /// Neither answers from memory nor remembers.
    pub fn bypass(&mut self) {
        (self.read, self.write) = (false, false);
    }

    /// No answer older than this.
    pub fn no_older_than(&mut self, age: Duration) {
        self.max_age = Some(self.max_age.map_or(age, |known| known.min(age)));
    }

    /// Only an answer that may be given for so long still.
    pub fn fresh_for(&mut self, left: Duration) {
        self.min_fresh = self.min_fresh.max(Some(left));
    }

    /// An answer whose time has been over for so long will do.
    pub fn late_by(&mut self, most: Duration) {
        self.max_stale = Some(self.max_stale.map_or(most, |known| known.min(most)));
    }

    /// The same, where nobody else answers.
    pub fn late_by_on_error(&mut self, most: Duration) {
        self.stale_if_error = Some(self.stale_if_error.map_or(most, |known| known.min(most)));
    }

    /// Remembers the answer for no longer than this.
    pub fn keep_for(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |known| known.min(ttl)));
    }

    /// Takes an answer to other words only where they are as like as this.
    pub fn as_similar_as(&mut self, least: f32) {
        self.min_similarity = Some(self.min_similarity.map_or(least, |known| known.max(least)));
    }

    /// Keeps apart from answers to callers that do not say the same.
    pub fn within(&mut self, way: impl Into<Cow<'static, str>>, name: impl Into<String>) {
        self.partitions.add((way.into(), name.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_wishes_meet_the_stricter_one_holds() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(9));
        for (first, second) in [(short, long), (long, short)] {
            let mut wishes = Wishes::default();
            for wish in [first, second] {
                wishes.no_older_than(wish);
                wishes.fresh_for(wish);
                wishes.late_by(wish);
                wishes.late_by_on_error(wish);
                wishes.keep_for(wish);
                wishes.as_similar_as(wish.as_secs_f32() / 10.0);
            }
            let strictest = Wishes {
                max_age: Some(short),
                min_fresh: Some(long),
                max_stale: Some(short),
                stale_if_error: Some(short),
                ttl: Some(short),
                min_similarity: Some(0.9),
                ..Wishes::default()
            };
            assert_eq!(wishes, strictest);
        }
    }

    #[test]
    fn partitions_are_a_set() {
        let (mut one, mut other) = (Wishes::default(), Wishes::default());
        for name in ["b", "a", "b"] {
            one.within("seed", name);
        }
        for name in ["a", "b"] {
            other.within("seed", name);
        }
        assert_eq!(one.partitions, other.partitions);
        other.within("namespace", "a");
        assert_eq!(other.partitions.as_slice().len(), 3);
    }
}
