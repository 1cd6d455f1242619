//! The vectors of one scope: segments of them, and the newest in a tail that is looked at in full.
//!
//! What comes is in the tail, and found at once. A tail that has grown long becomes a segment, for which a graph is
//! made in the background; meanwhile it is looked at in full. What goes is marked as dead, and left behind when its
//! segment is built anew.
//!
//! An index is a hint. It names ids; what they mean is read from disk, and scored again.

use super::budget::Budget;
use super::graph::Graph;
use super::merge::{self, LARGEST, Merge, Merged, Origins, Outline};
use super::rows::{Quantised, Rows, Scored};
use super::segment::{Dead, Segment, scan};
use super::snapshot::Picture;
use crate::store::EntryId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Beyond those asked for, so many are looked at with both halves of their numbers: the upper ones alone may have
/// them in another order.
const SPARE: usize = 12;
/// By how much the cosine of sixteen-bit numbers may be off.
const ROUNDING: f32 = 1e-4;
/// Below so many dead in the tail nothing is worth tidying up.
const FEW_DEAD: usize = 16;
/// So many looked at in full take less than a tenth of a millisecond; a graph takes about a third of that.
const QUICK: usize = 16_384;
/// About what a vector costs beside its numbers: its id, its place and the id there, and room for more of them.
const SLOT_BYTES: usize = 128;
/// So many places are noted afresh before others get their turn: some hundred microseconds.
const SETTLED_AT_ONCE: usize = 4096;
/// About what an index costs that holds nothing.
pub(super) const EMPTY_BYTES: usize = 512;

/// The vectors of a scope that have one certain length.
pub(super) struct Vectors {
    dimensions: usize,
    /// In the order they came.
    segments: Vec<Segment>,
    tail: Tail,
    places: HashMap<EntryId, Place>,
    /// What was built last answers already, while places still name the segments that it was built from.
    moving: Option<Moving>,
    next_serial: u32,
    building: bool,
    hopeless: bool,
    /// While it is being filled: what came or went meanwhile, which what is read from disk must not undo.
    touched: Option<HashSet<EntryId>>,
    /// Stored segments may still come: none is built before, which would take their names and their place.
    awaits_stored: bool,
    graph_from: usize,
    budget: Arc<Budget>,
    bytes: usize,
}

/// Where a vector is: the name of its segment, and its row there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    serial: u32,
    row: u32,
}

/// The name of a segment that was built, where its rows were, and of how many that has been forgotten.
struct Moving {
    serial: u32,
    from: Origins,
    settled: usize,
}

struct Tail {
    serial: u32,
    rows: Rows,
    ids: Vec<EntryId>,
    dead: Dead,
}

impl Tail {
    fn new(serial: u32, dimensions: usize) -> Self {
        Self { serial, rows: Rows::new(dimensions), ids: Vec::new(), dead: Dead::default() }
    }

    fn push(&mut self, id: EntryId, vector: &Quantised) -> Place {
        self.rows.push(vector);
        self.ids.push(id);
        Place { serial: self.serial, row: (self.ids.len() - 1) as u32 }
    }

    fn push_row(&mut self, id: EntryId, from: &Rows, row: usize) -> Place {
        self.rows.push_row(from, row);
        self.ids.push(id);
        Place { serial: self.serial, row: (self.ids.len() - 1) as u32 }
    }
}

impl Vectors {
    /// An empty index of vectors of that length, with a graph for each `graph_from` of them or more.
    pub(super) fn new(dimensions: usize, graph_from: usize, budget: Arc<Budget>) -> Self {
        budget.add(EMPTY_BYTES);
        Self {
            dimensions,
            segments: Vec::new(),
            tail: Tail::new(0, dimensions),
            places: HashMap::new(),
            moving: None,
            next_serial: 1,
            building: false,
            hopeless: false,
            touched: None,
            awaits_stored: false,
            graph_from,
            budget,
            bytes: EMPTY_BYTES,
        }
    }

    /// An empty index that is to be filled from disk.
    pub(super) fn to_be_filled(dimensions: usize, graph_from: usize, budget: Arc<Budget>) -> Self {
        let mut empty = Self::new(dimensions, graph_from, budget);
        empty.touched = Some(HashSet::new());
        empty.awaits_stored = true;
        empty
    }

    /// An empty one like this, to be put in its place.
    pub(super) fn another(&self) -> Self {
        Self::to_be_filled(self.dimensions, self.graph_from, Arc::clone(&self.budget))
    }

    /// The most bytes of all indexes.
    pub(super) fn limit(&self) -> usize {
        self.budget.limit
    }

    /// Begins with segments that were stored. What they hold is not to be believed until [`Self::end_filling`] has
    /// been told what is not there.
    pub(super) fn adopt(&mut self, segments: Vec<Segment>) {
        for mut segment in segments {
            self.next_serial = self.next_serial.max(segment.serial);
            for row in 0..segment.ids().len() {
                let place = Place { serial: segment.serial, row: row as u32 };
                let before = self.places.insert(segment.ids()[row], place);
                match before {
                    // Twice in the same one: it was put anew, and the graph with the older has been kept.
                    Some(before) if before.serial == segment.serial => segment.forget(before.row),
                    Some(before) => self.forget(before),
                    None => {}
                }
            }
            self.segments.push(segment);
        }
        // The tail's name must be of none of them.
        self.tail.serial = self.new_serial();
        self.recount();
    }

    /// Lets another take its place that has been made ready meanwhile. What came since this one began goes along.
    pub(super) fn give_way_to(&mut self, mut other: Self) {
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
    pub(super) fn begin_with_nothing(&mut self) {
        self.awaits_stored = false;
    }

    /// Takes in what was read from disk, but for what came or went since the filling began.
    pub(super) fn fill(&mut self, vectors: &[(EntryId, usize, Quantised)]) {
        for (id, dimensions, vector) in vectors {
            let is_newer_here = self.touched.as_ref().is_none_or(|touched| touched.contains(id));
            if !is_newer_here && *dimensions == self.dimensions {
                self.put_quantised(*id, vector);
            }
        }
    }

    /// Those that are none of these.
    pub(super) fn strangers(&self, there: &HashSet<EntryId>) -> Vec<EntryId> {
        self.places.keys().filter(|id| !there.contains(*id)).copied().collect()
    }

    /// All has been read. Forgets those that were stored and are not on disk.
    pub(super) fn end_filling(&mut self, strangers: &[EntryId]) {
        let touched = self.touched.take().unwrap_or_default();
        strangers.iter().filter(|id| !touched.contains(*id)).for_each(|id| self.forget_id(id));
    }

    /// Whether what is on disk is still being read.
    pub(super) fn is_filling(&self) -> bool {
        self.touched.is_some()
    }

    /// What files of its segments must hold.
    pub(super) fn pictures(&self) -> Vec<Picture> {
        self.segments.iter().filter_map(Segment::picture).collect()
    }

    /// Takes a vector in, in place of an older one of that id. Says whether it is in; it is not when it has
    /// another length, or when this index alone would pass the limit.
    pub(super) fn put(&mut self, id: EntryId, vector: &[f32]) -> bool {
        if vector.len() != self.dimensions {
            self.remove(&id);
            return false;
        }
        self.touch(&id);
        self.put_quantised(id, &Quantised::of(vector))
    }

    fn put_quantised(&mut self, id: EntryId, vector: &Quantised) -> bool {
        if self.places.get(&id).is_some_and(|place| self.is(*place, vector)) {
            return true;
        }
        self.forget_id(&id);
        if self.bytes + self.row_bytes() > self.budget.limit {
            return false;
        }
        let place = self.tail.push(id, vector);
        self.places.insert(id, place);
        self.grow(self.row_bytes());
        if self.tail.ids.len() >= LARGEST {
            self.freeze();
        }
        true
    }

    /// Forgets a vector, if it is here.
    pub(super) fn remove(&mut self, id: &EntryId) {
        self.touch(id);
        self.forget_id(id);
    }

    fn touch(&mut self, id: &EntryId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(*id);
        }
    }

    fn forget_id(&mut self, id: &EntryId) {
        if let Some(place) = self.places.remove(id) {
            self.forget(place);
            self.tidy_up();
        }
    }

    /// The ids of the `k` vectors nearest to `query`, best first, and of those that are as near within [`ROUNDING`]:
    /// whoever has the vectors tells them apart.
    pub(super) fn nearest(&self, query: &[f32], k: usize) -> Vec<EntryId> {
        let k = k.min(self.places.len());
        if query.len() != self.dimensions || k == 0 {
            return Vec::new();
        }
        let query = Quantised::of(query);
        let most = k + SPARE;
        let mut found: Vec<(Scored, &Rows, &[EntryId])> =
            Vec::with_capacity((self.segments.len() + 1) * most);
        for segment in &self.segments {
            let near = segment.nearest(&query, k, most);
            found.extend(near.into_iter().map(|near| (near, segment.rows(), segment.ids())));
        }
        let near = scan(&self.tail.rows, &self.tail.dead, &query, most);
        found.extend(near.into_iter().map(|near| (near, &self.tail.rows, self.tail.ids.as_slice())));
        if found.len() > most {
            found.select_nth_unstable_by(most, |(a, ..), (b, ..)| b.score.total_cmp(&a.score));
            found.truncate(most);
        }
        let sure = |(near, rows, ids): (Scored, &Rows, &[EntryId])| {
            (rows.cosine(&query, near.row as usize), ids[near.row as usize])
        };
        best(found.into_iter().map(sure).collect(), k)
    }

    /// Whether a search takes a tenth of a millisecond or less.
    pub(super) fn is_quick(&self) -> bool {
        let looked_at = |segment: &Segment| if segment.has_graph() { QUICK / 3 } else { segment.living() };
        let all = self.tail.ids.len() + self.segments.iter().map(looked_at).sum::<usize>();
        all <= QUICK && !self.is_filling()
    }

    /// Whether a builder should look in. Says so once, until there is nothing left to build.
    pub(super) fn wants_builder(&mut self) -> bool {
        let is_free = !self.building && !self.hopeless && !self.awaits_stored;
        let is_wanted = is_free && (self.tail_is_long() || self.plan().is_some());
        self.building |= is_wanted;
        is_wanted
    }

    /// What should be built now, if anything. Whoever is told so builds it and calls [`Self::install`] and
    /// [`Self::settle`], or [`Self::give_up`]. One at a time.
    pub(super) fn claim_build(&mut self) -> Option<Merge> {
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

    fn plan(&self) -> Option<std::ops::Range<usize>> {
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
    pub(super) fn give_up(&mut self, hopeless: bool) {
        self.building = false;
        self.hopeless |= hopeless;
    }

    /// Whether a graph is being built.
    pub(super) fn is_building(&self) -> bool {
        self.building
    }

    /// Whether a graph answers.
    pub(super) fn has_graph(&self) -> bool {
        self.segments.iter().any(Segment::has_graph)
    }

    /// Lets what was built answer, in place of what it was built from, which is handed back: letting go of it takes
    /// longer than this. What went meanwhile is dead in it as well.
    pub(super) fn install(&mut self, merged: Merged) -> Vec<Segment> {
        let Merged { of, rows, ids, from, graph } = merged;
        let is_of_it = |segment: &Segment| of.contains(&segment.serial);
        let Some(first) = self.segments.iter().position(is_of_it) else { return Vec::new() };
        let (old, mut segments): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.segments).into_iter().partition(is_of_it);
        let mut dead = Dead::default();
        for segment in &old {
            let gone = segment.forgotten().filter_map(|row| from.row(segment.serial, row));
            gone.for_each(|row| dead.insert(row));
        }
        let serial = self.new_serial();
        segments.insert(first, Segment::new(serial, rows, ids, dead).with_graph(graph));
        self.segments = segments;
        self.moving = Some(Moving { serial, from, settled: 0 });
        self.recount();
        old
    }

    /// Notes for some more of what was installed where it is now. Says whether there is more to be noted.
    pub(super) fn settle(&mut self) -> bool {
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
    fn settled(&self, place: Place) -> Place {
        let moved = self.moving.as_ref().and_then(|Moving { serial, from, .. }| {
            from.row(place.serial, place.row).map(|row| Place { serial: *serial, row })
        });
        moved.unwrap_or(place)
    }

    fn is(&self, place: Place, vector: &Quantised) -> bool {
        self.row(place).is_some_and(|(rows, row)| rows.is(row, vector))
    }

    /// Where the numbers of a vector are.
    fn row(&self, place: Place) -> Option<(&Rows, usize)> {
        let place = self.settled(place);
        let rows = if place.serial == self.tail.serial {
            Some(&self.tail.rows)
        } else {
            self.segments.iter().find(|segment| segment.serial == place.serial).map(Segment::rows)
        };
        rows.map(|rows| (rows, place.row as usize))
    }

    fn forget(&mut self, place: Place) {
        let place = self.settled(place);
        if place.serial == self.tail.serial {
            self.tail.dead.insert(place.row);
        } else if let Some(segment) = self.segments.iter_mut().find(|segment| segment.serial == place.serial)
        {
            segment.forget(place.row);
        }
    }

    /// Makes a segment of the tail, and begins another.
    fn freeze(&mut self) {
        let serial = self.new_serial();
        let Tail { serial, rows, ids, dead } =
            std::mem::replace(&mut self.tail, Tail::new(serial, self.dimensions));
        self.segments.push(Segment::new(serial, Arc::new(rows), Arc::new(ids), dead));
    }

    /// Closes the gaps in the tail when more than a third is dead, and drops segments that hold nothing.
    fn tidy_up(&mut self) {
        let (dead, all) = (self.tail.dead.count(), self.tail.ids.len());
        if dead >= FEW_DEAD && dead * 3 > all {
            let serial = self.new_serial();
            let old = std::mem::replace(&mut self.tail, Tail::new(serial, self.dimensions));
            for (row, id) in (0u32..).zip(&old.ids).filter(|(row, _)| !old.dead.has(*row)) {
                self.tail.rows.push_row(&old.rows, row as usize);
                self.tail.ids.push(*id);
                let row = (self.tail.ids.len() - 1) as u32;
                self.places.insert(*id, Place { serial, row });
            }
            self.recount();
        }
        if !self.building && self.segments.iter().any(|segment| segment.living() == 0) {
            self.segments.retain(|segment| segment.living() > 0);
            self.recount();
        }
    }

    fn new_serial(&mut self) -> u32 {
        self.next_serial += 1;
        self.next_serial
    }

    /// What one more vector costs.
    fn row_bytes(&self) -> usize {
        Rows::bytes_of(self.dimensions, 1) + SLOT_BYTES
    }

    fn grow(&mut self, bytes: usize) {
        self.budget.add(bytes);
        self.bytes += bytes;
    }

    fn recount(&mut self) {
        let segment =
            |segment: &Segment| segment.bytes() + segment.ids().len() * (SLOT_BYTES - size_of::<EntryId>());
        let segments: usize = self.segments.iter().map(segment).sum();
        let bytes = EMPTY_BYTES + segments + self.tail.ids.len() * self.row_bytes();
        self.budget.add(bytes);
        self.budget.sub(self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.budget.sub(self.bytes);
    }
}

/// The `k` best and those that may be as good, best first; equals by id.
fn best(mut scored: Vec<(f32, EntryId)>, k: usize) -> Vec<EntryId> {
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    if let Some((last, _)) = k.checked_sub(1).and_then(|last| scored.get(last).copied()) {
        scored.retain(|(cosine, _)| *cosine >= last - 2.0 * ROUNDING);
    }
    scored.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(count: u8, graph_from: usize) -> Vectors {
        let mut vectors = Vectors::new(2, graph_from, Arc::new(Budget::new(1 << 20)));
        for n in 0..count {
            assert!(vectors.put(id(n), &unit(f32::from(n), 30.0)));
        }
        vectors
    }

    /// The larger the first is beside the second, the nearer to [1, 0].
    fn unit(first: f32, second: f32) -> [f32; 2] {
        let length = first.hypot(second);
        [first / length, second / length]
    }

    /// Without those that are nearly as near.
    fn nearest(vectors: &Vectors, query: &[f32], k: usize) -> Vec<EntryId> {
        let mut found = vectors.nearest(query, k);
        found.truncate(k);
        found
    }

    #[test]
    fn what_rounding_may_hide_is_named_as_well() {
        let mut vectors = filled(0, 50);
        for (n, second) in [(1, 0.0), (2, 0.005), (3, 0.5)] {
            vectors.put(id(n), &unit(1.0, second));
        }
        assert_eq!(vectors.nearest(&[1.0, 0.0], 1), [id(1), id(2)]);
    }

    fn id(n: u8) -> EntryId {
        EntryId([n; 32])
    }

    /// Does by hand what a builder does.
    fn build(vectors: &mut Vectors) -> bool {
        let merge = vectors.claim_build();
        let merged = merge.and_then(|merge| merge.run(|| true));
        merged.map(|merged| vectors.install(merged)).is_some()
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
        let old = vectors.install(merge.run(|| true).expect("it was not told to stop"));
        assert_eq!(old.len(), 2);
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
        drop(vectors.install(merge.run(|| true).expect("it was not told to stop")));
        assert!(vectors.has_graph() && vectors.is_building());
        assert!(vectors.claim_build().is_none() && !vectors.is_building(), "all is built");
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 3), now);
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 200).len(), 100);
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

    #[test]
    fn all_bytes_are_given_back() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut vectors = Vectors::new(2, 20, Arc::clone(&budget));
        (0..60).for_each(|n| assert!(vectors.put(id(n), &unit(1.0, f32::from(n)))));
        build(&mut vectors);
        (0..40).for_each(|n| vectors.remove(&id(n)));
        drop(vectors);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn vectors_of_another_length_are_left_out() {
        let mut vectors = filled(3, 50);
        assert!(!vectors.put(id(1), &[1.0, 2.0, 3.0]));
        assert_eq!(nearest(&vectors, &[1.0, 0.0], 9), [id(2), id(0)], "the old one is forgotten");
        assert!(nearest(&vectors, &[1.0], 9).is_empty());
    }

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

    proptest! {
        /// Whatever comes, goes and is built, it names what a plain list would name.
        #[test]
        fn it_answers_like_a_list(steps in prop::collection::vec((0u8..120, 0u8..10), 1..400)) {
            let mut vectors = Vectors::new(2, 20, Arc::new(Budget::new(1 << 20)));
            let mut list = std::collections::BTreeMap::new();
            let mut pending = None;
            for (n, what) in steps {
                let vector = unit(f32::from(n), 30.0 * (f32::from(what) + 1.0));
                match what {
                    0..5 => {
                        vectors.put(id(n), &vector);
                        list.insert(n, vector);
                    }
                    5..7 => {
                        vectors.remove(&id(n));
                        list.remove(&n);
                    }
                    7 if pending.is_none() => pending = vectors.claim_build(),
                    7 => {}
                    8 => if let Some(merged) = pending.take().and_then(|merge| merge.run(|| true)) {
                        drop(vectors.install(merged));
                    },
                    _ => {
                        let found = nearest(&vectors, &vector, 1);
                        let cosine = |of: &[f32; 2]| of[0] * vector[0] + of[1] * vector[1];
                        let most = list.values().map(cosine).fold(f32::NEG_INFINITY, f32::max);
                        let got = found.first().map(|found| cosine(&list[&found.0[0]]));
                        // In two dimensions many are alike by the upper halves.
                        prop_assert!(got.map_or(list.is_empty(), |got| got >= most - 0.01), "{got:?} {most}");
                    }
                }
            }
            prop_assert_eq!(nearest(&vectors, &[1.0, 1.0], 500).len(), list.len(), "every one is there once");
        }
    }
}
