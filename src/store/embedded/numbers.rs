//! [`Numbers`]: very many small whole numbers in one piece.
//!
//! A search of a graph jumps from row to row all over them, and with pages of four kilobytes finding the page takes
//! longer than fetching the row. Where there are many, the system is asked for large pages: searches take two thirds
//! of the time.

use memmap2::MmapMut;
use std::ops::Deref;

/// From so many on, which are some large pages.
const MANY: usize = 8 << 20;

/// Whole numbers of eight bits, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Numbers(Held);

#[derive(Debug)]
enum Held {
    Few(Vec<i8>),
    Many { pages: MmapMut, count: usize },
}

impl Default for Held {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Numbers {
    /// None yet, with room for so many.
    pub(super) fn with_capacity(count: usize) -> Self {
        let pages = if count < MANY { None } else { MmapMut::map_anon(count).ok() };
        let Some(pages) = pages else { return Self(Held::Few(Vec::with_capacity(count))) };
        // Without large pages it is slower, and as right.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Self(Held::Many { pages, count: 0 })
    }

    /// Those whose bytes these are.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let mut numbers = Self::with_capacity(bytes.len());
        numbers.extend_from_slice(bytemuck::cast_slice(bytes));
        numbers
    }

    pub(super) fn extend_from_slice(&mut self, more: &[i8]) {
        match &mut self.0 {
            Held::Few(held) => held.extend_from_slice(more),
            Held::Many { pages, count } => {
                if let Some(free) = pages.get_mut(*count..*count + more.len()) {
                    free.copy_from_slice(bytemuck::cast_slice(more));
                    *count += more.len();
                } else {
                    // More than was said.
                    let held = [self, more].concat();
                    self.0 = Held::Few(held);
                }
            }
        }
    }
}

impl Deref for Numbers {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        match &self.0 {
            Held::Few(held) => held,
            Held::Many { pages, count } => bytemuck::cast_slice(pages.get(..*count).unwrap_or_default()),
        }
    }
}

impl Clone for Numbers {
    fn clone(&self) -> Self {
        Self::of_bytes(bytemuck::cast_slice(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_come_back_as_they_were_put_in() {
        for room in [0, 5, MANY] {
            let mut numbers = Numbers::with_capacity(room);
            numbers.extend_from_slice(&[1, -1, i8::MIN]);
            numbers.extend_from_slice(&[i8::MAX]);
            assert_eq!(&*numbers, [1, -1, i8::MIN, i8::MAX]);
            assert_eq!(&*numbers.clone(), &*numbers);
            assert_eq!(&*Numbers::of_bytes(&[255, 128]), [-1, i8::MIN]);
        }
    }

    #[test]
    fn more_than_there_is_room_for_finds_room() {
        let mut numbers = Numbers::with_capacity(MANY);
        let most = vec![7; MANY];
        numbers.extend_from_slice(&[3]);
        numbers.extend_from_slice(&most);
        assert_eq!((numbers.len(), numbers[0], numbers[MANY]), (MANY + 1, 3, 7));
    }
}
