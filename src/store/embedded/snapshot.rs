//! Segments as files, so that a restart need not make their graphs again.
//!
//! ```text
//! magic (8) ‖ space (8) ‖ dimensions (4) ‖ rows (4) ‖ ids (32 each) ‖ scales (4 each) ‖ upper halves ‖ lower halves
//! ‖ entry (4) ‖ links (4 each) ‖ layers (4) ‖ for each: rows (4), those (4 each), links (4 each) ‖ checksum (4)
//! ```
//! Nothing in them is the truth. One that is cut, damaged, of another space or of another layout is removed; what
//! one holds is held to every vector on disk before it answers, so that one that is out of date costs nothing but
//! the time to put it right. That is why they are not forced to the disk either.

use super::Space;
use super::graph::Graph;
use super::numbers::Numbers;
use super::rows::Rows;
use super::segment::{Dead, Segment};
use crate::store::{EntryId, Scope};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Changes with the layout.
const MAGIC: &[u8; 8] = b"weirseg1";
const CHECKSUM: usize = 4;

/// Where the files of all scopes are.
#[derive(Debug)]
pub(super) struct Snapshots {
    root: PathBuf,
}

/// A segment ready to be written, without any lock.
pub(super) struct Picture {
    pub(super) serial: u32,
    pub(super) rows: Arc<Rows>,
    pub(super) ids: Arc<Vec<EntryId>>,
    pub(super) graph: Arc<Graph>,
}

impl Snapshots {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The segments of a scope that can be read, as long as they are within so many bytes. Others are removed.
    pub(super) fn load(&self, scope: &Scope, space: Space, dimensions: usize, limit: usize) -> Vec<Segment> {
        let mut left = limit as u64;
        let mut segments = Vec::new();
        for (serial, path) in self.files(scope) {
            let size = fs::metadata(&path).map_or(u64::MAX, |about| about.len());
            if size > left {
                continue;
            }
            let segment = fs::read(&path).ok().and_then(|bytes| read(&bytes, serial, space, dimensions));
            if let Some(segment) = segment {
                left -= size;
                segments.push(segment);
            } else {
                tracing::info!(?scope, serial, "a stored graph is not one of these vectors, and is removed");
                let _ = fs::remove_file(&path);
            }
        }
        segments
    }

    /// How many bytes are stored of a scope.
    pub(super) fn size(&self, scope: &Scope) -> u64 {
        self.files(scope)
            .iter()
            .filter_map(|(_, path)| fs::metadata(path).ok())
            .map(|about| about.len())
            .sum()
    }

    /// Writes those that are not there yet, and removes what is of none of them.
    pub(super) fn save(&self, scope: &Scope, space: Space, pictures: &[Picture]) {
        let known = self.files(scope);
        for picture in pictures {
            let is_there = known.iter().any(|(serial, _)| *serial == picture.serial);
            if !is_there && let Err(error) = self.write(scope, space, picture) {
                // The graph is in memory; the next start makes it again.
                tracing::warn!(?scope, %error, "a graph could not be stored");
            }
        }
        for (serial, path) in known {
            if pictures.iter().all(|picture| picture.serial != serial) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes the files of a scope.
    pub(super) fn forget(&self, scope: &Scope) {
        let _ = fs::remove_dir_all(self.folder(scope));
    }

    /// Removes the files of scopes of which nothing is left.
    pub(super) fn prune(&self, is_left: impl Fn(&Scope) -> bool) {
        let Ok(folders) = fs::read_dir(&self.root) else { return };
        for folder in folders.flatten() {
            let scope = folder.file_name().to_str().and_then(scope_of);
            if scope.is_none_or(|scope| !is_left(&scope)) {
                let _ = fs::remove_dir_all(folder.path());
            }
        }
    }

    fn folder(&self, scope: &Scope) -> PathBuf {
        self.root.join(name_of(scope))
    }

    /// Those of a scope, the oldest first.
    fn files(&self, scope: &Scope) -> Vec<(u32, PathBuf)> {
        let Ok(files) = fs::read_dir(self.folder(scope)) else { return Vec::new() };
        let named = |file: fs::DirEntry| {
            let serial: u32 = file.file_name().to_str()?.parse().ok()?;
            // No other spelling of the same number, and nothing that cannot be read to its end.
            let is_ours = file.file_name() == *serial.to_string() && file.file_type().ok()?.is_file();
            is_ours.then(|| (serial, file.path()))
        };
        let mut files: Vec<(u32, PathBuf)> = files.flatten().filter_map(named).collect();
        files.sort_unstable();
        files
    }

    fn write(&self, scope: &Scope, space: Space, picture: &Picture) -> io::Result<()> {
        let folder = self.folder(scope);
        fs::create_dir_all(&folder)?;
        let unfinished = folder.join("unfinished");
        written(&unfinished, space, picture)?;
        fs::rename(&unfinished, folder.join(picture.serial.to_string()))
    }
}

fn name_of(scope: &Scope) -> String {
    scope.0.iter().fold(String::with_capacity(2 * scope.0.len()), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

fn scope_of(name: &str) -> Option<Scope> {
    let mut scope = [0; 32];
    if name.len() != 2 * scope.len() {
        return None;
    }
    for (at, byte) in scope.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(Scope(scope))
}

/// A file, and the checksum of what has been written to it.
struct Summed {
    file: BufWriter<fs::File>,
    sum: crc32fast::Hasher,
}

impl Summed {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.file.write_all(bytes)
    }

    fn number(&mut self, number: usize) -> io::Result<()> {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        self.bytes(&number.to_le_bytes())
    }

    /// In blocks: a call for each number would take seconds.
    fn all<T, const N: usize>(&mut self, numbers: &[T], bytes: impl Fn(&T) -> [u8; N]) -> io::Result<()> {
        numbers.chunks(4096).try_for_each(|chunk| {
            let chunk: Vec<u8> = chunk.iter().flat_map(&bytes).collect();
            self.bytes(&chunk)
        })
    }
}

fn written(path: &Path, space: Space, picture: &Picture) -> io::Result<()> {
    let mut out = Summed { file: BufWriter::new(fs::File::create(path)?), sum: crc32fast::Hasher::new() };
    let (upper, lower, scales) = picture.rows.parts();
    out.bytes(MAGIC)?;
    out.bytes(&space.0.to_le_bytes())?;
    out.number(picture.rows.dimensions())?;
    out.number(picture.rows.len())?;
    out.all(&picture.ids, |id| id.0)?;
    out.all(scales, |scale| scale.to_le_bytes())?;
    out.all(upper, |number| number.to_le_bytes())?;
    out.all(lower, |number| number.to_le_bytes())?;
    let (entry, links, layers) = picture.graph.parts();
    out.number(entry as usize)?;
    out.all(links, |link| link.to_le_bytes())?;
    out.number(layers.len())?;
    for (rows, links) in layers {
        out.number(rows.len())?;
        out.all(rows, |row| row.to_le_bytes())?;
        out.all(links, |link| link.to_le_bytes())?;
    }
    let sum = out.sum.clone().finalize();
    out.bytes(&sum.to_le_bytes())?;
    out.file.flush()
}

/// `None` where anything is not as it was written.
fn read(bytes: &[u8], serial: u32, space: Space, dimensions: usize) -> Option<Segment> {
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut rest = Rest(body);
    let is_ours = rest.take(MAGIC.len())? == MAGIC
        && rest.take(8)? == space.0.to_le_bytes()
        && rest.number()? == dimensions;
    if !is_ours {
        return None;
    }
    let count = rest.number()?;
    let ids: Vec<EntryId> = rest.all(count, EntryId)?;
    let scales = rest.all(count, f32::from_le_bytes)?;
    let half = count.checked_mul(dimensions.next_multiple_of(super::kernels::LANES))?;
    let (upper, lower) = (Numbers::of_bytes(rest.take(half)?), Numbers::of_bytes(rest.take(half)?));
    let entry = u32::try_from(rest.number()?).ok()?;
    let links = rest.all(count.checked_mul(Graph::LINKS)?, u32::from_le_bytes)?;
    let count_of_layers = rest.number().filter(|count| *count <= Graph::LAYERS)?;
    let mut layers = Vec::with_capacity(count_of_layers);
    for _ in 0..count_of_layers {
        let rows = rest.number()?;
        let links = rows.checked_mul(Graph::UPPER_LINKS)?;
        layers.push((rest.all(rows, u32::from_le_bytes)?, rest.all(links, u32::from_le_bytes)?));
    }
    let graph = Graph::from_parts((entry, links, layers), count)?;
    let rows = Rows::from_parts(dimensions, upper, lower, scales)?;
    let segment = Segment::new(serial, Arc::new(rows), Arc::new(ids), Dead::default());
    rest.0.is_empty().then(|| segment.with_graph(Some(graph)))
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    fn all<T, const N: usize>(&mut self, count: usize, of: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (chunks, _) = self.take(count.checked_mul(N)?)?.as_chunks::<N>();
        Some(chunks.iter().map(|chunk| of(*chunk)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::graph::build::Weaver;
    use crate::store::embedded::rows::Quantised;
    use proptest::prelude::*;

    const HERE: Space = Space(5);

    fn picture(count: u8) -> Picture {
        let mut rows = Rows::new(3);
        let vector = |n: u8| Quantised::of(&[f32::from(n).sin(), f32::from(n).cos(), 0.0]);
        (0..count).for_each(|n| rows.push(&vector(n)));
        let rows = Arc::new(rows);
        let mut weaver = Weaver::new(Arc::clone(&rows));
        while weaver.step(1000) {}
        let ids = Arc::new((0..count).map(|n| EntryId([n; 32])).collect());
        Picture { serial: 7, rows, ids, graph: Arc::new(weaver.finish().expect("there are rows")) }
    }

    fn file(picture: &Picture) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        written(&path, HERE, picture).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_the_same() {
        let before = picture(200);
        let bytes = file(&before);
        let after = read(&bytes, 7, HERE, 3).expect("it is whole");
        let after = after.picture().expect("it has a graph");
        assert_eq!((after.ids, &after.graph), (before.ids, &before.graph));
        assert_eq!(after.rows.parts(), before.rows.parts());
        assert!(read(&bytes, 7, Space(6), 3).is_none(), "of another encoder");
        assert!(read(&bytes, 7, HERE, 4).is_none(), "of another length");
    }

    #[test]
    fn those_of_a_scope_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(folder.path().join("graphs"));
        let (here, there) = (Scope([1; 32]), Scope([0xab; 32]));
        let serials =
            |scope| snapshots.files(scope).into_iter().map(|(serial, _)| serial).collect::<Vec<_>>();
        let one = picture(50);
        snapshots.save(
            &here,
            HERE,
            &[Picture { serial: 3, ..picture(20) }, Picture { serial: 10, ..picture(20) }],
        );
        snapshots.save(&there, HERE, std::slice::from_ref(&one));
        assert_eq!(serials(&here), [3, 10]);
        snapshots.save(&here, HERE, &[Picture { serial: 10, ..picture(20) }]);
        assert_eq!(serials(&here), [10]);
        assert_eq!(snapshots.load(&there, HERE, 3, 1 << 20).len(), 1);
        assert!(snapshots.load(&there, HERE, 3, 100).is_empty(), "more than there is room for");
        assert_eq!(serials(&there), [7]);
        assert!(snapshots.load(&there, Space(6), 3, 1 << 20).is_empty());
        assert!(serials(&there).is_empty(), "what is of no use is removed");
        snapshots.prune(|scope| *scope != here);
        assert!(serials(&here).is_empty());
    }

    #[test]
    fn what_is_called_otherwise_or_is_no_file_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(folder.path().join("graphs"));
        let here = Scope([1; 32]);
        snapshots.save(&here, HERE, &[picture(50)]);
        let folder = snapshots.folder(&here);
        // Names that are the same number, or none; and what would be read for ever.
        for name in ["+7", "07", "7.old", "-1", "4294967296"] {
            fs::copy(folder.join("7"), folder.join(name)).unwrap();
        }
        fs::create_dir(folder.join("8")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/zero", folder.join("9")).unwrap();
        assert_eq!(snapshots.load(&here, HERE, 3, 1 << 20).len(), 1);
    }

    #[test]
    fn no_more_layers_are_read_than_there_can_be() {
        let with = |layers: usize| {
            let picture = picture(40);
            let (entry, links, _) = picture.graph.parts();
            let graph = Graph::from_parts((entry, links.to_vec(), vec![(vec![], vec![]); layers]), 40);
            Picture { graph: Arc::new(graph.expect("it is sound")), ..picture }
        };
        assert!(read(&file(&with(Graph::LAYERS)), 7, HERE, 3).is_some());
        assert!(read(&file(&with(Graph::LAYERS + 1)), 7, HERE, 3).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_and_any_cut_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let whole = file(&picture(40));
            let at = at.index(whole.len());
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(read(&flipped, 7, HERE, 3).is_none());
            prop_assert!(read(&whole[..at], 7, HERE, 3).is_none());
        }

        #[test]
        fn garbage_with_a_right_checksum_is_refused_or_harmless(mut body in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut head = MAGIC.to_vec();
            head.extend(HERE.0.to_le_bytes());
            head.extend(3u32.to_le_bytes());
            head.append(&mut body);
            head.extend(crc32fast::hash(&head).to_le_bytes());
            if let Some(segment) = read(&head, 7, HERE, 3) {
                segment.nearest(&Quantised::of(&[1.0, 0.0, 0.0]), 3, 9);
            }
        }
    }
}
