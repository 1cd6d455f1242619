//! The vectors of one scope: scanned while they are few, and searched through a graph when they are many.
//!
//! An index is a hint. It names ids; what they mean is read from disk, and scored again.

use super::budget::Budget;
use super::graph::{Graph, POINT_BYTES, Vector};
use crate::store::EntryId;
use crate::vector::dot;
use std::collections::HashMap;
use std::sync::Arc;

/// How many candidates a search of the graph looks at, at least. Those of removed entries are among them.
const SEARCH_WIDTH: usize = 64;
/// How many waiting vectors a put moves into the graph: more than the one it adds, so that none wait forever.
const MOVED_PER_PUT: usize = 2;
/// Below so many dead slots nothing is worth tidying up.
const FEW_DEAD: usize = 16;
/// About what a slot costs beside its numbers: itself, its place in the map, the vector's own header.
const SLOT_BYTES: usize = 160;
/// About what an index costs that holds nothing.
pub(super) const EMPTY_BYTES: usize = 512;

/// The vectors of a scope that have one certain length.
pub(super) struct Vectors {
    dimensions: usize,
    /// In the order they came. `None` is dead: removed or replaced.
    slots: Vec<Option<Slot>>,
    places: HashMap<EntryId, usize>,
    /// Covers the first slots; the others wait, and are scanned.
    graph: Option<Graph>,
    /// Changes when slots are renumbered, so that a graph made for the old numbers is not taken.
    generation: u64,
    building: bool,
    graph_from: usize,
    budget: Arc<Budget>,
    bytes: usize,
}

struct Slot {
    id: EntryId,
    vector: Vector,
}

/// What a builder of a graph has to do next.
pub(super) enum Next {
    /// Push these.
    Push(Vec<Option<Vector>>),
    /// Hand the graph over: little or nothing waits.
    Install,
    /// Give up: the slots have been renumbered.
    Outdated,
}

impl Vectors {
    /// An empty index of vectors of that length, with a graph from `graph_from` vectors on.
    pub(super) fn new(dimensions: usize, graph_from: usize, budget: Arc<Budget>) -> Self {
        budget.add(EMPTY_BYTES);
        Self {
            dimensions,
            slots: Vec::new(),
            places: HashMap::new(),
            graph: None,
            generation: 0,
            building: false,
            graph_from,
            budget,
            bytes: EMPTY_BYTES,
        }
    }

    /// Takes a vector in, in place of an older one of that id. Says whether it is in; it is not when it has
    /// another length, or when this index alone would pass the limit.
    pub(super) fn put(&mut self, id: EntryId, vector: &[f32]) -> bool {
        if self.place(&id).is_some_and(|slot| *slot.vector == *vector) {
            return true;
        }
        self.remove(&id);
        if vector.len() != self.dimensions || self.bytes + self.slot_bytes() > self.budget.limit {
            return false;
        }
        self.places.insert(id, self.slots.len());
        self.slots.push(Some(Slot { id, vector: vector.into() }));
        self.grow(self.slot_bytes());
        self.move_waiting_into_graph();
        true
    }

    /// Forgets a vector, if it is here.
    pub(super) fn remove(&mut self, id: &EntryId) {
        if let Some(place) = self.places.remove(id) {
            self.slots[place] = None;
            self.tidy_up();
        }
    }

    /// The ids of the `k` vectors nearest to `query`, best first.
    pub(super) fn nearest(&self, query: &[f32], k: usize) -> Vec<EntryId> {
        let k = k.min(self.places.len());
        if query.len() != self.dimensions || k == 0 {
            return Vec::new();
        }
        let candidates = self.graph.as_ref().map(|graph| self.candidates(graph, query, k));
        let scored = match candidates {
            Some(candidates) if candidates.len() >= k => candidates,
            // No graph; or the dead have crowded out the living.
            Some(_) | None => self.slots.iter().flatten().map(|slot| slot.scored(query)).collect(),
        };
        best(scored, k)
    }

    /// Whether a graph should be built now. Whoever is told so builds one, or calls [`Self::give_up`].
    pub(super) fn claim_build(&mut self) -> bool {
        let fits = self.bytes + self.slots.len() * POINT_BYTES <= self.budget.limit;
        let wanted = self.graph.is_none() && !self.building && self.places.len() >= self.graph_from && fits;
        self.building |= wanted;
        wanted
    }

    /// The building that was claimed is not going to happen.
    pub(super) fn give_up(&mut self) {
        self.building = false;
    }

    /// Whether a graph is being built.
    pub(super) fn is_building(&self) -> bool {
        self.building
    }

    /// Whether a graph answers.
    pub(super) fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// What a graph must be built from: how many slots there are, and of which numbering.
    pub(super) fn outline(&self) -> (usize, u64) {
        (self.slots.len(), self.generation)
    }

    /// What a builder that has pushed `covered` slots of that numbering has to do next.
    pub(super) fn next(&self, covered: usize, generation: u64, most: usize) -> Next {
        if generation != self.generation {
            return Next::Outdated;
        }
        let waiting = &self.slots[covered..];
        if waiting.is_empty() || (covered > 0 && waiting.len() < most) {
            return Next::Install;
        }
        let vector = |slot: &Option<Slot>| slot.as_ref().map(|slot| Arc::clone(&slot.vector));
        Next::Push(waiting.iter().take(most).map(vector).collect())
    }

    /// Lets a finished graph answer.
    pub(super) fn install(&mut self, graph: Graph, generation: u64) {
        self.building = false;
        if generation == self.generation {
            self.grow(self.slots.len() * POINT_BYTES);
            self.graph = Some(graph);
        }
    }

    fn place(&self, id: &EntryId) -> Option<&Slot> {
        self.places.get(id).and_then(|place| self.slots[*place].as_ref())
    }

    fn move_waiting_into_graph(&mut self) {
        let Some(graph) = &mut self.graph else { return };
        for slot in self.slots.iter().skip(graph.covered()).take(MOVED_PER_PUT) {
            graph.push(slot.as_ref().map(|slot| &slot.vector));
        }
    }

    /// The living among what the graph finds, and all that wait for the graph.
    fn candidates(&self, graph: &Graph, query: &[f32], k: usize) -> Vec<(f32, EntryId)> {
        let found = graph.search(&query.into(), (2 * k).max(SEARCH_WIDTH));
        let found = found.iter().filter_map(|number| self.slots[*number].as_ref());
        let waiting = self.slots[graph.covered()..].iter().flatten();
        found.chain(waiting).map(|slot| slot.scored(query)).collect()
    }

    /// Closes the gaps when more than a third is dead. The graph goes with them, since it cannot forget; until
    /// a new one is built every slot is scanned.
    fn tidy_up(&mut self) {
        let dead = self.slots.len() - self.places.len();
        if dead < FEW_DEAD || dead * 3 <= self.slots.len() {
            return;
        }
        self.slots.retain(Option::is_some);
        self.slots.shrink_to_fit();
        self.places = self.slots.iter().flatten().enumerate().map(|(place, slot)| (slot.id, place)).collect();
        self.graph = None;
        self.generation += 1;
        let bytes = EMPTY_BYTES + self.slots.len() * self.slot_bytes();
        self.budget.sub(self.bytes - bytes);
        self.bytes = bytes;
    }

    /// What one more vector costs.
    fn slot_bytes(&self) -> usize {
        let graph = if self.graph.is_some() { POINT_BYTES } else { 0 };
        self.dimensions * size_of::<f32>() + SLOT_BYTES + graph
    }

    fn grow(&mut self, bytes: usize) {
        self.budget.add(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        self.budget.sub(self.bytes);
    }
}

impl Slot {
    fn scored(&self, query: &[f32]) -> (f32, EntryId) {
        (dot(query, &self.vector), self.id)
    }
}

/// The `k` best, best first; equals by id.
fn best(mut scored: Vec<(f32, EntryId)>, k: usize) -> Vec<EntryId> {
    let order = |a: &(f32, EntryId), b: &(f32, EntryId)| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1));
    if scored.len() > k {
        // Only what is returned needs to be sorted.
        scored.select_nth_unstable_by(k, order);
        scored.truncate(k);
    }
    scored.sort_unstable_by(order);
    scored.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u8, graph_from: usize) -> Vectors {
        let mut vectors = Vectors::new(2, graph_from, Arc::new(Budget::new(1 << 20)));
        for n in 0..count {
            assert!(vectors.put(id(n), &[f32::from(n), 1.0]));
        }
        vectors
    }

    fn id(n: u8) -> EntryId {
        EntryId([n; 32])
    }

    /// Does by hand what a builder does.
    fn build(vectors: &mut Vectors) {
        assert!(vectors.claim_build());
        let (size, generation) = vectors.outline();
        let mut graph = Graph::new(size);
        while let Next::Push(slots) = vectors.next(graph.covered(), generation, 7) {
            for slot in &slots {
                graph.push(slot.as_ref());
            }
        }
        vectors.install(graph, generation);
    }

    #[test]
    fn slots_that_wait_for_the_graph_are_found_and_move_in() {
        let mut vectors = filled(100, 50);
        build(&mut vectors);
        let covered = |vectors: &Vectors| vectors.graph.as_ref().map_or(0, Graph::covered);
        assert_eq!(covered(&vectors), 98, "what is less than a step waits");
        assert_eq!(vectors.nearest(&[1.0, 0.0], 1), [id(99)]);
        for n in 100..103 {
            vectors.put(id(n), &[f32::from(n), 1.0]);
            assert_eq!(vectors.nearest(&[1.0, 0.0], 1), [id(n)]);
        }
        assert_eq!(covered(&vectors), 103, "each put moves two in");
    }

    #[test]
    fn when_a_third_is_dead_the_graph_goes_and_one_being_built_is_not_taken() {
        let mut vectors = filled(100, 50);
        build(&mut vectors);
        (0..33).for_each(|n| vectors.remove(&id(n)));
        assert!(vectors.has_graph());
        vectors.remove(&id(33));
        assert!(!vectors.has_graph());
        assert_eq!(vectors.outline(), (66, 1));

        assert!(vectors.claim_build());
        assert!(!vectors.claim_build(), "one builder is enough");
        assert!(matches!(vectors.next(0, 0, 7), Next::Outdated));
        vectors.install(Graph::new(0), 0);
        assert!(!vectors.has_graph(), "its numbers are the old ones");
        assert!(vectors.claim_build(), "it can be tried again");
    }

    #[test]
    fn all_bytes_are_given_back() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut vectors = Vectors::new(2, 20, Arc::clone(&budget));
        (0..60).for_each(|n| assert!(vectors.put(id(n), &[1.0, f32::from(n)])));
        build(&mut vectors);
        (0..40).for_each(|n| vectors.remove(&id(n)));
        drop(vectors);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn vectors_of_another_length_are_left_out() {
        let mut vectors = filled(3, 50);
        assert!(!vectors.put(id(1), &[1.0, 2.0, 3.0]));
        assert_eq!(vectors.nearest(&[1.0, 0.0], 9), [id(2), id(0)], "the old one is forgotten");
        assert!(vectors.nearest(&[1.0], 9).is_empty());
    }
}
