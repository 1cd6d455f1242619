//! What is made of an index's segments in the background, and how it takes their place.

use super::{Place, Vectors};
use crate::store::embedded::graph::Graph;
use crate::store::embedded::merge::{self, Merge, Merged, Origins, Outline};
use crate::store::embedded::segment::{Dead, Segment};
use std::ops::Range;

/// So many places are noted afresh before others get their turn: some hundred microseconds.
const SETTLED_AT_ONCE: usize = 4096;

/// The name of a segment that was built, where its rows were, and of how many that has been forgotten.
pub(super) struct Moving {
    serial: u32,
    from: Origins,
    settled: usize,
}

impl Vectors {
    /// Whether a builder should look in. Says so once, until there is nothing left to build.
    pub(in super::super) fn wants_builder(&mut self) -> bool {
        let is_free = !self.building && !self.hopeless && !self.awaits_stored;
        let is_wanted = is_free && (self.tail_is_long() || self.plan().is_some());
        self.building |= is_wanted;
        is_wanted
    }

    /// What should be built now, if anything. Whoever is told so builds it and calls [`Self::install`] and
    /// [`Self::settle`], or [`Self::give_up`]. One at a time.
    pub(in super::super) fn claim_build(&mut self) -> Option<Merge> {
        while self.settle() {}
        self.building = false;
        if self.tail_is_long() {
            self.freeze();
        }
        let range = self.plan()?;
        let rows: usize = self.segments[range.clone()].iter().map(Segment::living).sum();
        if self.bytes + rows * Graph::BYTES_PER_ROW > self.budget.limit {
            return None;
        }
        self.building = true;
        Some(Merge::of(self.segments[range].iter().map(Segment::source).collect(), self.graph_from))
    }

    fn tail_is_long(&self) -> bool {
        self.tail.ids.len() - self.tail.dead.count() >= self.graph_from
    }

    fn plan(&self) -> Option<Range<usize>> {
        let outline = |segment: &Segment| Outline {
            living: segment.living(),
            dead: segment.dead(),
            has_graph: segment.has_graph() || segment.living() < merge::least(self.graph_from),
        };
        let outlines: Vec<Outline> = self.segments.iter().map(outline).collect();
        merge::plan(&outlines)
    }

    /// The building that was wanted or claimed is not going to happen, and need not be tried again if it is
    /// `hopeless`: then scans go on answering.
    pub(in super::super) fn give_up(&mut self, hopeless: bool) {
        self.building = false;
        self.hopeless |= hopeless;
    }

    /// Whether a graph is being built.
    pub(in super::super) fn is_building(&self) -> bool {
        self.building
    }

    /// Whether a graph answers.
    pub(in super::super) fn has_graph(&self) -> bool {
        self.segments.iter().any(Segment::has_graph)
    }

    /// Lets what was built answer, in place of what it was built from, which is handed out: to let go of it takes
    /// long enough not to be done while others wait. What went meanwhile is dead in it as well.
    #[must_use]
    pub(in super::super) fn install(&mut self, merged: Merged) -> Vec<Segment> {
        let Merged { of, rows, ids, from, graph } = merged;
        let is_of_it = |segment: &Segment| of.contains(&segment.serial);
        let Some(first) = self.segments.iter().position(is_of_it) else { return Vec::new() };
        let (replaced, mut segments): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.segments).into_iter().partition(is_of_it);
        let mut dead = Dead::default();
        for segment in &replaced {
            let gone = segment.forgotten().filter_map(|row| from.row(segment.serial, row));
            gone.for_each(|row| dead.insert(row));
        }
        let serial = self.new_serial();
        segments.insert(first, Segment::new(serial, rows, ids, dead).with_graph(graph));
        self.segments = segments;
        self.moving = Some(Moving { serial, from, settled: 0 });
        self.recount();
        replaced
    }

    /// Notes for some more of what was installed where it is now. Says whether there is more to be noted.
    pub(in super::super) fn settle(&mut self) -> bool {
        let Some(Moving { serial, from, settled }) = &mut self.moving else { return false };
        let Some(segment) = self.segments.iter().find(|segment| segment.serial == *serial) else {
            self.moving = None;
            return false;
        };
        let end = from.len().min(*settled + SETTLED_AT_ONCE);
        for row in *settled..end {
            let before = from.of(row).map(|(serial, row)| Place { serial, row });
            if let Some(place) =
                self.places.get_mut(&segment.ids()[row]).filter(|place| Some(**place) == before)
            {
                *place = Place { serial: *serial, row: row as u32 };
            }
        }
        *settled = end;
        let is_more = end < from.len();
        if !is_more {
            self.moving = None;
        }
        is_more
    }

    /// The place that a place stands for, where its segment has become part of another.
    pub(super) fn settled(&self, place: Place) -> Place {
        let moved = self.moving.as_ref().and_then(|Moving { serial, from, .. }| {
            from.row(place.serial, place.row).map(|row| Place { serial: *serial, row })
        });
        moved.unwrap_or(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{build, filled, id, nearest, unit};
    use super::*;
    use crate::store::EntryId;
    use crate::store::embedded::budget::Budget;
    use std::sync::Arc;

    #[test]
    fn what_comes_and_goes_while_a_graph_is_made_is_found_and_is_not() {
        let mut vectors = filled(100, 50);
        assert!(vectors.wants_builder());
        assert!(!vectors.wants_builder(), "one builder is enough");
        let merge = vectors.claim_build().expect("there are enough");
        vectors.put(id(100), &unit(100.0, 30.0));
        vectors.remove(&id(99));
        vectors.put(id(0), &unit(99.5, 30.0));
        let now = [id(100), id(0), id(98)];
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 3), now);
        let replaced = vectors.install(merge.run(|| true).expect("it was not told to stop"));
        assert_eq!(replaced.len(), 1);
        assert!(vectors.has_graph() && vectors.is_building());
        assert!(vectors.claim_build().is_none() && !vectors.is_building(), "all is built");
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 3), now);
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 200).len(), 100);
    }

    #[test]
    fn what_comes_and_goes_before_all_places_are_noted_is_found_and_is_not() {
        let count = SETTLED_AT_ONCE as u32 + 900;
        let id = |n: u32| EntryId(std::array::from_fn(|at| n.to_le_bytes()[at % 4]));
        let along = |n: u32| unit(f32::from(n as u16), 3000.0);
        let mut vectors = Vectors::new(2, 2000, Arc::new(Budget::new(1 << 24)));
        for n in 0..count {
            assert!(vectors.put(id(n), &along(n)));
            if n == 1500 {
                vectors.freeze();
            }
        }
        let merge = vectors.claim_build().expect("there are enough");
        vectors.remove(&id(7));
        let replaced = vectors.install(merge.run(|| true).expect("it was not told to stop"));
        assert_eq!(replaced.len(), 2);
        assert!(vectors.settle(), "there are more than are noted in one go");
        // Some whose places have been noted, and some whose have not.
        for gone in [9, count - 2] {
            vectors.remove(&id(gone));
        }
        for (n, now) in [(10, count + 1), (count - 1, 1)] {
            vectors.put(id(n), &along(now));
        }
        let before = vectors.bytes;
        vectors.put(id(count - 3), &along(count - 3));
        assert_eq!(vectors.bytes, before, "it was there, and was recognised");
        let furthest = [id(10), id(count - 3), id(count - 4)];
        let check = |vectors: &Vectors| {
            assert_eq!(nearest(vectors, &[1.0, 0.0], 3), furthest);
            assert_eq!(vectors.nearest(&[1.0, 0.0], 99_999).len(), count as usize - 3);
        };
        check(&vectors);
        while vectors.settle() {}
        assert!(vectors.moving.is_none());
        check(&vectors);
        vectors.remove(&id(10));
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 1), [id(count - 3)]);
    }

    #[test]
    fn a_segment_with_many_dead_is_built_anew_without_them() {
        let mut vectors = filled(100, 50);
        assert!(build(&mut vectors));
        (0..20).for_each(|n| vectors.remove(&id(n)));
        assert!(!build(&mut vectors), "a fifth is not enough");
        (20..34).for_each(|n| vectors.remove(&id(n)));
        assert!(build(&mut vectors));
        assert_eq!((vectors.segments[0].living(), vectors.segments[0].dead()), (66, 0));
        assert_eq!(nearest(&vectors, &[0.0, 1.0], 1), [id(34)]);
    }

    #[test]
    fn a_builder_that_is_told_to_stop_stops() {
        let mut vectors = filled(200, 50);
        assert!(vectors.claim_build().expect("there are enough").run(|| false).is_none());
        vectors.give_up(false);
        assert!(build(&mut vectors), "it can be tried again");
    }
}
