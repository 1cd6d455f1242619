//! What is read in a step: a list on the card of tokens, positions, and where their sequences remember.

use super::super::PAGE;
use super::{Card, Halves};
use crate::upstream::local::fault::Fault;
use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use std::sync::Arc;

/// What a sequence remembers of [`PAGE`] tokens.
pub(in super::super::super) type Page = Halves;

/// Words that the list has room for at first: enough for dozens of long sequences.
const ROOM: usize = 16 * 1024;

/// What one sequence reads.
pub(in super::super::super) struct Part<'a> {
    /// Its tokens.
    pub(in super::super::super) ids: &'a [u32],
    /// The position of the first of them.
    pub(in super::super::super) begin: usize,
    /// Pages for all positions up to the last of them.
    pub(in super::super::super) pages: &'a [Arc<Page>],
    /// Whether what comes next is asked for.
    pub(in super::super::super) wants_next: bool,
}

/// What is read in a step. All that the steps on the card find in it has been checked.
pub(in super::super::super) struct Reading {
    /// Two words for each row (its token and its position; where in the list its pages are), then the rows of which
    /// is asked what comes next, then the addresses of pages.
    list: CudaSlice<u64>,
    rows: usize,
    wanted: usize,
    end: usize,
    vocabulary: usize,
    page: usize,
}

impl Reading {
    /// Nothing so far. Tokens are below `vocabulary`, and pages have `page` numbers.
    pub(in super::super::super) fn new(card: &Card, vocabulary: usize, page: usize) -> Result<Self, Fault> {
        let list = card.device.alloc_zeros(ROOM)?;
        Ok(Self { list, rows: 0, wanted: 0, end: 0, vocabulary, page })
    }

    /// Lays out what is read next. Says whether the list lies where it lay.
    pub(in super::super::super) fn set(&mut self, card: &Card, parts: &[Part<'_>]) -> Result<bool, Fault> {
        let rows: usize = parts.iter().map(|part| part.ids.len()).sum();
        let wanted = parts.iter().filter(|part| part.asks()).count();
        let mut words = Vec::with_capacity(2 * rows + wanted + parts.len());
        let (mut table, mut end) = (2 * rows + wanted, 0);
        for part in parts {
            let last = part.begin + part.ids.len();
            assert!(last <= part.pages.len() * PAGE, "a page for every token");
            assert!(part.pages.iter().all(|page| page.len() >= self.page), "whole pages");
            for (at, id) in (part.begin..).zip(part.ids) {
                let token = (*id as usize).min(self.vocabulary - 1);
                words.extend([token as u64 | (at as u64) << 32, table as u64]);
            }
            table += part.pages.len();
            end = end.max(last);
        }
        let mut last = 0;
        for part in parts {
            last += part.ids.len();
            words.extend(part.asks().then(|| (last - 1) as u64));
        }
        words.extend(parts.iter().flat_map(|part| part.pages).map(|page| card.at(page)));
        let stays = words.len() <= self.list.len();
        if !stays {
            self.list = card.device.alloc_zeros(words.len().next_power_of_two())?;
        }
        card.stream.memcpy_htod(&words, &mut self.list).w()?;
        (self.rows, self.wanted, self.end) = (rows, wanted, end);
        Ok(stays)
    }

    pub(super) fn list(&self) -> &CudaSlice<u64> {
        &self.list
    }

    /// How many tokens are read.
    pub(in super::super::super) fn rows(&self) -> usize {
        self.rows
    }

    /// Of how many of them is asked what comes next.
    pub(in super::super::super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Where in the list it is said which, in bytes.
    pub(super) fn picked(&self) -> u64 {
        (2 * self.rows * size_of::<u64>()) as u64
    }

    /// Up to which position is read.
    pub(in super::super::super) fn end(&self) -> usize {
        self.end
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) fn page(&self) -> usize {
        self.page
    }
}

impl Part<'_> {
    fn asks(&self) -> bool {
        self.wants_next && !self.ids.is_empty()
    }
}
