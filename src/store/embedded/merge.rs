//! Makes one segment of several, off the path: the living of all, linked by a graph where they are many.
//!
//! The graph of the largest is taken over as it is, and the others' rows are linked to it. Where none has one,
//! `hnsw_rs` makes it of the first rows.

use super::graph::Graph;
use super::graph::build::Weaver;
use super::graph::grow::Grower;
use super::rows::Rows;
use super::segment::Source;
use crate::store::EntryId;
use std::sync::Arc;

/// How many vectors a graph links at most: what is to be built again when many have gone is bounded, and so is what
/// is held twice meanwhile. A scope of more has several. One graph of a million found the nearest in 83 % of searches,
/// six that hold as many in 99.7 %.
pub(super) const LARGEST: usize = 1 << 18;
/// A segment is built anew together with those that came later when they are at least this share of it: so each
/// vector is built in a few times, however many come.
const RATIO: usize = 3;
/// Of so many rows `hnsw_rs` makes the graph that the others are linked to: a second or two of work.
const FOUNDATION: usize = 4096;
/// Rows that are linked before it is asked again whether to go on: some milliseconds.
const STEP: u32 = 64;
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
    let first =
        segments.iter().position(|segment| !segment.has_graph || is_worn(segment.living, segment.dead))?;
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

fn is_worn(living: usize, dead: usize) -> bool {
    dead >= FEW_DEAD && dead * DEAD_SHARE > living
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
    /// Where each row was.
    pub(super) from: Origins,
    pub(super) graph: Option<Graph>,
}

/// Where the rows of a segment were before it was made: all of one segment, in their order, then all of the next.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The name of each segment, and where its rows begin.
    begins: Vec<(u32, usize)>,
    rows: Vec<u32>,
}

impl Origins {
    fn begin(&mut self, serial: u32) {
        self.begins.push((serial, self.rows.len()));
    }

    /// The name of the segment that a row was in, and its row there.
    pub(super) fn of(&self, row: usize) -> Option<(u32, u32)> {
        let (serial, _) = self.begins.iter().rev().find(|(_, begin)| *begin <= row)?;
        Some((*serial, *self.rows.get(row)?))
    }

    /// The row that a row of a segment has become.
    pub(super) fn row(&self, serial: u32, row: u32) -> Option<u32> {
        let at = self.begins.iter().position(|(of, _)| *of == serial)?;
        let begin = self.begins[at].1;
        let end = self.begins.get(at + 1).map_or(self.rows.len(), |(_, begin)| *begin);
        let rows = self.rows.get(begin..end)?;
        // Where all were taken over, as of the largest, it is that very row.
        let is_there = rows.get(row as usize) == Some(&row);
        let at = if is_there { row as usize } else { rows.binary_search(&row).ok()? };
        u32::try_from(begin + at).ok()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Rows, their ids, and where each was.
struct Joined {
    rows: Rows,
    ids: Vec<EntryId>,
    from: Origins,
}

impl Merge {
    pub(super) fn of(sources: Vec<Source>, graph_from: usize) -> Self {
        Self { sources, graph_from }
    }

    /// Does the work, and asks between steps of it whether to go on. `None` where it was told to stop.
    pub(super) fn run(mut self, mut go_on: impl FnMut() -> bool) -> Option<Merged> {
        let of = self.sources.iter().map(|source| source.serial).collect();
        let base = self.take_base();
        let dimensions = base.as_ref().or(self.sources.first())?.rows.dimensions();
        let kept = base.as_ref().map_or(0, |base| base.rows.len());
        let count = kept + self.sources.iter().map(Source::living).sum::<usize>();
        let mut joined = Joined {
            rows: Rows::with_capacity(dimensions, count),
            ids: Vec::with_capacity(count),
            from: Origins { begins: Vec::new(), rows: Vec::with_capacity(count) },
        };
        let begun = base.and_then(|source| {
            let graph = source.graph.as_ref().map(|graph| Graph::clone(graph));
            // The links are to the numbers of its rows: all stay where they are, also those forgotten.
            joined.push_all(&source, |_| true);
            graph
        });
        for source in &self.sources {
            joined.push_all(source, |row| !source.dead.has(row));
        }
        let Joined { rows, ids, from } = joined;
        let rows = Arc::new(rows);
        let graph = if rows.len() >= least(self.graph_from) {
            let begun = match begun {
                Some(graph) => graph,
                None => foundation(&rows, &mut go_on)?,
            };
            let mut grower = Grower::new(Arc::clone(&rows), begun);
            while grower.step(STEP) {
                if !go_on() {
                    return None;
                }
            }
            Some(grower.finish())
        } else {
            None
        };
        Some(Merged { of, rows, ids: Arc::new(ids), from, graph })
    }

    /// The largest that has a graph which is worth keeping.
    fn take_base(&mut self) -> Option<Source> {
        let is_fit =
            |source: &Source| source.graph.is_some() && !is_worn(source.living(), source.dead.count());
        let fit = self.sources.iter().enumerate().filter(|(_, source)| is_fit(source));
        let (at, _) = fit.max_by_key(|(_, source)| source.living())?;
        Some(self.sources.remove(at))
    }
}

impl Joined {
    fn push_all(&mut self, source: &Source, is_taken: impl Fn(u32) -> bool) {
        self.from.begin(source.serial);
        for (row, id) in (0u32..).zip(source.ids.iter()).filter(|(row, _)| is_taken(*row)) {
            self.rows.push_row(&source.rows, row as usize);
            self.ids.push(*id);
            self.from.rows.push(row);
        }
    }
}

/// The graph of the first rows.
fn foundation(rows: &Rows, go_on: &mut impl FnMut() -> bool) -> Option<Graph> {
    let mut first = Rows::with_capacity(rows.dimensions(), FOUNDATION);
    (0..rows.len().min(FOUNDATION)).for_each(|row| first.push_row(rows, row));
    let mut weaver = Weaver::new(Arc::new(first));
    while weaver.step(STEP) {
        if !go_on() {
            return None;
        }
    }
    weaver.finish()
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
    fn rows_are_followed_both_ways() {
        let mut from = Origins::default();
        for (serial, rows) in [(7, vec![0, 1, 2]), (3, vec![]), (5, vec![1, 4])] {
            from.begin(serial);
            from.rows.extend(rows);
        }
        let all = [(7, 0), (7, 1), (7, 2), (5, 1), (5, 4)];
        assert_eq!(from.len(), all.len());
        for (at, (serial, row)) in all.into_iter().enumerate() {
            assert_eq!(from.of(at), Some((serial, row)));
            assert_eq!(from.row(serial, row), Some(at as u32));
        }
        for (serial, row) in [(7, 3), (3, 0), (5, 0), (5, 5), (9, 0)] {
            assert_eq!(from.row(serial, row), None);
        }
        assert_eq!(from.of(5), None);
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
