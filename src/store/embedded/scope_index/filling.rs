//! How an index is filled from disk, while it answers.

use super::{Place, Vectors};
use crate::store::EntryId;
use crate::store::embedded::budget::Budget;
use crate::store::embedded::rows::Quantised;
use crate::store::embedded::segment::Segment;
use crate::store::embedded::snapshot::Picture;
use std::collections::HashSet;
use std::sync::Arc;

impl Vectors {
    /// An empty index that is to be filled from disk.
    pub(in super::super) fn to_be_filled(dimensions: usize, graph_from: usize, budget: Arc<Budget>) -> Self {
        let mut empty = Self::new(dimensions, graph_from, budget);
        empty.touched = Some(HashSet::new());
        empty.awaits_stored = true;
        empty
    }

    /// An empty one like this, to be put in its place.
    pub(in super::super) fn another(&self) -> Self {
        Self::to_be_filled(self.dimensions, self.graph_from, Arc::clone(&self.budget))
    }

    /// The most bytes of all indexes.
    pub(in super::super) fn limit(&self) -> usize {
        self.budget.limit
    }

    /// Begins with segments that were stored. What they hold is not to be believed until [`Self::end_filling`] has
    /// been told what is not there.
    pub(in super::super) fn adopt(&mut self, segments: Vec<Segment>) {
        let latest = segments.iter().map(|segment| segment.serial).max();
        self.last_serial = self.last_serial.max(latest.unwrap_or_default());
        self.segments.extend(segments);
        // The tail's name must be of none of them.
        self.tail.serial = self.new_serial();
        for at in 0..self.segments.len() {
            let (serial, ids) = (self.segments[at].serial, Arc::clone(self.segments[at].ids()));
            for (row, id) in (0u32..).zip(ids.iter()) {
                // Twice in the same one: it was put anew, and the graph with the older has been kept.
                if let Some(before) = self.places.insert(*id, Place { serial, row }) {
                    self.forget(before);
                }
            }
        }
        self.recount();
    }

    /// Lets another take its place that has been made ready meanwhile. What came since this one began goes along.
    pub(in super::super) fn give_way_to(&mut self, mut other: Self) {
        for id in self.touched.iter().flatten() {
            other.remove(id);
            if let Some((rows, row)) = self.places.get(id).and_then(|place| self.row(*place)) {
                let place = other.tail.push_row(*id, rows, row);
                other.places.insert(*id, place);
            }
        }
        other.touched = self.touched.take();
        other.awaits_stored = false;
        other.recount();
        *self = other;
    }

    /// Nothing stored will come.
    pub(in super::super) fn begin_with_nothing(&mut self) {
        self.awaits_stored = false;
    }

    /// Takes in what was read from disk, but for what came or went since the filling began.
    pub(in super::super) fn fill(&mut self, vectors: &[(EntryId, usize, Quantised)]) {
        for (id, dimensions, vector) in vectors {
            let is_newer_here = self.touched.as_ref().is_none_or(|touched| touched.contains(id));
            if !is_newer_here && *dimensions == self.dimensions {
                self.put_quantised(*id, vector);
            }
        }
    }

    /// Those that are none of these.
    pub(in super::super) fn strangers(&self, there: &HashSet<EntryId>) -> Vec<EntryId> {
        self.places.keys().filter(|id| !there.contains(*id)).copied().collect()
    }

    /// All has been read. Forgets those that were stored and are not on disk.
    pub(in super::super) fn end_filling(&mut self, strangers: &[EntryId]) {
        let touched = self.touched.take().unwrap_or_default();
        strangers.iter().filter(|id| !touched.contains(*id)).for_each(|id| self.forget_id(id));
    }

    /// Whether what is on disk is still being read.
    pub(in super::super) fn is_filling(&self) -> bool {
        self.touched.is_some()
    }

    /// What files of its segments must hold.
    pub(in super::super) fn pictures(&self) -> Vec<Picture> {
        self.segments.iter().filter_map(Segment::picture).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{build, filled, id, nearest, unit};
    use super::*;
    use crate::store::embedded::graph::Graph;
    use crate::store::embedded::segment::Dead;

    #[test]
    fn stored_segments_are_taken_for_what_is_still_true_of_them() {
        let mut before = filled(100, 50);
        assert!(build(&mut before));
        let picture = |vectors: &Vectors| vectors.segments[0].picture().expect("it has a graph");
        let stored = |vectors: &Vectors| {
            let Picture { serial, rows, ids, graph } = picture(vectors);
            Segment::new(serial, rows, ids, Dead::default()).with_graph(Some(Graph::clone(&graph)))
        };
        let mut after = Vectors::to_be_filled(2, 50, Arc::new(Budget::new(1 << 20)));
        // A crash may leave the old beside the new.
        let mut doubled = stored(&before);
        doubled.serial += 1;
        after.adopt(vec![stored(&before), doubled]);
        // 99 is gone, 98 points elsewhere now, and 100 is new.
        after.put(id(98), &unit(0.0, 1.0));
        after.put(id(100), &unit(100.0, 30.0));
        let strangers = after.strangers(&(0..98).map(id).collect());
        after.end_filling(&strangers);
        assert_eq!(nearest(&after, &[1.0, 0.0], 3), [id(100), id(97), id(96)]);
        assert_eq!(nearest(&after, &[1.0, 0.0], 500).len(), 100);
        assert!(after.has_graph());
    }

    #[test]
    fn what_is_read_from_disk_undoes_nothing_that_came_or_went_meanwhile() {
        let read = |n: u8, first: f32| (id(n), 2, Quantised::of(&unit(first, 30.0)));
        let mut vectors = Vectors::to_be_filled(2, 50, Arc::new(Budget::new(1 << 20)));
        vectors.put(id(1), &unit(500.0, 1.0));
        vectors.remove(&id(2));
        vectors.fill(&[read(1, 1.0), read(2, 400.0), read(3, 3.0)]);
        assert!(vectors.is_filling() && !vectors.is_quick());
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 9), [id(1), id(3)]);
        // What was stored takes its place: what it says of these is old.
        let mut stored = vectors.another();
        (1..6).for_each(|n| assert!(stored.put_quantised(id(n), &read(n, f32::from(n)).2)));
        vectors.give_way_to(stored);
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 9), [id(1), id(5), id(4), id(3)]);
        vectors.put(id(7), &unit(7.0, 30.0));
        let strangers = vectors.strangers(&[id(3), id(4)].into());
        vectors.end_filling(&strangers);
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 9), [id(1), id(7), id(4), id(3)]);
        assert!(!vectors.is_filling());
    }

    #[test]
    fn whatever_stored_segments_are_called_the_tail_is_called_otherwise() {
        let mut before = filled(100, 50);
        assert!(build(&mut before));
        for serial in [0, 1, u32::MAX] {
            let Picture { rows, ids, graph, .. } = before.segments[0].picture().expect("it has a graph");
            let stored = Segment::new(serial, rows, ids, Dead::default());
            let mut after = Vectors::to_be_filled(2, 50, Arc::new(Budget::new(1 << 20)));
            after.adopt(vec![stored.with_graph(Some(Graph::clone(&graph)))]);
            after.put(id(98), &unit(0.0, 1.0));
            after.end_filling(&[id(99)]);
            (100..160).for_each(|n| assert!(after.put(id(n), &unit(1.0, 30.0))));
            assert!(build(&mut after));
            assert_eq!(nearest(&after, &[1.0, 0.0], 1), [id(97)], "{serial}");
            assert_eq!(nearest(&after, &[1.0, 0.0], 500).len(), 159, "{serial}");
        }
    }
}
