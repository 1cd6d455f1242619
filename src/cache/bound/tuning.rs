//! Every constant of the bound, in one place, with its reason. They were set by the simulations in
//! `simulation.rs`, which fail where one of them makes the promise break or throws hits away.

use super::bins::{BINS, MIDDLES};

/// How likely it may be that more is served wrongly than is allowed.
pub(super) const RISK: f64 = 0.05;

/// How many requests it looks ahead at least. Far ahead it looks as far as it looks back.
pub(super) const NEAR: f64 = 20.0;

/// How much of what is allowed is planned to be spent. Chance takes the rest, and what labels show too late.
pub(super) const SPENT: f64 = 0.82;

/// How much of the bound what is to come may take for itself, however little was spent before: a long good past
/// is no licence.
pub(super) const LICENCE: f64 = 0.95;

/// Lines that are together no likelier than this are forgotten.
pub(super) const RULED_OUT: f64 = 0.002;

/// How far the truth in one bin may stray from the line through all of them, in log-odds: a factor of 1.8
/// in the rate of wrong answers either way.
pub(super) const STRAY: f64 = 0.6;

/// How much of the score's own odds may be true: each slope with what is believed of it before any label.
/// One is a score that means what it says; zero one that says nothing. Never more than one: a score is
/// never trusted beyond its word.
///
/// Where no answer tells anything, this and the next two are all there is to go by. They are somewhat wider than
/// what was measured on sources that the judge had not learned from (`benches/RESULTS.md`): there, from log-odds
/// 3 up, 0 to 1.3 times as many answers are wrong as it says.
pub(super) const SLOPES: [(f64, f64); 5] =
    [(0.0, 0.004), (0.3, 0.005), (0.6, 0.012), (0.8, 0.20), (1.0, 0.779)];

/// How many more answers than that may be wrong in a ground, in log-odds.
pub(super) const OFFSETS: [(f64, f64); 6] =
    [(-0.7, 0.27), (0.0, 0.53), (0.5, 0.18), (1.0, 0.012), (2.5, 0.005), (5.0, 0.003)];

/// How many answers may be wrong whatever the score says, since it is blind to something: as a share.
pub(super) const FLOORS: [(f64, f64); 3] = [(0.0, 0.984), (0.02, 0.004), (0.06, 0.012)];

/// The last bin is for questions that are the same but for their dress. What goes wrong there has nothing to
/// do with the line through the others: one in eleven hundred.
pub(super) const SAME_QUESTION: f64 = -7.0;

/// What share of requests is nominated in each bin, before any has been seen. Rather too much at the top, so
/// that a cold start is careful.
pub(super) const EXPECTED_SHARES: [f64; BINS] =
    [0.10, 0.06, 0.05, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.06, 0.06, 0.06];

/// How many requests that is worth.
pub(super) const EXPECTED_FOR: f64 = 20.0;

/// What the pool's labels count in a ground, in each bin at most: grounds differ, so a hundred labels of
/// others say no more than these would of its own.
pub(super) const POOLED_LABELS: f32 = 12.0;

/// The most labels in a bin; beyond, the old ones fade, so that the controller follows a drift.
pub(super) const MOST_LABELS: f32 = 256.0;

/// The most requests that shares and the ledger look back on; beyond, both fade: a long good past is no
/// licence.
pub(super) const MOST_REQUESTS: f32 = 8192.0;

/// How often two answers to one question may be called different, each rate with what is believed of it
/// before it was measured. Mostly almost never: what differs counts as wrong until repeats say otherwise, so
/// that a blind score is not taken for a talkative model.
pub(super) const NOISE: [(f64, f64); 7] =
    [(0.002, 0.82), (0.03, 0.08), (0.1, 0.05), (0.25, 0.03), (0.5, 0.01), (0.8, 0.005), (0.96, 0.005)];

/// What the labels of another judge count, in each bin at most.
pub(super) const HEARSAY: f32 = 4.0;

/// The most that the pool's repeats count in a ground.
pub(super) const POOLED_REPEATS: f32 = 6.0;

/// How often a wrong answer is called the same as the right one.
pub(super) const FALSE_SAME: f64 = 0.02;

/// How many wrong answers may be served before the share has room for them: none of the first hundred
/// requests has room for a single one.
pub(super) const START: f64 = 1.0;

/// Which part of the risk there must be room for to open a bin that was closed, so that it does not flap.
pub(super) const ROOM_TO_OPEN: f64 = 0.8;

/// A cold ground checks so many times as often as a warm one, and after so many labels half as much more.
pub(super) const COLD_CHECKS: f64 = 10.0;
pub(super) const COLD_LABELS: f64 = 40.0;

/// What is believed of the log-odds of a wrong answer in `bin` where the score has this slope, offset and
/// floor.
pub(super) fn line(bin: usize, slope: f64, offset: f64, floor: f64) -> f64 {
    match bin {
        last if last + 1 == BINS => SAME_QUESTION,
        _ => (offset - slope * MIDDLES[bin]).max((floor / (1.0 - floor)).ln()),
    }
}
