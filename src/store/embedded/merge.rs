//! Makes one segment of several, off the path: the living of all, linked by a graph where they are many.

use super::graph::Graph;
use super::graph::build::Weaver;
use super::rows::Rows;
use super::segment::Source;
use crate::store::EntryId;
use std::sync::Arc;

/// How many vectors a graph links at most: a graph that is made takes two kilobytes for each beside itself, and
/// what is to be built again when many have gone or come is bounded. A scope of more has several.
pub(super) const LARGEST: usize = 1 << 18;
/// A segment is built anew together with those that came later when they are at least this share of it: so each
/// vector is built in a few times, however many come.
const RATIO: usize = 3;
/// From so many dead on, and more than one for each two that live, a segment is built anew without them.
const FEW_DEAD: usize = 16;
const DEAD_SHARE: usize = 2;

/// What is known about a segment when it is decided what to build.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outline {
    pub(super) living: usize,
    pub(super) dead: usize,
    pub(super) has_graph: bool,
}

/// Which neighbouring segments should be made one, if any; they are given in the order they came.
pub(super) fn plan(segments: &[Outline]) -> Option<std::ops::Range<usize>> {
    let is_worn = |segment: &Outline| segment.dead >= FEW_DEAD && segment.dead * DEAD_SHARE > segment.living;
    let first = segments.iter().position(|segment| !segment.has_graph || is_worn(segment))?;
    let (mut begin, mut end, mut total) = (first, first + 1, segments[first].living);
    while let Some(next) = segments.get(end).filter(|next| !next.has_graph && total + next.living <= LARGEST)
    {
        total += next.living;
        end += 1;
    }
    while let Some(before) = begin.checked_sub(1).map(|at| segments[at]) {
        if before.living > RATIO * total || total + before.living > LARGEST {
            break;
        }
        total += before.living;
        begin -= 1;
    }
    Some(begin..end)
}

/// The least vectors that a graph is made for when a segment is built anew: fewer than for the first one, so that a
/// scope which grows and shrinks around that number does not lose and get it all the time.
pub(super) fn least(graph_from: usize) -> usize {
    (graph_from / 2).max(1)
}

/// Segments on their way to become one.
pub(super) struct Merge {
    sources: Vec<Source>,
    graph_from: usize,
}

/// What came of it.
pub(super) struct Merged {
    /// The names of the segments it stands for.
    pub(super) of: Vec<u32>,
    pub(super) rows: Arc<Rows>,
    pub(super) ids: Arc<Vec<EntryId>>,
    /// Where each row was: the name of its segment, and its row there.
    pub(super) from: Vec<(u32, u32)>,
    pub(super) graph: Option<Graph>,
}

/// Rows, their ids, and where each was.
type Living = (Arc<Rows>, Arc<Vec<EntryId>>, Vec<(u32, u32)>);

impl Merge {
    pub(super) fn of(sources: Vec<Source>, graph_from: usize) -> Self {
        Self { sources, graph_from }
    }

    /// Does the work, and asks between steps of it whether to go on. `None` where it was told to stop.
    pub(super) fn run(self, mut go_on: impl FnMut() -> bool) -> Option<Merged> {
        /// Rows that are linked before it is asked again: some milliseconds.
        const STEP: u32 = 64;
        let of = self.sources.iter().map(|source| source.serial).collect();
        let (rows, ids, from) = self.living()?;
        let graph = if rows.len() >= least(self.graph_from) {
            let mut weaver = Weaver::new(Arc::clone(&rows));
            while weaver.step(STEP) {
                if !go_on() {
                    return None;
                }
            }
            Some(weaver.finish()?)
        } else {
            None
        };
        Some(Merged { of, rows, ids, from, graph })
    }

    /// All that are not forgotten, one behind the other.
    fn living(&self) -> Option<Living> {
        let dimensions = self.sources.first()?.rows.dimensions();
        let count = self.sources.iter().map(|source| source.rows.len() - source.dead.count()).sum();
        let mut from = Vec::with_capacity(count);
        if let [source] = self.sources.as_slice()
            && source.dead.count() == 0
        {
            // Nothing to copy.
            from.extend((0..count as u32).map(|row| (source.serial, row)));
            return Some((Arc::clone(&source.rows), Arc::clone(&source.ids), from));
        }
        let (mut rows, mut ids) = (Rows::with_capacity(dimensions, count), Vec::with_capacity(count));
        for source in &self.sources {
            for (row, id) in (0u32..).zip(source.ids.iter()).filter(|(row, _)| !source.dead.has(*row)) {
                rows.push_row(&source.rows, row as usize);
                ids.push(*id);
                from.push((source.serial, row));
            }
        }
        Some((Arc::new(rows), Arc::new(ids), from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(living: usize) -> Outline {
        Outline { living, dead: 0, has_graph: true }
    }

    fn plain(living: usize) -> Outline {
        Outline { has_graph: false, ..graph(living) }
    }

    #[test]
    fn what_is_new_is_merged_with_what_is_not_much_larger() {
        let table: &[(&[Outline], Option<std::ops::Range<usize>>)] = &[
            (&[], None),
            (&[graph(9000)], None),
            (&[plain(9000)], Some(0..1)),
            (&[graph(27_000), plain(9000)], Some(0..2)),
            (&[graph(28_000), plain(9000)], Some(1..2)),
            (&[graph(28_000), graph(9000), plain(9000)], Some(0..3)),
            (&[graph(200_000), graph(27_000), plain(9000), plain(9000)], Some(1..4)),
            // None gets too large.
            (&[graph(LARGEST), plain(LARGEST)], Some(1..2)),
            (&[plain(LARGEST), plain(LARGEST)], Some(0..1)),
            // The dead are left behind.
            (&[Outline { dead: 5000, ..graph(10_000) }, graph(10_000)], None),
            (&[Outline { dead: 5001, ..graph(10_000) }, graph(10_000)], Some(0..1)),
        ];
        for (segments, expected) in table {
            assert_eq!(plan(segments), *expected, "{segments:?}");
        }
    }

    #[test]
    fn however_many_come_each_is_built_in_a_few_times() {
        let (mut segments, mut built, mut most) = (Vec::new(), 0, 0);
        for _ in 0..128 {
            segments.push(plain(8192));
            while let Some(range) = plan(&segments) {
                let total: usize = segments[range.clone()].iter().map(|segment| segment.living).sum();
                built += total;
                segments.splice(range, [graph(total)]);
            }
            most = most.max(segments.len());
        }
        assert!(built <= 5 * 128 * 8192, "{built}");
        assert!(most <= 8, "{most}");
    }
}
