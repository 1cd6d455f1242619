//! The same question in flight is asked once.
//!
//! Whoever asks takes a [`Seat`] before memory is looked at. When memory has no answer, the first one begins a
//! [`Flight`]: a call upstream that belongs to all who ask the same. Nobody in particular drives it: whoever
//! reads moves it on, so anyone may leave, and when the last one has left the call is cancelled at once.
//!
//! A flight that has landed still serves those who sat here before it did: they may have looked into memory
//! just before the answer got there.

mod bell;
mod log;
mod shared;

pub(super) use shared::{Begun, Flight, Follower};

use crate::cache::Miss;
use crate::vector::UnitVector;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// The vector of a question, or why it has none. Who asks the same has it made once.
type Vector = Arc<OnceCell<Result<UnitVector, Miss>>>;

/// The question's id.
type Key = [u8; 32];

type Board = Arc<Mutex<HashMap<Key, Slot>>>;

/// The questions that are being answered right now.
#[derive(Clone, Default)]
pub struct Flights {
    board: Board,
}

/// One question. It is gone when nobody asks it any more.
#[derive(Default)]
struct Slot {
    seats: usize,
    /// How many calls were begun since somebody first sat here: the number of the last one.
    begun: u64,
    last: Option<Arc<Flight>>,
    vector: Vector,
}

/// A place among those who ask one question at the same time.
pub(super) struct Seat {
    board: Board,
    id: Key,
    /// Calls up to this number are history: they had landed before.
    since: u64,
    vector: Vector,
}

impl Flights {
    /// A place among those who ask `id`.
    pub(super) fn seat(&self, id: Key) -> Seat {
        let mut board = lock(&self.board);
        let slot = board.entry(id).or_default();
        slot.seats += 1;
        // A failure is shared by those who waited for it, and not by those who come later.
        if matches!(slot.vector.get(), Some(Err(_))) {
            slot.vector = Vector::default();
        }
        let current = slot.last.as_ref().filter(|flight| !flight.is_over());
        let since = slot.begun - u64::from(current.is_some());
        Seat { board: Arc::clone(&self.board), id, since, vector: Arc::clone(&slot.vector) }
    }
}

impl Seat {
    /// What all who ask this have made once.
    pub(super) fn vector(&self) -> &OnceCell<Result<UnitVector, Miss>> {
        &self.vector
    }

    /// Joins the call that is under way; gives the seat back where there is none.
    pub(super) fn join(self) -> Result<Follower, Self> {
        let joined = lock(&self.board).get(&self.id).and_then(|slot| self.aboard(slot));
        match joined {
            Some((flight, who)) => Ok(Follower::joined(flight, who, Some(self))),
            None => Err(self),
        }
    }

    /// Joins the call that is under way, or begins one.
    pub(super) fn join_or_begin(self, begin: impl FnOnce() -> Flight) -> Follower {
        let mut board = lock(&self.board);
        let slot = board.entry(self.id).or_default();
        if let Some((flight, who)) = self.aboard(slot) {
            drop(board);
            return Follower::joined(flight, who, Some(self));
        }
        let flight = Arc::new(begin());
        slot.begun += 1;
        slot.last = Some(Arc::clone(&flight));
        drop(board);
        Follower::first(flight, Some(self))
    }

    fn aboard(&self, slot: &Slot) -> Option<(Arc<Flight>, u64)> {
        let flight = slot.last.as_ref().filter(|_| slot.begun > self.since)?;
        Some((Arc::clone(flight), flight.board()?))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut board = lock(&self.board);
        if let Some(slot) = board.get_mut(&self.id) {
            slot.seats = slot.seats.saturating_sub(1);
            if slot.seats == 0 {
                let gone = board.remove(&self.id);
                // Outside of the lock: a long answer may hang on it.
                drop(board);
                drop(gone);
            }
        }
    }
}

/// What is behind these locks is whole between any two lines: a call that panics is taken out while it runs.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Request;
    use futures_util::FutureExt as _;

    fn call() -> Flight {
        Flight::new(&Arc::new(Request::default()), std::future::pending().boxed(), None)
    }

    #[test]
    fn a_question_is_gone_when_nobody_asks_it_any_more() {
        let flights = Flights::default();
        let seats = [1, 1, 2].map(|id| flights.seat([id; 32]));
        assert_eq!(lock(&flights.board).len(), 2);
        let followers = seats.map(|seat| seat.join_or_begin(call));
        assert_eq!(followers.iter().map(Follower::is_joined).collect::<Vec<_>>(), [false, true, false]);
        drop(followers);
        assert_eq!(lock(&flights.board).len(), 0);
    }

    #[test]
    fn a_call_that_everyone_left_is_not_joined() {
        let flights = Flights::default();
        let seats = [1, 1, 1].map(|id| flights.seat([id; 32]));
        let [first, second, third] = seats;
        drop(first.join_or_begin(call));
        let second = second.join().err().expect("nobody is there");
        let second = second.join_or_begin(call);
        assert!(!second.is_joined() && third.join().is_ok_and(|third| third.is_joined()));
    }
}
