//! Attention, written once for registers of any width: the compiler does not find its way through numbers of 16
//! bits by itself. What is loaded of a key or a value serves all the queries.

/// Defines `attend` with `$width` numbers in a register, of which `$parts` hold a piece of a value. The functions
/// named must be safe wherever `$features` are there.
macro_rules! attention {
    (
        $features:literal, $width:literal, $parts:literal,
        zero: $zero:ident, all: $all:ident, times: $times:ident, multiply_add: $multiply_add:ident,
        halves: $halves:ident, store: $store:ident
    ) => {
        #[target_feature(enable = $features)]
        pub(super) fn attend(queries: &[f32], memory: Memory<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
            scores.resize(4 * memory.pages.len() * PAGE, 0.0);
            let chunks = queries.chunks(4 * memory.size).zip(out.chunks_mut(4 * memory.size));
            for (queries, out) in chunks {
                match queries.len() / memory.size {
                    1 => attend_together::<1>(queries, memory, scores, out),
                    2 => attend_together::<2>(queries, memory, scores, out),
                    3 => attend_together::<3>(queries, memory, scores, out),
                    _ => attend_together::<4>(queries, memory, scores, out),
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn attend_together<const QUERIES: usize>(
            queries: &[f32],
            memory: Memory<'_>,
            scores: &mut [f32],
            out: &mut [f32],
        ) {
            let Memory { pages, start, skip, len, size } = memory;
            let padded = len.next_multiple_of(LANES);
            let scaling = $all(1.0 / (size as f32).sqrt());
            let query: [&[f32]; QUERIES] = std::array::from_fn(|query| &queries[query * size..][..size]);
            for block in (0..padded).step_by(LANES) {
                let keys = &pages[block / PAGE][start + block % PAGE * size..][..LANES * size];
                for part in (0..LANES).step_by($width) {
                    let mut sums = [$zero(); QUERIES];
                    for (dimension, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
                        let key = $halves(&keys[part..]);
                        for q in 0..QUERIES {
                            sums[q] = $multiply_add($all(query[q][dimension]), key, sums[q]);
                        }
                    }
                    for q in 0..QUERIES {
                        $store(&mut scores[q * padded + block + part..], $times(sums[q], scaling));
                    }
                }
            }
            let scores = &mut scores[..QUERIES * padded];
            let mut shares = [0.0f32; QUERIES];
            for (scores, share) in scores.chunks_exact_mut(padded).zip(&mut shares) {
                *share = lanes::soften::<true>(scores, skip, len);
            }
            let mut column = 0;
            while column < size {
                if size - column >= $parts * $width {
                    weigh::<QUERIES, $parts>(memory, column, scores, &shares, out);
                    column += $parts * $width;
                } else {
                    weigh::<QUERIES, 1>(memory, column, scores, &shares, out);
                    column += $width;
                }
            }
        }

        /// The values from `column` on, weighed by the scores.
        #[inline]
        #[target_feature(enable = $features)]
        fn weigh<const QUERIES: usize, const PARTS: usize>(
            memory: Memory<'_>,
            column: usize,
            scores: &[f32],
            shares: &[f32; QUERIES],
            out: &mut [f32],
        ) {
            let Memory { pages, start, skip: _, len, size } = memory;
            let padded = scores.len() / QUERIES;
            let scores: [&[f32]; QUERIES] = std::array::from_fn(|query| &scores[query * padded..][..padded]);
            let mut sums = [[$zero(); PARTS]; QUERIES];
            for (number, page) in pages[..len.div_ceil(PAGE)].iter().enumerate() {
                let values = &page[start + PAGE * size..][..PAGE * size];
                let first = number * PAGE;
                for at in first..len.min(first + PAGE) {
                    let value = &values[(at - first) * size + column..][..PARTS * $width];
                    for part in 0..PARTS {
                        let value = $halves(&value[part * $width..]);
                        for q in 0..QUERIES {
                            sums[q][part] = $multiply_add($all(scores[q][at]), value, sums[q][part]);
                        }
                    }
                }
            }
            for q in 0..QUERIES {
                for part in 0..PARTS {
                    let out = &mut out[q * size + column + part * $width..];
                    $store(out, $times(sums[q][part], $all(shares[q])));
                }
            }
        }
    };
}
pub(super) use attention;
