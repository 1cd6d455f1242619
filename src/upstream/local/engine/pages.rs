//! What attention remembers of a sequence, in pages that sequences share as long as they are the same.

use super::super::kernels::{LANES, PAGE, to_half};
use super::shape::Shape;
use std::sync::Arc;

/// Tokens that have been read. A copy is cheap: it shares the pages, and whoever goes on writing in one that is
/// shared takes a copy of that page.
pub(in super::super) struct Sequence<Page: ?Sized> {
    pages: Vec<Arc<Page>>,
    len: usize,
    /// Numbers in a page.
    page: usize,
}

impl<Page: ?Sized> Clone for Sequence<Page> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone(), ..*self }
    }
}

impl<Page: ?Sized> Sequence<Page> {
    pub(super) fn new(page: usize) -> Self {
        Self { pages: Vec::new(), len: 0, page }
    }

    /// How many tokens have been read.
    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    /// The pages it holds, alone or with others.
    pub(in super::super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Forgets all but the first `len` tokens.
    pub(in super::super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Makes room for so many tokens more, in new pages of so many numbers.
    pub(super) fn make_room(&mut self, tokens: usize, mut new: impl FnMut(usize) -> Arc<Page>) {
        while self.pages.len() * PAGE < self.len + tokens {
            self.pages.push(new(self.page));
        }
    }

    pub(super) fn have_read(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

#[cfg(feature = "cuda")]
impl<Page> Sequence<Page> {
    /// Makes room for so many tokens more. `page` makes one of so many numbers, or a copy of one that others share.
    pub(super) fn make_room_of_its_own<E>(
        &mut self,
        tokens: usize,
        mut page: impl FnMut(usize, Option<&Page>) -> Result<Page, E>,
    ) -> Result<(), E> {
        if let Some(begun) = self.pages.get_mut(self.len / PAGE)
            && Arc::get_mut(begun).is_none()
        {
            *begun = Arc::new(page(self.page, Some(begun))?);
        }
        while self.pages.len() * PAGE < self.len + tokens {
            self.pages.push(Arc::new(page(self.page, None)?));
        }
        Ok(())
    }
}

impl Sequence<[u16]> {
    /// One that has read `len` tokens, as far as anybody can tell who does not look into it.
    #[cfg(test)]
    pub(in super::super) fn of_len(len: usize) -> Self {
        Self { pages: vec![Arc::from([0; 4]); len.div_ceil(PAGE)], len, page: 4 }
    }

    /// Writes down the keys and values of the token at position `at`.
    pub(super) fn remember(&mut self, layer: usize, at: usize, keys_and_values: &[f32], shape: &Shape) {
        let (keys, values) = keys_and_values.split_at(shape.kv_heads * shape.size);
        let page = Arc::make_mut(&mut self.pages[at / PAGE]);
        let at = at % PAGE;
        let heads = keys.chunks_exact(shape.size).zip(values.chunks_exact(shape.size));
        for (head, (key, value)) in heads.enumerate() {
            let place = &mut page[shape.place(layer, head)..][..2 * PAGE * shape.size];
            let (keys, values) = place.split_at_mut(PAGE * shape.size);
            let column = at / LANES * LANES * shape.size + at % LANES;
            for (dimension, number) in key.iter().enumerate() {
                keys[column + dimension * LANES] = to_half(*number);
            }
            for (place, number) in values[at * shape.size..].iter_mut().zip(value) {
                *place = to_half(*number);
            }
        }
    }
}
