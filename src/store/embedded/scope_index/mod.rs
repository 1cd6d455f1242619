//! The vectors of one scope: segments of them, and the newest in a tail that is looked at in full.
//!
//! What comes is in the tail, and found at once. A tail that has grown long becomes a segment, for which a graph is
//! made in the background ([`building`]); meanwhile it is looked at in full. What goes is marked as dead, and left
//! behind when its segment is built anew. [`filling`] is how all of it comes from disk.
//!
//! An index is a hint. It names ids; what they mean is read from disk, and scored again.

mod building;
mod filling;
mod tail;

use super::budget::Budget;
use super::merge::LARGEST;
use super::rows::{Quantised, Rows, Scored};
use super::segment::{Segment, scan};
use crate::store::EntryId;
use building::Moving;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tail::Tail;

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
    /// The name given last.
    last_serial: u32,
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
            last_serial: 0,
            building: false,
            hopeless: false,
            touched: None,
            awaits_stored: false,
            graph_from,
            budget,
            bytes: EMPTY_BYTES,
        }
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
            found.extend(near.into_iter().map(|near| (near, segment.rows(), segment.ids().as_slice())));
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

    /// A name that no segment has, whatever names those had that were stored.
    fn new_serial(&mut self) -> u32 {
        let is_taken = |serial| {
            self.tail.serial == serial || self.segments.iter().any(|segment| segment.serial == serial)
        };
        let free = |serial: &u32| !is_taken(*serial);
        let others = std::iter::successors(Some(self.last_serial), |last| Some(last.wrapping_add(1)));
        // There are far fewer segments than numbers.
        self.last_serial = others.skip(1).find(free).unwrap_or_default();
        self.last_serial
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

    pub(super) fn filled(count: u8, graph_from: usize) -> Vectors {
        let mut vectors = Vectors::new(2, graph_from, Arc::new(Budget::new(1 << 20)));
        for n in 0..count {
            assert!(vectors.put(id(n), &unit(f32::from(n), 30.0)));
        }
        vectors
    }

    /// The larger the first is beside the second, the nearer to [1, 0].
    pub(super) fn unit(first: f32, second: f32) -> [f32; 2] {
        let length = first.hypot(second);
        [first / length, second / length]
    }

    /// Without those that are nearly as near.
    pub(super) fn nearest(vectors: &Vectors, query: &[f32], k: usize) -> Vec<EntryId> {
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

    pub(super) fn id(n: u8) -> EntryId {
        EntryId([n; 32])
    }

    /// Does by hand what a builder does.
    pub(super) fn build(vectors: &mut Vectors) -> bool {
        let merge = vectors.claim_build();
        let merged = merge.and_then(|merge| merge.run(|| true));
        merged.map(|merged| drop(vectors.install(merged))).is_some()
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
