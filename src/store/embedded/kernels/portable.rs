//! The products in plain Rust: the reference for the others, and what other machines run.

use super::LANES;

/// Inlined everywhere, so that it is compiled for the instructions of its caller.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it must be compiled for the instructions of its caller")]
pub(super) fn dot(a: &[[i8; LANES]], b: &[[i8; LANES]]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        for (a, b) in a.iter().zip(b) {
            sum += i32::from(*a) * i32::from(*b);
        }
    }
    sum
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "it must be compiled for the instructions of its caller")]
pub(super) fn all(query: &[[i8; LANES]], rows: &[[i8; LANES]], out: &mut Vec<i32>) {
    out.extend(rows.chunks_exact(query.len().max(1)).map(|row| dot(query, row)));
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "it must be compiled for the instructions of its caller")]
pub(super) fn some(query: &[[i8; LANES]], rows: &[[i8; LANES]], numbers: &[u32], out: &mut Vec<i32>) {
    let row = |number: &u32| &rows[*number as usize * query.len()..][..query.len()];
    out.extend(numbers.iter().map(|number| dot(query, row(number))));
}
