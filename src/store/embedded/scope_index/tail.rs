//! [`Tail`]: the newest vectors of a scope, which are looked at in full.

use super::Place;
use crate::store::EntryId;
use crate::store::embedded::rows::{Quantised, Rows};
use crate::store::embedded::segment::Dead;

/// Vectors in the order they came; some may be forgotten.
pub(super) struct Tail {
    /// Its name within the scope: the segment that is made of it gets another.
    pub(super) serial: u32,
    pub(super) rows: Rows,
    pub(super) ids: Vec<EntryId>,
    pub(super) dead: Dead,
}

impl Tail {
    pub(super) fn new(serial: u32, dimensions: usize) -> Self {
        Self { serial, rows: Rows::new(dimensions), ids: Vec::new(), dead: Dead::default() }
    }

    pub(super) fn push(&mut self, id: EntryId, vector: &Quantised) -> Place {
        self.rows.push(vector);
        self.ids.push(id);
        Place { serial: self.serial, row: (self.ids.len() - 1) as u32 }
    }

    pub(super) fn push_row(&mut self, id: EntryId, from: &Rows, row: usize) -> Place {
        self.rows.push_row(from, row);
        self.ids.push(id);
        Place { serial: self.serial, row: (self.ids.len() - 1) as u32 }
    }
}
